"""Conversion: fits against full-size references, every kind of model and data, and what it says."""

import sys

import keras
import numpy as np
import pytest

import kerasnorm
from daily import on_torch_daily
from kerasnorm.conversion.capture import Inputs
from kerasnorm.conversion.data import examples_of
from kerasnorm.conversion.passes import Room

BACKEND = keras.backend.backend()


def set_weights(model, seed=0):
    """Weights that matter, the same on every backend."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        normal = generator.normal(size=shape)
        if weight.name == "moving_variance":
            value = generator.uniform(0.5, 2.0, shape)
        elif weight.name == "gamma":
            value = 1 + 0.3 * normal
        elif "kernel" in weight.name:
            value = normal / np.sqrt(np.prod(shape[:-1]))
        else:
            value = 0.3 * normal
        weight.assign(value.astype(weight.dtype))
    return model


def images(count=64, shape=(6, 6, 3)):
    """Images of differing contrast and brightness."""
    generator = np.random.default_rng(1)
    sides = (count, *(1 for _ in shape))
    x = generator.normal(size=(count, *shape)) * generator.uniform(0.5, 2.0, sides)
    return (x + 0.5 * generator.normal(size=sides)).astype("float32")


def network(norm=keras.layers.BatchNormalization, classes=3, seed=0):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False, name="conv"),
            norm(name="one"),
            keras.layers.ReLU(),
            keras.layers.DepthwiseConv2D(3, name="deep"),
            norm(name="two"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes),
        ]
    )
    set_weights(model, seed)
    kerasnorm.reestimate(model, images())
    return model


def values(model):
    return [keras.ops.convert_to_numpy(w.value).copy() for w in model.weights]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def share(wanted, given):
    """The share of the variance of the wanted outputs that is explained, channels last."""
    axes = tuple(range(wanted.ndim - 1))
    wanted, given = wanted.astype("float64"), given.astype("float64")
    spread = np.square(wanted - wanted.mean(axes)).sum()
    return 1 - np.square(given - wanted).sum() / spread


def output_of(model, layer, x):
    part = keras.Model(model.inputs[0], model.get_layer(layer).output)
    return keras.ops.convert_to_numpy(part.predict_on_batch(x))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_gamma_and_beta_are_the_least_squares_solution(groups, masked):
    x = images(shape=(5, 4)) + 3
    layers = [keras.Input((5, 4)), keras.layers.BatchNormalization(name="norm")]
    if masked:
        x[::3, 2:] = 0
        layers.insert(1, keras.layers.Masking())
    old = set_weights(keras.Sequential(layers))
    spec = {"name": "group", "groups": groups}
    new = kerasnorm.convert(old, spec, x, verbose=0)
    parts = examples_of(old, x, None, 512, 64, "test")
    (fitting, _), (held, _) = parts.fitting[0], parts.held_out[0]

    def normalized(x, inside):
        """Each example by its groups, in float64, over the positions that count."""
        y = np.zeros(x.shape)
        for n, example in enumerate(x.astype("float64")):
            for group in np.split(np.arange(4), groups):
                part = example[inside[n]][:, group]
                scale = np.sqrt(part.var() + old.get_layer("norm").epsilon)
                y[n][:, group] = (example[:, group] - part.mean()) / scale
        return y

    inside = [np.any(part != 0, -1) for part in (fitting, held)]
    z, z_held = (normalized(*pair) for pair in zip((fitting, held), inside, strict=True))
    wanted, wanted_held = (
        keras.ops.convert_to_numpy(old.predict_on_batch(part)) for part in (fitting, held)
    )
    gamma, beta = (
        keras.ops.convert_to_numpy(getattr(new.get_layer("norm"), name))
        for name in ("gamma", "beta")
    )
    for channel in range(4):
        column = z[inside[0]][:, channel]
        expected = np.linalg.lstsq(
            np.stack([column, np.ones_like(column)], 1), wanted[inside[0]][:, channel], rcond=None
        )[0]
        np.testing.assert_allclose([gamma[channel], beta[channel]], expected, rtol=1e-4, atol=1e-5)
    (site,) = kerasnorm.report_of(new).sites
    direct = share(wanted_held[inside[1]], z_held[inside[1]] * gamma + beta)
    np.testing.assert_allclose(site.after, direct, atol=1e-4)
    assert site.before < site.after


@pytest.fixture(scope="module")
def converted():
    """A network, and what became of it over layer norm and with predictions."""
    old = network()
    new = {
        spec: kerasnorm.convert(old, spec, images(), verbose=0) for spec in ("layer", "ilm_layer")
    }
    return old, new


def test_predicted_norms_keep_what_plain_ones_lose(converted):
    _, new = converted
    plain, predicted = (kerasnorm.report_of(new[spec]) for spec in ("layer", "ilm_layer"))
    assert min(site.after for site in predicted.sites) > 0.9
    assert plain.sites[1].after < 0.9
    assert predicted.explained > 0.85 > plain.explained
    for one, other in zip(plain.sites, predicted.sites, strict=True):
        assert other.before < other.after
        assert one.after < other.after


def test_the_report_has_what_full_size_outputs_give(converted):
    old, new = converted
    x = examples_of(old, images(), None, 512, 64, "test").held_out[0][0]
    report = kerasnorm.report_of(new["ilm_layer"])
    for site in report.sites:
        wanted, given = (output_of(model, site.layer, x) for model in (old, new["ilm_layer"]))
        np.testing.assert_allclose(site.after, share(wanted, given), atol=1e-4)
    wanted, given = (
        keras.ops.convert_to_numpy(m.predict_on_batch(x)) for m in (old, new["ilm_layer"])
    )
    np.testing.assert_allclose(report.explained, share(wanted, given), atol=1e-4)
    assert report.agreement == np.mean(wanted.argmax(1) == given.argmax(1))


def test_the_report_reads_as_a_table_and_a_picture(converted, tmp_path, monkeypatch):
    _, new = converted
    report = kerasnorm.report_of(new["ilm_layer"])
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["layer", "from", "to", "chosen", "before", "after"]
    assert lines[2].split()[:3] == ["one", "BatchNormalization", "ILMLayerNorm"]
    assert "no training" in report.summary()
    assert report.summary().endswith("more parameters.")
    report.figure(tmp_path / "sites.png")
    assert (tmp_path / "sites.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="matplotlib is not installed"):
        report.figure(tmp_path / "other.png")


@on_torch_daily
def test_without_scipy_predictions_are_refused_and_plain_norms_are_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    model = set_weights(keras.Sequential([keras.Input((4,)), kerasnorm.BatchNorm()]))
    x = images(32, (4,))
    for spec in ("layer", "ilm_layer"):
        kerasnorm.convert(model, spec, x, verbose=0)
    with pytest.raises(ImportError, match=r"kerasnorm\[convert\]"):
        kerasnorm.convert(model, "ilm_instance", x, verbose=0)


def test_the_original_stays_and_the_new_model_is_compiled_and_frozen_like_it():
    old = network()
    old.get_layer("two").trainable = False
    old.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    before = values(old)
    x, y = images(), np.arange(64) % 3
    new = kerasnorm.convert(old, "ilm_layer", x, y, steps=3, verbose=0)
    assert same(values(old), before)
    assert [layer.trainable for layer in new.layers] == [layer.trainable for layer in old.layers]
    assert all(weight.trainable for weight in new.get_layer("one").weights)
    assert not new.get_layer("two").trainable_weights
    assert new.compiled
    assert new.optimizer is not old.optimizer
    assert int(new.optimizer.iterations) == 0
    report = kerasnorm.report_of(new)
    # What is frozen is fitted all the same.
    assert report.sites[1].after > 0.9
    assert set(report.scores) == {"loss", "accuracy"}
    assert "3 steps of distillation" in report.summary()
    # One step of training takes all that is trainable.
    new.train_on_batch(x, y)


@pytest.mark.parametrize("train", ["norms", "all"])
def test_distillation_comes_nearer_and_moves_what_it_may(train):
    old = network()
    where = "two"
    x = images()
    plain = kerasnorm.convert(old, "layer", x, where=where, verbose=0)
    new = kerasnorm.convert(
        old, "layer", x, where=where, verbose=0, steps=20, train=train, learning_rate=0.01
    )
    moved = {
        layer.name: any(
            not np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
            for a, b in zip(layer.weights, plain.get_layer(layer.name).weights, strict=True)
        )
        for layer in new.layers
        if layer.weights
    }
    everything = train == "all"
    assert moved == {
        "conv": everything,
        "one": everything,
        "deep": everything,
        "two": True,
        new.layers[-1].name: everything,
    }
    # Moving statistics stay, whatever is trained.
    for name in ("moving_mean", "moving_variance"):
        a, b = (keras.ops.convert_to_numpy(getattr(m.get_layer("one"), name)) for m in (old, new))
        np.testing.assert_array_equal(a, b)
    fitting = examples_of(old, x, None, 512, 64, "test").fitting[0][0]
    wanted, without, trained = (
        keras.ops.convert_to_numpy(m.predict_on_batch(fitting)) for m in (old, plain, new)
    )
    assert share(wanted, trained) > share(wanted, without)


def test_any_functional_model(tmp_path):
    """Two inputs by name, a shared nested model, channels first, mixed precision."""
    block = keras.Sequential(
        [
            keras.Input((4, 6)),
            keras.layers.Dense(6),
            keras.layers.BatchNormalization(name="inside"),
        ],
        name="block",
    )
    first, second = (keras.Input((4, 6), name=name) for name in ("first", "second"))
    x = keras.layers.Add()([block(first), block(second)])
    x = keras.layers.BatchNormalization(axis=1, name="positions", dtype="mixed_float16")(x)
    x = keras.layers.Activation("relu", dtype="float32")(x)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    old = set_weights(keras.Model({"first": first, "second": second}, outputs))
    data = {"first": images(shape=(4, 6)), "second": images(shape=(4, 6))[::-1]}
    kerasnorm.reestimate(old, data)
    new = kerasnorm.convert(old, "ilm_layer", data, verbose=0)
    report = kerasnorm.report_of(new)
    assert [site.layer for site in report.sites] == ["block/inside", "positions"]
    assert all(site.after > max(0.8, site.before) for site in report.sites)
    assert new.get_layer("positions").axis in (1, -2)
    assert new.get_layer("positions").compute_dtype == "float16"
    # The nested model is one layer still, and all of it is saved.
    assert [type(layer) for layer in new.get_layer("block").layers][-1] is kerasnorm.ILMLayerNorm
    new.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    # One norm is in float16, where an entry may be rounded the other way in another program.
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(m.predict_on_batch(data)) for m in (new, loaded)), atol=1e-3
    )


@pytest.mark.parametrize("spec", ["instance", {"name": "keras_group", "groups": 4}])
def test_from_and_to_norms_of_an_example(spec):
    old = network(kerasnorm.LayerNorm)
    new = kerasnorm.convert(old, spec, images(), verbose=0)
    sites = kerasnorm.report_of(new).sites
    assert all(site.before < site.after for site in sites)
    # Of Keras's own layers too what was fitted is what is computed.
    x = examples_of(old, images(), None, 512, 64, "test").held_out[0][0]
    direct = share(*(output_of(model, "two", x) for model in (old, new)))
    np.testing.assert_allclose(sites[1].after, direct, atol=1e-4)


@pytest.mark.parametrize("spec", ["batch", "keras_batch"])
def test_moving_statistics_come_from_the_data(spec):
    old = network(kerasnorm.LayerNorm)
    new = kerasnorm.convert(old, spec, images(), verbose=0)
    x = examples_of(old, images(), None, 512, 64, "test").fitting[0][0]
    measured = output_of(new, "conv", x).astype("float64")
    for name, value in (
        ("moving_mean", measured.mean((0, 1, 2))),
        ("moving_variance", measured.var((0, 1, 2))),
    ):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(getattr(new.get_layer("one"), name)),
            value,
            rtol=1e-4,
            atol=1e-5,
        )


def test_norms_that_contain_the_old_one_keep_all_of_it():
    old = network()
    new = kerasnorm.convert(old, ("mode", "batch_instance"), images(), verbose=0)
    assert min(site.after for site in kerasnorm.report_of(new).sites) > 0.9999
    for name in ("moving_mean", "moving_variance"):
        a, b = (keras.ops.convert_to_numpy(getattr(m.get_layer("two"), name)) for m in (old, new))
        np.testing.assert_array_equal(a, b)


def grouped(name):
    return kerasnorm.GroupNorm(groups=2, name=name)


@pytest.mark.parametrize(
    ("norm", "spec", "weight"),
    [
        (kerasnorm.LayerNorm, "batch_instance", "gate"),
        (grouped, "switchable", "variance_weight"),
        (keras.layers.BatchNormalization, "filter_response", "epsilon_weight"),
    ],
)
def test_what_mixes_statistics_is_fitted(norm, spec, weight):
    old = network(norm)
    plain, new = (
        kerasnorm.convert(old, spec, images(), where="two", fit_steps=steps, verbose=0)
        for steps in (0, 100)
    )
    before, after = (kerasnorm.report_of(one).sites[0].after for one in (plain, new))
    assert after > before + 0.01
    value = keras.ops.convert_to_numpy(getattr(new.get_layer("two"), weight))
    if weight == "gate":
        assert value.min() >= 0
        assert value.max() <= 1
        assert 0.01 < value.mean() < 0.99


def test_no_norm_goes_into_the_layer_before():
    old = network()
    new = kerasnorm.convert(old, None, images(), verbose=0)
    x = images(16)
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(m.predict_on_batch(x)) for m in (old, new)), atol=2e-5
    )
    assert [site.chosen for site in kerasnorm.report_of(new).sites] == [
        "goes into 'conv'",
        "goes into 'deep'",
    ]
    # Not where the layer before has other uses.
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4)(inputs)
    outputs = keras.layers.Add()([x, keras.layers.BatchNormalization()(x)])
    old = set_weights(keras.Model(inputs, outputs))
    (site,) = kerasnorm.report_of(kerasnorm.convert(old, None, images(32, (4,)), verbose=0)).sites
    assert site.after is None
    assert site.why_not == "no layer before it takes a slope and a shift"


def test_a_list_is_ranked_and_what_is_illegal_is_named():
    old = network()
    new = kerasnorm.convert(
        old, ["instance", {"name": "group", "groups": 3}, "group"], images(), verbose=0
    )
    report = kerasnorm.report_of(new)
    assert sorted(name for name, _ in report.ranking) == ["group", "instance"]
    kept = [value for _, value in report.ranking]
    assert kept == sorted(kept, reverse=True)
    assert any("groups=3 does not divide" in note for note in report.notes)
    assert "Tried:" in str(report)


# Predictions that cannot be exact, so that their size is open.
INEXACT = "ilm_instance"


def test_predictions_keep_the_budget():
    old = network(classes=200)
    more = {}
    for budget in (0.01, 0.5):
        new = kerasnorm.convert(old, INEXACT, images(), budget=budget, fit_steps=0, verbose=0)
        before, after = kerasnorm.report_of(new).parameters
        more[budget] = after - before
    assert more[0.01] < more[0.5] <= 0.5 * old.count_params()


@on_torch_daily
def test_the_budget_counts_exact_predictions_too():
    layers = [
        layer
        for n in range(2)
        for layer in (keras.layers.Conv2D(16, 1), kerasnorm.BatchNorm(name=f"norm{n}"))
    ]
    old = keras.Sequential([keras.Input((6, 6, 3)), *layers, keras.layers.Dense(3)])
    spec = ("ilm_layer", INEXACT)
    new = kerasnorm.convert(old, spec, images(), budget=0.6, fit_steps=0, verbose=0)
    exact, open_one = (site.chosen for site in kerasnorm.report_of(new).sites)
    assert "reduction=16" in exact
    assert "reduction=16" not in open_one
    before, after = kerasnorm.report_of(new).parameters
    assert 0.4 * before < after - before <= 0.6 * before


@on_torch_daily
def test_narrow_norms_get_what_is_left_of_the_budget():
    layers = []
    for channels in (16, 4):
        layers = [keras.layers.Conv2D(channels, 3), keras.layers.BatchNormalization(), *layers]
    old = keras.Sequential([keras.Input((6, 6, 3)), *layers, keras.layers.Dense(3)])
    wide, narrow = 3 * 16 * 16, 3 * 4 * 4

    def converted(budget):
        new = kerasnorm.convert(old, INEXACT, images(), budget=budget, fit_steps=0, verbose=0)
        sites = kerasnorm.report_of(new).sites
        return new, [int(site.chosen.split("reduction=")[1].split(",")[0]) for site in sites]

    smallest, _ = converted(0.0)
    least = smallest.count_params() - 3 * 2 * (16 + 4)
    reductions = []
    for added in (wide + narrow, wide // 2 + narrow, wide // 2 + narrow // 2, wide // 4 + narrow):
        budget = (least + added + 0.5) / old.count_params() - 1
        new, found = converted(budget)
        assert new.count_params() == least + added
        reductions.append(found)
    assert reductions == [[1, 1], [1, 2], [2, 2], [1, 4]]


def test_predictions_hold_for_what_no_example_showed():
    """Of an example of 30 times the contrast: a linear slope grows with its square in each norm."""
    layers = [
        layer for n in range(4) for layer in (keras.layers.Conv2D(8, 1), kerasnorm.BatchNorm())
    ]
    old = set_weights(keras.Sequential([keras.Input((6, 6, 8)), *layers]))
    kerasnorm.reestimate(old, images(shape=(6, 6, 8)))
    far = 30 * images(1, (6, 6, 8))
    wanted = keras.ops.convert_to_numpy(old.predict_on_batch(far))

    def error(spec):
        new = kerasnorm.convert(old, spec, images(shape=(6, 6, 8)), verbose=0)
        given = keras.ops.convert_to_numpy(new.predict_on_batch(far))
        return np.abs(given - wanted).max() / np.abs(wanted).max()

    assert error("ilm_layer") < 0.01
    assert error({"name": "ilm_layer", "variance_activation": None}) > 100


def masked_sequences():
    """A network over sequences of which a part counts."""
    x = inputs = keras.Input((6, 5))
    x = keras.layers.Masking()(x)
    x = keras.layers.Dense(8)(x)
    x = kerasnorm.BatchNorm(name="norm")(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x)), images(16, (6, 5)) * np.array(
        [1, 1, 1, 1, 0, 0]
    ).reshape(1, 6, 1).astype("float32")


def channels_first():
    """Channels that are no last axis."""
    layers = [keras.Input((8, 5)), keras.layers.BatchNormalization(axis=1, name="norm")]
    return keras.Sequential([*layers, keras.layers.Dense(2)]), images(16, (8, 5))


def vectors():
    """One position."""
    layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(name="norm")]
    return keras.Sequential([keras.Input((5,)), *layers, keras.layers.ReLU()]), images(16, (5,))


def test_a_large_epsilon_leaves_predictions_exact():
    old = set_weights(network())
    kernel = old.get_layer("conv").kernel
    kernel.assign(0.03 * kernel)
    kerasnorm.reestimate(old, images())
    explained = {}
    for epsilon in (1e-5, 1e-3):
        spec = "ilm_layer" if epsilon == 1e-5 else {"name": "ilm_layer", "epsilon": epsilon}
        new = kerasnorm.convert(old, spec, images(), verbose=0)
        assert new.get_layer("one").epsilon == epsilon
        explained[epsilon] = kerasnorm.report_of(new).sites[0].after
    assert old.get_layer("one").epsilon == 1e-3
    assert explained[1e-5] > 0.99999
    assert explained[1e-3] < 0.9999


@pytest.mark.parametrize(
    ("made", "spec"),
    [
        (masked_sequences, {"name": "ilm_group", "groups": 2, "reduction": 2}),
        (channels_first, "ilm_layer"),
        (vectors, "ilm_layer"),
    ],
)
def test_predictions_of_an_affine_function_are_exact(made, spec):
    model, x = made()
    old = set_weights(model)
    gamma = old.get_layer("norm").gamma
    gamma.assign(gamma * np.array([1, -1, 0.02, 1, 1, -1, 0, 1], "float32"))
    new = kerasnorm.convert(old, spec, x, budget=100, verbose=0)
    (site,) = kerasnorm.report_of(new).sites
    assert site.after > 0.9999
    if spec == "ilm_layer":  # No more than it needs, whatever the budget.
        assert tuple(new.get_layer("norm").encoder.shape) == (8, 2)
    other = 3 * x[::-1] + (x != 0)
    wanted, given = (keras.ops.convert_to_numpy(m.predict_on_batch(other)) for m in (old, new))
    assert share(wanted, given) > 0.999


def test_new_norms_have_the_gamma_and_beta_that_the_old_one_lacks():
    old = set_weights(
        network(lambda name: kerasnorm.BatchNorm(scale=False, center=False, name=name))
    )
    new = kerasnorm.convert(old, "ilm_layer", images(), verbose=0)
    for site in kerasnorm.report_of(new).sites:
        assert site.after > 0.9999
        assert "scale=True, center=True" in site.chosen
    new = kerasnorm.convert(old, {"name": "layer", "scale": False}, images(), verbose=0)
    assert [w.name for w in new.get_layer("one").weights] == ["beta"]


def test_what_is_the_plain_norm_gets_the_smallest_prediction():
    model = set_weights(keras.Sequential([keras.Input((6, 8)), kerasnorm.LayerNorm(name="norm")]))
    new = kerasnorm.convert(model, "ilm_layer", images(16, (6, 8)), budget=100, verbose=0)
    assert kerasnorm.report_of(new).sites[0].after > 0.9999
    assert tuple(new.get_layer("norm").encoder.shape) == (8, 2)


def test_distillation_that_comes_no_nearer_is_taken_back():
    old, x = network(), images()
    plain = kerasnorm.convert(old, "ilm_layer", x, verbose=0)
    new = kerasnorm.convert(old, "ilm_layer", x, verbose=0, steps=3, learning_rate=0.1)
    assert same(values(plain), values(new))
    assert "brought it no nearer" in str(kerasnorm.report_of(new))


@on_torch_daily
@pytest.mark.parametrize("outputs", [1, 3])
def test_one_held_out_example_can_be_explained(outputs):
    new = kerasnorm.convert(network(classes=outputs), "ilm_layer", images(8), verbose=0)
    report = kerasnorm.report_of(new)
    assert report.examples == (7, 1)
    assert -10 < report.explained <= 1


class _Data(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8], np.zeros(8)


def forms(x):
    yield "array", x
    yield "list", [x]
    yield "generator", ((x[:8], np.zeros(8)) for _ in iter(int, 1))
    yield "dataset of Keras", _Data(x)
    if BACKEND == "torch":
        import torch

        pairs = torch.utils.data.TensorDataset(torch.tensor(x), torch.zeros(16))
        yield "loader", torch.utils.data.DataLoader(pairs, batch_size=8)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        yield "tf.data", tf.data.Dataset.from_tensor_slices((x, np.zeros(16))).batch(8)


def test_data_in_any_form():
    x = images(16)
    model = network()
    for name, data in forms(x):
        found = examples_of(model, data, None, 16, 8, "test")
        counts = [found.count(part) for part in (found.fitting, found.held_out)]
        assert counts == [14, 2], name
        batch = found.fitting[0][0]
        assert isinstance(batch, np.ndarray)
        assert batch.shape[1:] == (6, 6, 3)
        if name != "array":
            taken = found.fitting[0][1]
            assert name == "list" or taken.shape == (len(batch),)


def kept_in(monkeypatch):
    """A list of how many bytes were in use whenever a tensor was to be kept."""
    used = []
    take = Room.take

    def watched(self, size):
        taken = take(self, size)
        used.append(self.used)
        return taken

    monkeypatch.setattr(Room, "take", watched)
    return used


def branching():
    """A model with a skip, a nested model that is called twice, and 1-D positions."""
    block = keras.Sequential(
        [
            keras.Input((6, 8)),
            keras.layers.Conv1D(8, 3, padding="same", name="first"),
            keras.layers.BatchNormalization(name="a"),
            keras.layers.ReLU(),
            keras.layers.Conv1D(8, 3, padding="same", name="second"),
            keras.layers.BatchNormalization(name="b"),
        ],
        name="block",
    )
    inputs = keras.Input((6, 8))
    x = keras.layers.Add()([inputs, block(inputs)])
    x = keras.layers.Add()([x, block(keras.layers.ReLU()(x))])
    x = keras.layers.BatchNormalization(name="last")(x)
    model = set_weights(keras.Model(inputs, keras.layers.Flatten()(x)))
    kerasnorm.reestimate(model, images(shape=(6, 8)))
    return model


def test_memory_changes_the_time_alone(monkeypatch):
    old, x = branching(), images(shape=(6, 8))
    found = []
    # Inputs are 64*6*8 numbers. What is kept of both models is up to twice as much in each.
    for memory in (0, 0.02, 1024):
        with monkeypatch.context() as patch:
            used = kept_in(patch)
            new = kerasnorm.convert(old, "layer", x, batch_size=8, memory=memory, verbose=0)
        assert max(used) <= memory * 1e6
        assert max(used) <= 4 * x.nbytes
        assert (max(used) > 0) == (memory > 0)
        found.append(kerasnorm.report_of(new).sites)
    assert found[0] == found[1] == found[2]
    assert [site.layer for site in found[0]] == ["block/a", "block/b", "last"]


def test_norms_behind_a_shared_one_see_its_old_outputs_until_they_are_fitted():
    """The second call of `a` comes after the first one of `b`, which is fitted later."""
    old, x = branching(), images(shape=(6, 8))
    new = kerasnorm.convert(old, "batch", x, verbose=0)
    assert min(site.after for site in kerasnorm.report_of(new).sites) > 0.9999
    spoiled = kerasnorm.replace_norms(old, "batch")
    spoiled.get_layer("block").get_layer("b").gamma.assign(np.full(8, 100.0))
    sites = kerasnorm.calibrate(spoiled, old, x, verbose=0)
    assert min(site.after for site in sites) > 0.9999


@on_torch_daily
def test_no_more_examples_are_taken_than_needed():
    given = []

    def batches():
        while True:
            given.append(8)
            yield images(8)

    kerasnorm.convert(network(), "layer", batches(), examples=24, verbose=0)
    assert sum(given) == 24


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_pass_in_steps_is_the_model(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((6, 4))
        inner = keras.Model(inputs, keras.layers.ReLU()(keras.layers.Dense(4)(inputs)))
        inputs = keras.Input((6, 4))
        x = keras.layers.Dropout(0.5)(inner(inner(inputs)) * inputs)
        x = keras.layers.Masking()(x)
        outputs = keras.layers.BatchNormalization(name="last", dtype="float32")(x)
    finally:
        keras.config.set_dtype_policy(before)
    model = set_weights(keras.Model(inputs, outputs))
    inner.layers[1].bias.assign(np.ones(4))  # No relu gives zeros at all positions.
    x = images(8, (6, 4))
    x[:, 4:] = 0
    passed = Inputs(model, [x], Room(0)).statistics([(model.get_layer("last"), 2)])
    wanted = keras.ops.convert_to_numpy(model(x, training=False))
    assert (passed[0].positions == 4).all()
    np.testing.assert_allclose(passed[0].wanted, wanted[:, :4].mean(1), atol=1e-5)


def test_interrupted_it_leaves_nothing_half_done(monkeypatch):
    old = network()
    before = values(old)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kerasnorm.conversion.capture.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kerasnorm.convert(old, "layer", images(), verbose=0)
    assert same(values(old), before)
    assert not any("call" in vars(layer) for layer in old.layers)
    monkeypatch.undo()
    kerasnorm.convert(old, "layer", images(), verbose=0)


def test_progress_is_shown_where_it_is_wanted(capsys):
    old = network()
    kerasnorm.convert(old, ["layer", "instance"], images(), verbose=0)
    assert capsys.readouterr().out == ""
    kerasnorm.convert(old, ["layer", "instance"], images(), verbose=1)
    assert "4/4" in capsys.readouterr().out


def test_calibrate_is_a_part_of_it():
    old = network()
    new = kerasnorm.replace_norms(old, "layer")
    sites = kerasnorm.calibrate(new, old, images(), verbose=0)
    whole = kerasnorm.convert(old, "layer", images(), verbose=0)
    assert sites == kerasnorm.report_of(whole).sites
    with pytest.raises(ValueError, match="has no norm two"):
        kerasnorm.calibrate(
            keras.Sequential([keras.Input((4,)), kerasnorm.LayerNorm(name="one")]), old, images()
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": []}, "at least one norm spec"),
        ({"examples": 1}, "examples=1. Needed"),
        ({"sites_at_once": 0}, "sites_at_once=0. Needed"),
        ({"train": "some"}, '"norms" or "all"'),
        ({"data": images(1)}, "1 examples. Needed: at least 2"),
        ({"data": [images(4), images(4)]}, "2 arrays for each example. Needed: 1"),
        ({"labels": np.zeros(3)}, "3 labels for 64 examples"),
        ({"data": iter([images(4)]), "labels": np.zeros(4)}, "labels beside batches"),
        ({"spec": "nothing"}, "norm spec 'nothing' is unknown"),
    ],
)
def test_what_is_refused(arguments, message):
    model = keras.Sequential([keras.Input((6, 6, 3)), kerasnorm.BatchNorm()])
    with pytest.raises(ValueError, match=message):
        kerasnorm.convert(model, **{"spec": "layer", "data": images(), "verbose": 0, **arguments})
