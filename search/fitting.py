"""Whether a model fits the data that its norms are searched on, seen before the first trial."""

import keras

import kerasnorm
from kerasnorm.core.keras_internals import compiled_loss_of
from kerasnorm.surgery.find import is_graph
from search.data.parts import PADDING
from search.errors import BadInput

# What each loss of Keras's wants of the labels, where that is not what all tasks have.
ONE_HOT = "one-hot labels"
EACH_OUTPUT = "labels of 0 and 1 for each output"
NUMBERS = "regression"
WANTED = {
    "SparseCategoricalCrossentropy": "integer labels",
    "CategoricalCrossentropy": ONE_HOT,
    "CategoricalFocalCrossentropy": ONE_HOT,
    "Dice": ONE_HOT,
    "Tversky": ONE_HOT,
    "BinaryCrossentropy": EACH_OUTPUT,
    "BinaryFocalCrossentropy": EACH_OUTPUT,
    "MeanSquaredError": NUMBERS,
    "MeanAbsoluteError": NUMBERS,
    "MeanAbsolutePercentageError": NUMBERS,
    "MeanSquaredLogarithmicError": NUMBERS,
    "Huber": NUMBERS,
    "LogCosh": NUMBERS,
}
# Methods in which a model's class may train in its own way.
TRAINING = (
    "fit",
    "evaluate",
    "train_step",
    "test_step",
    "compute_loss",
    "make_train_function",
    "make_test_function",
)
AS_COMPILED = "--task compiled (task='compiled') takes the labels as they are"
CLASSES = f"Needed: SparseCategoricalCrossentropy, as labels are integers; or {AS_COMPILED}."
REGRESSION = f"Needed: a loss for regression, such as MeanSquaredError; or {AS_COMPILED}."


def check_model(model, form):
    """Refuse a model whose inputs, outputs or loss do not fit.

    Args:
        model: a Keras model, compiled or not.
        form: what the data ask of it, a `search.data.parts.Form`.

    >>> import keras
    >>> from search.data.parts import Form
    >>> from search.fitting import check_model
    >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    >>> check_model(keras.Sequential(layers, name="small"), Form((8, 8, 1), (10,), 10))
    Traceback (most recent call last):
        ...
    search.errors.BadInput: model 'small' has 3 outputs, and the data 10 classes. Needed: an \
    output for each class.
    """
    if isinstance(model, kerasnorm.ConsistentModel):
        model = model.model
    name = f"model {model.name!r}"
    if form.task == "compiled" and not model.compiled:
        raise BadInput(
            f"{name} is not compiled, and task='compiled' leaves its loss and metrics to it. "
            "Needed: a compiled model, or another task."
        )
    if not is_graph(model):
        # Its own code says what it does with its inputs.
        return
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise BadInput(
            f"{name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs. Needed: one "
            "of each."
        )
    given, expected = tuple(form.input_shape), tuple(model.inputs[0].shape[1:])
    if not _fits(expected, given):
        raise BadInput(
            f"{name} takes inputs of shape {expected}, and the data's examples have {given}. "
            "Needed: the same."
        )
    if form.task == "compiled":
        return
    activation = last_activation(model)
    if form.task == "regression":
        _check_numbers(name, model, form)
    else:
        _check_classes(name, model, form, activation)
    if model.compiled:
        _check_loss(name, model.loss, activation, form.task)


def _fits(shape, wanted):
    """Whether a shape, in which None is any size, can be another."""
    return len(shape) == len(wanted) and all(
        a is None or a == b for a, b in zip(shape, wanted, strict=True)
    )


def _check_numbers(name, model, form):
    """Refuse outputs that are not of the shape of the targets."""
    shape, wanted = tuple(model.outputs[0].shape[1:]), tuple(form.output_shape)
    if not _fits(shape, wanted):
        raise BadInput(
            f"{name} has outputs of shape {shape}, and the data targets of shape {wanted}. Needed: "
            "the same."
        )


def _check_classes(name, model, form, activation):
    """Refuse outputs that do not give each class a score."""
    shape, classes = tuple(model.outputs[0].shape), form.classes
    each = {"segmentation": "class of each pixel", "tokens": "token of each position"}
    if form.task in each:
        if not _fits(shape[1:-1], form.output_shape[:-1]):
            raise BadInput(
                f"{name} has outputs of shape {shape}. Needed: (None, "
                f"{', '.join(map(str, form.output_shape))}), one output for each "
                f"{each[form.task]}."
            )
    elif len(shape) != 2:
        raise BadInput(
            f"{name} has outputs of shape {shape}. Needed: (None, {classes}), one output for each "
            "class; a Flatten or pooling layer may be missing. For an output at each pixel: "
            "--task segmentation (task='segmentation')."
        )
    if shape[-1] is not None and shape[-1] < classes:
        binary = " A single output for two classes becomes Dense(2)." if classes == 2 else ""
        raise BadInput(
            f"{name} has {shape[-1]} output{'s' if shape[-1] > 1 else ''}, and the data {classes} "
            f"classes. Needed: an output for each class.{binary}"
        )
    if activation == "sigmoid":
        raise BadInput(
            f"{name} ends in sigmoid, which gives each class a probability of its own. Needed: "
            f"softmax, or no activation; or {AS_COMPILED}."
        )


