"""What happens to a layer in the life of a model: training, freezing, saving, cloning."""

import inspect
import json

import keras
import numpy as np
import pytest

import kerasnorm
from daily import daily, on_torch_daily
from kerasnorm.core import backends
from layer_table import LAYERS, cases
from small_models import (
    CHANNELS,
    EVERY_NAME,
    IMAGE,
    PARTS,
    assert_same,
    call,
    has_moving_statistics,
    images,
    model_of_all,
    new_layer,
    numpy,
    randomize,
    small_model,
    weight_values,
)

MOVING_NAMES = [name for name in EVERY_NAME if has_moving_statistics(name)]
# The branches of a ConsistentNorm that a plain `fit` does not use have no gradients.
IDLE_BRANCHES = pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")


def compiled(model, jit_compile="auto", run_eagerly=False):
    """The model, ready to be trained."""
    model.compile("sgd", "mse", jit_compile=jit_compile, run_eagerly=run_eagerly)
    return model


def targets(count):
    """What the model of `small_model` could learn."""
    return np.random.default_rng(3).normal(size=(count, 2)).astype("float32")


def layer_configs(model):
    """The configurations of a model's layers, but not of its input, whose name is new in each."""
    return [layer.get_config() for layer in model.layers[1:]]


def same_prediction(model, other, inputs=None):
    """Two models predict the same."""
    inputs = images() if inputs is None else inputs
    assert_same(call(other, inputs), call(model, inputs))


# -----------------------------------------------------------------------------
# Training


@IDLE_BRANCHES
@pytest.mark.parametrize(
    "run_eagerly", [False, pytest.param(True, marks=daily())], ids=["compiled", "eager"]
)
@pytest.mark.parametrize("names", PARTS)
def test_fit_evaluate_predict(names, run_eagerly):
    keras.utils.set_random_seed(0)
    # What XLA and torch's compiler do, which take most of a minute, is a test of its own.
    jit_compile = not run_eagerly and keras.backend.backend() == "jax"
    model = compiled(model_of_all(names=names), jit_compile, run_eagerly)
    layers = [model.get_layer(name.lower()) for name in names]
    before = {layer.name: weight_values(layer) for layer in layers}
    wanted = [targets(8)] * len(layers)
    history = model.fit(images(8), wanted, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for layer in layers:
        changed = {
            weight.path
            for weight, old in zip(layer.weights, before[layer.name], strict=True)
            if not np.array_equal(old, numpy(weight.value))
        }
        in_use = (weight for weight in layer.weights if "branch_1" not in weight.path)
        in_use = [weight for weight in in_use if "branch_2" not in weight.path]
        assert changed <= {weight.path for weight in in_use}
        assert changed >= {weight.path for weight in in_use if not weight.trainable}, layer.name
        assert changed & {weight.path for weight in in_use if weight.trainable}, layer.name
    predictions = model.predict(images(8), batch_size=4, verbose=0)
    assert_same(predictions, call(model, images(8)), 1e-4)
    losses = model.evaluate(images(8), wanted, batch_size=4, verbose=0, return_dict=True)
    expected = np.mean(np.square(np.stack(predictions) - targets(8)), axis=(1, 2)).sum()
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-4)


# Without XLA's optimizations a maximum and what it is compared with are rounded differently: then
# no number is the largest, and none gets a gradient.
@pytest.mark.optimized
@IDLE_BRANCHES
@pytest.mark.parametrize("names", PARTS)
def test_a_compiled_step_is_an_eager_step(names):
    after = {}
    for run_eagerly in (False, True):
        model = randomize(model_of_all(names=names))
        jit_compile = not run_eagerly and keras.backend.backend() != "torch"
        model.compile(
            keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile, run_eagerly=run_eagerly
        )
        model.train_on_batch(images(), [targets(4)] * len(names))
        after[run_eagerly] = {w.path: numpy(w.value) for w in model.weights}
    for path, value in after[True].items():
        np.testing.assert_allclose(after[False][path], value, 1e-4, 1e-4, err_msg=path)


