"""What a layer takes: ranks, axes, sizes, dtypes and masks, alone and in models."""

import json

import keras
import numpy as np
import pytest

import kerasnorm
from daily import daily
from layer_table import is_statistic
from small_models import (
    BACKEND,
    CHANNELS,
    EVERY_NAME,
    IMAGE,
    NAMES,
    PARTS,
    assert_same,
    call,
    has_moving_statistics,
    images,
    model_of_all,
    names_for_rank,
    new_layer,
    numpy,
    randomize,
    takes_rank,
    weight_values,
)

SIDES = (3, 4, 2)
# Rank and axis; the last axis is what the others are compared with.
LAYOUTS = [(2, 1), (3, 1), (4, 1), (4, 2), (5, 3)]


def built(name, shape, **common):
    """A layer with weights that all matter."""
    layer = new_layer(name, **common)
    layer.build(shape)
    return randomize(layer)


def data(rank, batch=3):
    """Channels-last data of a rank, whose sides all differ."""
    generator = np.random.default_rng(rank)
    return generator.normal(0.3, 2, (batch, *SIDES[: rank - 2], CHANNELS)).astype("float32")


# -----------------------------------------------------------------------------
# Ranks, axes, sizes


@pytest.mark.parametrize(
    ("name", "rank", "axis"),
    [(name, *layout) for name in EVERY_NAME for layout in LAYOUTS if takes_rank(name, layout[0])],
)
def test_axis_only_moves_the_channels(name, rank, axis):
    inputs = data(rank)
    moved = np.ascontiguousarray(np.moveaxis(inputs, -1, axis))
    last = built(name, inputs.shape)
    other = built(name, moved.shape, axis=axis)
    outputs = call(other, moved, training=True)
    assert outputs.shape == moved.shape
    assert_same(np.moveaxis(outputs, axis, -1), call(last, inputs, training=True), 1e-4)
    assert_same(weight_values(other), weight_values(last))


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("name", ["BatchNorm", "GroupNorm", "ConvNorm"])
def test_negative_axes_count_from_the_end(name, axis):
    inputs = np.moveaxis(data(4), -1, axis)
    positive = built(name, inputs.shape, axis=axis)
    negative = built(name, inputs.shape, axis=axis - 4)
    assert negative.get_config()["axis"] == axis - 4
    assert_same(call(negative, inputs, True), call(positive, inputs, True))


# How channels come first is the same in every layer with moving statistics.
@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
@pytest.mark.parametrize("axis", [-1, pytest.param(1, marks=daily())])
@pytest.mark.parametrize("names", PARTS)
def test_unknown_sides(names, axis):
    """Layers side by side in one model, so that it is compiled once for each size."""
    names = [
        name
        for name in names
        # It has weights for each position.
        if name != "ConvNorm"
        if axis == -1 or not has_moving_statistics(name) or name == "ModeNorm"
    ]
    shape = (None, None, CHANNELS) if axis == -1 else (CHANNELS, None, None)
    model = randomize(model_of_all(shape, names, head=False, axis=axis))
    assert {output.shape for output in model.outputs} == {(None, *shape)}
    layers = [model.get_layer(name.lower()) for name in names]
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    for image in ((2, 4), (5, 3)):
        batch = np.moveaxis(images(3, image=image), -1, axis)
        before = [weight_values(layer) for layer in layers]
        for layer, outputs in zip(layers, model.predict_on_batch(batch), strict=True):
            assert outputs.shape == batch.shape, layer.name
            assert_same(outputs, call(layer, batch), 1e-4)
        model.train_on_batch(batch, [batch] * len(names))
        for layer, old in zip(layers, before, strict=True):
            new = weight_values(layer)
            assert any((a != b).any() for a, b in zip(new, old, strict=True)), layer.name


@pytest.mark.parametrize("name", EVERY_NAME)
def test_one_layer_takes_batches_of_any_size(name):
    layer = built(name, (None, *IMAGE, CHANNELS))
    sizes = [IMAGE] if name == "ConvNorm" else [IMAGE, (1, 1), (7, 2)]
    whole = {size: images(5, image=size) for size in sizes}
    for size, batch in whole.items():
        outputs = call(layer, batch)
        assert_same(call(layer, batch[:1]), outputs[:1], 1e-4)
        assert call(layer, batch, training=True).shape == (5, *size, CHANNELS)


def test_a_fixed_batch_size():
    inputs = keras.Input(batch_shape=(2, *IMAGE, CHANNELS))
    layers = [built(name, inputs.shape) for name in EVERY_NAME]
    model = keras.Model(inputs, [layer(inputs) for layer in layers])
    assert model.output_shape == [(2, *IMAGE, CHANNELS)] * len(layers)
    outputs = model.predict(images(4), batch_size=2, verbose=0)
    assert_same(outputs, [call(layer, images(4)) for layer in layers], 1e-4)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_output_shape_and_spec(name):
    layer = new_layer(name, dtype="mixed_bfloat16")
    shape = (None, *IMAGE, CHANNELS)
    assert tuple(layer.compute_output_shape(shape)) == shape
    layer.build(shape)
    for inputs in (keras.KerasTensor(shape), keras.KerasTensor((5, *IMAGE, CHANNELS), "float16")):
        for arguments in ({}, {"training": True}, {"training": False, "mask": None}):
            spec = layer.compute_output_spec(inputs, **arguments)
            assert tuple(spec.shape) == tuple(inputs.shape)
            assert spec.dtype == "bfloat16"
    if name != "ConvNorm":
        assert tuple(layer.compute_output_shape((2, None, None, CHANNELS))) == (
            2,
            None,
            None,
            CHANNELS,
        )


