"""The numerical contract: one named test per promise.

Statistics in float32 or better, inputs far from zero, constants, nothing to normalize, masks,
half precision, float64.
"""

import keras
import numpy as np
import pytest

import kerasnorm
from backend_tools import (
    BACKEND,
    assert_near,
    call,
    compare_with_reference,
    data,
    differentiator,
    float64,
    make_layer,
    objective_of,
    output_weights_for,
    random_mask,
    value_and_gradients,
    weights_of,
)
from daily import daily
from layer_table import LAYERS, ROWS, parameters
from references import reference, reference_with_gradients

EVERY = parameters(LAYERS)
EVERY_STATE = [
    pytest.param(row, row.arguments, training, id=f"{row.name}-{name}")
    for row in LAYERS
    for training, name in ((True, "training"), (False, "inference"))
    # Statistics of one example are the same in training and inference.
    if training or row.moving_statistics
]
BATCH = parameters([row for row in LAYERS if row.moving_statistics])
EXAMPLE = parameters([row for row in LAYERS if row.scope == "example"])
OF_THE_DATA = [
    *parameters([row for row in LAYERS if row.statistics == "data"]),
    pytest.param(ROWS["ConvNorm"], {"weighted_variance": True}, id="ConvNorm-weighted"),
    pytest.param(ROWS["ModeNorm"], {"modes": 5}, id="ModeNorm-5", marks=daily()),
    pytest.param(ROWS["ModeGroupNorm"], {"modes": 5}, id="ModeGroupNorm-5", marks=daily()),
]
MODES = [
    pytest.param(ROWS[name], {"modes": modes}, id=f"{name}-{modes}")
    for name in ("ModeNorm", "ModeGroupNorm")
    for modes in (2, 4)
]


def fresh(row, arguments, shape, **options):
    """A layer with its own initial weights."""
    return make_layer(row.name, arguments, shape, initial=True, **options)


def large(row):
    """A shape with enough positions to lose digits in their sums."""
    return (6, 9, 10, row.channels)


def expected_outputs(layer, arguments, inputs, training=True, mask=None):
    """What the paper's formula gives for the layer's own weights."""
    outputs, _ = reference(
        type(layer).__name__, inputs, weights_of(layer), arguments, training, mask
    )
    return outputs.numpy()


def gradients(layer, inputs, training=True, mask=None, **options):
    """A `Result`, the objective weighting every output, those at masked positions too."""
    return value_and_gradients(
        layer, inputs, output_weights_for(inputs.shape), training, mask, **options
    )


def assert_constant_over_positions(outputs):
    flat = float64(outputs).reshape(-1, outputs.shape[-1])
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:1], flat.shape))


# -----------------------------------------------------------------------------
# Far from zero.


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_mean_far_from_zero(row, arguments, masked):
    shape = large(row)
    layer = fresh(row, arguments, shape)
    mask = random_mask(shape) if masked else None
    for mean, limit in ((1e3, 1e-3), (1e4, 1e-2)):
        inputs = data(shape, mean=mean, offset=0)
        expected = expected_outputs(layer, arguments, inputs, mask=mask)
        outputs = call(layer, inputs, True, mask)
        assert np.isfinite(outputs).all()
        assert np.abs(outputs - expected)[mask if masked else ...].max() <= limit


@pytest.mark.smoke
@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_gradients_far_from_zero_are_finite(row, arguments):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    assert gradients(layer, data(shape, mean=1e4)).finite()


@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_constant_input_gives_zeros_before_scale_and_shift(row, arguments):
    shape = large(row)
    arguments = {**arguments, "center": False, "scale": False}
    layer = make_layer(row.name, arguments, shape)
    # An associated scale is below 2.
    scale = 2 if "encoder" in weights_of(layer) else 1
    for constant in (0.0, 1.0, 1e4, 1 / 3, -12345.678):
        inputs = np.full(shape, constant, dtype="float32")
        # For a constant the formula's own output is its shift.
        shift = expected_outputs(layer, arguments, inputs)
        outputs = call(layer, inputs, True)
        assert np.isfinite(outputs).all()
        assert np.abs(outputs - shift).max() <= 1e-2 * scale


