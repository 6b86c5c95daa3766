"""ConsistentModel: Algorithm 1 of the paper, in everything that Keras does with a model."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import kerasnorm
from daily import on_torch_daily
from kerasnorm import transforms
from kerasnorm.consistent.model import BranchOutputs
from small_models import BACKEND, assert_same, images, numpy, randomize, weight_values

SIDE = 8
CLASSES = 3
pytestmark = pytest.mark.filterwarnings(
    # Inside `branch` TensorFlow goes on compiling its data pipelines, which know no branch.
    "ignore:Even though the `tf.config:UserWarning"
)


def network(norm="batch", branches=2, sides=(SIDE, SIDE), **common):
    """A small convolutional network with two norms, of weights that all matter."""
    inputs = keras.Input((*sides, 3))
    x = inputs
    for index in range(2):
        x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, **common)(x)
        spec = {"name": "consistent", "norm": norm, "branches": branches} if branches else norm
        x = kerasnorm.get(spec, name=f"norm_{index}")(x)
        x = keras.layers.Activation("tanh")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, dtype="float32")(x))
    keras.utils.set_random_seed(1)
    randomize(model)
    return model


def plus_one(inputs):
    """A transform that is a plain function."""
    return 2 * inputs + 1


def data(count=6, seed=0):
    generator = np.random.default_rng(seed)
    return images(count, 3, (SIDE, SIDE), seed), generator.normal(size=(count, CLASSES))


def copy_of(model):
    """The same model again."""
    new = type(model).from_config(model.get_config())
    new.set_weights(model.get_weights())
    return new


def compiled(model, rate=0.1, loss="mse", **options):
    options.setdefault("jit_compile", BACKEND == "jax")
    model.compile(keras.optimizers.SGD(rate), loss, **options)
    return model


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
@pytest.mark.parametrize(
    "norm", ["batch", pytest.param({"name": "mode", "modes": 2}, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("transform", "sides", "concatenate"),
    [
        (transforms.ScaleAndPad(0.5), (SIDE, SIDE), "auto"),
        (transforms.ScaleAndPad(0.5), (SIDE, SIDE), False),
        (transforms.Resize(5), (None, None), "auto"),
    ],
)
def test_a_step_is_algorithm_1(norm, transform, sides, concatenate):
    inner = network(norm, 3, sides)
    weights = [1.0, 0.5, 2.0]
    given = [None, transform, plus_one]
    x, y = data()
    # Each branch's step by itself, by the context. Steps of gradient descent add up.
    before = weight_values(inner)
    expected = [value.copy() for value in before]
    losses = []
    for index, (one, weight) in enumerate(zip(given, weights, strict=True)):
        alone = compiled(copy_of(inner))
        with kerasnorm.branch(index):
            batch = numpy(one(ops.convert_to_tensor(x))) if one else x
            losses.append(float(alone.train_on_batch(batch, y)))
        for variable, total, value, start in zip(
            alone.weights, expected, weight_values(alone), before, strict=True
        ):
            total += (value - start) * (1 if "moving" in variable.name else weight)
    model = compiled(kerasnorm.ConsistentModel(inner, given, weights, concatenate))
    history = model.fit(x, y, batch_size=6, verbose=0).history
    assert_same(weight_values(inner), expected, 2e-5)
    for index, loss in enumerate(losses):
        np.testing.assert_allclose(history[f"branch_{index}_loss"], [loss], rtol=1e-5)
    np.testing.assert_allclose(history["loss"], [np.dot(weights, losses)], rtol=1e-5)


def test_what_is_reported():
    x, y = data(10)
    inner = network()
    model = compiled(kerasnorm.ConsistentModel(inner, [None, plus_one]), rate=0.0, metrics=["mae"])
    history = model.fit(
        x, y, batch_size=4, epochs=2, validation_data=(x, y), verbose=0, shuffle=False
    ).history
    assert set(history) == {
        *("loss", "mae", "branch_0_loss", "branch_1_loss"),
        *("val_loss", "val_mae"),
    }
    # Metrics are of branch 0 in training too, whose statistics are the batch's.
    outputs = [
        numpy(model(x[rows], training=True).branches[0])
        for rows in (slice(0, 4), slice(4, 8), slice(8, 10))
    ]
    error = np.concatenate(outputs) - y
    np.testing.assert_allclose(history["mae"][0], np.abs(error).mean(), rtol=1e-4)
    np.testing.assert_allclose(history["branch_0_loss"][0], np.square(error).mean(), rtol=1e-4)
    total = np.add(history["branch_0_loss"], history["branch_1_loss"])
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(results) == {"loss", "mae"}
    logs = model.train_on_batch(x[:4], y[:4], return_dict=True)
    assert set(logs) == {"loss", "mae", "branch_0_loss", "branch_1_loss"}


def test_inference_uses_branch_0():
    x, y = data()
    inner = network(branches=3)
    model = compiled(kerasnorm.ConsistentModel(inner, [None, plus_one, transforms.Noise(1.0)]))
    compiled(inner)
    outputs = inner.predict(x, verbose=0)
    for _ in range(2):
        assert_same(model.predict(x, verbose=0), outputs)
        assert_same(model(x, training=False), outputs)
        np.testing.assert_allclose(
            model.evaluate(x, y, verbose=0), np.square(outputs - y).mean(), rtol=1e-5
        )
        model.fit(x, y, verbose=0)
        outputs = inner.predict(x, verbose=0)
    with kerasnorm.branch(2):
        assert_same(model.predict(x, verbose=0), inner(x, training=False))
    assert_same(model.predict(x, verbose=0), outputs)


class Batches(keras.utils.PyDataset):
    """Batches by their number."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = data(12)
        return x[4 * index :][:4], y[4 * index :][:4]


