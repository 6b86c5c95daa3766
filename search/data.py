"""Data: named sets, arrays, and whatever tensorflow_datasets has, in three parts.

The validation part is what a search sees, the test part what its answer is measured on. Splits are
fixed: they depend on the data and not on the seed of a search.
"""

import dataclasses
import difflib
import functools
import hashlib
import math
import pathlib
from typing import Any

import keras
import numpy as np

from search.errors import BadInput, unknown

NAMES = ("digits", "multidomain")
# For what comes in fewer parts: of the whole, and of what is left.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.2
DOMAINS = ("plain", "inverted", "photograph", "textured")
# Pictures of each digit in each domain, and their side.
VARIANTS, SIDE = 2, 16


@dataclasses.dataclass(frozen=True)
class Part:
    """Examples: `x` of `(count, height, width, channels)` or another shape, `y` integers."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self):
        return len(self.y)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set for classification.

    Attributes:
        name: what it was asked for by.
        train, validation, test: its parts.
        classes: how many.
        labels: what the classes are called; empty if they have no names.
        domains: for each class, the domain that it belongs to; empty without domains.
        sources: for each part, the number of the image that each example was made from.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int
    labels: tuple = ()
    domains: tuple = ()
    sources: tuple = ()

    @property
    def input_shape(self):
        """The shape of an example."""
        return self.train.x.shape[1:]

    @functools.cached_property
    def fingerprint(self):
        """A text that is another one as soon as a single number is."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for array in (part.x, part.y):
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def described(self):
        """What a manifest says of it."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "shapes": {name: list(part.x.shape) for name, part in parts.items()},
            "classes": self.classes,
        }


def load(data, data_dir=None, image_size=None):
    """The data set that a word, a path or arrays stand for.

    Args:
        data: `"digits"` or `"multidomain"`; a path of an `.npz` file; `"tfds:NAME"` (any image
            classification data set of tensorflow_datasets, `NAME/CONFIG:VERSION` as there); a
            `Data`; or a dictionary, or a tuple, of arrays: `x, y`, or `x_train, y_train, x_test,
            y_test`, or those with `x_val, y_val` between. In an `.npz` file they have these names.
        data_dir: where tensorflow_datasets keeps its files.
        image_size: `(height, width)` to which images of tensorflow_datasets are resized.

    Returns:
        A `Data`. Parts that are missing are split off, with the classes in equal shares.

    Example:
        >>> from search.data import load
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.validation), len(digits.test), digits.input_shape
        (1151, 287, 359, (8, 8, 1))
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, (tuple, list)):
        return from_arrays(_named(data))
    if isinstance(data, dict):
        return from_arrays(data)
    if not isinstance(data, (str, pathlib.Path)):
        raise BadInput(f"data={data!r}. Needed: a name, a path, arrays, or a Data.")
    word = str(data)
    if word == "digits":
        return digits()
    if word == "multidomain":
        return multidomain()
    if word.startswith("tfds:"):
        return from_tfds(word.removeprefix("tfds:"), data_dir, image_size)
    if word.endswith(".npz"):
        path = pathlib.Path(word)
        if not path.exists():
            raise BadInput(f"data={word!r}: there is no such file.")
        with np.load(path, allow_pickle=False) as arrays:
            return from_arrays(dict(arrays), path.name)
    raise unknown("data set", word, [*NAMES, "tfds:NAME", "FILE.npz"])


# Arrays.


def _named(arrays):
    """Names for arrays by their number."""
    names = {
        2: ("x", "y"),
        4: ("x_train", "y_train", "x_test", "y_test"),
        6: ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
    }.get(len(arrays))
    if names is None:
        raise BadInput(f"data: {len(arrays)} arrays. Needed: 2 (x, y), 4 or 6 (see load).")
    return dict(zip(names, arrays, strict=True))