# Inside torch's compiler warnings are errors of its own.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_NAME)
def test_fit_compiled_by_torch(name):
    if keras.backend.backend() != "torch":
        pytest.skip("other backends compile in the tests above")
    keras.utils.set_random_seed(0)
    model = compiled(small_model(new_layer(name)), jit_compile=True)
    history = model.fit(images(8), targets(8), batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert_same(model.predict(images(4), verbose=0), model(images(4), training=False), 1e-4)


def test_inference_leaves_the_statistics():
    model = randomize(compiled(model_of_all(names=MOVING_NAMES)))
    before = weight_values(model)
    model.evaluate(images(), [targets(4)] * len(MOVING_NAMES), verbose=0)
    model.predict(images(), verbose=0)
    model(images())
    model(images(), training=False)
    assert_same(weight_values(model), before, 0)


# -----------------------------------------------------------------------------
# Freezing


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
def test_freezing_is_that_of_keras(trainable, training):
    ours = kerasnorm.BatchNorm(momentum=0.9, epsilon=1e-3, trainable=trainable)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, trainable=trainable)
    for layer in (ours, theirs):
        layer.build((None, *IMAGE, CHANNELS))
    randomize(ours)
    theirs.set_weights(weight_values(ours))
    for layer in (ours, theirs):
        layer.trainable = trainable
    assert_same(call(ours, images(), training), call(theirs, images(), training), 1e-4)
    for kind in ("trainable_weights", "non_trainable_weights"):
        expected = [weight.name for weight in getattr(theirs, kind)]
        assert [weight.name for weight in getattr(ours, kind)] == expected
    assert_same(weight_values(ours), weight_values(theirs), 1e-4)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_frozen_layer_infers(name):
    layer = new_layer(name)
    layer.build((None, *IMAGE, CHANNELS))
    randomize(layer)
    expected = call(layer, images(), training=False)
    before = weight_values(layer)
    layer.trainable = False
    assert not layer.trainable_variables
    assert_same(call(layer, images(), training=True), expected)
    assert_same(weight_values(layer), before, 0)
    layer.trainable = True
    call(layer, images(), training=True)
    changed = any((a != b).any() for a, b in zip(weight_values(layer), before, strict=True))
    assert changed == has_moving_statistics(name)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_layer_constructed_frozen_stays_so(name):
    layer = new_layer(name, trainable=False)
    model = small_model(layer)
    assert layer.trainable is False
    assert layer.get_config()["trainable"] is False
    assert not layer.trainable_variables
    revived = type(layer).from_config(layer.get_config())
    revived.build((None, *IMAGE, CHANNELS))
    assert not revived.trainable_variables
    before = weight_values(layer)
    call(model, images(), training=True)
    assert_same(weight_values(layer), before, 0)


def test_a_frozen_model_freezes_its_layers():
    model = randomize(model_of_all())
    expected = call(model, images())
    before = weight_values(model)
    model.trainable = False
    assert_same(call(model, images(), training=True), expected, 1e-4)
    assert_same(weight_values(model), before, 0)


# -----------------------------------------------------------------------------
# Saving and configuration