def forms_of_data():
    """The same batches in every form that Keras takes."""
    x, y = data(12)
    import tensorflow as tf
    import torch

    pairs = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return {
        "arrays": {"x": x, "y": y, "batch_size": 4, "shuffle": False},
        "PyDataset": {"x": Batches(), "shuffle": False},
        "tf.data": {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(4)},
        "DataLoader": {"x": torch.utils.data.DataLoader(pairs, batch_size=4)},
        "generator": {"x": (Batches()[i] for i in range(3)), "steps_per_epoch": 3},
    }


def test_every_form_of_data():
    inner = network()
    results = {}
    for name, arguments in forms_of_data().items():
        model = compiled(kerasnorm.ConsistentModel(copy_of(inner), [None, plus_one]))
        arguments = {"shuffle": False, **arguments} if name != "arrays" else arguments
        model.fit(**arguments, verbose=0)
        results[name] = weight_values(model)
    for name in results:
        assert_same(results[name], results["arrays"], 1e-5)


@pytest.mark.parametrize("concatenate", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sample_and_class_weights(concatenate):
    x, _ = data()
    labels = np.array([0, 1, 2, 0, 1, 2])
    by_class = {0: 0.5, 1: 2.0, 2: 1.5}
    by_sample = np.array([by_class[label] for label in labels], "float32")
    inner = network()
    results, histories = [], []
    for arguments in ({"class_weight": by_class}, {"sample_weight": by_sample}, {}):
        model = kerasnorm.ConsistentModel(copy_of(inner), [None, plus_one], concatenate=concatenate)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        compiled(model, loss=loss, weighted_metrics=["accuracy"])
        outputs = [numpy(branch) for branch in model(x, training=True).branches]
        model.set_weights(inner.get_weights() + model.get_weights()[len(inner.weights) :])
        histories.append(model.fit(x, labels, batch_size=6, verbose=0, **arguments).history)
        results.append(weight_values(model))
    assert_same(results[0], results[1])
    assert not np.allclose(results[0][0], results[2][0])
    for index in range(2):
        exponents = np.exp(outputs[index])
        negative = -np.log(exponents / exponents.sum(1, keepdims=True))[np.arange(6), labels]
        expected = (by_sample * negative).mean()
        np.testing.assert_allclose(histories[1][f"branch_{index}_loss"][0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_and_jit(policy):
    x, y = data()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = kerasnorm.ConsistentModel(network(), [None, transforms.Blur(1.0)])
        jit = BACKEND != "torch"
        compiled(model, jit_compile=jit)
        history = model.fit(x, y, epochs=3, verbose=0).history
        outputs = model.predict(x, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(outputs).all()
    assert history["loss"][-1] < history["loss"][0]
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="the others compile in every test")
@pytest.mark.filterwarnings("ignore")
def test_compiled_by_torch():
    x, y = data()
    inner = network()
    results = []
    for jit in (False, True):
        model = kerasnorm.ConsistentModel(copy_of(inner), [None, plus_one])
        compiled(model, jit_compile=jit).fit(x, y, epochs=2, verbose=0)
        results.append(weight_values(model))
    assert_same(results[1], results[0], 1e-4)


def test_gradient_accumulation():
    x, y = data(8)
    inner = network({"name": "group", "groups": 2})
    results = []
    for steps, batch in ((None, 8), (2, 4)):
        model = kerasnorm.ConsistentModel(copy_of(inner), [None, plus_one])
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model.compile(optimizer, "mse", jit_compile=BACKEND == "jax")
        model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
        results.append(weight_values(model.model))
    assert_same(results[1], results[0])


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has one step per execution there")
def test_several_steps_per_execution():
    x, y = data(12)
    inner = network()
    results = []
    for steps in (1, 3):
        model = kerasnorm.ConsistentModel(copy_of(inner), [None, transforms.ScaleAndPad()])
        compiled(model, steps_per_execution=steps)
        history = model.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0).history
        results.append([*weight_values(model), np.array(history["branch_1_loss"])])
    assert_same(results[1], results[0])


@on_torch_daily
def test_training_goes_on_after_saving(tmp_path):
    x, y = data(12)
    inner = network({"name": "mode", "modes": 2}, 3)
    given = [None, transforms.ScaleAndPad(0.5), transforms.Blur(0.7)]

    def fresh():
        model = kerasnorm.ConsistentModel(copy_of(inner), given, [1.0, 0.5, 0.25])
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
        return model

    def fit(model, **arguments):
        return model.fit(x, y, batch_size=4, shuffle=False, verbose=0, **arguments).history

    straight = fresh()
    whole = fit(straight, epochs=4)
    stopped = fresh()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stopped, "stop_training", epoch == 1)
    )
    fit(stopped, epochs=4, callbacks=[checkpoint, stop])
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert resumed.loss_weights == [1.0, 0.5, 0.25]
    assert [type(one) for one in resumed.transforms[1:]] == [type(one) for one in given[1:]]
    assert_same(weight_values(resumed.model), weight_values(stopped.model), 0)
    rest = fit(resumed, epochs=4, initial_epoch=2)
    assert_same(weight_values(resumed.model), weight_values(straight.model))
    for name in ("loss", "mae", "branch_1_loss"):
        np.testing.assert_allclose(rest[name], whole[name][2:], rtol=1e-4)