def from_arrays(arrays, name="arrays"):
    """A `Data` of arrays by their names; see `load`.

    >>> import numpy as np
    >>> from search.data import from_arrays
    >>> x, y = np.zeros((50, 4, 4, 1)), np.arange(50) % 5
    >>> data = from_arrays({"x": x, "y": y})
    >>> data.classes, len(data.train), len(data.test)
    (5, 30, 10)
    """
    known = ("x", "y", "x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
    for key in arrays:
        if key not in known:
            raise BadInput(f"data: an array is called {key!r}. Needed: some of {', '.join(known)}.")
    if "x" in arrays:
        arrays = {"x_train": arrays["x"], **{k: v for k, v in arrays.items() if k != "x"}}
        arrays["y_train"] = arrays.pop("y", None)
    parts = {}
    for part in ("train", "val", "test"):
        x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
        if (x is None) != (y is None):
            raise BadInput(f"data: only one of x_{part} and y_{part} is there. Needed: both.")
        if x is not None:
            parts[part] = _checked(part, x, y)
    if "train" not in parts:
        raise BadInput("data: there is no training part. Needed: x and y, or x_train and y_train.")
    classes = _classes_of(parts)
    shapes = {part: examples.x.shape[1:] for part, examples in parts.items()}
    if len(set(shapes.values())) > 1:
        raise BadInput(f"data: the parts have other shapes ({shapes}). Needed: one shape.")
    if "test" not in parts:
        parts["train"], parts["test"] = split(parts["train"], TEST_SHARE)
    if "val" not in parts:
        parts["train"], parts["val"] = split(parts["train"], VALIDATION_SHARE)
    return Data(name, parts["train"], parts["val"], parts["test"], classes)


def _checked(part, x, y):
    """Arrays as they are needed, or an error that says what is wrong with them."""
    x, y = np.asarray(x), np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iuf" or not np.array_equal(y, np.round(y)):
        raise BadInput(
            f"data: y_{part} has shape {y.shape} and dtype {y.dtype}. Needed: one integer label "
            "per example."
        )
    if len(x) != len(y) or x.ndim < 2:
        raise BadInput(
            f"data: x_{part} has shape {x.shape}, y_{part} {y.shape}. Needed: examples along the "
            "first axis, as many as labels."
        )
    if not len(y):
        raise BadInput(f"data: the part {part} has no examples.")
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise BadInput(f"data: x_{part} has dtype {x.dtype}. Needed: numbers.")
    if x.ndim == 3:
        x = x[..., None]
    if x.dtype == np.uint8:
        x = x.astype("float32") / 255
    x = np.ascontiguousarray(x, dtype="float32")
    if not np.isfinite(x).all():
        raise BadInput(f"data: x_{part} holds NaN or infinite values. Needed: finite numbers.")
    return Part(x, y.astype("int32"))


def _classes_of(parts):
    """The number of classes, if the labels of all parts are 0 .. classes - 1."""
    known = np.unique(parts["train"].y)
    if known[0] != 0 or known[-1] != len(known) - 1:
        shown = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
        raise BadInput(
            f"data: the training labels are {shown}. Needed: 0 to classes - 1, each at least once."
        )
    for part, examples in parts.items():
        strange = np.setdiff1d(examples.y, known)
        if len(strange):
            raise BadInput(
                f"data: y_{part} has the label {strange[0]}, which the training part has not. "
                f"Needed: labels from 0 to {len(known) - 1}."
            )
    if len(known) < 2:
        raise BadInput("data: there is one class only. Needed: at least two.")
    return len(known)


def split(part, share, seed=0):
    """Split off a share of each class.

    Returns:
        What is left, and what was split off. The order within a part stays.
    """
    off = np.zeros(len(part), bool)
    generator = np.random.default_rng(seed)
    for label in np.unique(part.y):
        places = np.flatnonzero(part.y == label)
        off[generator.permutation(places)[: max(1, round(share * len(places)))]] = True
    if off.all():
        raise BadInput(
            f"data: {len(part)} examples are too few to be split. Needed: at least two of a class."
        )
    return Part(part.x[~off], part.y[~off]), Part(part.x[off], part.y[off])


# Digits, and many domains made of them.


def _digit_images():
    """The 1,797 digits of scikit-learn, from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    return (raw.images / 16).astype("float32"), raw.target.astype("int32")


@functools.cache
def digits():
    """Scikit-learn's digits: 8x8 pixels, 10 classes, 1,797 examples."""
    images, labels = _digit_images()
    names = tuple(str(n) for n in range(10))
    return dataclasses.replace(
        from_arrays({"x": images[..., None], "y": labels}, "digits"), labels=names
    )


@functools.cache
def multidomain():
    """Four domains of ten classes each, made of real pixels: 40 classes of 16x16 in colour.

    Each of scikit-learn's 1,797 digits appears twice in each domain, shifted at random: plain;
    inverted; its strokes inverting a patch of a photograph (china.jpg, flower.jpg); and turned,
    sheared, cut out of one photograph and laid on the other. That is 14,376 examples. Digits are
    split first, and so are the photographs, each into strips: no source is in two parts.

    >>> from search.data import multidomain
    >>> data = multidomain()
    >>> data.classes, sum(map(len, (data.train, data.validation, data.test)))
    (40, 14376)
    """
    from sklearn.datasets import load_sample_images

    images, labels = _digit_images()
    photographs = [image.astype("float32") / 255 for image in load_sample_images().images]
    numbers = np.arange(len(labels))
    rest, test = split(Part(numbers, labels), TEST_SHARE)
    train, validation = split(rest, VALIDATION_SHARE)
    parts, sources = [], []
    # Shares of the photographs' height for each part.
    strips = ((0.0, 0.6), (0.6, 0.8), (0.8, 1.0))
    for index, (part, (top, bottom)) in enumerate(
        zip((train, validation, test), strips, strict=True)
    ):
        generator = np.random.default_rng([2019, index])
        cut = [p[round(top * len(p)) : round(bottom * len(p))] for p in photographs]
        x, y, source = [], [], []
        for number, label in zip(part.x, part.y, strict=True):
            for domain, draw in enumerate((_plain, _inverted, _photograph, _textured)):
                for _ in range(VARIANTS):
                    x.append(draw(images[number], cut, generator))
                    y.append(10 * domain + label)
                    source.append(number)
        parts.append(Part(np.stack(x).astype("float32"), np.array(y, "int32")))
        sources.append(np.array(source))
    names = tuple(f"{domain} {digit}" for domain in DOMAINS for digit in range(10))
    domains = tuple(domain for domain in DOMAINS for _ in range(10))
    train, validation, test = parts
    return Data("multidomain", train, validation, test, 40, names, domains, tuple(sources))


def _placed(digit, generator, angle=0.0, shear=0.0):
    """A digit of 8x8 enlarged to 12x12, turned, sheared and put somewhere on 16x16."""
    from scipy import ndimage

    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[1.0, shear], [0.0, 1.0]]) * (8 / 12)
    middle = (SIDE - 1) / 2 + generator.uniform(-1.5, 1.5, 2)
    offset = np.array([3.5, 3.5]) - matrix @ middle
    return ndimage.affine_transform(digit, matrix, offset, (SIDE, SIDE), order=1)


