"""Data of tensorflow_datasets."""

import dataclasses
import difflib

import numpy as np

from search.data.arrays import from_arrays
from search.errors import BadInput


def from_tfds(name, data_dir=None, image_size=None):
    """An image classification data set of tensorflow_datasets, in memory.

    Its own "train", "validation" and "test" are used where there are such; what is missing is
    split off from "train". Images of several sizes need `image_size`.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise BadInput(
            f"data 'tfds:{name}' needs tensorflow_datasets ({error}). Needed: "
            "pip install 'kerasnorm[datasets]'."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        near = difflib.get_close_matches(name, tfds.list_builders(), n=3)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise BadInput(f"data 'tfds:{name}' is unknown to tensorflow_datasets.{hint}") from error
    image, label = _features(name, builder.info, tfds)
    builder.download_and_prepare()
    found = {"train": "train", "val": "validation", "test": "test"}
    arrays = {}
    for part, split_name in found.items():
        if split_name in builder.info.splits:
            x, y = _read(builder, split_name, image, label, image_size, tfds)
            arrays[f"x_{part}"], arrays[f"y_{part}"] = x, y
    data = from_arrays(arrays, f"tfds:{name}")
    return dataclasses.replace(data, labels=tuple(builder.info.features[label].names))


def _features(name, info, tfds):
    """The names of the image and of the label."""
    keys = info.supervised_keys or ()
    images = [
        k for k in (*keys, *info.features) if isinstance(info.features[k], tfds.features.Image)
    ]
    labels = [
        k for k in (*keys, *info.features) if isinstance(info.features[k], tfds.features.ClassLabel)
    ]
    if not images or not labels:
        raise BadInput(
            f"data 'tfds:{name}' has the features {', '.join(info.features)}. Needed: an image and "
            "a class label."
        )
    if "train" not in info.splits and info.splits:
        raise BadInput(f"data 'tfds:{name}' has the splits {', '.join(info.splits)}, and no train.")
    return images[0], labels[0]


def _read(builder, split_name, image, label, image_size, tfds):
    """One split as arrays, in the order of its files."""
    examples = tfds.as_numpy(builder.as_dataset(split=split_name, shuffle_files=False))
    x, y = [], []
    for example in examples:
        picture = example[image]
        x.append(picture if image_size is None else _resized(picture, image_size))
        y.append(example[label])
    shapes = {picture.shape for picture in x}
    if len(shapes) > 1:
        raise BadInput(
            f"data 'tfds:{builder.name}': images of {len(shapes)} shapes, such as "
            f"{' and '.join(map(str, sorted(shapes)[:2]))}. Needed: image_size=(height, width)."
        )
    return np.stack(x), np.array(y)


def _resized(picture, size):
    """A picture of 0 to 255 in another size."""
    from PIL import Image

    channels = [
        np.asarray(Image.fromarray(picture[..., c]).resize(size[::-1], Image.Resampling.BILINEAR))
        for c in range(picture.shape[-1])
    ]
    return np.stack(channels, axis=-1)
