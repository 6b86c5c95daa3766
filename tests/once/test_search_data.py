"""Data: fixed parts, real pixels, sources kept apart, arrays refused in clear words."""

import keras
import numpy as np
import pytest

from search.data import Batches, augmented, checked_augmentation, from_arrays, load, multidomain
from search.errors import BadInput


def test_digits():
    digits = load("digits")
    assert digits.classes == 10
    assert (digits.train.x.min(), digits.train.x.max()) == (0, 1)
    assert digits.fingerprint == load("digits").fingerprint
    for part in (digits.train, digits.validation, digits.test):
        counts = np.bincount(part.y)
        assert counts.max() < 1.2 * counts.min()


def test_multidomain_keeps_sources_apart():
    data = multidomain()
    assert data.classes == 40
    assert len(set(data.domains)) == 4
    assert sum(map(len, (data.train, data.validation, data.test))) >= 10_000
    train, validation, test = map(set, data.sources)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train | validation | test) == 1797


def test_multidomain_is_the_same_each_time():
    first = multidomain()
    multidomain.cache_clear()
    assert multidomain().fingerprint == first.fingerprint


def test_domains_differ():
    part = multidomain().train
    domains = [part.x[part.y // 10 == domain] for domain in range(4)]
    plain, inverted, photograph, textured = domains
    assert plain.mean() < 0.5 < inverted.mean()
    colour = [float(np.abs(x[..., 0] - x[..., 2]).mean()) for x in domains]
    assert colour[0] == colour[1] == 0
    assert min(colour[2:]) > 0.02
    assert all(x.min() >= 0 and x.max() <= 1 for x in domains)
    assert len(photograph) == len(textured)


def test_arrays_and_files_are_the_same(tmp_path):
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (60, 4, 4, 3), "uint8"), np.arange(60) % 3
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = load(str(tmp_path / "data.npz"))
    assert data.fingerprint == load((x, y)).fingerprint
    assert data.train.x.max() <= 1
    assert [len(data.train), len(data.validation), len(data.test)] == [39, 9, 12]
    given = load({"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]})
    assert len(given.test) == 9


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((9, 2, 2, 1)), "y": np.arange(9) % 3 + 1}, "labels are 1, 2, 3"),
        ({"x": np.zeros((9, 2, 2, 1)), "y": np.arange(9) / 2}, "integer label"),
        ({"x": np.zeros((9, 2, 2, 1)), "y": np.arange(8) % 2}, "as many as labels"),
        ({"x": np.full((9, 2), np.nan), "y": np.arange(9) % 3}, "NaN"),
        ({"x": np.zeros((9, 2)), "y": np.zeros(9, int)}, "one class only"),
        ({"x": np.array([["a"]] * 3), "y": np.arange(3)}, "dtype <U1"),
        ({"x": np.zeros((9, 2)), "z": np.zeros(9)}, "an array is called 'z'"),
        ({"y_test": np.zeros(9), "x": np.zeros((9, 2)), "y": np.arange(9) % 3}, "only one of"),
        (
            {
                "x_train": np.zeros((9, 2)),
                "y_train": np.arange(9) % 3,
                "x_test": np.zeros((4, 2)),
                "y_test": np.arange(4),
            },
            "label 3, which the training part has not",
        ),
    ],
)
def test_what_is_refused(arrays, message):
    with pytest.raises(BadInput, match=message):
        from_arrays(arrays)


def test_unknown_names(tmp_path):
    with pytest.raises(BadInput, match=r"data set 'digit' is unknown. Near it: digits"):
        load("digit")
    with pytest.raises(BadInput, match="no such file"):
        load(str(tmp_path / "none.npz"))


def test_the_order_depends_on_seed_and_epoch_alone():
    part = load("digits").train
    one, other = (Batches(part, 50, seed=3) for _ in range(2))
    # In whichever order they are taken.
    taken = {index: one[index][1] for index in reversed(range(len(one)))}
    for index in range(len(other)):
        np.testing.assert_array_equal(other[index][1], taken[index])
    other.on_epoch_end()
    assert not np.array_equal(other[0][1], taken[0])
    later = Batches(part, 50, seed=3, epoch=1)
    np.testing.assert_array_equal(later[0][0], other[0][0])
    assert isinstance(one, keras.utils.PyDataset)


def test_augmentation_shifts_and_flips_each_image_by_itself():
    image = np.arange(36, dtype="float32").reshape(6, 6)[None, ..., None] + 1
    x = np.repeat(image, 200, axis=0)
    y = augmented(x, 1, True, np.random.default_rng(0))
    assert y.shape == x.shape
    padded = np.pad(image[0, ..., 0], 1)
    crops = {
        crop.tobytes()
        for top in range(3)
        for left in range(3)
        for crop in (
            np.ascontiguousarray(padded[top : top + 6, left : left + 6]),
            np.ascontiguousarray(padded[top : top + 6, left : left + 6][:, ::-1]),
        )
    }
    assert {np.ascontiguousarray(one[..., 0]).tobytes() for one in y} == crops


def test_augmentation_needs_images():
    data = from_arrays({"x": np.zeros((12, 5)), "y": np.arange(12) % 2})
    with pytest.raises(BadInput, match="augmentation needs images"):
        checked_augmentation(data, True)
    assert checked_augmentation(load("digits"), True) == (1, True)
    with pytest.raises(BadInput, match="pad=9"):
        checked_augmentation(load("digits"), (9, False))