def test_the_configuration_is_plain_json():
    model = kerasnorm.ConsistentModel(network(), [None, transforms.Cutout(3, seed=1)])
    text = json.dumps(model.get_config())
    assert json.dumps(kerasnorm.ConsistentModel.from_config(json.loads(text)).get_config()) == text


# One pass or several.


def passes_of(model, x):
    """With how many examples the inner model is called in training."""
    seen = []
    call = model.model.call

    def watched(inputs, *args, **kwargs):
        seen.append(keras.tree.flatten(inputs)[0].shape[0])
        return call(inputs, *args, **kwargs)

    model.model.call = watched
    model(x, training=True)
    model.model.call = call
    return seen


def test_one_pass_where_it_changes_nothing():
    x, _ = data(4)
    keep, change = transforms.ScaleAndPad(0.5), transforms.Resize(6)
    sides = (None, None)
    assert passes_of(kerasnorm.ConsistentModel(network(), [None, keep]), x) == [8]
    assert passes_of(kerasnorm.ConsistentModel(network(sides=sides), [None, change]), x) == [4, 4]
    apart = kerasnorm.ConsistentModel(network(), [None, keep], concatenate=False)
    assert passes_of(apart, x) == [4, 4]
    with pytest.raises(ValueError, match=r"concatenate=True.*keep the shape"):
        kerasnorm.ConsistentModel(network(sides=sides), [None, change], concatenate=True)(
            x, training=True
        )
    for layer in (
        keras.layers.BatchNormalization(),
        keras.layers.Activation("relu", activity_regularizer="l2"),
    ):
        mixing = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layer, network()])
        assert passes_of(kerasnorm.ConsistentModel(mixing, [None, keep]), x) == [4, 4]