def _patch(photographs, generator, which=None):
    """A piece of a photograph, 16x16."""
    photograph = photographs[generator.integers(len(photographs)) if which is None else which]
    top = generator.integers(photograph.shape[0] - SIDE + 1)
    left = generator.integers(photograph.shape[1] - SIDE + 1)
    return photograph[top : top + SIDE, left : left + SIDE]


def _plain(digit, photographs, generator):
    return np.repeat(_placed(digit, generator)[..., None], 3, axis=2)


def _inverted(digit, photographs, generator):
    return 1 - _plain(digit, photographs, generator)


def _photograph(digit, photographs, generator):
    stroke = _placed(digit, generator)[..., None]
    patch = _patch(photographs, generator)
    return np.abs(patch - stroke)


def _textured(digit, photographs, generator):
    angle, shear = generator.uniform(-0.5, 0.5), generator.uniform(-0.4, 0.4)
    stroke = _placed(digit, generator, angle, shear)[..., None]
    first = generator.integers(len(photographs))
    paper = 0.5 * _patch(photographs, generator, first)
    ink = 0.5 + 0.5 * _patch(photographs, generator, (first + 1) % len(photographs))
    return paper * (1 - stroke) + ink * stroke


# tensorflow_datasets.


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


# Batches.


class Batches(keras.utils.PyDataset):
    """The batches of a part, in an order that depends on a seed and on the epoch alone.

    So two trainings with one seed see the same examples in the same order, on every backend. A
    last batch that is not full is left out of each epoch.

    Args:
        part: what to draw from.
        batch_size: of each batch; at most all examples.
        seed: of the order and of the augmentation.
        augmentation: pixels to pad by before a random crop to the old size, followed by a flip
            left to right for one image in two; `(pad, flip)`. None is no augmentation.
        epoch: the first one.

    Example:
        >>> from search.data import Batches, load
        >>> batches = Batches(load("digits").train, 64, seed=0, augmentation=(1, False))
        >>> len(batches), batches[0][0].shape
        (17, (64, 8, 8, 1))
    """

    def __init__(self, part, batch_size, seed, augmentation=None, epoch=0):
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=1)
        self.part = part
        self.batch_size = min(batch_size, len(part))
        self.seed = seed
        self.augmentation = augmentation
        self.epoch = epoch
        self._shuffle()

    def _shuffle(self):
        generator = np.random.default_rng([self.seed, self.epoch])
        self._order = generator.permutation(len(self.part))

    def __len__(self):
        return len(self.part) // self.batch_size

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        x = self.part.x[chosen]
        if self.augmentation is not None:
            # Of the batch's own, so that it does not matter in which order batches are taken.
            generator = np.random.default_rng([self.seed, self.epoch, index])
            pad, flip = self.augmentation
            x = augmented(x, pad, flip, generator)
        return x, self.part.y[chosen]

    def on_epoch_end(self):
        """Go on to the order of the next epoch."""
        self.epoch += 1
        self._shuffle()


