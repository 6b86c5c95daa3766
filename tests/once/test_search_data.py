"""Data: fixed parts, real pixels, sources kept apart, arrays refused in clear words."""

import keras
import numpy as np
import pytest

from search.batches import Batches, augmented
from search.data import checked_augmentation, from_arrays, load, multidomain
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


def test_labels_are_numbers_texts_or_one_hot_rows(tmp_path):
    x, y = np.zeros((60, 2), "float32"), np.arange(60) % 3
    truth = from_arrays({"x": x, "y": y})
    words = np.array(["ape", "bee", "cat"])
    for labels in (y.astype(float), y[:, None], np.eye(3)[y], y.astype(object)):
        assert from_arrays({"x": x, "y": labels}).fingerprint == truth.fingerprint
    for labels in (words[y], words[y].astype("S"), words[y].astype(object), list(words[y])):
        data = from_arrays({"x": x, "y": labels})
        assert data.fingerprint == truth.fingerprint
        assert data.labels == ("ape", "bee", "cat")
    np.savez(tmp_path / "words.npz", x=x, y=words[y])
    assert load(str(tmp_path / "words.npz")).fingerprint == truth.fingerprint
    assert from_arrays({"x": x, "y": y == 1}).classes == 2
    objects = np.empty(60, object)
    objects[:] = list(x)
    assert from_arrays({"x": objects, "y": y}).fingerprint == truth.fingerprint


Y = np.arange(9) % 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((9, 2)), "y": Y + 1}, r"labels are 1, 2, 3\. .*return_inverse"),
        ({"x": np.zeros((9, 2)), "y": np.arange(9)}, "9 different labels.*--task regression"),
        ({"x": np.zeros((9, 2, 2, 1)), "y": np.zeros((9, 3), int)}, "several classes or none"),
        ({"x": np.zeros((9, 2, 2, 1)), "y": np.ones((9, 3, 2), int)}, "one label per example"),
        ({"x": np.zeros((9, 2)), "y": np.ones((9, 3), int)}, "several classes or none"),
        ({"x": np.zeros((9, 2)), "y": [None] * 9}, "objects of the types NoneType"),
        ({"x": np.zeros((9, 2)), "y": np.array(["a", 1, 2] * 3, object)}, "types int, str"),
        ({"x": [[1, 2], [3]], "y": [0, 1]}, "objects of several shapes|types list"),
        ({"x": np.zeros((9, 2)), "y": np.arange(8) % 2}, "as many labels"),
        ({"x": np.zeros(9), "y": Y}, "examples along the first axis"),
        ({"x": np.full((9, 2), np.nan), "y": Y}, "NaN"),
        ({"x": np.zeros((9, 2)), "y": np.zeros(9, int)}, "one class only"),
        ({"x": np.array([["a"]] * 3), "y": np.arange(3)}, "dtype <U1"),
        ({"x": np.zeros((9, 2)), "z": np.zeros(9)}, "an array is called 'z'"),
        ({"y_test": np.zeros(9), "x": np.zeros((9, 2)), "y": Y}, "only one of"),
        (
            {
                "x_train": np.zeros((9, 2)),
                "y_train": Y,
                "x_test": np.zeros((4, 2)),
                "y_test": np.arange(4),
            },
            "label 3, and the training part does not",
        ),
        (
            {
                "x_train": np.zeros((9, 2)),
                "y_train": np.array(["a", "b", "c"])[Y],
                "x_test": np.zeros((1, 2)),
                "y_test": ["d"],
            },
            r"label d, .*\(a, b, c\)",
        ),
        (
            {
                "x_train": np.zeros((9, 2)),
                "y_train": Y,
                "x_test": np.zeros((1, 2)),
                "y_test": ["d"],
            },
            "one kind",
        ),
    ],
)
def test_what_is_refused(arrays, message):
    with pytest.raises(BadInput, match=message):
        from_arrays(arrays)


IMAGES, PIXELS = np.zeros((50, 4, 4, 1)), np.arange(800).reshape(50, 4, 4) % 3


