"""What is timed: the norms of the table in `kerasnorm.norms`, beside Keras's own."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from benchmarks import BenchmarkError
from search.names import NORM_ROWS

# Full-size reads of the fastest possible inference, beside one write.
MEASURED = 2  # moments, then the affine step
MOVING = 1  # the affine step alone


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A layer with its arguments.

    Attributes:
        label: its name in tables and results.
        layer: the class name.
        norm: the name that `kerasnorm.get` knows it by.
        arguments: of the constructor.
        inference_reads: how often inference must read its input.
        allowance: what the limit of its training step is multiplied by.
        spatial_statistics: whether it works with statistics of every position, O(H*W*C).
    """

    label: str
    layer: str
    norm: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    inference_reads: int = MEASURED
    allowance: float = 1.0
    spatial_statistics: bool = False

    @property
    def is_keras(self) -> bool:
        """Whether it is one of Keras's own layers."""
        return self.norm.startswith("keras_")

    def __str__(self) -> str:
        return self.label


BATCH_BASELINE = "keras BatchNormalization"
GROUP_BASELINE = "keras GroupNormalization(32)"
FEW_MODES, MANY_MODES = "ModeNorm(2)", "ModeNorm(16)"

BASELINES = (
    Contestant(BATCH_BASELINE, "BatchNormalization", "keras_batch", inference_reads=MOVING),
    Contestant(GROUP_BASELINE, "GroupNormalization", "keras_group", {"groups": 32}),
)


def _of_row(row: Any) -> tuple[Contestant, ...]:
    """The contestants of a row of `kerasnorm.norms`."""
    return tuple(
        Contestant(
            label,
            row.class_name,
            row.name,
            arguments,
            inference_reads=row.inference_reads,
            allowance=row.allowance,
            spatial_statistics=row.spatial_statistics,
        )
        for label, arguments in row.labels.items()
    )


LAYERS = tuple(c for row in NORM_ROWS if row.searched for c in _of_row(row))

BY_LABEL = {contestant.label: contestant for contestant in (*BASELINES, *LAYERS)}


def add_registered() -> None:
    """Take in what was given to `kerasnorm.register` beside the norms of the package."""
    # Keras is there already: a module of the user's was imported.
    from kerasnorm import registry

    known = {row.name for row in NORM_ROWS}
    for row in registry.rows():
        if row.name not in known:
            for contestant in _of_row(row):
                BY_LABEL[contestant.label] = contestant


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels in the order of the table; those that it does not have are last."""
    # Networks choose their own group counts, and their labels are without one.
    places = {label.replace("(32)", ""): place for place, label in enumerate(BY_LABEL)}

    def place(label: str) -> int:
        return places.get(label.replace("(32)", ""), len(places))

    return sorted(dict.fromkeys(labels), key=place)


def known(label: str) -> Contestant:
    """The contestant of a label; of a label that only a file of results has, the usual one."""
    return BY_LABEL.get(label) or Contestant(label, label, label)


def select(names: list[str] | None) -> tuple[Contestant, ...]:
    """The layers with these labels, class names or names in specs; all of the package for None.

    Raises:
        BenchmarkError: for a name that there is not.
    """
    if names is None:
        return LAYERS
    there_are = [c for c in BY_LABEL.values() if c not in BASELINES]
    words = {word for c in there_are for word in (c.label, c.layer, c.norm)}
    unknown = [name for name in names if name not in words]
    if unknown:
        listed = ", ".join(contestant.label for contestant in there_are)
        raise BenchmarkError(f"No such layer: {', '.join(unknown)}. There are {listed}.")
    return tuple(c for c in there_are if {c.label, c.layer, c.norm} & {*names})
