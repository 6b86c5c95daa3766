"""The layer of this package that computes what one of Keras does, to be fitted in its place."""

import contextlib

import keras
import numpy as np

from kerasnorm.core.layer import Normalization
from kerasnorm.core.standardization import BATCH, assign
from kerasnorm.layers.batch import BatchNorm
from kerasnorm.layers.group import GroupNorm
from kerasnorm.surgery.compare import standardization_of, weights_of

SHARED = ("gamma", "beta", "moving_mean", "moving_variance")


@contextlib.contextmanager
def twin_of(layer, shape):
    """A context with a layer of this package that computes what a layer does; else with None.

    What is done to the weights of the one is done to those of the other.

    Args:
        layer: a built norm.
        shape: of its inputs.
    """
    if isinstance(layer, Normalization):
        yield layer
        return
    twin = _twin(layer, shape)
    yield twin
    if twin is None:
        return
    for name, variable in weights_of(layer).items():
        if name in SHARED:
            fitted = keras.ops.convert_to_numpy(getattr(twin, name))
            assign(variable, np.broadcast_to(fitted, tuple(variable.shape)))


def _twin(layer, shape):
    plain = standardization_of(layer, shape)
    if plain.family is None or not plain.per_channel:
        return None
    names = weights_of(layer)
    arguments = {"epsilon": plain.epsilon, "center": "beta" in names, "scale": "gamma" in names}
    if plain.family == BATCH:
        twin = BatchNorm(**arguments)
    elif plain.family[0] == "groups":
        twin = GroupNorm(groups=plain.family[1], **arguments)
    else:
        return None
    twin.build((None, 1, len(plain.gamma)))
    for name in SHARED:
        if getattr(twin, name, None) is not None:
            assign(getattr(twin, name), getattr(plain, name))
    return twin