@pytest.mark.parametrize("concatenate", [True, False])
def test_masks_reach_every_branch(concatenate):
    inputs = keras.Input((5, 3))
    x = keras.layers.Masking()(inputs)
    x = kerasnorm.ConsistentNorm("batch", 2)(x)
    inner = keras.Model(inputs, keras.layers.Dense(2)(x))
    randomize(inner)
    model = kerasnorm.ConsistentModel(inner, [None, lambda x: -2 * x], concatenate=concatenate)
    compiled(model, rate=0.0)
    values = images(4, 3, (5, 1))[:, :, 0]
    values[:, 3:] = 0
    values[0, 1:] = 0
    outputs = model(values, training=True).branches
    for index, sign in enumerate((1, -2)):
        with kerasnorm.branch(index):
            assert_same(outputs[index], inner(sign * values, training=True), 1e-5)
    kept = (values != 0).any(-1)
    history = model.fit(values, np.zeros((4, 5, 2)), verbose=0).history
    for index in range(2):
        losses = np.square(numpy(outputs[index])).mean(-1)
        # Keras divides by the number of unmasked positions.
        np.testing.assert_allclose(
            history[f"branch_{index}_loss"][0], losses[kept].mean(), rtol=1e-4
        )


@pytest.mark.parametrize("concatenate", [True, False])
def test_several_inputs_and_outputs(concatenate):
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    x = keras.layers.Add()([inputs["a"], inputs["b"]])
    x = kerasnorm.ConsistentNorm("batch", 2)(x)
    outputs = {"one": keras.layers.Dense(1, name="one")(x), "two": x}
    inner = keras.Model(inputs, outputs)
    randomize(inner)

    def doubled(batch):
        return {"a": 2 * batch["a"], "b": batch["b"]}

    model = kerasnorm.ConsistentModel(inner, [None, doubled], concatenate=concatenate)
    compiled(model, 0.0, loss={"one": "mse", "two": "mae"}, metrics={"one": ["mae"], "two": None})
    generator = np.random.default_rng(0)
    batch = {key: generator.normal(size=(6, 4)).astype("float32") for key in ("a", "b")}
    targets = {"one": np.zeros((6, 1)), "two": np.zeros((6, 4))}
    branches = model(batch, training=True)
    assert isinstance(branches, BranchOutputs)
    with kerasnorm.branch(1):
        expected = inner(doubled(batch), training=True)
    for key in outputs:
        assert_same(branches.branches[1][key], expected[key])
    history = model.fit(batch, targets, verbose=0).history
    one, two = ([numpy(branch[key]) for branch in branches.branches] for key in ("one", "two"))
    for index in range(2):
        np.testing.assert_allclose(
            history[f"branch_{index}_loss"][0],
            np.square(one[index]).mean() + np.abs(two[index]).mean(),
            rtol=1e-5,
        )
    # What Keras says of the single outputs is of branch 0.
    np.testing.assert_allclose(history["one_loss"][0], np.square(one[0]).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["two_loss"][0], np.abs(two[0]).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["one_mae"][0], np.abs(one[0]).mean(), rtol=1e-5)


