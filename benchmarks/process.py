"""What the commands that measure share: options, a process per backend, its environment."""

import argparse
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks import BenchmarkError, contestants, results, tables
from benchmarks.targets import ROUNDS

DTYPES = ("float32", "bfloat16", "float16", "float64")
QUICK_ROUNDS = 3

# glibc returns a freed block of 16 MB to the system at once, and the next step pays for getting it
# back, page by page: as much time as a torch layer takes. No training loop that has run for a while
# would pay it, so it is kept out of the measurement. The one arena is because those of further
# threads (JAX's) are given back whatever the thresholds say.
MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_ARENA_MAX": "1",
}


def add_arguments(parser: argparse.ArgumentParser, backends: Iterable[str]) -> None:
    """Declare the options that they share."""
    parser.add_argument(
        "--backend",
        choices=(*backends, "all"),
        help="what to run on; by default what Keras is configured for (KERAS_BACKEND)",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="cpu leaves a GPU alone"
    )
    parser.add_argument(
        "--rounds", type=int, help=f"interleaved rounds; default {ROUNDS}, {QUICK_ROUNDS} if quick"
    )
    parser.add_argument(
        "--import",
        nargs="+",
        dest="imports",
        default=[],
        metavar="MODULE",
        help="import modules first, such as one that gives norms of your own to "
        "kerasnorm.register: names, or paths of .py files",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, short samples: a look")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write results; runs of other commands, backends, devices and dtypes in it stay",
    )


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Variables for the process: those of malloc only where none are set."""
    wanted = {name: os.environ.get(name, value) for name, value in MALLOC.items()}
    wanted["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.backend not in (None, "all"):
        wanted["KERAS_BACKEND"] = options.backend
    if options.dtype == "float64":
        wanted["JAX_ENABLE_X64"] = "1"
    if options.device == "cpu":
        wanted["CUDA_VISIBLE_DEVICES"] = ""
        wanted["JAX_PLATFORMS"] = "cpu"
    return wanted


def run(options: argparse.Namespace, backends: Iterable[str], measuring: str) -> int:
    """Measure, print tables, write the file.

    Args:
        options: with those of `add_arguments`.
        backends: what "all" stands for.
        measuring: the name of a module with `measure(options)`.
    """
    if options.backend == "all":
        return max(_in_process_of_its_own(backend) for backend in backends)
    if options.backend is not None and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = options.backend
    # Here Keras and the backend are imported.
    module = importlib.import_module(measuring)
    # Steps are compiled in a loop, on purpose: TensorFlow warns of it.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        for place in options.imports:
            _import(place)
        contestants.add_registered()
        measured = module.measure(options)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*tables.machine(measured), ""]))
    for table in tables.of_run(measured):
        print(f"{table.text()}\n")
    if options.json:
        results.add(options.json, measured)
        print(f"Written to {options.json}.")
    return 0


def _import(place: str) -> None:
    """Import a module of the user's."""
    path = Path(place)
    if place.endswith(".py"):
        if not path.is_file():
            raise BenchmarkError(f"--import {place}: there is no such file.")
        sys.path.insert(0, str(path.resolve().parent))
    importlib.import_module(path.stem if place.endswith(".py") else place)


def _in_process_of_its_own(backend: str) -> int:
    """The same command on one backend."""
    module, *arguments = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    command = [sys.executable, "-m", module, *arguments, "--backend", backend]
    return subprocess.run(command, check=False).returncode