@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_gradients_of_a_constant_input_are_finite(row, arguments):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    for constant in (0.0, 1e4):
        assert gradients(layer, np.full(shape, constant, dtype="float32")).finite()


@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_constant_input_beside_masked_rubbish_gives_zeros(row, arguments):
    shape = large(row)
    arguments = {**arguments, "center": False, "scale": False}
    layer = make_layer(row.name, arguments, shape)
    mask = random_mask(shape)
    mask[:, 0, 0] = False
    inputs = np.full(shape, 1e4, dtype="float32")
    inputs[~mask] = -3e7
    shift = expected_outputs(layer, arguments, inputs, mask=mask)
    scale = 2 if "encoder" in weights_of(layer) else 1
    outputs = call(layer, inputs, True, mask)
    assert np.isfinite(outputs).all()
    assert np.abs(outputs - shift)[mask].max() <= 1e-2 * scale


@pytest.mark.parametrize("name", ["BatchNorm", "InstanceNorm", "ConvNorm", "ModeNorm"])
def test_constant_channels_of_different_values_give_zeros(name):
    shape = large(ROWS[name])
    arguments = {"center": False, "scale": False}
    layer = make_layer(name, arguments, shape)
    constants = 1e4 * np.random.default_rng(0).uniform(-1, 1, size=8)
    inputs = np.broadcast_to(constants, shape).astype("float32")
    assert np.abs(call(layer, inputs, True)).max() <= 1e-2


@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_an_outlier_anywhere_spoils_no_statistic(row, arguments):
    """Deviations from a value that happens to be the outlier would lose the rest's digits."""
    shape = large(row)
    layer = fresh(row, arguments, shape)
    for position in (0, -1):
        inputs = data(shape, offset=0)
        inputs[position, position, position] = 1e4
        expected = expected_outputs(layer, arguments, inputs)
        assert_near(call(layer, inputs, True), expected, 1e-5)


def test_modes_far_from_each_other():
    """Examples of mean 1e4 and of mean 0, of variance 1, each kind with a mode of its own."""
    shape = large(ROWS["ModeNorm"])
    layer = fresh(ROWS["ModeNorm"], {}, shape)
    layer.gate_kernel.assign(np.stack([np.full(8, 0.01), np.zeros(8)], axis=1))
    layer.gate_bias.assign([-400.0, 0.0])
    inputs = data(shape, offset=0)
    inputs[::2] += 1e4
    expected = expected_outputs(layer, {}, inputs)
    assert 0.9 < expected.std() < 1.1
    result = gradients(layer, inputs)
    assert result.finite()
    assert np.abs(result.outputs - expected).max() <= 1e-2


# -----------------------------------------------------------------------------
# Little or nothing to normalize.


@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_single_position(row, arguments):
    shape = (5, 1, 1, row.channels)
    layer = make_layer(row.name, arguments, shape)
    compare_with_reference(
        layer, arguments, data(shape), True, output_tolerance=1e-4, gradient_floor=1.0
    )


@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_single_example(row, arguments):
    shape = (1, 4, 6, row.channels)
    layer = make_layer(row.name, arguments, shape)
    # The floor: all modes of one example are the same, and its gates learn nothing.
    compare_with_reference(layer, arguments, data(shape), True, gradient_floor=1.0)


@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_single_position_of_a_single_example(row, arguments):
    shape = (1, 1, 1, row.channels)
    layer = make_layer(row.name, arguments, shape)
    compare_with_reference(
        layer, arguments, data(shape), True, output_tolerance=1e-4, gradient_floor=1.0
    )


@pytest.mark.smoke
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("row", "arguments", "training"), EVERY_STATE)
def test_batch_of_no_examples(row, arguments, training, masked):
    shape = (0, *row.input_shape()[1:])
    layer = make_layer(row.name, arguments, shape)
    before = weights_of(layer)
    mask = np.zeros(shape[:-1], dtype=bool) if masked else None
    result = gradients(layer, np.zeros(shape, "float32"), training, mask)
    assert result.outputs.shape == shape
    assert result.input_gradient.shape == shape
    assert result.finite()
    for key, value in result.weight_gradients.items():
        assert not value.any(), key
    for key, value in result.statistics.items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize(("row", "arguments", "training"), EVERY_STATE)
