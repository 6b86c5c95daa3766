"""ConsistentNorm: the right branch in every kind of call."""

import json
import threading

import keras
import numpy as np
import pytest

import kerasnorm
from kerasnorm.consistent import branches as consistent
from small_models import (
    BACKEND,
    CHANNELS,
    EVERY_NAME,
    IMAGE,
    assert_same,
    images,
    new_layer,
    numpy,
    randomize,
    small_model,
    weight_values,
)

# Layers of Keras whose copies have weights of their own.
KERAS_NORMS = {
    "BatchNormalization": {},
    "GroupNormalization": {"groups": 2},
    "LayerNormalization": {},
}
pytestmark = [
    # Branches that are not called have no gradients.
    pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning"),
    # Inside `branch` TensorFlow goes on compiling its data pipelines, which know no branch.
    pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning"),
]


def built(norm=None, branches=3, **common):
    """A built layer whose branches all differ."""
    layer = kerasnorm.ConsistentNorm(norm or kerasnorm.BatchNorm(), branches, **common)
    layer.build((None, *IMAGE, CHANNELS))
    for index, bank in enumerate(layer.banks):
        randomize(bank, seed=100 * index)
    return layer


def branch_outputs(layer, inputs):
    """What each of the copies makes of the inputs, by itself."""
    return [numpy(bank(inputs, training=False)) for bank in layer.banks]


def model_of(layer):
    """A functional model of the layer alone, ready for compiled calls."""
    inputs = keras.Input((*IMAGE, CHANNELS))
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse", jit_compile=BACKEND != "torch")
    return model


def copies():
    """Every layer that can be copied, by name."""
    theirs = {name: getattr(keras.layers, name)(**kw) for name, kw in KERAS_NORMS.items()}
    return {name: new_layer(name) for name in EVERY_NAME if name != "ConsistentNorm"} | theirs


@pytest.mark.smoke
@pytest.mark.parametrize("name", copies())
def test_the_branch_is_chosen_by_the_context(name):
    layer = built(copies()[name])
    inputs = images()
    expected = branch_outputs(layer, inputs)
    assert not np.allclose(expected[0], expected[1])
    assert_same(layer(inputs), expected[0], 1e-4)
    for index in range(3):
        with kerasnorm.branch(index):
            assert_same(layer(inputs), expected[index], 1e-4)
    assert_same(layer(inputs), expected[0], 1e-4)


def test_contexts_nest_and_end_with_errors():
    layer = built()
    inputs = images()
    expected = branch_outputs(layer, inputs)
    with kerasnorm.branch(1):
        with kerasnorm.branch(2):
            assert_same(layer(inputs), expected[2], 1e-4)
        assert_same(layer(inputs), expected[1], 1e-4)
        with pytest.raises(RuntimeError, match="inside"), kerasnorm.branch(2):
            raise RuntimeError("inside")
        assert_same(layer(inputs), expected[1], 1e-4)
    assert_same(layer(inputs), expected[0], 1e-4)


def test_every_layer_of_a_model_takes_the_branch():
    inputs = keras.Input((*IMAGE, CHANNELS))
    layers = [
        kerasnorm.ConsistentNorm(norm, 2)
        for norm in (kerasnorm.GroupNorm(4), keras.layers.BatchNormalization())
    ]
    model = keras.Model(inputs, layers[1](layers[0](inputs)))
    randomize(model)
    with kerasnorm.branch(1):
        outputs = model(images(), training=False)
    expected = layers[1].banks[1](layers[0].banks[1](images()), training=False)
    assert_same(outputs, expected, 1e-4)


@pytest.mark.parametrize("norm", [kerasnorm.ModeNorm, keras.layers.BatchNormalization])
def test_training_moves_the_statistics_of_the_branch_alone(norm):
    layer = built(norm())
    before = [weight_values(bank) for bank in layer.banks]
    with kerasnorm.branch(1):
        layer(images(), training=True)
    for index, bank in enumerate(layer.banks):
        moved = any((a != b).any() for a, b in zip(weight_values(bank), before[index], strict=True))
        assert moved == (index == 1)


@pytest.mark.parametrize("first", [0, 1])
def test_compiled_predictions_are_never_stale(first):
    layer = built()
    inputs = images()
    expected = branch_outputs(layer, inputs)
    model = model_of(layer)
    for index in (first, 1 - first, 2, first, 0):
        with kerasnorm.branch(index):
            assert_same(model.predict(inputs, verbose=0), expected[index], 1e-4)
        assert_same(model.predict(inputs, verbose=0), expected[0], 1e-4)


