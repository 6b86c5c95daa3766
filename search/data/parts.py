"""A data set in its three parts, and how one part is made into two."""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.data import nests
from search.errors import BadInput
from search.jsonable import jsonable

# For what comes in fewer parts: of the whole, and of what is left.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.2
# The token that fills up a sequence, and counts nowhere.
PADDING = 0
# Why examples that are made of photographs may not change their part.
OF_PHOTOGRAPHS = "each part has pieces of photographs of its own"


@dataclass(frozen=True)
class Part:
    """Examples: `x` of `(count, height, width, channels)` or another shape, and `y`.

    Labels are integers, one for each example or, of a segmentation, for each pixel. Tokens have one
    for each position, where 0 is padding. Targets of a regression are numbers of any shape. Several
    inputs or outputs are a dictionary or a tuple of arrays, each with the same examples.
    """

    x: Any
    y: Any

    def __post_init__(self):
        for name in ("x", "y"):
            object.__setattr__(self, name, nests.normal(getattr(self, name)))

    def __len__(self):
        return nests.count(self.y)

    def rows(self, chosen):
        """Some of the examples."""
        return Part(nests.rows(self.x, chosen), nests.rows(self.y, chosen))


@dataclass(frozen=True)
class Form:
    """What a data set asks of a model.

    Attributes:
        input_shape: of an example; of several inputs, a dictionary or a list of shapes.
        output_shape: of what the model is to give for it, in the same way.
        classes: how many; None where there are none.
        task: as `Data` has it.
    """

    input_shape: Any
    output_shape: Any
    classes: int | None = None
    task: str = "classification"

    @property
    def outputs(self):
        """How many numbers the model is to give, for the example, each pixel or each position."""
        return self.output_shape[-1]


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: what it was asked for by.
        train, validation, test: its parts.
        classes: how many; None where there are none.
        labels: what the classes are called; empty if they have no names.
        domains: for each class, the domain that it belongs to; empty without domains.
        sources: for each part, the number of what each example was made from, such as an image or
            a patient: examples of one source are never in two parts of a new split.
        task: `"classification"`, `"segmentation"`, `"regression"`, `"tokens"`, or `"compiled"`,
            where the model says what the labels are.
        tied: why no example may change its part; empty where they may.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int | None
    labels: tuple = ()
    domains: tuple = ()
    sources: tuple = ()
    task: str = "classification"
    tied: str = ""

    @property
    def input_shape(self):
        """The shape of an example, or those of its several inputs."""
        return nests.shapes(self.train.x)

    @property
    def output_shape(self):
        """The shape of what a model is to give for an example."""
        shape = nests.shapes(self.train.y)
        return shape if self.classes is None else (*shape, self.classes)

    @property
    def form(self):
        """What it asks of a model."""
        return Form(self.input_shape, self.output_shape, self.classes, self.task)

    @functools.cached_property
    def fingerprint(self):
        """A text that is another one as soon as a single number is."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for of, nest in (("x", part.x), ("y", part.y)):
                for name, array in nests.named(nest, of).items():
                    # A single array has no name: its fingerprint is older than names are.
                    place = name if nests.are_several(nest) else ""
                    digest.update(f"{place}{array.dtype}{array.shape}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def described(self):
        """What a manifest says of it."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        described = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "shapes": {
                name: nests.mapped(lambda array: list(array.shape), part.x)
                for name, part in parts.items()
            },
            "classes": self.classes,
        }
        if self.task != "classification":
            described |= {"task": self.task, "outputs": jsonable(self.output_shape)}
        return described


def split(part, share, seed=0, by_class=True):
    """Split off a share of each class, or of all examples.

    Returns:
        What is left, and what was split off. The order within a part stays.
    """
    off = np.zeros(len(part), bool)
    generator = np.random.default_rng(seed)
    groups = part.y if by_class else np.zeros(len(part))
    for label in np.unique(groups):
        places = np.flatnonzero(groups == label)
        off[generator.permutation(places)[: max(1, round(share * len(places)))]] = True
    if off.all():
        of = " of a class" if by_class else ""
        raise BadInput(
            f"data: {len(part)} examples are too few to be split. Needed: at least two{of}."
        )
    return part.rows(~off), part.rows(off)
