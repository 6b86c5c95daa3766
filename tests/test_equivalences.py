"""Layers that must be the same thing: outputs, gradients and moving statistics."""

import keras
import numpy as np
import pytest

from backend_tools import (
    assert_near,
    data,
    make_layer,
    output_weights_for,
    random_mask,
    value_and_gradients,
    weights_of,
)
from daily import daily
from layer_table import LAYERS

SHAPE = (4, 4, 6, 8)
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


def set_weights(layer, **values):
    """Weights by name; a number fills the weight."""
    for weight in layer.weights:
        if weight.name in values:
            value = np.broadcast_to(values[weight.name], weight.shape)
            weight.assign(keras.ops.convert_to_tensor(value, dtype=weight.dtype))


def assert_same(
    layer, other, inputs=None, training=True, mask=None, statistics=None, tolerance=1e-5
):
    """Outputs, the gradients of the inputs and of the weights both have, and the statistics."""
    inputs = data(SHAPE) if inputs is None else inputs
    output_weights = output_weights_for(inputs.shape, mask=mask)
    # ModeNorm keeps statistics (K, C).
    set_weights(layer, **weights_of(other))
    ours, theirs = (
        value_and_gradients(each, inputs, output_weights, training, mask) for each in (layer, other)
    )
    assert_near(ours.outputs, theirs.outputs, tolerance, "outputs", where=mask)
    assert_near(
        ours.input_gradient, theirs.input_gradient, tolerance, "gradient of inputs", where=mask
    )
    shared = ours.weight_gradients.keys() & theirs.weight_gradients.keys()
    assert {"gamma", "beta"} <= shared
    for key in shared:
        assert_near(ours.weight_gradients[key], theirs.weight_gradients[key], tolerance, key)
    if statistics is None:
        statistics = ours.statistics.keys()
    for key in statistics:
        assert_near(np.squeeze(ours.statistics[key]), theirs.statistics[key], tolerance, key)
    return ours


def mask_if(masked):
    return random_mask(SHAPE) if masked else None


@pytest.mark.smoke
@TRAINING
@MASKED
def test_mode_norm_of_one_mode_is_batch_norm(training, masked):
    layer = make_layer("ModeNorm", {"modes": 1}, SHAPE)
    # Its moving variance is the paper's, which knows that the mean moves: not BatchNorm's.
    result = assert_same(
        layer,
        make_layer("BatchNorm", {}, SHAPE),
        training=training,
        mask=mask_if(masked),
        statistics=["moving_mean"],
    )
    for name in ("gate_kernel", "gate_bias"):
        assert_near(result.weight_gradients[name], 0 * result.weight_gradients[name], 1e-5, name)


def test_mode_norm_of_one_mode_moves_its_variance_as_the_paper_does():
    layer = make_layer("ModeNorm", {"modes": 1, "momentum": 0.8}, SHAPE)
    before = weights_of(layer)
    inputs = data(SHAPE, mean=3)
    result = value_and_gradients(layer, inputs, output_weights_for(SHAPE), True)
    flat = inputs.reshape(-1, 8).astype("float64")
    mean, square = flat.mean(axis=0), (flat**2).mean(axis=0)
    moving_mean = 0.8 * before["moving_mean"] + 0.2 * mean
    moving_square = 0.8 * (before["moving_variance"] + before["moving_mean"] ** 2) + 0.2 * square
    assert_near(result.statistics["moving_mean"], moving_mean, 1e-5)
    assert_near(result.statistics["moving_variance"], moving_square - moving_mean**2, 1e-5)


@pytest.mark.parametrize("modes", [2, 5])
@MASKED
def test_mode_norm_of_equal_gates_is_batch_norm(modes, masked):
    layer = make_layer("ModeNorm", {"modes": modes}, SHAPE)
    other = make_layer("BatchNorm", {}, SHAPE)
    set_weights(layer, gate_kernel=0, gate_bias=0)
    assert_same(layer, other, mask=mask_if(masked), statistics=[])


