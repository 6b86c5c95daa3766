"""Small models around one normalization layer, for the tests of a layer's life in a model."""

import keras
import numpy as np
import pytest

import kerasnorm
from backend_tools import random_weight
from daily import daily
from layer_table import KINDS, LAYERS, ROWS

BACKEND = keras.backend.backend()
NAMES = tuple(row.name for row in LAYERS)
# ConsistentNorm holds other layers: it is made from one.
EVERY_NAME = (*NAMES, "ConsistentNorm")
# For models that hold many layers: first one of each kind of arithmetic, then all others.
PARTS = [
    pytest.param(
        [name for name in EVERY_NAME if name in (*KINDS, "ConsistentNorm")], id="one of each kind"
    ),
    pytest.param(
        [name for name in EVERY_NAME if name not in (*KINDS, "ConsistentNorm")],
        id="the others",
        marks=daily(),
    ),
]
# Sides of the small images of these models, and their channels, which the table's arguments fit.
IMAGE = (4, 6)
CHANNELS = 8
OUTER = ("name", "dtype", "trainable")


def new_layer(kind, **common):
    """A layer with the table's plainest arguments; ConsistentNorm holds three ModeNorms."""
    if kind != "ConsistentNorm":
        return getattr(kerasnorm, kind)(**{**ROWS[kind].arguments, **common})
    outer = {key: common.pop(key) for key in OUTER if key in common}
    return kerasnorm.ConsistentNorm(kerasnorm.ModeNorm(modes=2, **common), branches=3, **outer)


def takes_rank(name, rank):
    """Whether the layer takes inputs of this rank."""
    return rank in ROWS["ModeNorm" if name == "ConsistentNorm" else name].ranks


def names_for_rank(rank, names=EVERY_NAME):
    """The layers that take inputs of this rank."""
    return [name for name in names if takes_rank(name, rank)]


def has_moving_statistics(name):
    """Whether the layer keeps statistics for inference."""
    return name == "ConsistentNorm" or ROWS[name].moving_statistics


def randomize(layer, seed=0):
    """Give a built layer, or a whole model, weights as a trained one might have."""
    for index, weight in enumerate(layer.weights):
        value = random_weight(weight.name, tuple(weight.shape), seed + index)
        weight.assign(keras.ops.convert_to_tensor(value, dtype=weight.dtype))
    return layer


def small_model(layer, shape=(*IMAGE, CHANNELS), head=True):
    """A functional model: a pointwise layer, the normalization, and two outputs per example."""
    inputs = keras.Input(shape)
    features = keras.layers.Dense(CHANNELS, name="before")(inputs)
    features = layer(features)
    if not head:
        return keras.Model(inputs, features)
    features = keras.layers.Activation("relu")(features)
    pooled = keras.layers.GlobalMaxPooling2D()(features) if len(shape) == 3 else features
    return keras.Model(inputs, keras.layers.Dense(2, name="after")(pooled))


def model_of_all(shape=(*IMAGE, CHANNELS), names=EVERY_NAME, head=True, **common):
    """One model with layers side by side, each with an output of its own, for what takes long.

    Args:
        shape: of the inputs, without the batch.
        names: which layers; each is named as its class, in lower case.
        head: whether an output is two numbers per example, or what the layer gives.
        **common: arguments of every layer.
    """
    inputs = keras.Input(shape)
    outputs = []
    for name in names:
        features = new_layer(name, name=name.lower(), **common)(inputs)
        if head:
            features = keras.layers.Activation("relu", dtype="float32")(features)
            features = keras.layers.GlobalMaxPooling2D(dtype="float32")(features)
            features = keras.layers.Dense(2, dtype="float32", name=f"{name}_head")(features)
        outputs.append(features)
    return keras.Model(inputs, outputs)


def images(count=4, channels=CHANNELS, image=IMAGE, seed=0):
    """Images whose channels and examples differ in mean and width."""
    generator = np.random.default_rng(seed)
    width = generator.uniform(0.5, 2, (count, 1, 1, channels))
    middle = generator.normal(size=(count, 1, 1, channels))
    return (middle + width * generator.normal(size=(count, *image, channels))).astype("float32")


def numpy(tensor):
    """A float32 numpy array, of bfloat16 tensors too."""
    return np.array(keras.ops.convert_to_numpy(tensor)).astype("float32")


def weight_values(layer):
    """The values of a layer's or a model's weights."""
    return [numpy(weight.value) for weight in layer.weights]


def assert_same(actual, expected, tolerance=1e-5):
    """Arrays, or lists of arrays, agree."""
    if isinstance(expected, (list, tuple)):
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other, tolerance)
        return
    np.testing.assert_allclose(numpy(actual), numpy(expected), rtol=tolerance, atol=tolerance)


def call(layer, inputs, training=False, mask=None, raw=False):
    """An eager call; on JAX compiled, which for one call of new shapes is much quicker.

    Returns:
        A float32 numpy array; the tensor if `raw`.
    """
    inputs = keras.ops.convert_to_tensor(inputs)
    arguments = {} if mask is None else {"mask": keras.ops.convert_to_tensor(mask, dtype="bool")}
    if BACKEND != "jax":
        outputs = layer(inputs, training=training, **arguments)
        return outputs if raw else tree_numpy(outputs)
    import jax

    if not layer.built:
        layer.build(inputs.shape)

    @jax.jit
    def run(trainable, other, inputs, arguments):
        return layer.stateless_call(trainable, other, inputs, training=training, **arguments)

    values = [[v.value for v in layer.trainable_variables]]
    values += [[v.value for v in layer.non_trainable_variables]]
    outputs, other = run(*values, inputs, arguments)
    for variable, value in zip(layer.non_trainable_variables, other, strict=True):
        variable.assign(value)
    return outputs if raw else tree_numpy(outputs)


def tree_numpy(outputs):
    """The outputs of a layer, or the list of outputs of a model, as numpy arrays."""
    return [numpy(o) for o in outputs] if isinstance(outputs, list) else numpy(outputs)