@pytest.mark.parametrize("name", EVERY_NAME)
def test_numpy_inputs(name):
    layer = built(name, (None, *IMAGE, CHANNELS))
    assert_same(layer(images(2)), call(layer, images(2)), 1e-4)


# -----------------------------------------------------------------------------
# Dtypes


# The largest error against float32 of values of order 3, and the dtype of the weights.
POLICIES = {
    "mixed_float16": ("float16", "float32", 1e-2),
    "mixed_bfloat16": ("bfloat16", "float32", 1e-1),
    "float16": ("float16", "float16", 3e-2),
    "bfloat16": ("bfloat16", "bfloat16", 2e-1),
    "float64": ("float64", "float64", 1e-4),
}
PARAMETERS = [
    pytest.param(policy, marks=pytest.mark.float64 if policy == "float64" else ())
    for policy in POLICIES
]


@pytest.mark.parametrize("policy", PARAMETERS)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_dtype_policy(name, policy):
    compute, variable, tolerance = POLICIES[policy]
    shape = (None, *IMAGE, CHANNELS)
    reference = built(name, shape)
    layer = new_layer(name, dtype=policy)
    layer.build(shape)
    layer.set_weights([value.astype("float32") for value in weight_values(reference)])
    for weight in layer.weights:
        # Statistics are never less than float32, in which those of large inputs would overflow.
        moving = is_statistic(weight.name) and variable != "float64"
        assert keras.backend.standardize_dtype(weight.dtype) == ("float32" if moving else variable)
    for training in (False, True):
        outputs = call(layer, images(), training, raw=True)
        assert keras.backend.standardize_dtype(outputs.dtype) == compute
        difference = np.abs(numpy(outputs) - call(reference, images(), training)).max()
        assert difference < tolerance
    # Weights are still what they were, but for a step of the statistics.
    for value, expected in zip(weight_values(layer), weight_values(reference), strict=True):
        assert np.abs(value - expected).max() < tolerance
    revived = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert revived.compute_dtype == compute
    assert revived.variable_dtype == variable


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", EVERY_NAME)
def test_inputs_of_another_dtype(name, dtype):
    """Half-precision inputs of a float32 layer are not worse than they already are."""
    layer = built(name, (None, *IMAGE, CHANNELS))
    inputs = keras.ops.cast(keras.ops.convert_to_tensor(images()), dtype)
    outputs = call(layer, inputs, True, raw=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    other = built(name, (None, *IMAGE, CHANNELS))
    assert_same(outputs, call(other, numpy(inputs), True), 1e-3)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", *(pytest.param(p, marks=daily()) for p in ("mixed_bfloat16", "bfloat16"))],
)
@pytest.mark.parametrize("names", PARTS)
def test_training_in_half_precision(names, policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = model_of_all(names=names)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    targets = [np.zeros((8, 2), "float32")] * len(names)
    history = model.fit(images(8), targets, epochs=2, verbose=0)
    assert np.isfinite(list(history.history.values())).all()
    predictions = call(model, images(8))
    assert np.isfinite(predictions).all()
    model.save(tmp_path / "model.keras")
    # Keras does not get an optimizer that scales the loss back from a file.
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert_same(call(loaded, images(8)), predictions, 1e-2)
    for name in names:
        layer = loaded.get_layer(name.lower())
        assert layer.dtype_policy.name == policy
        assert layer.compute_dtype == policy.removeprefix("mixed_")


def test_a_map_of_dtype_policies(tmp_path):
    policies = keras.dtype_policies.DTypePolicyMap("float32")
    policies[".*group.*"] = keras.DTypePolicy("mixed_float16")
    policies[".*consistent.*"] = keras.DTypePolicy("mixed_bfloat16")
    model = model_of_all(head=False, dtype=policies)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for version in (model, loaded):
        for name in EVERY_NAME:
            layer = version.get_layer(name.lower())
            expected = "float16" if "Group" in name else "float32"
            expected = "bfloat16" if name == "ConsistentNorm" else expected
            outputs = layer(images())
            assert keras.backend.standardize_dtype(outputs.dtype) == expected, name
            assert layer.compute_dtype == expected
            assert {keras.backend.standardize_dtype(w.dtype) for w in layer.weights} == {"float32"}
    assert_same(loaded.predict(images(), verbose=0), model.predict(images(), verbose=0))


# -----------------------------------------------------------------------------
# Masks


TOKENS = np.array([[3, 1, 2, 0, 0], [5, 0, 0, 0, 0], [1, 2, 3, 4, 5]])


@pytest.mark.parametrize("name", names_for_rank(3))
def test_a_mask_of_an_embedding(name):
    layer = new_layer(name)
    embedding = keras.layers.Embedding(6, CHANNELS, mask_zero=True)
    inputs = keras.Input((None,), dtype="int32")
    features = layer(embedding(inputs))
    # Averages over unmasked positions only: the mask has to come through.
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(features))
    randomize(model)
    before = weight_values(layer)
    mask = TOKENS != 0
    vectors = numpy(embedding(keras.ops.convert_to_tensor(TOKENS)))

    def average(values, where):
        return np.stack([v[m].mean(axis=0) for v, m in zip(values, where, strict=True)])

    outputs = model.predict(TOKENS, verbose=0)
    assert_same(outputs, average(call(layer, vectors, mask=mask), mask), 1e-4)
    # The shortest alone, with nothing to mask.
    assert_same(model.predict(TOKENS[1:2, :1], verbose=0), outputs[1:2], 1e-4)

    call(layer, vectors, training=True, mask=mask)
    after = weight_values(layer)
    layer.set_weights(before)
    model(keras.ops.convert_to_tensor(TOKENS), training=True)
    assert_same(weight_values(layer), after, 1e-4)