@pytest.mark.parametrize(
    ("y", "asked", "task", "output_shape", "dtype"),
    [
        (np.arange(50) / 7, None, "regression", (1,), "float32"),
        (np.arange(50), "regression", "regression", (1,), "float32"),
        (np.arange(150).reshape(50, 3) / 7, None, "regression", (3,), "float32"),
        (np.full((50, 8, 8, 3), 255, np.uint8), "regression", "regression", (8, 8, 3), "float32"),
        (PIXELS, None, "segmentation", (4, 4, 3), "int32"),
        (PIXELS[..., None].astype(float), None, "segmentation", (4, 4, 3), "int32"),
        (PIXELS > 0, "segmentation", "segmentation", (4, 4, 2), "int32"),
        (np.eye(50), "compiled", "compiled", (50,), "float32"),
        (np.arange(50) % 2, None, "classification", (2,), "int32"),
    ],
)
def test_the_task_is_what_the_labels_look_like(y, asked, task, output_shape, dtype):
    data = load((IMAGES, y), task=asked)
    assert (data.task, data.output_shape, data.train.y.dtype) == (task, output_shape, dtype)
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 8, 10)
    together = np.concatenate([data.train.y, data.validation.y, data.test.y])
    scale = 255 if y.dtype == np.uint8 else 1
    given = np.sort(y.astype(float).ravel()) / scale
    np.testing.assert_allclose(np.sort(together.ravel()), given, rtol=1e-6)
    described = data.described()
    assert ("task" in described) == (task != "classification")


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (np.arange(50), "segmentation", r"shape \(50,\).*for each pixel"),
        (PIXELS - 1, "segmentation", "holds -1, which is not a class"),
        (PIXELS / 2, "segmentation", "holds 0.5, which is not a class"),
        (PIXELS * 0, "segmentation", "one class only"),
        (PIXELS[:9], "segmentation", "as many labels"),
        (np.array(["a"] * 50), "regression", "dtype <U1. Needed: numbers"),
        (np.full(50, np.inf), "regression", "NaN or infinite"),
        (np.arange(50) / 7, "classification", "not a class"),
        (np.arange(50) / 7, "ranking", "task 'ranking' is unknown"),
        (np.array(["a"] * 50), "compiled", "Needed: numbers"),
    ],
)
def test_labels_of_another_task_are_refused(y, task, message):
    with pytest.raises(BadInput, match=message):
        load((IMAGES, y), task=task)


TOKENS = np.arange(1, 251).reshape(50, 5) % 7


def test_tokens_are_integers_for_each_position():
    for x, y in ((TOKENS, TOKENS), (TOKENS.astype(float), TOKENS.astype(np.uint8))):
        data = load((x, y), task="tokens")
        assert (data.task, data.input_shape, data.output_shape) == ("tokens", (5,), (5, 7))
        assert data.train.x.dtype == data.train.y.dtype == "int32"
        assert (len(data.train), len(data.validation), len(data.test)) == (32, 8, 10)
        np.testing.assert_array_equal(data.train.x, data.train.y)
    # Pixels from 0 to 255 become shares; tokens do not.
    assert load((TOKENS.astype(np.uint8), TOKENS), task="tokens").train.x.max() == 6


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (TOKENS, TOKENS[:, 0], r"y_train has shape \(50,\).*for each position"),
        (TOKENS, TOKENS - 1, "y_train holds -1, which is not a token"),
        (TOKENS / 2, TOKENS, "x_train holds 0.5, which is not a token"),
        (TOKENS, TOKENS * (np.arange(50) > 3)[:, None], "an example of padding alone"),
        (TOKENS * (np.arange(50) > 3)[:, None], TOKENS, "an example of padding alone"),
        (IMAGES, TOKENS, "x_train has shape"),
    ],
)
def test_what_is_no_token_is_refused(x, y, message):
    with pytest.raises(BadInput, match=message):
        load((x, y), task="tokens")


def test_parts_must_agree_in_their_labels():
    with pytest.raises(BadInput, match="labels of the parts differ in shape"):
        load({"train": (IMAGES, PIXELS / 7), "test": (IMAGES, PIXELS[:, :3] / 7)})
    with pytest.raises(BadInput, match="label 3, and the training part does not"):
        load({"train": (IMAGES, PIXELS), "test": (IMAGES, PIXELS + 1)})