def test_compiled_training_is_never_stale():
    layer = built()
    model = model_of(layer)
    model.train_on_batch(images(), images())
    before = [weight_values(bank) for bank in layer.banks]
    with kerasnorm.branch(1):
        model.train_on_batch(images(), images())
        loss = model.evaluate(images(), np.zeros((4, *IMAGE, CHANNELS)), verbose=0)
    outputs = branch_outputs(layer, images())
    np.testing.assert_allclose(loss, np.mean(np.square(outputs[1])), rtol=1e-4)
    for index, bank in enumerate(layer.banks):
        moved = [(a != b).any() for a, b in zip(weight_values(bank), before[index], strict=True)]
        assert moved == [index == 1] * len(moved)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_a_function_compiled_by_the_user_is_never_stale():
    layer = built()
    inputs = keras.ops.convert_to_tensor(images())
    expected = branch_outputs(layer, inputs)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        function = tf.function(lambda x: layer(x, training=False))
    elif BACKEND == "jax":
        import jax

        function = jax.jit(lambda x: layer(x, training=False))
    else:
        import torch

        function = torch.compile(lambda x: layer(x, training=False), backend="eager")
    assert_same(function(inputs), expected[0], 1e-4)
    with kerasnorm.branch(1):
        assert_same(function(inputs), expected[1], 1e-4)
    assert_same(function(inputs), expected[0], 1e-4)


def test_threads_have_branches_of_their_own():
    layer = built(branches=4)
    inputs = images()
    expected = branch_outputs(layer, inputs)
    barrier = threading.Barrier(4, timeout=60)
    outputs = {}

    def work(index):
        barrier.wait()
        if index == 0:
            outputs[0] = numpy(layer(inputs))  # No context of its own, so branch 0.
            return
        with kerasnorm.branch(index):
            outputs[index] = numpy(layer(inputs))

    with kerasnorm.branch(1):
        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outputs["outer"] = numpy(layer(inputs))
    for index in range(4):
        assert_same(outputs[index], expected[index], 1e-4)
    assert_same(outputs["outer"], expected[1], 1e-4)


def test_contexts_of_threads_may_overlap():
    """A context that ends in one thread does not end the other's."""
    layer = built()
    inputs = images()
    expected = branch_outputs(layer, inputs)
    model = model_of(layer)
    assert_same(model.predict(inputs, verbose=0), expected[0], 1e-4)
    entered, left = threading.Event(), threading.Event()

    def work():
        with kerasnorm.branch(2):
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(60)
    with kerasnorm.branch(1):
        left.set()
        thread.join()
        outputs = model.predict(inputs, verbose=0)
    assert_same(outputs, expected[1], 1e-4)
    # Neither leaves compiled functions switched off.
    if BACKEND == "tensorflow":
        import tensorflow as tf

        assert not tf.config.functions_run_eagerly()
    if BACKEND == "jax":
        import jax

        assert not jax.config.jax_disable_jit
    assert_same(model.predict(inputs, verbose=0), expected[0], 1e-4)


# -----------------------------------------------------------------------------
# As a layer


@pytest.mark.parametrize("name", copies())
def test_the_copied_layer_gives_its_configuration(name):
    norm = copies()[name]
    norm.build((None, *IMAGE, CHANNELS))
    randomize(norm)
    layer = kerasnorm.ConsistentNorm(norm, branches=2)
    layer.build((None, *IMAGE, CHANNELS))
    assert len(layer.weights) == 2 * len(norm.weights)
    for index, bank in enumerate(layer.banks):
        assert type(bank) is type(norm)
        expected = {**norm.get_config(), "name": f"branch_{index}"}
        assert bank.get_config() == expected
    # The layer itself is neither built again nor held.
    assert not {id(weight) for weight in norm.weights} & {id(weight) for weight in layer.weights}


def test_what_may_be_copied():
    shape = (None, *IMAGE, CHANNELS)
    norms = {
        "an instance": kerasnorm.GroupNorm(groups="auto"),
        "a class": kerasnorm.InstanceNorm,
        "a class of Keras": keras.layers.BatchNormalization,
        "a configuration": keras.saving.serialize_keras_object(kerasnorm.GroupNorm(groups=2)),
    }
    for norm in norms.values():
        layer = kerasnorm.ConsistentNorm(norm, 2)
        layer.build(shape)
        assert len({bank.path for bank in layer.banks}) == 2
        text = json.dumps(layer.get_config())
        revived = kerasnorm.ConsistentNorm.from_config(json.loads(text))
        assert json.dumps(revived.get_config()) == text
        assert [type(bank) for bank in revived.banks] == [type(bank) for bank in layer.banks]


