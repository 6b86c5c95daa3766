"""Every layer against its paper's formula in float64: outputs, moving statistics and gradients."""

import keras
import numpy as np
import pytest
import torch

from backend_tools import (
    BACKEND,
    assert_near,
    call,
    compare_with_reference,
    data,
    float64,
    make_layer,
    random_mask,
    weights_of,
)
from kerasnorm.core import backends
from layer_table import LAYERS, ROWS, cases, weight_shapes
from references import reference

CASES = cases()
# The arithmetic of masks does not know about activations and the like.
MASKED_CASES = [
    case
    for case in CASES
    if case.values[0].moving_statistics
    or case.values[1] == next(iter(case.values[0].variants))
    or "bare" in case.values[1]
]
FIRST = [pytest.param(row, next(iter(row.variants)), id=row.name) for row in LAYERS]


def modes_of(row):
    """Training and inference; once is enough where they are the same."""
    return (True, False) if row.moving_statistics else (True,)


@pytest.mark.parametrize(("row", "variant"), CASES)
def test_weights_have_the_tables_names_shapes_and_order(row, variant):
    arguments = row.variants[variant]
    for axis in (-1, 1):
        shape = row.input_shape(axis=axis)
        layer = make_layer(row.name, arguments, shape, axis=axis)
        expected = row.weight_shapes({**arguments, "axis": axis}, shape)
        assert [weight.name for weight in layer.weights] == list(expected)
        assert [tuple(weight.shape) for weight in layer.weights] == list(expected.values())


@pytest.mark.parametrize(("row", "variant"), CASES)
def test_outputs_and_gradients(row, variant):
    arguments = row.variants[variant]
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    for training in modes_of(row):
        compare_with_reference(layer, arguments, data(shape), training)


@pytest.mark.parametrize(("row", "variant"), MASKED_CASES)
def test_outputs_and_gradients_with_a_mask(row, variant):
    arguments = row.variants[variant]
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape, seed=1)
    mask = random_mask(shape)
    for training in modes_of(row):
        compare_with_reference(layer, arguments, data(shape, seed=1), training, mask)


@pytest.mark.parametrize("rank", [2, 3, 5])
@pytest.mark.parametrize(("row", "variant"), FIRST)
def test_every_rank(row, variant, rank):
    if rank not in row.ranks:
        pytest.skip(f"{row.name} takes rank {row.ranks}")
    arguments = row.variants[variant]
    shape = row.input_shape(rank)
    layer = make_layer(row.name, arguments, shape)
    # At rank 2 every channel of an example has one position: instance norm's gradient is exactly
    # zero, that of inverse deviations of 316.
    floor = 1.0 if rank == 2 else 0.1
    mask = random_mask(shape) if rank > 3 else None
    compare_with_reference(layer, arguments, data(shape), True, mask, gradient_floor=floor)


@pytest.mark.smoke
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("row", "variant"), FIRST)
def test_channels_first(row, variant, masked):
    arguments = row.variants[variant]
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, row.input_shape(axis=1), axis=1)
    mask = random_mask(shape) if masked else None
    compare_with_reference(layer, arguments, data(shape), True, mask)


@pytest.mark.gpu
@pytest.mark.parametrize(("row", "variant"), FIRST)
def test_mask_may_be_a_leading_part_of_the_shape(row, variant):
    arguments = row.variants[variant]
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]], dtype=bool)
    compare_with_reference(layer, arguments, data(shape), True, mask, compiled=BACKEND == "jax")


# torch compiles every layer in test_export.py too, for batches of any size. What Keras 3.10 does
# around any layer's call it cannot trace in one graph.
on_this_backend = pytest.mark.slow if BACKEND == "torch" else pytest.mark.smoke


@pytest.mark.gpu
@pytest.mark.optimized
@on_this_backend
@pytest.mark.parametrize(("row", "variant"), FIRST)
def test_compiled(row, variant):
    arguments = row.variants[variant]
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    compare_with_reference(layer, arguments, data(shape), True, compiled=True)


# From which size on kernels work through their input piece by piece on a CPU.
SIZE_OF_A_PIECE = {"torch": "CHUNK", "jax": "_BLOCK"}


@pytest.mark.skipif(BACKEND not in SIZE_OF_A_PIECE, reason="the kernels take inputs whole")
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.optimized
@pytest.mark.usefixtures("traced_anew")
def test_inputs_that_the_kernels_divide(examples, axis, monkeypatch):
    monkeypatch.setattr(backends._kernels, SIZE_OF_A_PIECE[BACKEND], 128)
    shape = (examples, 24, 10, 8)
    layer = make_layer(
        "GroupNorm", {"axis": axis, "groups": 4}, shape if axis == -1 else (examples, 8, 24, 10)
    )
    inputs = data(shape)
    # The pieces of an example differ in their means.
    inputs[:, 12:] += 3.0
    compare_with_reference(layer, {"groups": 4}, inputs, True, compiled=BACKEND == "jax")


