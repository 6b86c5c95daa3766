"""What only one of `SwitchableNorm`, `BatchInstanceNorm`, `BatchRenorm` and FRN has."""

import inspect
import re

import keras
import numpy as np
import pytest

import kerasnorm
from backend_tools import (
    assert_near,
    data,
    float64,
    make_layer,
    random_weight,
    value_and_gradients,
    weights_of,
)
from keras_harness import run_layer_test
from small_models import numpy
from test_equivalences import SHAPE, assert_same, set_weights

HAS_RENORM = "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters
needs_renorm = pytest.mark.skipif(not HAS_RENORM, reason="this Keras has no batch renormalization")
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


# The norms between others.


@TRAINING
@pytest.mark.parametrize("index", range(3), ids=["instance", "layer", "batch"])
def test_switchable_norm_with_one_statistic_is_its_norm(index, training):
    layer = make_layer("SwitchableNorm", {}, SHAPE)
    alone = np.where(np.arange(3) == index, 200.0, 0.0)
    set_weights(layer, mean_weight=alone, variance_weight=alone)
    name = ("InstanceNorm", "LayerNorm", "BatchNorm")[index]
    statistics = None if name == "BatchNorm" else ()
    assert_same(layer, make_layer(name, {}, SHAPE), training=training, statistics=statistics)


@TRAINING
@pytest.mark.parametrize(("gate", "name"), [(1, "BatchNorm"), (0, "InstanceNorm")])
def test_batch_instance_norm_with_a_closed_or_open_gate(gate, name, training):
    layer = make_layer("BatchInstanceNorm", {}, SHAPE)
    set_weights(layer, gate=gate)
    statistics = None if name == "BatchNorm" else ()
    assert_same(layer, make_layer(name, {}, SHAPE), training=training, statistics=statistics)


def test_the_gate_of_batch_instance_norm_stays_between_0_and_1():
    layer = make_layer("BatchInstanceNorm", {}, SHAPE, initial=True)
    optimizer = keras.optimizers.SGD(1.0)
    for gradient, expected in ((-2.0, 1.0), (0.25, 0.75), (2.0, 0.0)):
        optimizer.apply([keras.ops.full(SHAPE[-1:], gradient)], [layer.gate])
        assert_near(layer.gate.value, np.full(SHAPE[-1], expected), 1e-6)


# Batch renormalization.


@TRAINING
def test_batch_renorm_without_corrections_is_batch_norm(training):
    layer = make_layer("BatchRenorm", {"r_max": 1, "d_max": 0}, SHAPE)
    other = make_layer("BatchNorm", {}, SHAPE)
    assert_same(layer, other, training=training, statistics=["moving_mean"])


def test_batch_renorm_without_limits_trains_with_its_averages():
    layer = make_layer("BatchRenorm", {"r_max": None, "d_max": None}, SHAPE)
    weights = weights_of(layer)
    outputs = layer(data(SHAPE), training=True)
    expected = (data(SHAPE) - weights["renorm_mean"]) / weights["renorm_stddev"]
    assert_near(outputs, weights["gamma"] * expected + weights["beta"], 1e-5)


CLIPPINGS = [
    ({}, {"r_max": None, "d_max": None, "r_min": 0}),
    ({"rmax": 1.5, "rmin": 0.5, "dmax": 0.2}, {"r_max": 1.5, "d_max": 0.2, "r_min": 0.5}),
    ({"rmax": 3.0, "rmin": 1 / 3, "dmax": 5.0}, {}),
]


