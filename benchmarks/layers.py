"""Times a training step and inference of each layer, and weighs what it keeps for backward.

One process per backend; in it, rounds in which every layer, Keras's layers, literal transcriptions
of the papers' formulas and plain passes over the same memory take turns. Ratios are within a run.
"""

import argparse

from benchmarks import process

HELP = "time the layers"

# With the modes that they have.
BACKENDS = {
    "tensorflow": ("jit", "graph", "eager"),
    "jax": ("jit", "eager"),
    "torch": ("eager",),
}
MODES = ("jit", "graph", "eager")
PHASES = ("train", "inference")


def shape(text: str) -> tuple[int, ...]:
    """A shape written as `64x32x32x64` or `64,32,32,64`."""
    try:
        sizes = tuple(int(size) for size in text.replace(",", "x").split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape such as 64x32x32x64")
    return sizes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    process.add_arguments(parser, BACKENDS)
    parser.add_argument(
        "--mode",
        choices=(*MODES, "all"),
        default="all",
        help="jit (JAX, and XLA on TensorFlow), graph (TensorFlow), eager (JAX operation by "
        "operation, torch, and TensorFlow if asked for); default: all but TensorFlow's eager",
    )
    parser.add_argument("--phase", choices=(*PHASES, "all"), default="all")
    parser.add_argument(
        "--shapes",
        type=shape,
        nargs="+",
        metavar="NxHxWxC",
        help="channels last; default: the three of the targets, on a GPU larger ones",
    )
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="labels or class names; default: all"
    )
    parser.add_argument("--no-literal", action="store_true", help="leave the transcriptions out")
    parser.add_argument("--no-kept", action="store_true", help="do not weigh what is kept")


environment = process.environment


def run(options: argparse.Namespace) -> int:
    """Measure, print tables, write the file."""
    able = [name for name, modes in BACKENDS.items() if options.mode in ("all", *modes)]
    return process.run(options, able, "benchmarks.measure")