# What each backend's kernels ask before they do what helps on a CPU only.
CPU_QUESTION = {"tensorflow": "_only_cpu", "jax": "_helped", "torch": "_in_chunks"}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("BatchNorm", "bfloat16"),
        ("GroupNorm", "float32"),
        ("ConvNorm", "float32"),
        ("LearnedStatsNorm", "bfloat16"),
    ],
)
@pytest.mark.optimized
@pytest.mark.usefixtures("traced_anew")
def test_kernels_of_other_devices(name, dtype, monkeypatch):
    """On this CPU the kernels do what they do on a GPU."""
    monkeypatch.setattr(backends._kernels, CPU_QUESTION[BACKEND], lambda *arguments: False)
    arguments = ROWS[name].arguments
    shape = ROWS[name].input_shape()
    policy = "float32" if dtype == "float32" else "mixed_bfloat16"
    layer = make_layer(name, arguments, shape, dtype=policy)
    inputs = float64(keras.ops.convert_to_tensor(data(shape), dtype=dtype))
    rounding = {} if dtype == "float32" else {"output_tolerance": 2e-2, "gradient_tolerance": 2e-2}
    compare_with_reference(
        layer, arguments, inputs, True, dtype=dtype, compiled=BACKEND != "torch", **rounding
    )


@pytest.mark.parametrize("row", [row for row in LAYERS if row.scope == "example"], ids=str)
def test_training_makes_no_difference_to_statistics_of_one_example(row):
    shape = row.input_shape()
    layer = make_layer(row.name, row.arguments, shape)
    training, inference = (call(layer, data(shape), flag) for flag in (True, False))
    np.testing.assert_array_equal(training, inference)


@pytest.mark.parametrize("row", [row for row in LAYERS if row.moving_statistics], ids=str)
def test_moving_statistics_after_several_steps(row):
    shape = row.input_shape()
    layer = make_layer(row.name, row.arguments, shape, initial=True)
    expected = weights_of(layer)
    for step in range(3):
        inputs = data(shape, seed=step, mean=2)
        call(layer, inputs, training=True)
        _, updates = reference(row.name, inputs, expected, row.arguments, training=True)
        expected.update({key: value.numpy() for key, value in updates.items()})
    for key in ("moving_mean", "moving_variance"):
        assert_near(weights_of(layer)[key], expected[key], 1e-5, key)


# -----------------------------------------------------------------------------
# The references themselves, against what other libraries have of them.


def reference_case(name, arguments, shape, seed=0):
    """Standard inputs and weights for a reference, without a layer."""
    generator = np.random.default_rng(seed)
    shapes = weight_shapes(name, arguments, shape)
    weights = {key: generator.normal(size=value) for key, value in shapes.items()}
    if "moving_variance" in weights:
        weights["moving_variance"] = 0.5 + generator.uniform(size=shapes["moving_variance"])
    return torch.tensor(generator.normal(size=shape)), weights


@pytest.mark.smoke
@pytest.mark.parametrize("training", [True, False])
def test_reference_of_batch_norm_is_torchs(training):
    inputs, weights = reference_case("BatchNorm", {}, (4, 3, 5, 8))
    tensors = {key: torch.tensor(value) for key, value in weights.items()}
    outputs, updates = reference("BatchNorm", inputs, weights, {}, training)
    expected = torch.nn.functional.batch_norm(
        inputs.permute(0, 3, 1, 2),
        tensors["moving_mean"],
        tensors["moving_variance"],
        tensors["gamma"],
        tensors["beta"],
        training,
        0.1,
        1e-5,
    )
    assert_near(outputs.numpy(), expected.permute(0, 2, 3, 1).numpy(), 1e-12)
    # torch updates in place; its variances (not its outputs) are unbiased, unlike Keras's.
    assert_near(updates["moving_mean"].numpy(), tensors["moving_mean"].numpy(), 1e-12)


@pytest.mark.parametrize(
    ("name", "groups"), [("GroupNorm", 4), ("InstanceNorm", 8), ("LayerNorm", 1)]
)
def test_reference_of_group_norm_is_torchs(name, groups):
    arguments = {"groups": groups} if name == "GroupNorm" else {}
    inputs, weights = reference_case(name, arguments, (4, 3, 5, 8))
    outputs, _ = reference(name, inputs, weights, arguments)
    tensors = {key: torch.tensor(value) for key, value in weights.items()}
    expected = torch.nn.functional.group_norm(
        inputs.permute(0, 3, 1, 2), groups, tensors["gamma"], tensors["beta"]
    )
    assert_near(outputs.numpy(), expected.permute(0, 2, 3, 1).numpy(), 1e-12)


