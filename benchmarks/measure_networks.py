"""Measures a network with each norm on the backend of this process."""

import argparse
import functools
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from benchmarks import BenchmarkError, contestants, machine, targets
from benchmarks.contestants import BASELINES, BATCH_BASELINE, Contestant
from benchmarks.measure import about_run, engine_for, policy
from benchmarks.process import QUICK_ROUNDS
from benchmarks.timing import Deadline, Preparation, Progress, Stopwatch, interleave
from kerasnorm import models, registry

NETWORK = "ResNet20"
IMAGE, CLASSES = (32, 32, 3), 10
# As the papers train it on CIFAR.
BATCH, QUICK_BATCH = 128, 8
SAMPLE_SECONDS, QUICK_SAMPLE_SECONDS = 0.5, 0.01


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        options: as `benchmarks.networks` declares them.

    Returns:
        The run, as a result file holds it.

    Raises:
        BenchmarkError: for options that do not fit, and for a network whose loss is not finite.
    """
    engine = engine_for(options)
    chosen = contestants.select(options.norms)
    batch = options.batch or (QUICK_BATCH if options.quick else BATCH)
    progress = Progress()
    about = about_run("networks", engine, options)
    cells = measured(engine, options, chosen, batch, progress)
    progress.done()
    return {**about, "cells": cells, "kept": []}


def measured(
    engine: Any,
    options: argparse.Namespace,
    chosen: Iterable[Contestant],
    batch: int,
    progress: Progress,
    network: str = NETWORK,
    preparation: Preparation | None = None,
    deadline: Deadline | None = None,
) -> list[dict[str, Any]]:
    """Time a network with each norm.

    Args:
        engine: a module of `benchmarks.backends`.
        options: with `dtype`, `rounds` and `quick`.
        chosen: the norms, beside Keras's.
        batch: how many examples.
        progress: told what is going on.
        network: a name in `kerasnorm.models`.
        preparation: decides what is left out; None leaves out nothing.
        deadline: when rounds had better end.
    """
    preparation = preparation or Preparation(progress)
    baselines = [baseline for baseline in BASELINES if baseline.label == BATCH_BASELINE]
    keras.config.set_image_data_format("channels_last")
    x, y = examples(batch)
    networks = {}
    progress.stage(f"{engine.NAME} {network}:")

    def make(name, contestant):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy(options.dtype))
        try:
            networks[name] = build(spec_of(contestant), network)
        finally:
            keras.config.set_dtype_policy(before)
        step = step_of(networks[name], x, y)

        def checked():
            loss = step()
            if not math.isfinite(loss):
                raise BenchmarkError(f"{network} with {name} has a loss that is not finite.")
            return loss

        return checked

    makers = {
        name: functools.partial(make, name, contestant)
        for name, contestant in ((label(one), one) for one in (*baselines, *chosen))
    }
    steps = preparation.ready(makers)
    stopwatch = Stopwatch(engine.wait, engine.WAIT_EVERY_STEP)
    other_load = machine.OtherLoad()
    timings = interleave(
        steps,
        stopwatch,
        rounds=options.rounds or (QUICK_ROUNDS if options.quick else targets.ROUNDS),
        sample_seconds=QUICK_SAMPLE_SECONDS if options.quick else SAMPLE_SECONDS,
        deadline=deadline,
        progress=progress,
    )
    common = {
        "network": network,
        "shape": [batch, *IMAGE],
        "phase": "network",
        "dtype": options.dtype,
        "other_load": other_load.part(),
    }
    return [
        {
            "name": name,
            "role": "keras" if name == BATCH_BASELINE else "layer",
            "mode": mode_of(engine, networks[name]),
            "parameters": sum(math.prod(w.shape) for w in networks[name].trainable_weights),
            **common,
            **timing.summary(),
        }
        for name, timing in timings.items()
    ]


def label(contestant: Contestant) -> str:
    """Its name; groups are as many as fit, up to 32."""
    return contestant.label.removesuffix("(32)") if contestant not in BASELINES else BATCH_BASELINE


def spec_of(contestant: Contestant) -> dict[str, Any]:
    """The norm spec, with group arguments left open: the narrowest stage has 16 channels."""
    arguments = contestant.arguments.items()
    return {
        "name": contestant.norm,
        **{key: value for key, value in arguments if key not in registry.AUTO_ARGUMENTS},
    }


def build(norm: Any, network: str) -> keras.Model:
    """The network, compiled, the same in every run."""
    keras.utils.set_random_seed(0)
    model = getattr(models, network)(IMAGE, CLASSES, norm)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def examples(batch: int) -> tuple[Any, Any]:
    """Images and labels, the same in every run."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, *IMAGE), "float32")
    y = generator.integers(0, CLASSES, batch)
    return keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y.astype("int32"))


def step_of(model: keras.Model, x: Any, y: Any):
    """A training step; it returns the loss."""
    # The function that `fit` calls for each batch, with nothing of its loop around it.
    return lambda: float(model.train_on_batch(x, y))


def mode_of(engine: Any, model: keras.Model) -> str:
    """How `fit` runs it."""
    without = {"tensorflow": "graph", "jax": "eager", "torch": "eager"}[engine.NAME]
    return "jit" if model.jit_compile else without