def test_fully_masked_example(row, arguments, training):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    mask = random_mask(shape, fully_masked=[1])
    inputs = data(shape)
    compare_with_reference(layer, arguments, inputs, training, mask)
    assert gradients(layer, inputs, training, mask).finite()


@pytest.mark.parametrize(("row", "arguments"), EXAMPLE)
def test_fully_masked_example_has_scale_zero(row, arguments):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    mask = random_mask(shape, fully_masked=[1])
    result = gradients(layer, data(shape), True, mask)
    assert_constant_over_positions(result.outputs[1])
    assert not result.input_gradient[1].any()


@pytest.mark.parametrize(("row", "arguments", "training"), EVERY_STATE)
def test_fully_masked_batch(row, arguments, training):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    mask = np.zeros(shape[:-1], dtype=bool)
    assert gradients(layer, data(shape), training, mask).finite()


@pytest.mark.parametrize("empty", ["no examples", "no unmasked position"])
@pytest.mark.parametrize(("row", "arguments"), BATCH)
def test_empty_training_batch_leaves_the_moving_statistics_bit_for_bit(row, arguments, empty):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    before = [np.array(keras.ops.convert_to_numpy(w.value)) for w in layer.weights]
    if empty == "no examples":
        call(layer, np.zeros((0, *shape[1:]), "float32"), training=True)
    else:
        call(layer, data(shape), training=True, mask=np.zeros(shape[:-1], dtype=bool))
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight.value), value)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("row", "arguments"), MODES)
def test_a_mode_that_nobody_chooses(row, arguments, masked):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    bias = weights_of(layer)["gate_bias"]
    bias[1] = -1e4
    layer.gate_bias.assign(bias)
    mask = random_mask(shape, fully_masked=[2]) if masked else None
    # float32 knows a logit of 1e4 to 5e-4, and so the shares in the mode's statistics.
    compare_with_reference(
        layer,
        arguments,
        data(shape),
        True,
        mask,
        output_tolerance=1e-3,
        gradient_tolerance=1e-3,
        gradient_floor=1.0,
    )


# -----------------------------------------------------------------------------
# Masks.


@pytest.mark.parametrize(
    ("row", "arguments", "training"),
    [state for state in EVERY_STATE if state.values[0].name != "ConvNorm"],
)
def test_masked_equals_the_unmasked_positions_alone(row, arguments, training):
    shape = (4, 9, row.channels)
    inputs = data(shape)
    mask = np.zeros(shape[:-1], dtype=bool)
    mask[:, 3:8] = True
    layer = make_layer(row.name, arguments, shape)
    output_weights = output_weights_for(shape, mask=mask)
    masked = value_and_gradients(layer, inputs, output_weights, training, mask)
    alone = value_and_gradients(layer, inputs[:, 3:8], output_weights[:, 3:8], training)
    assert_near(masked.outputs[:, 3:8], alone.outputs, 1e-5, "outputs")
    assert_near(masked.input_gradient[:, 3:8], alone.input_gradient, 1e-5, "gradient of inputs")
    for kind in ("weight_gradients", "statistics"):
        for key, value in getattr(alone, kind).items():
            assert_near(getattr(masked, kind)[key], value, 1e-5, key)


@pytest.mark.parametrize(("row", "arguments", "training"), EVERY_STATE)
def test_masked_example_equals_the_other_examples_alone(row, arguments, training):
    shape = row.input_shape()
    inputs = data(shape)
    mask = np.array([True, False, True, True])
    layer = make_layer(row.name, arguments, shape)
    output_weights = output_weights_for(shape, mask=mask)
    masked = value_and_gradients(layer, inputs, output_weights, training, mask)
    alone = value_and_gradients(layer, inputs[mask], output_weights[mask], training)
    assert_near(masked.outputs[mask], alone.outputs, 1e-5, "outputs")
    assert_near(masked.input_gradient[mask], alone.input_gradient, 1e-5, "gradient of inputs")
    for kind in ("weight_gradients", "statistics"):
        for key, value in getattr(alone, kind).items():
            assert_near(getattr(masked, kind)[key], value, 1e-5, key)


