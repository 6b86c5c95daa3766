"""Measures the backend of this process for `benchmarks gpu`, in the time that it has."""

import argparse
import functools
import json
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks import backends, machine, measure, measure_networks, tables, targets
from benchmarks.contestants import BY_LABEL, LAYERS
from benchmarks.timing import Deadline, HurriedPreparation, Progress

DTYPES = ("float32", "bfloat16")
# Of each kind one; the others follow.
FIRST = ("BatchNorm", "GroupNorm(32)", "ILMGroupNorm(32)", "ModeNorm(2)")
# x is so many times as large as the cache, or so many bytes if that is more.
CACHES, LEAST_BYTES = 8, 2**28
# Where nobody says how large the cache is.
LIKELY_CACHE = 2**26
# The card has room for so many tensors of the size of x: Keras's layers keep several.
TENSORS = 32
# Of the time of a measurement, what preparing its steps may take.
PREPARING = 0.75

Cells = list[dict[str, Any]]
Work = Callable[[HurriedPreparation, Deadline], Cells]


def run(options: argparse.Namespace) -> int:
    """Measure, and write the file again after each measurement: the end of the time may come."""
    deadline = Deadline(options.until)
    engine = backends.current()
    kind, device = engine.device()
    part = {
        "device": device,
        "device_kind": kind,
        "versions": {"keras": keras.__version__, **engine.versions(), "numpy": np.__version__},
        "complete": False,
        "runs": [],
        "left_out": [],
        "failed": {},
    }
    if kind == "cpu" and not options.dry_run:
        part["error"] = f"{engine.NAME} finds no GPU that it can use"
    else:
        measurements = Measurements(engine, options.dry_run, part)
        for command, dtype, share, description, work in measurements.in_order():
            measurements.do(command, dtype, deadline.share(share), description, work)
            options.json.write_text(json.dumps(part))
    part["complete"] = True
    options.json.write_text(json.dumps(part))
    return 0


class Measurements:
    """What is measured on one backend.

    Args:
        engine: a module of `benchmarks.backends`.
        dry: whether it is only seen whether all of it runs.
        part: gets the results.
    """

    def __init__(self, engine: Any, dry: bool, part: dict[str, Any]):
        self.engine = engine
        self.dry = dry
        self.part = part
        self.progress = Progress()
        rest = [c for c in LAYERS if c.label not in FIRST]
        first = [BY_LABEL[label] for label in FIRST]
        self.chosen = first[:2] if dry else [*first, *rest]
        self.options = argparse.Namespace(no_literal=True, rounds=None, quick=dry)

    def in_order(self):
        """What to do, what matters most first.

        Yields:
            The command, the dtype, a share of the time that is left, a description, and the work.
        """
        first, *others = ((4, 4, 32),) if self.dry else targets.GPU_EXAMPLES
        yield self.layers(first, "float32", 0.3)
        yield self.layers(first, "bfloat16", 0.4)
        yield self.network("float32", 0.45)
        if not self.dry:
            yield self.network("bfloat16", 0.6)
        for example in others:
            yield self.layers(example, "float32", 0.5)
            yield self.layers(example, "bfloat16", 0.9)

    def layers(self, example: tuple[int, ...], dtype: str, share: float):
        """Training steps of the layers at one shape."""
        shape = (2, *example) if self.dry else (examples_of(example, dtype), *example)
        options = argparse.Namespace(**vars(self.options), dtype=dtype)
        bench = measure.Bench(self.engine, options, self.chosen, self.progress)
        work = functools.partial(bench.cells, shape, self.engine.MODES[0], "train")
        return "layers", dtype, share, f"{tables.times(shape)} {dtype}", work

    def network(self, dtype: str, share: float):
        """Training steps of a network."""
        name, batch, chosen = measure_networks.NETWORK, measure_networks.BATCH, self.chosen
        if self.dry:
            name, batch, chosen = "LeNet", 2, self.chosen[:1]
        options = argparse.Namespace(**vars(self.options), dtype=dtype)
        work = functools.partial(
            measure_networks.measured, self.engine, options, chosen, batch, self.progress, name
        )
        return "networks", dtype, share, f"{name} {dtype}", work

    def do(self, command: str, dtype: str, deadline: Deadline, description: str, work: Work):
        """One measurement, if there is time for it."""
        if deadline.left() <= 0:
            self.part["left_out"].append(description)
            return
        threads = (os.cpu_count() or 1) if self.engine.COMPILES else 1
        preparation = HurriedPreparation(deadline.share(PREPARING), threads, self.progress)
        cells: Cells = []
        try:
            cells = work(preparation, deadline)
        except Exception as error:  # Of what no step is to blame for, such as tensors without room.
            preparation.failed["all"] = f"{type(error).__name__}: {str(error)[:300]}"
        self.part["left_out"] += [f"{description}: {name}" for name in preparation.left_out]
        failed = {f"{description}: {name}": why for name, why in preparation.failed.items()}
        self.part["failed"] |= failed
        runs = self.part["runs"]
        run = next((r for r in runs if (r["command"], r["dtype"]) == (command, dtype)), None)
        if run is None and cells:
            options = argparse.Namespace(**vars(self.options), dtype=dtype)
            run = {**measure.about_run(command, self.engine, options), "cells": [], "kept": []}
            runs.append(run)
        if cells:
            run["cells"] += cells


def examples_of(example: tuple[int, ...], dtype: str) -> int:
    """How many examples make x larger than the cache, and leave room for the steps."""
    device = machine.cuda_device() or {}
    wanted = max(CACHES * (device.get("l2_cache_bytes") or LIKELY_CACHE), LEAST_BYTES)
    if device.get("memory_bytes"):
        wanted = min(wanted, device["memory_bytes"] // TENSORS)
    one = tables.ITEMSIZE[dtype] * math.prod(example)
    return 8 * math.ceil(wanted / one / 8)