def test_a_set_knows_its_task():
    shapes = load("shapes")
    assert load(shapes, task="segmentation") is shapes
    with pytest.raises(BadInput, match="are for a segmentation"):
        load("shapes", task="regression")
    with pytest.raises(BadInput, match="which a segmentation needs"):
        checked_augmentation(shapes, True)
    diabetes = load("diabetes")
    assert abs(diabetes.train.y.mean()) < 1e-6
    assert abs(diabetes.train.y.std() - 1) < 1e-6


def test_the_parts_of_shapes_have_no_pixel_in_common():
    pieces = [
        {row.tobytes() for picture in part.x for row in picture[:, :8]}
        for part in (load("shapes").train, load("shapes").test)
    ]
    # Of hundreds of rows that are one colour, such as the sky.
    assert len(pieces[0] & pieces[1]) < len(pieces[1]) / 100


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((9, 2)), y=np.array(["a"] * 9, object))
    with pytest.raises(BadInput, match="Python objects"):
        load(path)
    np.savez(path, x=np.arange(900.0).reshape(9, 100), y=Y)
    whole = path.read_bytes()
    for content, message in (
        (b"text", "is not an .npz file"),
        (b"", "is not an .npz file"),
        (whole[: len(whole) // 2], "is not an .npz file"),
        (whole[:200] + bytes(200) + whole[400:], "cannot be read: "),
    ):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=message):
            load(path)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(BadInput, match="cannot be read: "):
        load(tmp_path / "folder.npz")


def test_npy_files_are_the_arrays_that_they_hold(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    pair = f"{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}"
    data = load(pair)
    assert data.name == "x.npy,y.npy"
    assert data.fingerprint == load((x, y)).fingerprint
    four = load(f"{pair},{pair}")
    assert four.fingerprint == load((x, y, x, y)).fingerprint
    with pytest.raises(BadInput, match=r"is one array\. Needed: examples and labels"):
        load(tmp_path / "x.npy")
    with pytest.raises(BadInput, match=r"3 arrays\. Needed: 2"):
        load(f"{pair},{tmp_path / 'x.npy'}")
    with pytest.raises(BadInput, match="no such file"):
        load(f"{tmp_path / 'x.npy'},{tmp_path / 'none.npy'}")
    (tmp_path / "y.npy").write_text("text")
    with pytest.raises(BadInput, match=r"y.npy' "):
        load(pair)


def test_a_function_returns_data(tmp_path):
    place = tmp_path / "own_data_of_test.py"
    place.write_text(
        "import numpy as np\n"
        "def load():\n    return np.ones((60, 5)), np.arange(60) % 3\n"
        "def nothing():\n    pass\n"
        "def broken():\n    raise OSError('no cable')\n"
    )
    truth = load((np.ones((60, 5)), np.arange(60) % 3))
    assert load(f"{place}:load").fingerprint == truth.fingerprint
    for name, message in (
        ("nothing", "returned None. Needed: arrays"),
        ("broken", "OSError: no cable"),
        ("loaded", "has no function 'loaded'"),
    ):
        with pytest.raises(BadInput, match=message):
            load(f"{place}:{name}")
    with pytest.raises(BadInput, match="there is no file"):
        load(f"{tmp_path / 'none.py'}:load")


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


@pytest.mark.parametrize("task", ["segmentation", "tokens"])
def test_classes_are_counted_by_the_training_part(task):
    shape = (4, 2, 2) if task == "segmentation" else (4, 2)
    x = np.ones((*shape, 1) if task == "segmentation" else shape, "int32")
    y = np.ones(shape, "int32")
    y[0] = 6
    arrays = {"x_train": x, "y_train": y, "x_val": x, "y_val": y, "x_test": x, "y_test": y}
    assert from_arrays(arrays, task=task).classes == 7
    with pytest.raises(BadInput, match="y_test has the label 7"):
        from_arrays(arrays | {"y_test": y + 1}, task=task)