def augmented(x, pad, flip, generator):
    """Images padded with zeros, cropped at random to their old size, and flipped, each by itself.

    >>> import numpy as np
    >>> from search.data import augmented
    >>> augmented(np.ones((3, 8, 8, 1)), 2, True, np.random.default_rng(0)).shape
    (3, 8, 8, 1)
    """
    count, height, width = x.shape[:3]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    top, left = generator.integers(0, 2 * pad + 1, (2, count))
    rows = top[:, None] + np.arange(height)
    columns = left[:, None] + np.arange(width)
    if flip:
        turned = generator.random(count) < 0.5
        columns = np.where(turned[:, None], columns[:, ::-1], columns)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def checked_augmentation(data: Data, augmentation: Any):
    """An augmentation that fits the data, as `(pad, flip)`, or None.

    Args:
        data: what is augmented.
        augmentation: None or False; True (an eighth of the height, flipped); or `(pad, flip)`.
    """
    if augmentation in (None, False):
        return None
    shape = data.input_shape
    if len(shape) != 3:
        raise BadInput(f"augmentation needs images, and the examples have shape {shape}.")
    if augmentation is True:
        return max(1, shape[0] // 8), True
    pad, flip = augmentation
    if not 0 <= pad < min(shape[:2]):
        raise BadInput(f"augmentation: pad={pad}. Needed: 0 to {min(shape[:2]) - 1}.")
    return int(pad), bool(flip)