def _check_loss(name, loss, activation, task):
    """Refuse a loss that wants other labels, or other outputs."""
    kind, from_logits = _kind_of(loss)
    wanted = WANTED.get(kind)
    if task == "regression":
        if wanted not in (None, NUMBERS):
            raise BadInput(f"{name} is compiled with {kind}, for {wanted}. {REGRESSION}")
        return
    if wanted not in (None, WANTED["SparseCategoricalCrossentropy"]):
        raise BadInput(f"{name} is compiled with {kind}, for {wanted}. {CLASSES}")
    if kind != "SparseCategoricalCrossentropy":
        return
    if from_logits and activation == "softmax":
        raise BadInput(
            f"{name} ends in softmax, and its loss has from_logits=True. Needed: one of the two."
        )
    if not from_logits and activation == "linear":
        raise BadInput(
            f"{name} ends without an activation, and its loss wants probabilities. Needed: "
            "SparseCategoricalCrossentropy(from_logits=True), or a softmax."
        )


def _kind_of(loss):
    """The name of the class of a loss, and whether it takes logits."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    # Keras has each of its losses as a function too.
    function = getattr(loss, "__name__", None)
    if function:
        return {_snake(one): one for one in WANTED}.get(function), False
    kind = type(loss).__name__
    known = kind in WANTED
    return kind, known and loss.get_config().get("from_logits", False)


def task_of_model(model):
    """The task that a compiled model's loss says it is for; None where it does not."""
    if not (isinstance(model, keras.Model) and model.compiled):
        return None
    wanted = WANTED.get(_kind_of(model.loss)[0])
    return "regression" if wanted == NUMBERS else None


def own_training(model):
    """The methods of training that are a model's own, and not Keras's or this package's.

    >>> import keras
    >>> from search.fitting import own_training
    >>> class Mine(keras.Model):
    ...     def train_step(self, data):
    ...         return {}
    >>> own_training(Mine()), own_training(keras.Sequential())
    (['train_step'], [])
    """
    if isinstance(model, kerasnorm.ConsistentModel):
        return []
    kind = type(model)
    return [name for name in TRAINING if _is_own(getattr(kind, name), name)]


def _is_own(method, name):
    # `fit` and `evaluate` of KerasHub's tasks preprocess the data, then do what Keras's do.
    preprocesses = name in ("fit", "evaluate") and method.__module__.startswith("keras_hub.")
    return method is not getattr(keras.Model, name) and not preprocesses


def evaluates(model):
    """Whether `evaluate` measures something; a model with its own `train_step` may have no loss."""
    own = own_training(model)
    known = {"test_step", "compute_loss", "evaluate"} & set(own)
    return "train_step" not in own or bool(known) or compiled_loss_of(model) is not None


def usual_compilation(task, logits):
    """Loss and metrics for a model that has none.

    Args:
        task: `"classification"`, `"segmentation"`, `"tokens"` or `"regression"`.
        logits: whether the outputs are not probabilities.
    """
    if task == "regression":
        return keras.losses.MeanSquaredError(), ["mean_absolute_error"]
    if task == "tokens":
        loss = keras.losses.SparseCategoricalCrossentropy(logits, ignore_class=PADDING)
        return loss, [TokenAccuracy()]
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), ["accuracy"]


@keras.saving.register_keras_serializable("search")
class TokenAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of right tokens; padding is none.

    >>> import numpy as np
    >>> from search.fitting import TokenAccuracy
    >>> metric = TokenAccuracy()
    >>> metric.update_state(np.array([[2, 1, 0]]), np.eye(3)[None, [2, 2, 2]])
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Take one more batch."""
        counts = keras.ops.cast(keras.ops.not_equal(y_true, PADDING), self.dtype)
        super().update_state(y_true, y_pred, counts)


def _snake(name):
    """`LogCosh` as `log_cosh`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def last_activation(model):
    """The name of the activation that a model ends in; None where that cannot be seen."""
    if isinstance(model, kerasnorm.ConsistentModel):
        model = model.model
    if not is_graph(model):
        return None
    steps = getattr(model, "operations", None) or model.layers
    last = steps[-1] if steps else None
    if isinstance(last, keras.Model):
        return last_activation(last)
    if isinstance(last, keras.layers.Softmax) or type(last).__name__ == "Softmax":
        return "softmax"
    if type(last).__name__ == "Sigmoid":
        return "sigmoid"
    return getattr(getattr(last, "activation", None), "__name__", None)
