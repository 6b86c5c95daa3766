"""A data set in its three parts, and how one part is made into two."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from search.errors import BadInput

# For what comes in fewer parts: of the whole, and of what is left.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.2


@dataclass(frozen=True)
class Part:
    """Examples: `x` of `(count, height, width, channels)` or another shape, `y` integers."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self):
        return len(self.y)


@dataclass(frozen=True)
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
