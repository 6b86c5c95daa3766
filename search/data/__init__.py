"""Data: named sets, arrays, and whatever tensorflow_datasets has, in three parts.

The validation part is what a search sees, the test part what its answer is measured on. Splits are
fixed: they depend on the data and not on the seed of a search. Keras is not needed here, so that
data are refused before it is imported.
"""

import pathlib
from typing import Any

from search.data import forms, nests, places
from search.data.arrays import from_arrays, named
from search.data.made import DOMAINS, diabetes, digits, multidomain
from search.data.parts import Data, Part, split
from search.data.pasted import edges2photos, shapes
from search.data.tfds import from_tfds
from search.data.tokens import reversal
from search.errors import BadInput, unknown
from search.names import DATA, TASKS

__all__ = [
    "DATA",
    "DOMAINS",
    "Data",
    "Part",
    "checked_augmentation",
    "diabetes",
    "digits",
    "edges2photos",
    "from_arrays",
    "from_tfds",
    "load",
    "multidomain",
    "reversal",
    "shapes",
    "split",
]

_MADE = {
    "digits": digits,
    "multidomain": multidomain,
    "diabetes": diabetes,
    "shapes": shapes,
    "edges2photos": edges2photos,
    "reversal": reversal,
}


def load(data, data_dir=None, image_size=None, task=None):
    """The data set that a word, a path or arrays stand for.

    Args:
        data: what names data, or data. Names are

            - `"digits"` or `"multidomain"` (classification), `"diabetes"` (regression),
              `"shapes"` (segmentation), `"edges2photos"` (images from images), `"reversal"`
              (tokens from tokens),
            - the path of an `.npz` file, or `"x.npy,y.npy"`,
            - the path of a folder of images. It has a folder for each class; or it has `train`,
              and `test` and `val` where there are some, in which these are,
            - `"FILE.py:FUNCTION"`: a function without arguments that returns data,
            - `"tfds:NAME"`: an image classification set of tensorflow_datasets, named as there.

            Data are

            - a `Data`,
            - arrays: a tuple `(x, y)`, `(x_train, y_train, x_test, y_test)`, or this with `x_val,
              y_val` in the middle; or a dictionary with these names, which `.npz` files use too,
            - batches of `(x, y)` as `fit` takes them: a `tf.data.Dataset`, `PyDataset`,
              `DataLoader` or generator. They are collected in memory,
            - a dictionary of batches or pairs for `train`, `test` and `validation`,
            - a function that returns any of these.

            Labels of a classification are integers from 0, texts, or one-hot rows; those of a
            segmentation are such integers for each pixel; those of a regression numbers. Tokens are
            integers for each position, in `x` and in `y`; 0 is padding, which counts nowhere.

            `x` of a model with several inputs is a dictionary or a list of arrays, `y` of one with
            several outputs too. Every array has the same examples along its first axis.
        data_dir: where tensorflow_datasets keeps its files.
        image_size: `(height, width)` to which images of tensorflow_datasets, or of a folder, are
            resized; those of a folder have the size of the first one otherwise.
        task: `"classification"`, `"regression"`, `"segmentation"`, `"tokens"`, or `"compiled"`:
            labels are numbers as the model's own loss takes them. None is what the labels look
            like: for each example a number with a fraction is a regression, an integer for each
            pixel a segmentation, labels of several outputs `"compiled"`, everything else a
            classification.

    Returns:
        A `Data`. Parts that are missing are split off; of a classification, with the classes in
        equal shares.

    Example:
        >>> from search.data import load
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.validation), len(digits.test), digits.input_shape
        (1151, 287, 359, (8, 8, 1))
    """
    if task is not None and task not in TASKS:
        raise unknown("task", task, TASKS)
    if isinstance(data, Data):
        if task not in (None, data.task):
            raise BadInput(
                f"task={task!r}, and the data {data.name!r} are for a {data.task}. Needed: that."
            )
        return data
    if isinstance(data, (tuple, list)):
        return from_arrays(named(data), task=task)
    if forms.are_parts(data):
        return forms.from_parts(data, task)
    if isinstance(data, dict):
        return from_arrays(data, task=task)
    if forms.are_batches(data):
        return from_arrays(named(forms.collected(data)), "batches", task)
    if callable(data):
        return load(data(), data_dir, image_size, task)
    if not isinstance(data, (str, pathlib.Path)):
        raise BadInput(f"data={data!r}. Needed: a name, a path, arrays, or a Data.")
    word = str(data)
    if word in _MADE:
        return load(_MADE[word](), task=task)
    if word.startswith("tfds:"):
        return load(from_tfds(word.removeprefix("tfds:"), data_dir, image_size), task=task)
    if places.is_file(word):
        arrays, name = places.read(word)
        return from_arrays(arrays, name, task)
    if places.is_function(word):
        return load(places.call(word), task=task)
    if places.is_folder(word):
        arrays = forms.of_folder(word, image_size)
        return load(from_arrays(arrays, pathlib.Path(word).name), task=task)
    raise unknown("data set", word, [*DATA, "tfds:NAME", *places.FORMS])


def checked_augmentation(data: Data, augmentation: Any):
    """An augmentation that fits the data, as `(pad, flip)`, or None.

    Args:
        data: what is augmented.
        augmentation: None or False; True (an eighth of the height, flipped); or `(pad, flip)`.
    """
    if augmentation in (None, False):
        return None
    if nests.are_several(data.train.x):
        raise BadInput(
            "augmentation changes images, and the data have several inputs. Needed: no "
            "augmentation; layers of the model can do it."
        )
    shape = data.input_shape
    if data.task != "classification":
        raise BadInput(
            f"augmentation changes images and not their labels, which a {data.task} needs. Needed: "
            "no augmentation."
        )
    if len(shape) != 3:
        raise BadInput(f"augmentation needs images, and the examples have shape {shape}.")
    if augmentation is True:
        return max(1, shape[0] // 8), True
    pad, flip = augmentation
    if not 0 <= pad < min(shape[:2]):
        raise BadInput(f"augmentation: pad={pad}. Needed: 0 to {min(shape[:2]) - 1}.")
    return int(pad), bool(flip)
