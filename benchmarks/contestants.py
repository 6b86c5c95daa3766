"""What is timed: one declarative list."""

import dataclasses
from typing import Any

from benchmarks import BenchmarkError

# Full-size reads of the fastest possible inference, beside one write.
MEASURED = 2  # moments, then the affine step
MOVING = 1  # the affine step alone


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A layer with its arguments.

    Attributes:
        label: its name in tables and results.
        layer: the class name.
        arguments: of the constructor.
        package: where the class is, `kerasnorm` or `keras.layers`.
        inference_reads: how often inference must read its input.
        allowance: what the limit of its training step is multiplied by.
        spatial_statistics: whether it works with statistics of every position, O(H*W*C).
    """

    label: str
    layer: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    package: str = "kerasnorm"
    inference_reads: int = MEASURED
    allowance: float = 1.0
    spatial_statistics: bool = False

    def __str__(self) -> str:
        return self.label


BATCH_BASELINE = "keras BatchNormalization"
GROUP_BASELINE = "keras GroupNormalization(32)"
FEW_MODES, MANY_MODES = "ModeNorm(2)", "ModeNorm(16)"

_GROUPS = {"groups": 32}
_KEYS = {"key_group_size": 16}

BASELINES = (
    Contestant(
        BATCH_BASELINE, "BatchNormalization", package="keras.layers", inference_reads=MOVING
    ),
    Contestant(GROUP_BASELINE, "GroupNormalization", _GROUPS, package="keras.layers"),
)

LAYERS = (
    Contestant("BatchNorm", "BatchNorm", inference_reads=MOVING),
    Contestant("GroupNorm(32)", "GroupNorm", _GROUPS),
    Contestant("InstanceNorm", "InstanceNorm"),
    Contestant("LayerNorm", "LayerNorm"),
    Contestant("ILMGroupNorm(32)", "ILMGroupNorm", {**_GROUPS, **_KEYS}),
    Contestant("ILMInstanceNorm", "ILMInstanceNorm", _KEYS),
    Contestant("ILMLayerNorm", "ILMLayerNorm", _KEYS),
    Contestant("AssociateNorm(32)", "AssociateNorm", _GROUPS),
    Contestant(FEW_MODES, "ModeNorm", {"modes": 2}),
    Contestant(MANY_MODES, "ModeNorm", {"modes": 16}),
    Contestant("ModeGroupNorm(2)", "ModeGroupNorm", {"modes": 2}),
    Contestant(
        "ConvNorm", "ConvNorm", inference_reads=MOVING, allowance=1.3, spatial_statistics=True
    ),
    Contestant("LearnedStatsNorm", "LearnedStatsNorm", allowance=1.3),
)

BY_LABEL = {contestant.label: contestant for contestant in (*BASELINES, *LAYERS)}


def select(names: list[str] | None) -> tuple[Contestant, ...]:
    """The layers with these labels or class names; all for None.

    Raises:
        BenchmarkError: for a name that there is not.
    """
    if names is None:
        return LAYERS
    known = {name for c in LAYERS for name in (c.label, c.layer)}
    unknown = [name for name in names if name not in known]
    if unknown:
        there_are = ", ".join(contestant.label for contestant in LAYERS)
        raise BenchmarkError(f"No such layer: {', '.join(unknown)}. There are {there_are}.")
    return tuple(c for c in LAYERS if c.label in names or c.layer in names)