def test_further_losses_count_once():
    x, y = data()
    inner = network(kernel_regularizer="l2")
    model = compiled(kerasnorm.ConsistentModel(inner, [None, plus_one]), rate=0.0)
    history = model.fit(x, y, verbose=0).history
    decay = float(sum(numpy(loss) for loss in inner.losses))
    assert decay > 0.01
    total = history["branch_0_loss"][0] + history["branch_1_loss"][0] + decay
    np.testing.assert_allclose(history["loss"][0], total, rtol=1e-5)


# One branch alone.


@pytest.mark.parametrize(
    "norm",
    [
        "batch",
        "keras_batch",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ({"name": "mode", "modes": 2}, "layer")),
    ],
)
def test_a_branch_as_a_plain_model(norm):
    x, _ = data()
    inner = network(norm, 3)
    plain = network(norm, 0)
    model = kerasnorm.ConsistentModel(inner, [None, plus_one, plus_one])
    for index in range(3):
        alone = model.branch_model(index)
        with kerasnorm.branch(index):
            expected = numpy(inner(x, training=False))
        assert_same(alone(x, training=False), expected)
        assert_same(alone.predict(x, verbose=0), expected)
        assert alone.count_params() == plain.count_params()
        assert [layer.name for layer in alone.layers] == [layer.name for layer in inner.layers]
        assert type(alone.get_layer("norm_0")) is type(plain.get_layer("norm_0"))
    # Copies: training one leaves the other as it is.
    before = weight_values(inner)
    compiled(alone).fit(x, np.zeros((6, CLASSES)), verbose=0)
    assert_same(weight_values(inner), before, 0)


def test_a_branch_of_a_model_with_models_inside(tmp_path):
    x, _ = data()
    inner = keras.Sequential([keras.Input((SIDE, SIDE, 3)), network(branches=2)])
    alone = kerasnorm.ConsistentModel(inner, [None, plus_one]).branch_model(1)
    with kerasnorm.branch(1):
        expected = numpy(inner(x, training=False))
    assert_same(alone(x, training=False), expected)
    alone.save(tmp_path / "alone.keras")
    assert_same(keras.saving.load_model(tmp_path / "alone.keras")(x, training=False), expected)


def test_the_model_may_come_from_surgery():
    x, y = data()
    plain = network("keras_batch", 0)
    spec = {"name": "consistent", "norm": "batch", "branches": 2}
    model = kerasnorm.ConsistentModel(
        kerasnorm.replace_norms(plain, spec), [None, transforms.ScaleAndPad()]
    )
    assert_same(model(x, training=False), plain(x, training=False))
    compiled(model).fit(x, y, verbose=0)
    assert model.branch_model(0).count_params() == plain.count_params()