def test_reference_of_mode_norm_moves_the_variance_as_the_identity_says():
    inputs, weights = reference_case("ModeNorm", {"modes": 3}, (5, 4, 8))
    _, updates = reference("ModeNorm", inputs, weights, {"modes": 3}, training=True)
    # With momentum 0 the update is the batch's own statistic.
    _, batch = reference("ModeNorm", inputs, weights, {"modes": 3, "momentum": 0}, training=True)
    mean, variance = batch["moving_mean"].numpy(), batch["moving_variance"].numpy()
    expected = (
        0.9 * weights["moving_variance"]
        + 0.1 * variance
        + 0.9 * 0.1 * (mean - weights["moving_mean"]) ** 2
    )
    assert_near(updates["moving_variance"].numpy(), expected, 1e-12)


@pytest.mark.parametrize("weighted_variance", [False, True])
def test_reference_of_conv_norm_is_one_kronecker_product(weighted_variance):
    arguments = {"weighted_variance": weighted_variance, "kernel_sizes": ((2, 3), (2, 1))}
    arguments["momentum"] = 0
    inputs, weights = reference_case("ConvNorm", arguments, (3, 8, 6, 8))
    _, updates = reference("ConvNorm", inputs, weights, arguments, training=True)
    first, second = (np.exp(weights[f"spatial_logits_{i}"]) for i in range(2))
    # Rows are 2 coarse halves of 2 of the second kernel of 2 of the first, columns 2 halves of 3.
    product = np.einsum("ijc,klc->kiljc", first, second)  # (2, 2, 1, 3, C)
    product = np.tile(product.reshape(4, 3, 8), (2, 2, 1))
    product /= product.sum(axis=(0, 1))
    values = inputs.numpy()
    mean = (product * values).sum(axis=(1, 2)).mean(axis=0)
    variance = values.reshape(-1, 8).var(axis=0)
    if weighted_variance:
        variance = (product * (values - mean) ** 2).sum(axis=(1, 2)).mean(axis=0)
    assert_near(updates["moving_mean"].numpy(), mean, 1e-12)
    assert_near(updates["moving_variance"].numpy(), variance, 1e-12)


def test_reference_of_learned_stats_norm_is_keras_conv1d():
    arguments = ROWS["LearnedStatsNorm"].variants["deep"]
    inputs, weights = reference_case("LearnedStatsNorm", arguments, (3, 4, 5, 16))
    outputs, _ = reference("LearnedStatsNorm", inputs, weights, arguments)
    statistics = {}
    for statistic in ("mean", "std"):
        signal = inputs.numpy().mean(axis=(1, 2))[:, :, None].astype("float32")
        for index, (filters, size) in enumerate(
            zip(arguments["filters"], arguments["kernel_sizes"], strict=True)
        ):
            activation = None if index == 3 else "relu"
            convolution = keras.layers.Conv1D(filters, size, padding="same", activation=activation)
            convolution.build(signal.shape)
            names = (f"{statistic}_kernel_{index}", f"{statistic}_bias_{index}")
            convolution.set_weights([weights[name].astype("float32") for name in names])
            signal = call(convolution, signal)
        statistics[statistic] = float64(signal).mean(axis=(1, 2))[:, None, None, None]
    deviation = np.log1p(np.exp(statistics["std"])) + 1e-5
    expected = (inputs.numpy() - statistics["mean"]) / deviation
    assert_near(outputs.numpy(), expected, 1e-5)


@pytest.mark.parametrize(("row", "variant"), CASES)
def test_references_mask_is_a_gather(row, variant):
    """One unmasked stretch per example gives what the stretches alone give."""
    if row.name == "ConvNorm":
        pytest.skip("its weights belong to positions")
    arguments = row.variants[variant]
    inputs, weights = reference_case(row.name, arguments, (3, 7, 8))
    mask = np.zeros((3, 7), dtype=bool)
    mask[:, 2:6] = True
    outputs, updates = reference(row.name, inputs, weights, arguments, True, mask)
    alone, updates_alone = reference(row.name, inputs[:, 2:6], weights, arguments, True)
    assert_near(outputs[:, 2:6].numpy(), alone.numpy(), 1e-12)
    for key, value in updates.items():
        assert_near(value.numpy(), updates_alone[key].numpy(), 1e-12)
