"""What a user set for all models of a process, to be set again in another process."""

from typing import Any

import keras

from kerasnorm import registry
from kerasnorm.core import backends
from search.errors import BadInput

_OURS = ("keras", "kerasnorm", "keras_tuner")


class Settings:
    """The settings of this process. Unpickled in another one, it has set them there.

    So what is unpickled after it, such as a model, finds the process as it was here: the dtype
    policy and the other defaults of Keras, classes that were registered with Keras and norms that
    were given to `kerasnorm.register`.

    Args:
        deterministic: whether operations repeat bit for bit.

    Example:
        >>> import pickle
        >>> import keras
        >>> from search.settings import Settings
        >>> settings = pickle.dumps(Settings())
        >>> keras.config.set_floatx("float64")
        >>> _ = pickle.loads(settings)
        >>> keras.config.floatx()
        'float32'
    """

    def __init__(self, deterministic: bool = False):
        if keras.distribution.distribution() is not None:
            raise BadInput(
                "keras.distribution is set, which other processes cannot share. Needed: "
                "executor='inline', or no distribution."
            )
        objects = keras.saving.get_custom_objects()
        self.values: dict[str, Any] = {
            "backend": keras.backend.backend(),
            "floatx": keras.config.floatx(),
            "epsilon": keras.config.epsilon(),
            "image_data_format": keras.config.image_data_format(),
            "dtype_policy": keras.saving.serialize_keras_object(keras.config.dtype_policy()),
            "traceback_filtering": keras.config.is_traceback_filtering_enabled(),
            "custom_objects": {key: one for key, one in objects.items() if not _is_ours(one)},
            "norms": [row for row in registry.rows() if not _is_ours(row.layer_class)],
            "deterministic": deterministic,
        }

    def __reduce__(self):
        return _set, (self.values,)


def _is_ours(thing):
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in _OURS


def _set(values):
    """Set what the settings of another process say."""
    backend = keras.backend.backend()
    if backend != values["backend"]:
        raise BadInput(
            f"a worker runs Keras on {backend}, and the search on {values['backend']}. Needed: "
            f"KERAS_BACKEND={values['backend']} for both."
        )
    keras.config.set_floatx(values["floatx"])
    keras.config.set_epsilon(values["epsilon"])
    keras.config.set_image_data_format(values["image_data_format"])
    keras.config.set_dtype_policy(keras.saving.deserialize_keras_object(values["dtype_policy"]))
    if not values["traceback_filtering"]:
        keras.config.disable_traceback_filtering()
    for key, one in values["custom_objects"].items():
        package, separator, name = key.rpartition(">")
        if keras.saving.get_registered_object(key) is not None:
            continue
        if separator:
            keras.saving.register_keras_serializable(package, name)(one)
        else:
            keras.saving.get_custom_objects()[key] = one
    for row in values["norms"]:
        if not registry.is_known(row.name):
            registry.register(row)
    if values["deterministic"]:
        backends.be_deterministic()
    settings = Settings.__new__(Settings)
    settings.values = values
    return settings