@needs_renorm
@pytest.mark.parametrize(("clipping", "limits"), CLIPPINGS, ids=["none", "tight", "default"])
def test_batch_renorm_is_keras_batch_normalization_with_renorm(clipping, limits):
    theirs = keras.layers.BatchNormalization(
        renorm=True,
        renorm_clipping=clipping,
        renorm_momentum=0.7,
        momentum=0.6,
        epsilon=1e-3,
    )
    theirs.build(SHAPE)
    arguments = {**limits, "renorm_momentum": 0.7, "momentum": 0.6, "epsilon": 1e-3}
    ours = make_layer("BatchRenorm", arguments, SHAPE, initial=True)
    names = [weight.name for weight in theirs.weights]
    assert [weight.name for weight in ours.weights] == names
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        assert_near(one.value, other.value, 1e-7, one.name)
    ours.set_weights([random_weight(name, SHAPE[-1:], 3) for name in names])
    theirs.set_weights(ours.get_weights())
    weights = np.random.default_rng(1).normal(size=SHAPE).astype("float32")
    for step in range(3):
        inputs = data(SHAPE, seed=step, mean=0.3 * step)
        one, other = (value_and_gradients(each, inputs, weights, True) for each in (ours, theirs))
        assert_near(one.outputs, other.outputs, 1e-5, "outputs")
        assert_near(one.input_gradient, other.input_gradient, 1e-4, "gradient of inputs")
        for key, value in other.weight_gradients.items():
            assert_near(one.weight_gradients[key], value, 1e-4, key)
        for layer in (ours, theirs):
            layer(inputs, training=True)
        for mine, their in zip(ours.weights, theirs.weights, strict=True):
            assert_near(mine.value, their.value, 1e-5, mine.name)
        assert_near(ours(inputs), theirs(inputs), 1e-5, "inference")


@keras.saving.register_keras_serializable("tests")
def growing(step):
    """A schedule that is a function: 1, 1.5, 2, ..."""
    return 1 + 0.5 * keras.ops.cast(step, "float32")


def test_limits_follow_schedules_of_the_training_step(tmp_path):
    layer = kerasnorm.BatchRenorm(
        r_max=growing, d_max=keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.0, 4.0])
    )
    model = keras.Sequential([keras.Input(SHAPE[1:]), layer])
    inputs = data(SHAPE)
    empty = np.zeros((0, *SHAPE[1:]), "float32")
    for r_max, d_max in ((1.0, 0.0), (1.5, 0.0), (2.0, 4.0)):
        fixed = make_layer("BatchRenorm", {"r_max": r_max, "d_max": d_max}, SHAPE, initial=True)
        fixed.set_weights(layer.get_weights()[:-1])
        layer(inputs)
        layer(empty, training=True)
        assert_near(layer(inputs, training=True), fixed(inputs, training=True), 1e-6)
        assert layer.weights[-1].name == "step"
    assert int(layer.step) == 3
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[-1]
    assert int(again.step) == 3
    assert again.get_config() == layer.get_config()
    # In a compiled training too.
    model.compile("sgd", "mse")
    model.fit(inputs, inputs, batch_size=2, verbose=0)
    assert int(layer.step) == 5


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ({"r_max": 0.5}, "r_max=0.5. Needed: a number at least 1"),
        ({"d_max": -1}, "d_max=-1. Needed: a number at least 0"),
        ({"r_min": 2}, "r_min=2. Needed: a number at least 0 and at most 1"),
        ({"r_max": "large"}, "r_max='large'. Needed: a number at least 1"),
    ],
)
def test_limits_are_checked(arguments, needed):
    with pytest.raises(ValueError, match=re.escape(needed)):
        kerasnorm.BatchRenorm(**arguments)


# Surgery.


def network(norm):
    """A network with weights as a trained one has them."""
    inputs = keras.Input((8, 8, 6))
    model = keras.Model(inputs, norm(inputs))
    for index, weight in enumerate(model.weights):
        weight.assign(random_weight(weight.name, tuple(weight.shape), index).astype("float32"))
    return model


def trained_and_inferred(model):
    """The outputs in training and in inference, without moving what the model keeps."""
    before = [np.array(numpy(weight.value)) for weight in model.weights]
    inputs = data((4, 8, 8, 6))
    found = [numpy(model(inputs, training=training)) for training in (True, False)]
    model.set_weights(before)
    return found