@pytest.mark.parametrize("name", copies())
def test_saved_and_loaded_with_every_branch(name, tmp_path):
    layer = kerasnorm.ConsistentNorm(copies()[name], 2)
    model = small_model(layer)
    for index, bank in enumerate(layer.banks):
        randomize(bank, seed=100 * index)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(weight_values(loaded), weight_values(model), 0)
    for index in range(2):
        with kerasnorm.branch(index):
            assert_same(loaded(images()), model(images()))


@pytest.mark.parametrize("norm", [kerasnorm.BatchNorm, keras.layers.BatchNormalization])
def test_banks_take_the_policy_of_the_layer(norm):
    layer = kerasnorm.ConsistentNorm(norm(dtype="float32"), 2, dtype="mixed_bfloat16")
    outputs = layer(images())
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    revived = kerasnorm.ConsistentNorm.from_config(layer.get_config())
    for version in (layer, revived):
        assert [bank.dtype_policy.name for bank in version.banks] == ["mixed_bfloat16"] * 2
        assert version.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize("norm", [kerasnorm.ModeNorm(), keras.layers.BatchNormalization()])
def test_freezing_freezes_every_branch(norm):
    layer = built(norm)
    expected = branch_outputs(layer, images())
    before = weight_values(layer)
    layer.trainable = False
    assert not layer.trainable_variables
    assert not any(bank.trainable for bank in layer.banks)
    for index in range(3):
        with kerasnorm.branch(index):
            assert_same(layer(images(), training=True), expected[index], 1e-4)
    assert_same(weight_values(layer), before, 0)
    layer.trainable = True
    assert all(bank.trainable for bank in layer.banks)


def test_a_frozen_norm_gives_frozen_branches():
    layer = kerasnorm.ConsistentNorm(kerasnorm.BatchNorm(trainable=False), 2)
    layer.build((None, CHANNELS))
    assert not layer.trainable_variables
    revived = kerasnorm.ConsistentNorm.from_config(layer.get_config())
    revived.build((None, CHANNELS))
    assert not revived.trainable_variables


def test_branches_start_differently_where_weights_are_random():
    keras.utils.set_random_seed(0)
    layer = kerasnorm.ConsistentNorm(kerasnorm.ModeGroupNorm(), 2)
    layer.build((None, CHANNELS))
    first, second = (
        next(numpy(w.value) for w in bank.weights if w.name == "gate_kernel")
        for bank in layer.banks
    )
    assert (first != second).all()


# All branches in one batch.


def interleaved_call(layer, parts, masks=None):
    """The outputs of each branch for a batch in which the branches' examples alternate."""
    count = len(parts)
    batch = consistent.interleave([keras.ops.convert_to_tensor(part) for part in parts])
    arguments = {}
    if masks is not None:
        masks = [keras.ops.convert_to_tensor(mask) for mask in masks]
        arguments["mask"] = consistent.interleave(masks)
    with consistent.interleaved(count):
        outputs = layer(batch, training=True, **arguments)
    return [numpy(part) for part in consistent.separate(outputs, count)]


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("name", copies())
def test_all_branches_in_one_batch(name, trainable):
    layer = built(copies()[name])
    layer.trainable = trainable
    parts = [images(3, seed=seed) for seed in range(3)]
    before = weight_values(layer)
    outputs = interleaved_call(layer, parts)
    statistics = weight_values(layer)
    for weight, value in zip(layer.weights, before, strict=True):
        weight.assign(value)
    expected = []
    for bank, part in zip(layer.banks, parts, strict=True):
        expected.append(numpy(bank(part, training=True)))
    assert_same(outputs, expected, 1e-4)
    assert_same(statistics, weight_values(layer), 1e-5)


@pytest.mark.parametrize("norm", [kerasnorm.ModeNorm(), keras.layers.BatchNormalization()])
def test_masks_of_all_branches_in_one_batch(norm):
    layer = built(norm, branches=2)
    parts = [images(3, seed=seed) for seed in range(2)]
    masks = [np.random.default_rng(seed).uniform(size=(3, *IMAGE)) < 0.5 for seed in range(2)]
    outputs = interleaved_call(layer, parts, masks)
    for bank, part, mask, output in zip(layer.banks, parts, masks, outputs, strict=True):
        expected = bank(part, training=True, mask=keras.ops.convert_to_tensor(mask))
        assert_same(output[mask], numpy(expected)[mask], 1e-4)


def test_a_batch_of_more_branches_than_there_are():
    layer = built(branches=2)
    with pytest.raises(ValueError, match=r"branch 2 was asked for.*branches=2"):
        interleaved_call(layer, [images(1)] * 3)
