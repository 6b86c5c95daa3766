"""Times a training step of ResNet-20 with each norm against Keras's BatchNormalization.

One process per backend; in it, rounds in which the same network with each norm takes turns. A step
is compiled as `fit` compiles it. Ratios are within a run.
"""

import argparse

from benchmarks import process

HELP = "time a network with each norm"
BACKENDS = ("tensorflow", "jax", "torch")

environment = process.environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    process.add_arguments(parser, BACKENDS)
    parser.add_argument(
        "--norms", nargs="+", metavar="NAME", help="labels or class names; default: all"
    )
    parser.add_argument(
        "--batch", type=int, help="examples of 32x32x3 in a step; default 128, 8 if quick"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the file."""
    return process.run(options, BACKENDS, "benchmarks.measure_networks")
