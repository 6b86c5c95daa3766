"""Re-estimated moving statistics: those of the data, of nothing else, and of some use."""

import keras
import numpy as np
import pytest

import kerasnorm
from small_models import randomize

NORMS = {
    "batch": kerasnorm.BatchNorm,
    "mode": lambda: kerasnorm.ModeNorm(modes=3, gate_initializer="random_normal"),
    "conv": kerasnorm.ConvNorm,
    "conv, weighted variance": lambda: kerasnorm.ConvNorm(weighted_variance=True),
    "consistent": lambda: kerasnorm.ConsistentNorm("batch", branches=2),
    "keras": keras.layers.BatchNormalization,
}


def images(count=60, mean=50.0):
    """Images whose brightness differs from example to example, in ascending order."""
    generator = np.random.default_rng(0)
    brightness = np.sort(generator.normal(mean, 2.0, count))[:, None, None, None]
    return (generator.normal(size=(count, 4, 4, 3)) + brightness).astype("float32")


def statistics(layer):
    bank = layer.banks[0] if isinstance(layer, kerasnorm.ConsistentNorm) else layer
    return [
        keras.ops.convert_to_numpy(weight.value).copy()
        for weight in (bank.moving_mean, bank.moving_variance)
    ]


@pytest.mark.parametrize("kind", NORMS)
def test_many_batches_give_what_one_batch_of_all_gives(kind):
    x = images(mean=1e3)
    layer = NORMS[kind]()
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    randomize(layer)
    assert kerasnorm.reestimate(model, x, batch_size=60) == 1
    whole = statistics(layer)
    assert kerasnorm.reestimate(model, x, batch_size=20) == 1
    for value, expected in zip(statistics(layer), whole, strict=True):
        np.testing.assert_allclose(value, expected, rtol=2e-5)
    if kind in ("batch", "consistent", "keras"):
        exact = x.astype("float64")
        np.testing.assert_allclose(whole[0], exact.mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(whole[1], exact.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "mode", "keras"])
def test_masked_positions_count_in_nothing(kind):
    x = images()[:, 0]
    x[::3, 2:] = 0
    layer = NORMS[kind]()
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Masking(), layer])
    assert kerasnorm.reestimate(model, x, batch_size=20) == 1
    kept = x[np.any(x != 0, -1)].astype("float64")
    mean, variance = statistics(layer)
    if kind == "mode":
        assert kept.min() < mean.min() < mean.max() < kept.max()
    else:
        np.testing.assert_allclose(mean, kept.mean(0), rtol=1e-6)
        np.testing.assert_allclose(variance, kept.var(0), rtol=1e-4)


def test_nothing_but_the_statistics_of_trained_norms_changes():
    inner = keras.Sequential([keras.Input((4, 4, 3)), kerasnorm.BatchNorm(name="inside")])
    frozen = keras.layers.BatchNormalization(trainable=False, name="frozen")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.BatchNormalization(name="first"),
            keras.layers.Dropout(0.9),
            inner,
            frozen,
            kerasnorm.GroupNorm(groups=3),
        ]
    )
    before = [keras.ops.convert_to_numpy(w.value).copy() for w in model.weights]
    assert kerasnorm.reestimate(model, images()) == 2
    changed = [
        weight.name
        for weight, old in zip(model.weights, before, strict=True)
        if not np.array_equal(keras.ops.convert_to_numpy(weight.value), old)
    ]
    assert changed == ["moving_mean", "moving_variance"] * 2
    # What dropout would have left out is not missing: the input here has mean 0 and variance 1.
    mean, variance = statistics(inner.layers[0])
    np.testing.assert_allclose(mean, 0, atol=1e-4)
    np.testing.assert_allclose(variance, 1, atol=1e-3)
    # Training goes on as ever.
    first = model.layers[0]
    old = statistics(first)[0]
    model(3 * images(), training=True)
    assert np.max(np.abs(statistics(first)[0] - old)) > 0


def test_batches_as_fit_takes_them():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return x[20 * index : 20 * index + 20], np.zeros(20)

    x = images()
    norm = kerasnorm.BatchNorm()
    model = keras.Sequential([keras.Input((4, 4, 3)), norm])
    for data in (Data(), [(x[:20], None), (x[20:40], None), (x[40:], None)], iter([x, x])):
        randomize(norm)
        kerasnorm.reestimate(model, data, batches=None)
        np.testing.assert_allclose(statistics(norm)[0], x.mean((0, 1, 2)), rtol=1e-5)
    # A few batches of sorted data are of all of it.
    kerasnorm.reestimate(model, x, batches=2, batch_size=6)
    np.testing.assert_allclose(statistics(norm)[0], x.mean((0, 1, 2)), rtol=0.02)


def test_a_model_without_moving_statistics_stays_as_it_is():
    model = keras.Sequential([keras.Input((4,)), kerasnorm.LayerNorm()])
    assert kerasnorm.reestimate(model, np.ones((8, 4), "float32")) == 0


@pytest.mark.parametrize(
    ("model", "data", "error", "message"),
    [
        ("resnet", None, TypeError, "Needed: a Keras model"),
        (keras.Sequential([kerasnorm.BatchNorm()]), None, ValueError, "is not built"),
        (
            keras.Sequential([keras.Input((4,)), kerasnorm.BatchNorm()]),
            iter([]),
            ValueError,
            "have no batch",
        ),
    ],
)
def test_what_is_refused(model, data, error, message):
    with pytest.raises(error, match=message):
        kerasnorm.reestimate(model, data)


@pytest.mark.parametrize("kind", ["batch", "mode", "conv", "keras"])
def test_after_few_steps_predictions_become_right(kind):
    labels = np.arange(96) % 3
    x = images(96, mean=0.0) * 0.1 + 20 + 5 * labels[:, None, None, None]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), NORMS[kind](), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"], run_eagerly=True)
    for start in range(12):
        model.train_on_batch(x[start % 3 * 32 :][:32], labels[start % 3 * 32 :][:32])

    def error():
        return np.mean(np.argmax(model.predict(x, verbose=0), -1) != labels)

    before = error()
    kerasnorm.reestimate(model, x)
    assert before > 0.6
    assert error() < 0.1