@pytest.mark.smoke
@pytest.mark.parametrize(("row", "arguments", "training"), EVERY_STATE)
def test_masked_rubbish_does_no_harm(row, arguments, training):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape)
    mask = random_mask(shape, fully_masked=[2])
    inputs = data(shape)
    rubbish = np.random.default_rng(1).choice([np.nan, np.inf, -np.inf, 3e38], size=shape)
    spoilt = np.where(mask[..., None], inputs, rubbish).astype("float32")
    output_weights = output_weights_for(shape, mask=mask)
    clean = value_and_gradients(layer, inputs, output_weights, training, mask)
    result = value_and_gradients(layer, spoilt, output_weights, training, mask)
    assert result.finite()
    assert_near(result.outputs, clean.outputs, 1e-6, "outputs", where=mask)
    assert_near(result.input_gradient, clean.input_gradient, 1e-6, "gradient of inputs")
    for kind in ("weight_gradients", "statistics"):
        for key, value in getattr(clean, kind).items():
            assert_near(getattr(result, kind)[key], value, 1e-6, key)
    # Nor where the objective, contrary to good sense, weighs masked positions.
    assert gradients(layer, spoilt, training, mask).finite()


# -----------------------------------------------------------------------------
# Dtypes.

POLICIES = ["float16", "mixed_float16", "mixed_bfloat16"]


def rounded(values, policy):
    """`values` as the policy's compute dtype has them, in float64."""
    dtype = keras.dtype_policies.get(policy).compute_dtype
    return float64(keras.ops.convert_to_tensor(values, dtype=dtype))


@pytest.mark.smoke
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_half_precision_has_float32_statistics_and_its_own_output_dtype(row, arguments, policy):
    """Data of mean 30: a statistic in the half precision would be off by a hundredth and more."""
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape, dtype=policy)
    dtype = keras.dtype_policies.get(policy).compute_dtype
    inputs = rounded(data(shape, mean=30), policy)
    expected = expected_outputs(layer, arguments, inputs)
    outputs = layer(keras.ops.convert_to_tensor(inputs, dtype=dtype), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    ulp = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    difference = np.abs(float64(outputs) - expected)
    assert (difference / np.maximum(np.abs(expected), 1)).max() <= 2 * ulp


def objectives(shape, mask):
    """Inputs and output weights under which parts of a gradient cancel, by name."""
    generator = np.random.default_rng(3)
    normal = generator.normal(size=shape)
    inputs = data(shape)
    of_channels = generator.normal(size=(shape[0], 1, 1, shape[-1]))
    dead = np.where(np.arange(shape[-1]) % 2, inputs, 0.0)
    cases = {
        "normal": (inputs, normal),
        "nearly constant": (inputs, 1 + 0.05 * normal),
        "constant": (inputs, np.broadcast_to(of_channels, shape)),
        "far inputs": (inputs + 30, 1 + 0.05 * normal),
        "constant inputs": (np.ones(shape), 300 + normal),
        "dead channels, scaled loss": (dead, 32768 * (1e-3 + 1e-4 * normal)),
    }
    if mask is not None:
        cases = {key: (x, np.where(mask[..., None], dy, 0)) for key, (x, dy) in cases.items()}
        cases["weights at masked positions"] = (inputs, np.where(mask[..., None], normal, 6e4))
    return cases


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_half_precision_gradients_are_added_in_float32(row, arguments, masked, dtype):
    """They are what float32 says of the same rounded data, but for one rounding."""
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape, dtype=f"mixed_{dtype}")
    mask = random_mask(shape) if masked else None
    ulp = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    # TensorFlow has formulas of its own for XLA; JAX compiles its steps in any case.
    compiled = BACKEND == "jax" or (BACKEND == "tensorflow" and dtype == "bfloat16")
    differentiate = differentiator(layer, True, dtype=dtype, compiled=compiled)
    for name, case in objectives(shape, mask).items():
        inputs, output_weights = (rounded(values, f"mixed_{dtype}") for values in case)
        seen = output_weights if mask is None else np.where(mask[..., None], output_weights, 0)
        _, _, input_gradient, weight_gradients = reference_with_gradients(
            row.name, inputs, weights_of(layer), arguments, seen, True, mask
        )
        result = differentiate(inputs, output_weights.astype("float32"), mask)
        assert keras.backend.standardize_dtype(result.input_gradient.dtype) == dtype
        # Where all cancels, what float32 leaves of it.
        floor = 1e-3 * np.abs(seen).max()
        fits = np.abs(input_gradient) < 65504 if dtype == "float16" else None
        assert_near(result.input_gradient, input_gradient, 2 * ulp, name, floor=floor, where=fits)
        for value in (*result.weight_gradients.values(), *result.statistics.values()):
            assert keras.backend.standardize_dtype(value.dtype) == "float32"
        for key, value in weight_gradients.items():
            what = f"{name}: gradient of {key}"
            assert_near(result.weight_gradients[key], value, 2 * ulp, what, floor=10 * floor)


