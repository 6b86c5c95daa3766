"""Data that are not arrays yet: batches, parts, and folders of images."""

import pathlib

import numpy as np

from search.data import nests
from search.data.arrays import from_arrays
from search.errors import BadInput, one_line

# What parts may be called; the second name is that of the arrays.
PARTS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def are_parts(data):
    """Whether data are a dictionary of parts."""
    return isinstance(data, dict) and bool(data) and set(data) <= set(PARTS)


def are_batches(data):
    """Whether data are batches, as `fit` takes them."""
    if isinstance(data, (str, pathlib.Path, dict, list, tuple, type)) or hasattr(data, "shape"):
        return False
    return hasattr(data, "__iter__") or hasattr(data, "__getitem__")


def from_parts(parts, task=None):
    """A `Data` of parts by their names: each is batches, or a pair of `x` and `y`."""
    arrays = {}
    for name, part in parts.items():
        own = PARTS[name]
        if f"x_{own}" in arrays:
            raise BadInput("data: validation and val are the same part. Needed: one of them.")
        arrays[f"x_{own}"], arrays[f"y_{own}"] = _pair(name, part)
    return from_arrays(arrays, task=task)


def _pair(name, part):
    """The examples and the labels of a part."""
    if isinstance(part, (tuple, list)) and len(part) == 2:
        return part
    if not are_batches(part):
        raise BadInput(
            f"data: the part {name} is a {type(part).__name__}. Needed: batches as `fit` takes "
            "them, or a pair of arrays."
        )
    return collected(part)


def collected(batches):
    """All examples and labels of batches, as two arrays or nests of arrays.

    Args:
        batches: a `keras.utils.PyDataset`, `tf.data.Dataset`, `DataLoader`, or generator, of
            `(x, y)`.
    """
    from kerasnorm.batches import as_arrays, each_weighted_batch

    _refuse_endless(batches)
    found = []
    for *batch, weights in each_weighted_batch(batches):
        x, y = (nests.normal(as_arrays(part)) for part in batch)
        if weights is not None:
            raise BadInput(
                "data: batches of three parts, of which the third weighs examples. Needed: batches "
                "of (x, y); several inputs are a list or a dictionary, x."
            )
        if y is None:
            raise BadInput("data: the batches have no labels. Needed: batches of (x, y).")
        found.append((x, y))
    if not found:
        raise BadInput("data: there are no batches. Needed: some; a generator can be used once.")
    try:
        return nests.joined(found)
    except ValueError as error:
        raise BadInput(f"data: batches differ in shape ({error}). Needed: one shape.") from error


def _refuse_endless(batches):
    """Refuse what says that it has no end."""
    cardinality = getattr(batches, "cardinality", None)
    endless = cardinality is not None and int(cardinality()) == -1
    if endless or getattr(batches, "num_batches", 0) is None:
        raise BadInput("data: the batches have no end. Needed: so many, as dataset.take(100).")


def of_folder(folder, image_size=None):
    """The arrays of a folder of images: `CLASS/...`, or `train/CLASS/...` with `test`, `val`.

    Args:
        folder: where they lie.
        image_size: `(height, width)` that they are resized to; None is that of the first image.
    """
    folder = pathlib.Path(folder)
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
    parts = [name for name in inside if name in PARTS]
    if parts and (len(parts) < len(inside) or "train" not in parts):
        raise BadInput(
            f"data: {folder} has the folders {', '.join(inside)}. Needed: a folder for each class; "
            "or train, with test and val or without, and in these a folder for each class."
        )
    arrays: dict[str, np.ndarray] = {}
    shape = image_size
    color = None
    for name, own in [(name, PARTS[name]) for name in parts] or [(".", "train")]:
        paths = [
            (path, one.name)
            for one in sorted((folder / name).iterdir())
            if one.is_dir()
            for path in sorted(one.iterdir())
            if path.suffix.lower() in IMAGES
        ]
        if not paths:
            raise BadInput(
                f"data: {folder / name} has no images in folders. Needed: a folder for each class, "
                f"with {', '.join(IMAGES)} files."
            )
        if shape is None or color is None:
            size, mode = _first(paths[0][0])
            shape, color = shape or size, "grayscale" if mode in ("1", "L") else "rgb"
        arrays[f"x_{own}"] = np.stack([_image(path, shape, color) for path, _ in paths])
        arrays[f"y_{own}"] = np.array([label for _, label in paths])
    return arrays


def _first(path):
    """Height and width, and the mode, of an image."""
    from PIL import Image

    with Image.open(path) as image:
        return (image.height, image.width), image.mode


def _image(path, size, color):
    """An image as bytes, resized."""
    import keras

    try:
        image = keras.utils.load_img(
            path, color_mode=color, target_size=size, interpolation="bilinear"
        )
    except OSError as error:
        raise BadInput(f"data: {path} cannot be read as an image: {one_line(error)}.") from error
    return np.round(keras.utils.img_to_array(image, data_format="channels_last")).astype("uint8")