@pytest.mark.parametrize("modes", [1, 3])
@MASKED
def test_mode_group_norm_of_one_mode_or_equal_gates_is_layer_norm(modes, masked):
    layer = make_layer("ModeGroupNorm", {"modes": modes}, SHAPE)
    if modes > 1:
        set_weights(layer, gate_kernel=0, gate_bias=[0.3, -2, 1])
    assert_same(layer, make_layer("LayerNorm", {}, SHAPE), mask=mask_if(masked))


@pytest.mark.parametrize(
    ("groups", "name"), [(8, "InstanceNorm"), (-1, "InstanceNorm"), (1, "LayerNorm")]
)
@MASKED
def test_group_norm_of_as_many_or_one_group(groups, name, masked):
    layer = make_layer("GroupNorm", {"groups": groups}, SHAPE)
    assert_same(layer, make_layer(name, {}, SHAPE), mask=mask_if(masked))


@TRAINING
@pytest.mark.parametrize("weighted_variance", [False, True])
@pytest.mark.parametrize("kernel_sizes", [None, ((2, 2),)])
def test_conv_norm_of_even_weights_is_batch_norm(training, weighted_variance, kernel_sizes):
    arguments = {"weighted_variance": weighted_variance, "kernel_sizes": kernel_sizes}
    layer = make_layer("ConvNorm", arguments, SHAPE)
    set_weights(layer, spatial_logits_0=0.7, spatial_logits_1=-1.5)
    assert_same(layer, make_layer("BatchNorm", {}, SHAPE), training=training)


def test_conv_norm_of_even_weights_and_a_mask_of_whole_examples_is_batch_norm():
    """Masks of different sizes differ: ConvNorm averages examples, BatchNorm positions."""
    layer = make_layer("ConvNorm", {}, SHAPE)
    set_weights(layer, spatial_logits_0=0, spatial_logits_1=0)
    mask = np.array([True, False, True, True])
    assert_same(layer, make_layer("BatchNorm", {}, SHAPE), mask=mask)


@pytest.mark.parametrize(
    ("name", "plain", "groups"),
    [
        ("ILMGroupNorm", "GroupNorm", {"groups": 4}),
        ("ILMInstanceNorm", "InstanceNorm", {}),
        ("ILMLayerNorm", "LayerNorm", {}),
    ],
)
@MASKED
def test_ilm_of_zero_decoders_is_the_plain_norm(name, plain, groups, masked):
    linear = {"mean_activation": None, "variance_activation": None, "key_group_size": 2}
    layer = make_layer(name, {**groups, **linear}, SHAPE)
    set_weights(layer, mean_decoder=0, variance_decoder=0)
    result = assert_same(layer, make_layer(plain, groups, SHAPE), mask=mask_if(masked))
    assert not result.weight_gradients["encoder"].any()


@pytest.mark.parametrize("bias_mode", ["after", "before"])
@pytest.mark.parametrize("key_features", ["group", "instance"])
@MASKED
def test_associate_norm_of_zero_decoders_is_group_norm(bias_mode, key_features, masked):
    linear = {"mean_activation": None, "variance_activation": "linear"}
    keys = {"key_features": key_features, "bias_mode": bias_mode}
    layer = make_layer("AssociateNorm", {"groups": 4, **keys, **linear}, SHAPE)
    set_weights(layer, mean_decoder=0, variance_decoder=0)
    assert_same(layer, make_layer("GroupNorm", {"groups": 4}, SHAPE), mask=mask_if(masked))