@needs_renorm
@pytest.mark.parametrize(("clipping", "limits"), CLIPPINGS, ids=["none", "tight", "default"])
def test_batch_renorm_takes_the_place_of_kerass(clipping, limits):
    norm = keras.layers.BatchNormalization(
        renorm=True, renorm_clipping=clipping, renorm_momentum=0.8, name="norm"
    )
    model = network(norm)
    new = kerasnorm.replace_norms(model, "batch_renorm")
    row = new.norm_report.replacements[0]
    assert (row.outputs, row.left_out) == ("same", ())
    layer = new.get_layer("norm")
    assert layer.renorm_momentum == 0.8
    assert {key: getattr(layer, key) for key in limits} == limits
    for one, other in zip(trained_and_inferred(new), trained_and_inferred(model), strict=True):
        assert_near(one, other, 1e-5)
    # And back, where Keras's layer is asked to renormalize.
    spec = {"name": "keras_batch", "renorm": True, "renorm_clipping": clipping}
    again = kerasnorm.replace_norms(new, spec)
    assert again.norm_report.replacements[0].outputs == "same"


def test_batch_renorm_goes_on_from_the_statistics_of_a_batch_norm():
    model = network(kerasnorm.BatchNorm(name="norm"))
    new = kerasnorm.replace_norms(model, "batch_renorm")
    assert new.norm_report.replacements[0].outputs == "same at inference"
    weights = weights_of(new.get_layer("norm"))
    deviation = np.sqrt(weights["moving_variance"] + 1e-5)
    assert_near(weights["renorm_mean"], weights["moving_mean"], 1e-6)
    assert_near(weights["renorm_stddev"], deviation, 1e-6)
    assert_near(weights["moving_stddev"], deviation, 1e-6)
    ended = kerasnorm.replace_norms(new, "batch").norm_report.replacements[0]
    assert "batch renormalization ends here" in ended.chosen


@pytest.mark.parametrize("old", ["batch", "instance", "layer"])
def test_switchable_norm_starts_nearly_as_a_plain_norm(old):
    model = network(kerasnorm.get(old, name="norm"))
    new = kerasnorm.replace_norms(model, "switchable", preserve=True)
    row = new.norm_report.replacements[0]
    assert row.outputs == "near"
    assert "shares of 5e-05" in row.chosen
    for one, other in zip(trained_and_inferred(new), trained_and_inferred(model), strict=True):
        assert_near(one, other, 1e-3)


@pytest.mark.parametrize("old", ["batch", "instance"])
def test_batch_instance_norm_starts_as_a_plain_norm(old):
    model = network(kerasnorm.get(old, name="norm"))
    new = kerasnorm.replace_norms(model, "batch_instance", preserve=True)
    assert new.norm_report.replacements[0].outputs == "same"
    for one, other in zip(trained_and_inferred(new), trained_and_inferred(model), strict=True):
        assert_near(one, other, 1e-5)


def test_filter_response_norm_has_no_plain_norm():
    model = network(kerasnorm.FilterResponseNorm(name="norm"))
    row = kerasnorm.replace_norms(model, "instance").norm_report.replacements[0]
    assert row.outputs == "other"
    row = kerasnorm.replace_norms(model, "frn").norm_report.replacements[0]
    assert row.outputs == "same"


# Filter responses and their activation.


def test_filter_response_norm_of_centered_channels_is_instance_norm():
    inputs = data(SHAPE)
    inputs -= inputs.mean(axis=(1, 2), keepdims=True)
    layer = make_layer("FilterResponseNorm", {}, SHAPE)
    other = make_layer("InstanceNorm", {}, SHAPE)
    set_weights(other, **weights_of(layer))
    assert_near(layer(inputs), other(inputs), 1e-5)