class Own(keras.Model):
    """A model that is code, built by its first call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = kerasnorm.ConsistentNorm("batch", 2)
        self.dense = keras.layers.Dense(CLASSES)
        self.flatten = keras.layers.Flatten()

    def call(self, inputs):
        return self.dense(self.flatten(self.norm(inputs)))


def test_a_model_that_is_code():
    x, y = data()
    inner = Own()
    inner(x)
    model = compiled(kerasnorm.ConsistentModel(inner, [None, plus_one]))
    assert {"branch_1_loss", "loss"} <= set(model.fit(x, y, verbose=0).history)
    with pytest.raises(ValueError, match=r"Own.*functional or Sequential"):
        model.branch_model(1)


# Transformations.

READY = {
    "ScaleAndPad": lambda **kw: transforms.ScaleAndPad(0.5, **kw),
    "Resize": lambda **kw: transforms.Resize((5, 7), **kw),
    "Blur": lambda **kw: transforms.Blur(0.8, **kw),
    "Noise": lambda **kw: transforms.Noise(0.3, seed=3, **kw),
    "Cutout": lambda **kw: transforms.Cutout(3, seed=3, **kw),
    "RandomCrop": lambda **kw: transforms.RandomCrop((5, 6), seed=3, **kw),
}


@pytest.mark.parametrize("name", READY)
def test_transforms_in_both_layouts_and_all_dtypes(name):
    x = images(3, 2, (SIDE, SIDE))
    outputs = numpy(READY[name](data_format="channels_last")(x))
    if name != "Noise":
        first = READY[name](data_format="channels_first")(np.moveaxis(x, -1, 1))
        assert_same(np.moveaxis(numpy(first), 1, -1), outputs)
    layer = READY[name](data_format="channels_last")
    assert tuple(layer.compute_output_shape((None, SIDE, SIDE, 2))) == (None, *outputs.shape[1:])
    revived = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert revived.get_config() == layer.get_config()
    assert_same(revived(x), outputs)
    half = READY[name](data_format="channels_last")(ops.cast(x, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    assert_same(half, outputs, 5e-3)
    whole = READY[name](data_format="channels_last")(ops.ones((1, SIDE, SIDE, 1), "uint8"))
    assert keras.backend.standardize_dtype(whole.dtype) == "float32"


@pytest.mark.parametrize("same", [True, False])
def test_transforms_in_a_training_graph(same):
    x, y = data(4)
    ready = [make() for make in READY.values()]
    ready = [one for one in ready if (one(x).shape[1:] == x.shape[1:]) == same]
    sides = (SIDE, SIDE) if same else (None, None)
    model = kerasnorm.ConsistentModel(network("layer", len(ready) + 1, sides), [None, *ready])
    compiled(model, jit_compile=BACKEND != "torch")
    history = model.fit(x, y, batch_size=4, verbose=0).history
    for index in range(len(ready) + 1):
        assert np.isfinite(history[f"branch_{index}_loss"]).all()


def test_constants_stay_constant():
    x = np.ones((2, SIDE, SIDE, 2), "float32")
    for name in ("Resize", "Blur", "RandomCrop"):
        assert_same(READY[name]()(x), np.ones_like(numpy(READY[name]()(x))))
    padded = numpy(READY["ScaleAndPad"]()(x))
    assert_same(padded[:, 2:6, 2:6], np.ones((2, 4, 4, 2)))
    assert padded.sum() == pytest.approx(2 * 2 * 16, rel=1e-5)


def test_scaling_by_half_averages_as_antialiasing_does():
    ramp = np.broadcast_to(np.arange(SIDE, dtype="float32")[:, None, None], (1, SIDE, SIDE, 1))
    small = numpy(transforms.Resize(SIDE // 2)(ramp))[0, :, 0, 0]
    np.testing.assert_allclose(small[1:-1], [2.5, 4.5], atol=1e-4)


def test_what_is_random_differs_between_images_and_calls():
    count = 256
    x = np.broadcast_to(np.arange(1, SIDE * SIDE + 1.0).reshape(1, SIDE, SIDE, 1), (count, 8, 8, 1))
    x = x.astype("float32")
    crop = transforms.RandomCrop((5, 6))
    parts = numpy(crop(x))
    corners = parts[:, 0, 0, 0].astype(int) - 1
    for part, corner in zip(parts, corners, strict=True):
        row, column = divmod(corner, SIDE)
        np.testing.assert_array_equal(part, x[0, row : row + 5, column : column + 6])
    assert {c // SIDE for c in corners} == set(range(4))
    assert {c % SIDE for c in corners} == set(range(3))
    assert (numpy(crop(x)) != parts).any()
    cut = numpy(transforms.Cutout(3)(x)) == 0
    assert cut.sum(axis=(1, 2, 3)).max() == 9
    assert cut.sum(axis=(1, 2, 3)).min() == 4
    assert cut.any(axis=0).all()
    noise = numpy(transforms.Noise(0.5)(x)) - x
    assert abs(noise.std() - 0.5) < 0.02
    assert not np.allclose(noise[0], noise[1])


def test_layers_of_keras_are_transforms():
    x, y = data()
    given = [keras.layers.Identity(), keras.layers.RandomFlip(), keras.layers.GaussianNoise(0.1)]
    model = compiled(kerasnorm.ConsistentModel(network(branches=3), given))
    history = model.fit(x, y, epochs=2, verbose=0).history
    assert {"branch_0_loss", "branch_1_loss", "branch_2_loss"} <= set(history)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.ScaleAndPad(1.5), r"scale=1.5.*above 0 and at most 1"),
        (lambda: transforms.ScaleAndPad("half"), r"scale='half'"),
        (lambda: transforms.Resize((3, 0)), r"size=\(3, 0\).*positive integer"),
        (lambda: transforms.Blur(0), r"sigma=0.*above 0"),
        (lambda: transforms.Noise(-1.0), r"stddev=-1.0.*above 0"),
        (lambda: transforms.Blur(data_format="last"), r"data_format='last'"),
        (lambda: transforms.RandomCrop(9)(images()), r"at least \[9, 9\]"),
        (lambda: transforms.Blur()(images()[0]), r"rank 4"),
    ],
)
def test_illegal_transforms(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Errors.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([[plus_one, None]], ValueError, r"first transform is .*identity"),
        ([[transforms.Blur(), None]], ValueError, r"first transform is .*identity"),
        ([[]], ValueError, r"transforms=\[\].*list"),
        ([plus_one], ValueError, r"transforms=.*list"),
        ([[None, 3]], TypeError, r"the transform 3"),
        ([[None]], ValueError, r"1 transforms .*'norm_0': 2, 'norm_1': 2.*as many branches"),
        ([[None, plus_one], [1.0]], ValueError, r"loss_weights=\[1.0\].*2 numbers"),
        ([[None, plus_one], [1.0, -1.0]], ValueError, r"at least 0"),
        ([[None, plus_one], None, "yes"], ValueError, r"concatenate='yes'"),
    ],
)
def test_illegal_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        kerasnorm.ConsistentModel(network(), *arguments)


def test_functions_that_return_what_they_get_are_the_identity():
    model = kerasnorm.ConsistentModel(network(), [lambda x: x, plus_one])
    assert model.transforms[0] is None


def test_models_without_branches():
    with pytest.raises(ValueError, match=r"has no ConsistentNorm.*replace_norms"):
        kerasnorm.ConsistentModel(network("batch", 0), [None, plus_one])
    with pytest.raises(TypeError, match=r"model='net'.*a Keras model"):
        kerasnorm.ConsistentModel("net", [None, plus_one])


@pytest.mark.parametrize("transform", [lambda x: x[:3], keras.layers.Lambda(lambda x: x[::2])])
@pytest.mark.parametrize("concatenate", ["auto", False])
def test_a_transform_that_changes_the_batch(transform, concatenate):
    x, y = data()
    model = compiled(
        kerasnorm.ConsistentModel(network(), [None, transform], concatenate=concatenate)
    )
    with pytest.raises(ValueError, match=r"transform 1 .*batches of \d from batches of \d"):
        model.fit(x, y, batch_size=6, verbose=0)


def test_training_without_a_loss():
    x, y = data()
    model = kerasnorm.ConsistentModel(network(), [None, plus_one])
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"No loss|no loss"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize("k", [2, -1, "one", True])
def test_a_branch_out_of_range(k):
    model = kerasnorm.ConsistentModel(network(), [None, plus_one])
    with pytest.raises(ValueError, match=r"from 0 to 1"):
        model.branch_model(k)