@pytest.mark.parametrize("name", ["BatchNorm", "AssociateNorm"])
def test_half_precision_gradients_before_global_pooling(name):
    """What it sends back is the same at all positions, and nearly all of it cancels."""
    shape = (4, 4, 4, 8)
    inputs = rounded(data(shape), "mixed_bfloat16")
    output_weights = rounded(1 + 0.05 * data((4, 8)), "mixed_bfloat16").astype("float32")

    def gradient(policy, dtype):
        layer = make_layer(name, ROWS[name].arguments, shape, dtype=policy)
        pooling = keras.layers.GlobalAveragePooling2D(dtype=policy)
        network = keras.Sequential([keras.Input(shape[1:], dtype=dtype), layer, pooling])
        return differentiator(network, True, dtype=dtype)(inputs, output_weights).input_gradient

    expected = gradient("float32", "float32")
    assert_near(gradient("mixed_bfloat16", "bfloat16"), expected, 2 * 2.0**-7, floor=1e-5)


@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_float16_up_to_60000_gives_finite_output(row, arguments):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape, dtype="mixed_float16")
    spread = np.random.default_rng(0).uniform(-6e4, 6e4, size=shape)
    for values in (spread, np.full(shape, 6e4), np.where(spread > 0, 6e4, -6e4)):
        inputs = rounded(values, "mixed_float16")
        expected = expected_outputs(layer, arguments, inputs)
        # Learned statistics may say that such an input is typical, and leave it as large as it is.
        representable = np.abs(expected) < 65504
        assert representable.all() or row.statistics == "learned"
        result = gradients(layer, inputs, dtype="float16")
        assert np.isfinite(result.outputs[representable]).all()
        assert_near(result.outputs, expected, 2e-2, where=representable)
        assert result.finite() or row.statistics == "learned"


@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_autocast_does_not_destroy_inputs_above_65504(row, arguments):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape, dtype="mixed_float16")
    inputs = 1e5 * data(shape)
    expected = expected_outputs(layer, arguments, inputs)
    result = gradients(layer, inputs)
    assert result.outputs.dtype == "float16"
    assert result.finite()
    assert_near(result.outputs, expected, 2e-3)


@pytest.mark.float64
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_float64(row, arguments, masked):
    shape = row.input_shape()
    layer = make_layer(row.name, arguments, shape, dtype="float64")
    inputs = data(shape).astype("float64")
    mask = random_mask(shape) if masked else None
    result = compare_with_reference(
        layer,
        arguments,
        inputs,
        True,
        mask,
        output_tolerance=1e-12,
        gradient_tolerance=1e-11,
    )
    arrays = [result.outputs, result.input_gradient]
    arrays += [*result.weight_gradients.values(), *result.statistics.values()]
    assert {array.dtype for array in arrays} == {np.dtype("float64")}