@pytest.mark.parametrize("name", names_for_rank(3))
def test_a_mask_of_a_masking_layer(name):
    layer = new_layer(name)
    model = keras.Sequential([keras.Input((5, CHANNELS)), keras.layers.Masking(), layer])
    randomize(model)
    vectors = images(3, image=(5, 1))[:, :, 0]
    mask = TOKENS != 0
    vectors[~mask] = 0
    outputs = model.predict(vectors, verbose=0)
    assert_same(outputs[mask], call(layer, vectors, mask=mask)[mask], 1e-4)
    assert np.isfinite(outputs).all()


@keras.saving.register_keras_serializable("kerasnorm_tests")
class MaskOfImages(keras.layers.Layer):
    """Masks the positions whose first channel is zero."""

    def call(self, inputs):
        return inputs

    def compute_mask(self, inputs, mask=None):
        return keras.ops.not_equal(inputs[..., 0], 0)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_mask_of_images(name):
    layer = new_layer(name)
    model = keras.Sequential([keras.Input((*IMAGE, CHANNELS)), MaskOfImages(), layer])
    randomize(model)
    batch = images()
    mask = np.random.default_rng(1).uniform(size=batch.shape[:-1]) < 0.7
    batch[..., 0] = np.where(mask, batch[..., 0], 0)
    before = weight_values(layer)
    outputs = model.predict(batch, verbose=0)
    assert_same(outputs[mask], call(layer, batch, mask=mask)[mask], 1e-4)
    call(layer, batch, training=True, mask=mask)
    after = weight_values(layer)
    layer.set_weights(before)
    model(batch, training=True)
    assert_same(weight_values(layer), after, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_of_whole_examples(name):
    """A mask of shape (batch,) leaves examples out."""
    layer = built(name, (None, *IMAGE, CHANNELS))
    before = weight_values(layer)
    mask = np.array([True, False, True, True])
    outputs = call(layer, images(), training=True, mask=mask)
    after = weight_values(layer)
    layer.set_weights(before)
    assert_same(outputs[mask], call(layer, images()[mask], training=True), 1e-4)
    assert_same(after, weight_values(layer), 1e-4)
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("shape", [(1,), (4, 1), (1, *IMAGE), (4, 1, IMAGE[1]), (1, IMAGE[0], 1)])
@pytest.mark.parametrize("name", ["GroupNorm", "BatchNorm", "ConvNorm", "ConsistentNorm"])
def test_a_mask_that_broadcasts(name, shape):
    """A size of 1 stands for the same mask at all positions of an axis."""
    layer = built(name, (None, *IMAGE, CHANNELS))
    before = weight_values(layer)
    mask = np.arange(np.prod(shape)).reshape(shape) % 3 != 1
    spread = mask.reshape(shape + (1,) * (3 - len(shape))) & np.ones((4, *IMAGE), bool)
    outputs = call(layer, images(), training=True, mask=mask)
    after = weight_values(layer)
    layer.set_weights(before)
    assert_same(outputs[spread], call(layer, images(), training=True, mask=spread)[spread], 1e-6)
    assert_same(after, weight_values(layer), 1e-6)


def test_a_mask_needs_a_norm_that_takes_one():
    """Keras's group norm has no mask: then ConsistentNorm lets it pass by."""
    layer = kerasnorm.ConsistentNorm(keras.layers.GroupNormalization(groups=2), branches=2)
    model = keras.Sequential([keras.Input((5, CHANNELS)), keras.layers.Masking(), layer])
    vectors = images(3, image=(5, 1))[:, :, 0]
    expected = layer.banks[0](vectors)
    assert_same(model.predict(vectors, verbose=0), expected, 1e-4)
