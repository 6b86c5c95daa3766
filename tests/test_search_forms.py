"""Data of a search in all their forms: each gives the same arrays, on each backend."""

import keras
import numpy as np
import pytest

from search import data as datasets
from search.errors import BadInput
from small_search import arrays, build, short_search

X, Y = arrays(60)


class Batches(keras.utils.PyDataset):
    def __init__(self, x=X, y=Y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.y) // 16)

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * (index + 1))
        return self.x[rows], self.y[rows]


class Endless(Batches):
    @property
    def num_batches(self):
        return None


def forms():
    import tensorflow as tf
    import torch

    pairs = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return {
        "tf.data": tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
        "PyDataset": Batches(),
        "DataLoader": torch.utils.data.DataLoader(pairs, batch_size=16),
        "generator": (Batches()[i] for i in range(4)),
        "factory": lambda: (Batches()[i] for i in range(4)),
        "a function that returns arrays": lambda: (X, Y),
    }


def test_every_form_gives_the_same_parts():
    wanted = datasets.load((X, Y))
    for name, form in forms().items():
        found = datasets.load(form)
        assert found.fingerprint == wanted.fingerprint, name
        assert found.described()["shapes"] == wanted.described()["shapes"], name


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_parts_may_be_of_several_forms(validation):
    found = datasets.load({"train": Batches(), "test": (X[:9], Y[:9]), validation: Batches()})
    assert [len(part) for part in (found.train, found.validation, found.test)] == [60, 60, 9]
    split_off = datasets.load({"train": Batches(), "test": (X[:9], Y[:9])})
    assert [len(part) for part in (split_off.train, split_off.validation)] == [48, 12]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Endless(), r"no end\. Needed: so many"),
        ([], "0 arrays"),
        (iter(()), "there are no batches"),
        (iter([X]), "no labels"),
        (iter([(X, Y), (X[:, :4], Y)]), "differ in shape"),
        ({"train": Batches(), "val": Batches(), "validation": Batches()}, "the same part"),
        ({"train": 3}, "the part train is a int"),
    ],
)
def test_what_is_refused(data, message):
    with pytest.raises(BadInput, match=message):
        datasets.load(data)


def test_tf_data_without_an_end_is_refused():
    (endless, *_) = forms().values()
    with pytest.raises(BadInput, match="no end"):
        datasets.load(endless.repeat())


def test_a_search_of_batches(tmp_path):
    found = short_search(tmp_path / "a", data=Batches, norms="batch,layer", trials=1, seeds=0)
    assert [row["status"] for row in found.rows] == ["completed"]
    same = short_search(tmp_path / "b", build, norms="batch,layer", trials=1, seeds=0)
    assert found.rows[0]["score"] == pytest.approx(same.rows[0]["score"])


def test_folders_of_images(tmp_path):
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (10, 12, 3))
                keras.utils.save_img(folder / f"{number}.png", pixels, scale=False)
    found = datasets.load(str(tmp_path / "images"))
    assert found.train.x.shape[1:] == (10, 12, 3)
    assert found.labels == ("cat", "dog")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [10, 2, 4]
    np.testing.assert_allclose(255 * found.test.x[-1], pixels, atol=0.01)
    without = datasets.load(str(tmp_path / "images" / "train"), image_size=(8, 8))
    assert without.train.x.shape[1:] == (8, 8, 3)
    with pytest.raises(BadInput, match=r"has no images in folders"):
        datasets.load(str(tmp_path / "images" / "train" / "cat"))
    (tmp_path / "images" / "train" / "cat" / "0.png").write_text("no image")
    with pytest.raises(BadInput, match=r"0\.png cannot be read as an image"):
        datasets.load(str(tmp_path / "images"))


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    wanted = datasets.load((X, Y)).fingerprint
    assert datasets.load("x.npy,y.npy").fingerprint == wanted
    (tmp_path / "own_batches.py").write_text(
        "import numpy as np\n\ndef load():\n    yield np.load('x.npy'), np.load('y.npy')\n"
    )
    assert datasets.load("own_batches.py:load").fingerprint == wanted
