"""Data sets of tensorflow_datasets, by one that its own builder API writes here."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from search.data import load
from search.errors import BadInput


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Small pictures of two classes."""

    VERSION = tfds.core.Version("1.0.0")
    SIZES = ((6, 6),)

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["dark", "light"]),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples(40), "test": self._examples(10)}

    def _generate_examples(self, count):
        return self._examples(count)

    def _examples(self, count):
        for index in range(count):
            label = index % 2
            size = self.SIZES[index % len(self.SIZES)]
            image = np.full((*size, 3), 40 + 150 * label + index, "uint8")
            yield index, {"image": image, "label": label}


class UnevenShapes(TinyShapes):
    """Pictures of several sizes."""

    SIZES = ((6, 6), (8, 5))


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    # What tfds itself warns of is its own business.
    monkeypatch.setattr(sys, "warnoptions", [])


@pytest.mark.filterwarnings("ignore")
def test_it_is_downloaded_prepared_and_read(tmp_path):
    data = load("tfds:tiny_shapes", data_dir=tmp_path)
    assert data.classes == 2
    assert data.labels == ("dark", "light")
    assert data.input_shape == (6, 6, 3)
    assert [len(data.train), len(data.validation), len(data.test)] == [32, 8, 10]
    assert data.train.x.max() <= 1
    for part in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(part.x.mean((1, 2, 3)) > 0.5, part.y == 1)
    assert load("tfds:tiny_shapes", data_dir=tmp_path).fingerprint == data.fingerprint


@pytest.mark.filterwarnings("ignore")
def test_several_sizes_need_one(tmp_path):
    with pytest.raises(BadInput, match=r"images of 2 shapes.*image_size"):
        load("tfds:uneven_shapes", data_dir=tmp_path)
    data = load("tfds:uneven_shapes", data_dir=tmp_path, image_size=(7, 9))
    assert data.input_shape == (7, 9, 3)


@pytest.mark.filterwarnings("ignore")
def test_unknown_names(tmp_path):
    with pytest.raises(BadInput, match=r"unknown to tensorflow_datasets.*Near it: tiny_shapes"):
        load("tfds:tiny_shape", data_dir=tmp_path)