def test_learned_stats_norm_of_zero_kernels_is_an_affine_map():
    arguments = {"center": True, "scale": True}
    layer = make_layer("LearnedStatsNorm", arguments, SHAPE)
    zeros = {w.name: 0 for w in layer.weights if w.name.startswith(("mean_", "std_"))}
    set_weights(layer, **zeros)
    set_weights(layer, mean_bias_2=0.5, std_bias_2=1.0)
    weights = weights_of(layer)
    inputs = data(SHAPE)
    result = value_and_gradients(layer, inputs, output_weights_for(SHAPE))
    standardized = (inputs - 0.5) / (np.log1p(np.exp(1.0)) + 1e-5)
    assert_near(result.outputs, weights["gamma"] * standardized + weights["beta"], 1e-5)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("groups", "shape"),
    [
        *((groups, SHAPE) for groups in (1, 4, -1)),
        (4, (6, 8)),
        (1, (4, 7, 8)),
        (-1, (2, 3, 2, 4, 8)),
        pytest.param(1, (6, 8), marks=daily()),
        *(pytest.param(groups, (4, 7, 8), marks=daily()) for groups in (4, -1)),
        *(pytest.param(groups, (2, 3, 2, 4, 8), marks=daily()) for groups in (1, 4)),
    ],
)
def test_group_norm_is_keras_group_normalization(groups, shape):
    layer = make_layer("GroupNorm", {"groups": groups}, shape)
    other = keras.layers.GroupNormalization(groups, epsilon=1e-5)
    other.build(shape)
    set_weights(other, **weights_of(layer))
    # Groups of two numbers may have a small variance, and large gradients.
    assert_same(layer, other, data(shape), tolerance=1e-4 if len(shape) == 2 else 2e-5)


@pytest.mark.smoke
@TRAINING
@pytest.mark.parametrize("shape", [(6, 8), (4, 7, 8), SHAPE, (2, 3, 2, 4, 8)])
def test_batch_norm_is_keras_batch_normalization(training, shape):
    layer = make_layer("BatchNorm", {"momentum": 0.7, "epsilon": 1e-3}, shape)
    other = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-3)
    other.build(shape)
    set_weights(other, **weights_of(layer))
    assert_same(layer, other, data(shape), training, tolerance=2e-5)


@TRAINING
def test_masked_batch_norm_is_keras_batch_normalization(training):
    shape = (4, 7, 8)
    layer = make_layer("BatchNorm", {"momentum": 0.7}, shape)
    other = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-5)
    other.build(shape)
    set_weights(other, **weights_of(layer))
    assert_same(layer, other, data(shape), training, random_mask(shape), tolerance=2e-5)


@pytest.mark.parametrize(
    "row", [row for row in LAYERS if row.name != "ConvNorm"], ids=lambda row: row.name
)
def test_only_the_number_of_positions_matters(row):
    """A picture is a sequence of its pixels, but for ConvNorm."""
    sequence = (SHAPE[0], 24, 8)
    inputs = data(SHAPE)
    output_weights = output_weights_for(SHAPE)
    mask = random_mask(SHAPE)
    picture = value_and_gradients(
        make_layer(row.name, row.arguments, SHAPE), inputs, output_weights, True, mask
    )
    line = value_and_gradients(
        make_layer(row.name, row.arguments, sequence),
        inputs.reshape(sequence),
        output_weights.reshape(sequence),
        True,
        mask.reshape(sequence[:2]),
    )
    assert_near(picture.outputs.reshape(sequence), line.outputs, 1e-6)
    assert_near(picture.input_gradient.reshape(sequence), line.input_gradient, 1e-5)
    for kind in ("weight_gradients", "statistics"):
        for key, value in getattr(picture, kind).items():
            assert_near(value, getattr(line, kind)[key], 1e-5, key)


def test_batch_norm_of_positions_as_examples():
    layer = make_layer("BatchNorm", {}, SHAPE)
    inputs = data(SHAPE)
    output_weights = output_weights_for(SHAPE)
    picture = value_and_gradients(layer, inputs, output_weights, True)
    flat = value_and_gradients(layer, inputs.reshape(-1, 8), output_weights.reshape(-1, 8), True)
    assert_near(picture.outputs.reshape(-1, 8), flat.outputs, 1e-5)
    assert_near(picture.input_gradient.reshape(-1, 8), flat.input_gradient, 1e-5)
