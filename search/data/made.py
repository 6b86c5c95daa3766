"""Data that come with scikit-learn: digits, and many domains made of them."""

import dataclasses
import functools
import math

import numpy as np

from search.data.arrays import from_arrays
from search.data.parts import OF_PHOTOGRAPHS, TEST_SHARE, VALIDATION_SHARE, Data, Part, split

DOMAINS = ("plain", "inverted", "photograph", "textured")
# Pictures of each digit in each domain, and their side.
VARIANTS, SIDE = 2, 16


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
def diabetes():
    """Scikit-learn's diabetes patients: 10 measurements, and how the disease was a year later.

    That is 442 examples. The target is standardized by the training part, so a mean squared error
    of 1 is that of always naming the mean.

    >>> from search.data import diabetes
    >>> data = diabetes()
    >>> data.task, data.input_shape, data.output_shape, len(data.train), len(data.test)
    ('regression', (10,), (1,), 283, 88)
    """
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    # Its columns have a sum of squares of 1.
    x = x * math.sqrt(len(x))
    data = from_arrays({"x": x, "y": y}, "diabetes", "regression")
    mean, deviation = data.train.y.mean(), data.train.y.std()

    def standardized(part):
        return Part(part.x, (part.y - mean) / deviation)

    return dataclasses.replace(
        data,
        train=standardized(data.train),
        validation=standardized(data.validation),
        test=standardized(data.test),
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
            for domain, draw in enumerate((_unchanged, _inverted, _photograph, _textured)):
                for _ in range(VARIANTS):
                    x.append(draw(images[number], cut, generator))
                    y.append(10 * domain + label)
                    source.append(number)
        parts.append(Part(np.stack(x).astype("float32"), np.array(y, "int32")))
        sources.append(np.array(source))
    names = tuple(f"{domain} {digit}" for domain in DOMAINS for digit in range(10))
    domains = tuple(domain for domain in DOMAINS for _ in range(10))
    train, validation, test = parts
    return Data(
        "multidomain",
        train,
        validation,
        test,
        40,
        names,
        domains,
        tuple(sources),
        tied=OF_PHOTOGRAPHS,
    )


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


def _unchanged(digit, photographs, generator):
    return np.repeat(_placed(digit, generator)[..., None], 3, axis=2)


def _inverted(digit, photographs, generator):
    return 1 - _unchanged(digit, photographs, generator)


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
