"""What the speed and memory of a layer must be, and whether measurements meet it.

Measurements are those of a result file: dictionaries, as `benchmarks.layers` writes them.
"""

import dataclasses
from typing import Any

from benchmarks.contestants import BATCH_BASELINE, FEW_MODES, GROUP_BASELINE, MANY_MODES, known

Cell = dict[str, Any]

SHAPES = ((64, 32, 32, 64), (16, 56, 56, 128), (256, 8, 8, 256))
# Shapes that fill a GPU, where those above take microseconds.
GPU_SHAPES = ((256, 112, 112, 64), (256, 28, 28, 256), (1024, 14, 14, 256))
# Examples of which `benchmarks gpu` takes as many as leave no part of x in the cache.
GPU_EXAMPLES = ((56, 56, 64), (28, 28, 256), (14, 14, 512))
ROUNDS = 9

# A training step in float32 on a CPU, as a part of keras.layers.BatchNormalization's, by shape.
TRAIN = {
    ("jax", "jit"): (1.0, 0.9, 1.15),
    ("tensorflow", "jit"): (0.7, 0.7, 0.7),
    ("torch", "eager"): (0.40, 0.50, 0.55),
}
# The same on CUDA, at any shape, in float32 and bfloat16.
TRAIN_GPU = {("jax", "jit"): 1.0, ("torch", "eager"): 1.0}
# Without jit, as a part of keras.layers.GroupNormalization's.
WITHOUT_JIT = {("tensorflow", "graph"): 1.0, ("jax", "eager"): 1.0}
# ModeNorm(16) as a part of ModeNorm(2), by shape.
MODES = (1.1, 1.1, 1.2)
# A training step of a network, as a part of the same network's with Keras's BatchNormalization.
NETWORK = 1.1
# How many times the size of x the plain passes of `benchmarks.backends` read or write.
TRAFFIC = {"train": 8, "measured": 3, "moving": 2}
# Bytes kept for the backward pass beside x, as a multiple of N*C statistics and the parameters.
KEPT = 64


@dataclasses.dataclass(frozen=True)
class Target:
    """A limit, and what was measured.

    Attributes:
        label: the layer.
        baseline: what its time is divided by.
        ratio: the quotient.
        limit: the most it may be.
    """

    label: str
    baseline: str
    ratio: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the ratio is within the limit."""
        return self.ratio <= self.limit

    def __str__(self) -> str:
        if self.met:
            return f"<= {self.limit:.2f} met"
        return f"<= {self.limit:.2f} MISSED by {self.ratio - self.limit:.2f}"


def of_layer(run: Cell, cells: dict[str, Cell], label: str) -> Target | None:
    """The target of a layer's step, None where there is none.

    Args:
        run: where and how it was measured.
        cells: what was measured of all contestants in the same interleaved rounds, by name.
        label: the layer.
    """
    cell = cells[label]
    if cell["role"] != "layer" or cell["phase"] != "train":
        return None
    contestant = known(label)
    key, shape = (run["backend"], cell["mode"]), tuple(cell["shape"])
    baseline, limit = BATCH_BASELINE, None
    if run["device_kind"] == "gpu":
        if cell["dtype"] in ("float32", "bfloat16"):
            limit = TRAIN_GPU.get(key)
    elif cell["dtype"] == "float32" and shape in SHAPES:
        if key in TRAIN:
            limit = TRAIN[key][SHAPES.index(shape)] * contestant.allowance
        elif key in WITHOUT_JIT:
            baseline, limit = GROUP_BASELINE, WITHOUT_JIT[key]
    if limit is None or baseline not in cells:
        return None
    return Target(label, baseline, cell["ms"] / cells[baseline]["ms"], limit)


def of_network(run: Cell, cells: dict[str, Cell], label: str) -> Target | None:
    """The target of a network's step with one norm, None where there is none."""
    if run["quick"] or cells[label]["role"] != "layer" or BATCH_BASELINE not in cells:
        return None
    ratio = cells[label]["ms"] / cells[BATCH_BASELINE]["ms"]
    return Target(label, BATCH_BASELINE, ratio, NETWORK)


def of_modes(run: Cell, cells: dict[str, Cell]) -> Target | None:
    """The target for many modes against few, None where it does not apply."""
    if not {FEW_MODES, MANY_MODES} <= cells.keys():
        return None
    many, few = cells[MANY_MODES], cells[FEW_MODES]
    shape = tuple(many["shape"])
    compiled = (run["backend"], many["mode"]) in TRAIN
    if many["phase"] != "train" or shape not in SHAPES or not compiled:
        return None
    return Target(MANY_MODES, FEW_MODES, many["ms"] / few["ms"], MODES[SHAPES.index(shape)])


def kept_limit(label: str, shape: tuple[int, ...], parameters: int, itemsize: int) -> int:
    """The most bytes that a layer may keep for its backward pass beside x.

    Args:
        label: the layer.
        shape: of x, channels last.
        parameters: how many numbers its weights are.
        itemsize: bytes of a statistic.
    """
    batch, *positions, channels = shape
    statistics = batch * channels
    if known(label).spatial_statistics:
        statistics = channels
        for size in positions:
            statistics *= size
    return KEPT * itemsize * (statistics + parameters)


def kept_is_met(entry: Cell) -> bool:
    """Whether what a layer keeps is x, arrays smaller than x, and within `kept_limit`."""
    return entry["full_size"] <= 1 and entry["beside_x"] <= entry["limit"]