@pytest.mark.smoke
@pytest.mark.parametrize("name", EVERY_NAME)
def test_saved_and_loaded(name, tmp_path):
    model = randomize(small_model(new_layer(name, epsilon=1e-4)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(weight_values(loaded), weight_values(model), 0)
    assert layer_configs(loaded) == layer_configs(model)
    same_prediction(model, loaded)

    model.save_weights(tmp_path / "model.weights.h5")
    other = small_model(new_layer(name, epsilon=1e-4))
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(weight_values(other), weight_values(model), 0)


@pytest.mark.smoke
@pytest.mark.parametrize("name", EVERY_NAME)
def test_configuration_survives_building(name):
    layer = new_layer(name)
    config = layer.get_config()
    text = json.dumps(config)
    unbuilt = type(layer).from_config(json.loads(text))
    assert not unbuilt.built
    layer.build((None, *IMAGE, CHANNELS))
    assert json.dumps(layer.get_config()) == text
    revived = type(layer).from_config(layer.get_config())
    for other in (unbuilt, revived):
        assert json.dumps(other.get_config()) == text
        other.build((None, *IMAGE, CHANNELS))
        described = [(weight.name, weight.shape, weight.dtype) for weight in layer.weights]
        assert [(w.name, w.shape, w.dtype) for w in other.weights] == described


@pytest.mark.parametrize("name", EVERY_NAME)
def test_configuration_has_every_argument(name):
    layer = new_layer(name)
    arguments = [key for key in inspect.signature(type(layer)).parameters if key != "kwargs"]
    assert set(arguments) | {"name", "dtype", "trainable"} == set(layer.get_config())


@pytest.mark.parametrize(("row", "variant"), cases())
def test_configuration_keeps_what_was_given(row, variant):
    arguments = row.variants[variant]
    config = getattr(kerasnorm, row.name)(**arguments).get_config()
    for key, value in arguments.items():
        kept = config[key]
        if key.endswith("_activation"):
            kept, value = keras.activations.get(kept), keras.activations.get(value)
        elif isinstance(value, tuple):
            value = json.loads(json.dumps(value))
        assert kept == value, key


@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_configuration_keeps_the_common_arguments(row):
    given = {
        "axis": 1,
        "epsilon": 1e-2,
        "center": False,
        "scale": True,
        "beta_initializer": "ones",
        "gamma_initializer": keras.initializers.RandomNormal(seed=3),
        "beta_regularizer": "l1",
        "gamma_regularizer": keras.regularizers.L2(0.5),
        "beta_constraint": "non_neg",
        "gamma_constraint": keras.constraints.MaxNorm(3),
        "name": "norm",
        "trainable": False,
    }
    if row.moving_statistics:
        given |= {"momentum": 0.3, "synchronized": True, "moving_mean_initializer": "ones"}
    layer = getattr(kerasnorm, row.name)(**{**row.arguments, **given})
    config = layer.get_config()
    revived = type(layer).from_config(json.loads(json.dumps(config)))
    assert json.dumps(revived.get_config()) == json.dumps(config)
    for key, value in given.items():
        if not key.endswith(("initializer", "regularizer", "constraint")):
            assert config[key] == value
            assert getattr(revived, key) == value
    assert isinstance(revived.beta_initializer, keras.initializers.Ones)
    assert revived.gamma_initializer.get_config()["seed"] == 3
    assert isinstance(revived.beta_regularizer, keras.regularizers.L1)
    assert float(revived.gamma_regularizer.l2) == 0.5
    assert isinstance(revived.beta_constraint, keras.constraints.NonNeg)
    assert revived.gamma_constraint.max_value == 3


def test_cloned_model():
    model = randomize(model_of_all())
    clone = keras.models.clone_model(model)
    assert layer_configs(clone) == layer_configs(model)
    assert not {id(layer) for layer in clone.layers} & {id(layer) for layer in model.layers}
    clone.set_weights(model.get_weights())
    same_prediction(model, clone)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_built_layer_has_the_public_attributes_of_an_unbuilt_one(name):
    layer = new_layer(name)
    before = {attribute for attribute in dir(layer) if not attribute.startswith("_")}
    layer.build((None, *IMAGE, CHANNELS))
    assert {attribute for attribute in dir(layer) if not attribute.startswith("_")} == before


# -----------------------------------------------------------------------------
# Regularizers, constraints, initializers


@pytest.mark.parametrize("name", EVERY_NAME)
def test_regularizers_are_losses(name):
    layer = new_layer(
        name,
        center=True,
        scale=True,
        gamma_regularizer=keras.regularizers.L2(0.5),
        beta_regularizer=keras.regularizers.L1(0.25),
        beta_initializer=keras.initializers.Constant(2.0),
    )
    layer.build((None, *IMAGE, CHANNELS))
    copies = layer.branches if name == "ConsistentNorm" else 1
    losses = sorted(float(numpy(loss)) for loss in layer.losses)
    assert losses == [0.25 * 2 * CHANNELS] * copies + [0.5 * CHANNELS] * copies


@IDLE_BRANCHES
@pytest.mark.parametrize("name", EVERY_NAME)
def test_constraints_are_applied(name):
    layer = new_layer(
        name,
        center=True,
        scale=True,
        gamma_constraint=keras.constraints.NonNeg(),
        beta_constraint=keras.constraints.MaxNorm(1.0),
        gamma_initializer=keras.initializers.Constant(-1.0),
        beta_initializer=keras.initializers.Constant(5.0),
    )
    model = small_model(layer)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    model.train_on_batch(images(), targets(4))
    gamma, beta = (numpy(weight.value) for weight in layer.weights[:2])
    assert (gamma == 0).all()
    np.testing.assert_allclose(np.linalg.norm(beta), 1.0, rtol=1e-4)


INITIALIZED = {
    "ILMGroupNorm": ("association_initializer", ("mean_decoder", "variance_decoder")),
    "ILMInstanceNorm": ("association_initializer", ("mean_decoder", "variance_decoder")),
    "ILMLayerNorm": ("association_initializer", ("mean_decoder", "variance_decoder")),
    "AssociateNorm": ("association_initializer", ("mean_decoder", "variance_decoder")),
    "ConvNorm": (None, ("spatial_logits_0", "spatial_logits_1")),
    "LearnedStatsNorm": (None, ("mean_kernel_0", "std_kernel_0")),
}
SEEDS = {
    "unseeded": lambda: None,
    "integer": lambda: 3,
    "generator": lambda: keras.random.SeedGenerator(3),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", INITIALIZED)
def test_weights_of_one_initializer_differ(name, seed):
    argument, weights = INITIALIZED[name]
    common = {"kernel_sizes": [2, 2]} if name == "ConvNorm" else {}
    if argument:
        common[argument] = keras.initializers.RandomNormal(seed=SEEDS[seed]())
    layer = new_layer(name, **common)
    # An image on which both of ConvNorm's kernels have the same shape.
    layer.build((None, 4, 4, CHANNELS))
    first, second = (numpy(getattr_by_name(layer, weight)) for weight in weights)
    assert first.shape == second.shape
    assert (first != second).all()


def getattr_by_name(layer, name):
    """The weight of this name."""
    return next(weight.value for weight in layer.weights if weight.name == name)


@pytest.mark.parametrize("name", ["ModeNorm", "ILMGroupNorm", "ModeGroupNorm"])
def test_layers_that_share_an_initializer(name):
    argument = "association_initializer" if name.startswith("ILM") else "gate_initializer"
    weight = "encoder" if name.startswith("ILM") else "gate_kernel"

    def values(initializer):
        layers = [new_layer(name, **{argument: initializer}) for _ in range(2)]
        for layer in layers:
            layer.build((None, *IMAGE, CHANNELS))
        return [numpy(getattr_by_name(layer, weight)) for layer in layers]

    first, second = values(keras.initializers.RandomNormal())
    assert (first != second).any()
    # With an integer seed the layers are reproducible, and so alike, as Keras's own.
    assert_same(*values(keras.initializers.RandomNormal(seed=3)), 0)


def test_the_same_random_seed_gives_the_same_weights():
    for name in EVERY_NAME:
        values = []
        for _ in range(2):
            keras.utils.set_random_seed(5)
            layer = new_layer(name)
            layer.build((None, *IMAGE, CHANNELS))
            values.append(weight_values(layer))
        assert_same(values[0], values[1], 0)


# -----------------------------------------------------------------------------
# In all kinds of models


class Block(keras.layers.Layer):
    """A user's layer that has a normalization inside."""

    def __init__(self, norm, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(CHANNELS)
        self.norm = norm

    def build(self, input_shape):
        self.dense.build(input_shape)
        if not self.norm.built:  # Keras has built it where the block comes from a file.
            self.norm.build((*input_shape[:-1], CHANNELS))

    def call(self, inputs):
        return self.norm(self.dense(inputs))

    def get_config(self):
        return {**super().get_config(), "norm": keras.saving.serialize_keras_object(self.norm)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("norm")), **config)


class Subclassed(keras.Model):
    """A model without a graph of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norms = [new_layer(name) for name in EVERY_NAME]
        self.pool = keras.layers.GlobalMaxPooling2D()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs, training=None):
        features = [self.pool(norm(inputs, training=training)) for norm in self.norms]
        return self.dense(keras.ops.concatenate(features, axis=-1))


@pytest.mark.parametrize("name", EVERY_NAME)
def test_inside_another_layer(name, tmp_path):
    model = randomize(small_model(Block(new_layer(name))))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Block": Block})
    assert_same(weight_values(loaded), weight_values(model), 0)
    assert_same(call(loaded, images()), call(model, images()))
    before = weight_values(model.layers[2])
    call(model, images(), training=True)
    moved = any((a != b).any() for a, b in zip(weight_values(model.layers[2]), before, strict=True))
    assert moved == has_moving_statistics(name)


@on_torch_daily
@IDLE_BRANCHES
def test_sequential(tmp_path):
    # Built by its first batch only.
    model = keras.Sequential([new_layer(name) for name in EVERY_NAME])
    model.add(keras.layers.GlobalMaxPooling2D())
    model.add(keras.layers.Dense(2))
    compiled(model).fit(images(), targets(4), verbose=0)
    model.save(tmp_path / "model.keras")
    same_prediction(model, keras.saving.load_model(tmp_path / "model.keras"))


@on_torch_daily
@IDLE_BRANCHES
def test_subclassed_model(tmp_path):
    model = compiled(Subclassed())
    model.fit(images(), targets(4), verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = Subclassed()
    other(images())
    other.load_weights(tmp_path / "model.weights.h5")
    same_prediction(model, other)


@pytest.mark.parametrize("names", PARTS)
def test_shared_layers(names, tmp_path):
    shared = model_of_all(names=names, head=False)
    inputs = [keras.Input((*IMAGE, CHANNELS)) for _ in range(2)]
    layers = [new_layer(name) for name in names]
    model = keras.Model(inputs, [layer(one) for layer in layers for one in inputs])
    assert len(model.weights) == sum(len(layer.weights) for layer in layers)
    randomize(model)
    shared.set_weights([weight for layer in layers for weight in layer.get_weights()])
    batches = [images(seed=1), images(seed=2)]
    outputs = model.predict(batches, verbose=0)
    for index, batch in enumerate(batches):
        assert_same(outputs[index::2], call(shared, batch), 1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights)
    assert_same(loaded.predict(batches, verbose=0), outputs)


@on_torch_daily
def test_time_distributed():
    inputs = keras.Input((3, *IMAGE, CHANNELS))
    layers = [new_layer(name) for name in EVERY_NAME]
    model = keras.Model(inputs, [keras.layers.TimeDistributed(layer)(inputs) for layer in layers])
    randomize(model)
    alone = model_of_all(head=False)
    alone.set_weights([weight for layer in layers for weight in layer.get_weights()])
    frames = np.stack([images(seed=seed) for seed in range(3)], axis=1)
    outputs = model.predict(frames, verbose=0)
    for index in range(3):
        assert_same([o[:, index] for o in outputs], call(alone, frames[:, index]), 1e-4)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_symbolic_call_computes_nothing(name, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a kernel ran in a symbolic call")

    for kernel in ("moments", "affine", "dot"):
        monkeypatch.setattr(backends, kernel, fail)
    inputs = keras.Input((*IMAGE, CHANNELS))
    outputs = new_layer(name)(inputs, training=True)
    assert outputs.shape == inputs.shape
    assert outputs.dtype == "float32"


@pytest.mark.parametrize("name", MOVING_NAMES)
def test_both_calls_of_one_step_move_the_statistics(name):
    layer = new_layer(name)
    inputs = keras.Input((*IMAGE, CHANNELS))
    model = keras.Model(inputs, [layer(inputs), layer(inputs)])
    called_alone = new_layer(name)
    called_alone.build((None, *IMAGE, CHANNELS))
    called_alone.set_weights(layer.get_weights())
    call(model, images(), training=True)
    for _ in range(2):
        call(called_alone, images(), training=True)
    assert_same(weight_values(layer), weight_values(called_alone), 1e-4)