def test_a_learned_epsilon_starts_as_in_the_paper_and_adds_its_absolute_value():
    layer = make_layer("FilterResponseNorm", {"learned_epsilon": True}, SHAPE, initial=True)
    assert [weight.name for weight in layer.weights] == ["gamma", "beta", "epsilon"]
    assert weights_of(layer)["epsilon"] == pytest.approx(1e-4)
    inputs = data(SHAPE)
    power = (inputs.astype("float64") ** 2).mean(axis=(1, 2), keepdims=True)
    for value in (0.5, -0.5):
        layer.epsilon_weight.assign(value)
        assert_near(layer(inputs), inputs / np.sqrt(power + 0.5 + 1e-5), 1e-5)


def test_surgery_knows_what_a_learned_epsilon_adds():
    old = kerasnorm.FilterResponseNorm(epsilon=1e-3, learned_epsilon=True)
    model = keras.Sequential([keras.Input((4, 4, 3)), old])
    old.epsilon_weight.assign(-0.25)
    for epsilon, relation in ((0.251, "same"), (0.001, "other")):
        spec = {"name": "filter_response", "epsilon": epsilon, "learned_epsilon": False}
        (row,) = kerasnorm.replace_norms(model, spec).norm_report.replacements
        assert row.outputs == relation


@pytest.mark.parametrize("axis", [-1, 1])
def test_thresholded_linear_unit_passes_kerass_tests(axis):
    shape = (3, 4, 6, 8) if axis == -1 else (3, 8, 4, 6)
    run_layer_test(
        kerasnorm.ThresholdedLinearUnit,
        {"axis": axis, "tau_regularizer": "l2", "tau_initializer": "ones"},
        input_shape=shape,
        expected_output_shape=shape,
        expected_output_dtype="float32",
        expected_num_trainable_weights=1,
        expected_num_non_trainable_weights=0,
        expected_num_losses=1,
        supports_masking=True,
        run_training_check=axis == -1,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_thresholded_linear_unit(axis, dtype):
    shape = (64, 12, 10, 8)
    channels = shape[axis]
    policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
    layer = make_layer("ThresholdedLinearUnit", {}, shape, dtype=policy, axis=axis)
    inputs = float64(keras.ops.convert_to_tensor(data(shape), dtype=dtype))
    # What sums to more than half precision can tell apart, and than float16 can hold.
    weights = np.full(shape, 100.0, "float32")
    result = value_and_gradients(layer, inputs, weights, dtype=dtype)
    assert keras.backend.standardize_dtype(result.outputs.dtype) == dtype
    tau = weights_of(layer)["tau"].reshape([channels if k == axis % 4 else 1 for k in range(4)])
    ulp = {"float32": 1e-7, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    assert_near(result.outputs, np.maximum(inputs, tau), ulp)
    others = tuple(k for k in range(4) if k != axis % 4)
    below = inputs <= tau
    assert_near(result.input_gradient, np.where(below, 0, weights), ulp)
    assert_near(result.weight_gradients["tau"], np.where(below, weights, 0).sum(others), 1e-6)


def test_thresholded_linear_unit_starts_as_relu():
    inputs = data(SHAPE)
    inputs[0] = 0
    layer = kerasnorm.ThresholdedLinearUnit()
    layer.build(SHAPE)
    weights = np.ones(SHAPE, "float32")
    result = value_and_gradients(layer, inputs, weights)
    np.testing.assert_array_equal(result.outputs, np.maximum(inputs, 0))
    np.testing.assert_array_equal(result.input_gradient, inputs > 0)


def test_thresholded_linear_unit_does_not_hide_what_is_no_number():
    outputs = kerasnorm.ThresholdedLinearUnit()(np.full((1, 3), np.nan, "float32"))
    assert np.isnan(numpy(outputs)).all()


@pytest.mark.parametrize(
    ("axis", "shape", "needed"),
    [
        (0, (2, 3), "the axis of the channels"),
        (3, (2, 3), "rank 2 or more, and a fixed number of channels"),
        (-1, (2, None), "a fixed number of channels"),
    ],
)
def test_thresholded_linear_unit_refuses_what_it_cannot_take(axis, shape, needed):
    with pytest.raises(ValueError, match=needed):
        kerasnorm.ThresholdedLinearUnit(axis=axis).build(shape)
