"""Measures the layers on the backend of this process."""

import argparse
import functools
import itertools
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

import kerasnorm
from benchmarks import BenchmarkError, backends, contestants, machine, targets
from benchmarks.contestants import BASELINES, Contestant
from benchmarks.layers import BACKENDS, PHASES
from benchmarks.literal import FORMULAS, literal_of
from benchmarks.process import QUICK_ROUNDS
from benchmarks.timing import Deadline, Preparation, Progress, Stopwatch, interleave
from kerasnorm import registry

SAMPLE_SECONDS, QUICK_SAMPLE_SECONDS = 0.02, 0.005
# Transcriptions hold tens of copies of x.
LARGEST_LITERAL_BYTES = 2**28
# max|difference| / max|value| between a layer and its transcription, in outputs and gradients.
TOLERANCES = {"float64": 1e-6, "float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}

LITERAL = "literal "
# A copy ("moving") says what the memory can do.
PLAIN = {"train": ("train", "moving"), "inference": ("measured", "moving")}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        options: as `benchmarks.layers` declares them.

    Returns:
        The run, as a result file holds it.

    Raises:
        BenchmarkError: for options that do not fit, and where a layer and its transcription differ.
    """
    engine = engine_for(options)
    device_kind, _ = engine.device()
    default_shapes = targets.SHAPES if device_kind == "cpu" else targets.GPU_SHAPES
    chosen = contestants.select(options.layers)
    modes = _modes(engine, options.mode)
    phases = PHASES if options.phase == "all" else (options.phase,)
    progress = Progress()
    about = about_run("layers", engine, options)
    bench = Bench(engine, options, chosen, progress)
    cells, kept = [], []
    for shape in options.shapes or default_shapes:
        if not options.no_kept:
            kept += bench.kept(shape)
        for mode in modes:
            for phase in phases:
                cells += bench.cells(shape, mode, phase)
    progress.done()
    return {**about, "cells": cells, "kept": kept}


def engine_for(options: argparse.Namespace):
    """The module of the backend that runs, which must be the one asked for."""
    engine = backends.current()
    if options.backend not in (None, engine.NAME):
        raise BenchmarkError(f"Keras runs on {engine.NAME} already, not on {options.backend}.")
    return engine


def about_run(command: str, engine, options: argparse.Namespace) -> dict[str, Any]:
    """What a result file says of a run beside what it measured."""
    device_kind, device = engine.device()
    return {
        "command": command,
        "backend": engine.NAME,
        "device_kind": device_kind,
        "dtype": options.dtype,
        "quick": options.quick,
        "versions": {
            "kerasnorm": kerasnorm.__version__,
            "keras": keras.__version__,
            **engine.versions(),
            "numpy": np.__version__,
        },
        "threads": engine.threads(),
        "machine": machine.describe(device),
    }


def _modes(engine, wanted: str) -> tuple[str, ...]:
    if wanted == "all":
        return engine.MODES
    there_are = BACKENDS[engine.NAME]
    if wanted not in there_are:
        raise BenchmarkError(f"There is no mode {wanted} on {engine.NAME}: {', '.join(there_are)}.")
    return (wanted,)


class Bench:
    """Builds steps and measures them.

    Args:
        engine: a module of `benchmarks.backends`.
        options: as `benchmarks.layers` declares them.
        chosen: the layers.
        progress: told what is going on.
    """

    def __init__(self, engine, options, chosen: Iterable[Contestant], progress: Progress):
        self.engine = engine
        self.dtype = options.dtype
        self.chosen = tuple(chosen)
        self.literal = not options.no_literal
        self.rounds = options.rounds or (QUICK_ROUNDS if options.quick else targets.ROUNDS)
        self.sample_seconds = QUICK_SAMPLE_SECONDS if options.quick else SAMPLE_SECONDS
        self.stopwatch = Stopwatch(engine.wait, engine.WAIT_EVERY_STEP)
        self.progress = progress

    def cells(
        self,
        shape,
        mode,
        phase,
        preparation: Preparation | None = None,
        deadline: Deadline | None = None,
    ) -> list[dict[str, Any]]:
        """Time one mode and phase at one shape.

        Args:
            shape: of x.
            mode: how to run.
            phase: what to run.
            preparation: decides what is left out; None leaves out nothing.
            deadline: when rounds had better end.
        """
        self.progress.stage(f"{self.engine.NAME} {mode} {phase} {shape}:")
        preparation = preparation or Preparation(self.progress)
        x, dy = self.tensors(shape)
        roles, makers, literals = {}, {}, {}

        def add(name, role, make, among=makers):
            roles[name], among[name] = role, make

        # In each of the backend's ways to run: the limit is the fastest of them.
        for kind, way in itertools.product(PLAIN[phase], self.engine.MODES):
            make = functools.partial(self.engine.plain_step, kind, x, dy, way)
            add(f"plain {kind} {way}", "plain", make)
        natives = self.engine.native_steps(x, dy) if phase == "train" else {}
        for contestant in BASELINES:
            make = functools.partial(self.step, contestant, x, dy, mode, phase)
            add(contestant.label, "keras", make)
        for name, make in natives.items():
            add(name, "native", make)
        for contestant in self.chosen:
            make = functools.partial(self.step, contestant, x, dy, mode, phase)
            add(contestant.label, "layer", make)
        steps = preparation.ready(makers)
        for contestant in self.chosen:
            if not self.literal or contestant.layer not in FORMULAS:
                continue
            if phase == "train" and bytes_of(x) <= LARGEST_LITERAL_BYTES:
                ours = steps[contestant.label]
                make = functools.partial(self.literal_step, contestant, x, dy, mode, ours)
                add(LITERAL + contestant.label, "literal", make, literals)
        steps |= preparation.ready(literals)
        other_load = machine.OtherLoad()
        timings = interleave(
            steps,
            self.stopwatch,
            rounds=self.rounds,
            sample_seconds=self.sample_seconds,
            seldom={name for name, role in roles.items() if role == "literal"},
            deadline=deadline,
            progress=self.progress,
        )
        common = {
            "shape": list(shape),
            "mode": mode,
            "phase": phase,
            "dtype": self.dtype,
            "other_load": other_load.part(),
        }
        return [
            {"name": name, "role": roles[name], **common, **timing.summary()}
            for name, timing in timings.items()
        ]

    def step(self, contestant: Contestant, x, dy, mode, phase):
        """A step of one layer."""
        layer = self.layer(contestant, tuple(x.shape))
        if phase == "inference":
            return self.engine.inference_step(layer, x, mode)
        return self.engine.train_step(layer, x, dy, mode)

    def literal_step(self, contestant: Contestant, x, dy, mode, ours):
        """A training step of a layer's transcription, which must compute the same as `ours`."""
        shape = tuple(x.shape)
        layer = self.layer(contestant, shape, literal=True)
        step = self.engine.train_step(layer, x, dy, mode)
        names = ["the input", *(weight.name for weight in layer.trainable_variables)]
        self.check(contestant.label, ours(), step(), names)
        return step

    def kept(self, shape) -> list[dict[str, Any]]:
        """Weigh what Keras's layers and ours keep for the backward pass."""
        self.progress.stage(f"{self.engine.NAME} kept for backward {shape}:")
        x, _ = self.tensors(shape)
        entries = []
        for contestant in (*BASELINES, *self.chosen):
            self.progress(contestant.label)
            entries.append(self.kept_by(contestant, self.layer(contestant, shape), x))
        return entries

    def kept_by(self, contestant: Contestant, layer, x) -> dict[str, Any]:
        """Weigh what one layer keeps."""
        shape = tuple(x.shape)
        kept = self.engine.kept(layer, x)
        parameters = sum(math.prod(weight.shape) for weight in layer.weights)
        itemsize = 8 if self.dtype == "float64" else 4
        return {
            "name": contestant.label,
            "shape": list(shape),
            "dtype": self.dtype,
            "x": bytes_of(x),
            "total": kept.total,
            "beside_x": kept.beside_x,
            "full_size": kept.full_size,
            "unit": itemsize * (shape[0] * shape[-1] + parameters),
            "limit": targets.kept_limit(contestant.label, shape, parameters, itemsize),
        }

    def tensors(self, shape):
        """x and dy, the same in every run; channels and examples of x have different means."""
        generator = np.random.default_rng(0)
        x = generator.standard_normal(shape, "float32")
        x += 0.5 * generator.standard_normal((shape[0], 1, 1, shape[-1]), "float32")
        dy = generator.standard_normal(shape, "float32")
        return tuple(keras.ops.convert_to_tensor(array, dtype=self.dtype) for array in (x, dy))

    def layer(self, contestant: Contestant, shape, literal=False):
        """A built layer with weights of which every one matters, the same in every run."""
        layer_class = registry.parse(contestant.norm).layer_class
        if literal:
            layer_class = literal_of(layer_class)
        layer = layer_class(**contestant.arguments, dtype=policy(self.dtype))
        try:
            layer.build(shape)
        except ValueError as error:
            raise BenchmarkError(
                f"{contestant.label} cannot be built for {shape}: {error}"
            ) from error
        generator = np.random.default_rng(1)
        for weight in layer.weights:
            value = 0.3 * generator.standard_normal(tuple(weight.shape))
            if weight.name in ("gamma", "moving_variance"):
                value = 1 + np.abs(value)
            weight.assign(keras.ops.convert_to_tensor(value, dtype=weight.dtype))
        return layer

    def check(self, label: str, result, literal_result, names) -> None:
        """Refuse to compare with something that computes something else."""
        pairs = zip(
            ("outputs", *(f"gradient of {name}" for name in names)),
            (result[0], *result[1]),
            (literal_result[0], *literal_result[1]),
            strict=True,
        )
        for what, value, expected in pairs:
            error = difference(value, expected)
            if not error <= TOLERANCES[self.dtype]:
                raise BenchmarkError(
                    f"{label} and its transcription differ by {error:.2g} in {what}."
                )


def policy(dtype: str) -> str:
    """The dtype policy of layers that are given inputs of a dtype; weights have 32 bits or more."""
    return dtype if dtype in ("float32", "float64") else f"mixed_{dtype}"


def difference(value, expected) -> float:
    """max|value - expected| as a part of max|expected|, or of 1 if that is less."""
    value, expected = (
        keras.ops.convert_to_numpy(keras.ops.cast(array, "float32")).astype("float64")
        for array in (value, expected)
    )
    return float(np.abs(value - expected).max() / max(np.abs(expected).max(), 1.0))


def bytes_of(x) -> int:
    """The bytes of a tensor."""
    width = {"float64": 8, "float32": 4}.get(keras.backend.standardize_dtype(x.dtype), 2)
    return width * math.prod(x.shape)