@pytest.mark.float64
@pytest.mark.parametrize(("row", "arguments"), OF_THE_DATA)
def test_float64_mean_far_from_zero(row, arguments):
    shape = row.input_shape()
    layer = fresh(row, arguments, shape, dtype="float64")
    inputs = 1e8 + data(shape).astype("float64")
    expected = expected_outputs(layer, arguments, inputs)
    assert np.abs(gradients(layer, inputs).outputs - expected).max() <= 1e-5


@pytest.mark.smoke
@pytest.mark.parametrize(("row", "arguments"), EVERY)
def test_float64_without_x64_is_refused(row, arguments):
    if BACKEND != "jax":
        pytest.skip("only JAX halves float64 silently")
    import jax

    if jax.config.jax_enable_x64:
        pytest.skip("x64 is on")
    with pytest.raises(ValueError, match="float64"):
        getattr(kerasnorm, row.name)(dtype="float64", **arguments)(data(row.input_shape()))


# -----------------------------------------------------------------------------
# Derivatives: docs/numerics.md.


def derivatives(loss, x):
    """The gradient of the squared gradient, and a directional derivative by forward mode."""
    square = lambda g: keras.ops.sum(keras.ops.square(g))  # noqa: E731
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda x: square(jax.grad(loss)(x)))(x), None
    if BACKEND == "torch":
        import torch
        from torch.autograd import forward_ad

        x = x.detach().requires_grad_()
        (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
        (second,) = torch.autograd.grad(square(first), x)
        with forward_ad.dual_level():
            forward = forward_ad.unpack_dual(loss(forward_ad.make_dual(x.detach(), x.detach())))
        return second.detach(), forward.tangent
    import tensorflow as tf

    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = loss(x)
        squared = square(inner.gradient(value, x))
    with tf.autodiff.ForwardAccumulator(x, x) as forward:
        value = loss(x)
    return outer.gradient(squared, x), forward.jvp(value)


# torch's own, when it first meets forward mode.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["BatchNorm", "ModeNorm"])
def test_second_and_forward_derivatives(name):
    import torch

    shape = (2, 3, 1, 4)
    layer = make_layer(name, {}, shape)
    weights = output_weights_for(shape)
    state = [
        [variable.value for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    ]

    def loss(x):
        outputs, _ = layer.stateless_call(*state, x, training=True)
        return objective_of(outputs**2, weights)

    second, forward = derivatives(loss, keras.ops.convert_to_tensor(data(shape)))
    x = torch.tensor(data(shape).astype("float64"), requires_grad=True)
    outputs, _ = reference(name, x, weights_of(layer), {}, True)
    objective = (outputs**2 * torch.tensor(weights.astype("float64"))).sum()
    (first,) = torch.autograd.grad(objective, x, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), x)
    assert_near(second, expected.numpy(), 1e-5, "second", floor=0.0)
    if BACKEND != "jax":
        along = (first.detach() * x.detach()).sum().numpy()
        assert_near(forward, along, 1e-4, "forward")


def test_a_backward_pass_leaves_nothing_for_the_next():
    """The first one here asks for gamma alone, the second for the gradient of a statistic."""
    if BACKEND != "torch":
        pytest.skip("of the linked functions of torch")
    import torch

    statistics = []

    class Observed(kerasnorm.BatchNorm):
        def coefficients(self, moments, training):
            statistics.append(moments.mean.sum())
            return super().coefficients(moments, training)

    layer = Observed()
    x = torch.tensor(data((2, 3, 4)), device=keras.ops.zeros(()).device, requires_grad=True)
    outputs = layer(x, training=True)
    torch.autograd.grad(outputs.square().sum(), layer.gamma.value, retain_graph=True)
    (gradient,) = torch.autograd.grad(statistics[0], x)
    torch.testing.assert_close(gradient, torch.full_like(x, 1 / 3))


def test_jax_refuses_forward_mode():
    if BACKEND != "jax":
        pytest.skip("the other backends have it")
    import jax

    layer = make_layer("BatchNorm", {}, (2, 4))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(layer, (data((2, 4)),), (data((2, 4)),))
