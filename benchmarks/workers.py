"""What workers cost and bring: the first trial, trials per minute, and memory.

Each figure is of a real search with a small network. The delay of the first trial is the time from
the start of the command to the end of its first trial, with `--executor processes` and `inline`.
Memory is that of a worker after each trial.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELP = "what workers of a search cost and bring: delay, trials per minute, memory"

SEARCH = (
    "--arch resnet8 --width 4 --batch-size 64 --placements all --norms batch,group,layer,mode "
    "--seeds 0 --no-jit --early-stopping off"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", nargs="+", default=["torch"], metavar="BACKEND")
    parser.add_argument("--rounds", type=int, default=3, help="of the first trial (default: 3)")
    parser.add_argument("--trials", type=int, default=6, help="of each speed (default: 6)")
    parser.add_argument("--epochs", type=int, default=5, help="of these (default: 5)")
    parser.add_argument("--memory", type=int, default=0, metavar="TRIALS", help="how many trials")
    parser.add_argument("--workers", type=int, default=2)


def environment(options: argparse.Namespace) -> dict[str, str]:
    # Workers are to set what is set here otherwise.
    return {"TF_CPP_MIN_LOG_LEVEL": "3"}


def run(options: argparse.Namespace) -> int:
    for backend in options.backends:
        print(f"{backend}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        if options.rounds:
            _print_first_trials(backend, options.rounds)
        if options.trials:
            _print_speeds(backend, options)
        if options.memory:
            _print_memory(backend, options.memory)
    return 0


def _print_first_trials(backend: str, rounds: int) -> None:
    """How long a user waits for the first trial."""
    times: dict[str, list] = {"inline": [], "processes": []}
    for _ in range(rounds):
        for executor, measured in times.items():
            options = f"{SEARCH} --trials 1 --epochs 1 --executor {executor}"
            measured.append(_ends(backend, options)[0])
    for executor, measured in times.items():
        print(f"first trial, {executor}: {min(measured):.1f} s (of {_listed(measured)})")


def _print_speeds(backend: str, options: argparse.Namespace) -> None:
    """Trials per minute with one worker and with several, once all of them have begun."""
    speeds = {}
    for workers in (1, options.workers):
        count = options.trials + workers
        words = f"{SEARCH} --trials {count} --epochs {options.epochs} --executor processes"
        words = words.replace("--norms batch,group,layer,mode", "--norms batch --learning-rates "
                              + ",".join(f"{0.001 + n / 1e4:g}" for n in range(count)))  # fmt: skip
        ends = _ends(backend, f"{words} --workers {workers}")
        # From the last of the first trials on, every worker works.
        seconds = ends[-1] - ends[workers - 1]
        speeds[workers] = 60 * (count - workers) / seconds
        print(f"{workers} workers: {speeds[workers]:.1f} trials a minute")
    print(f"ratio: {speeds[options.workers] / speeds[1]:.2f}")


def _print_memory(backend: str, trials: int) -> None:
    """The memory of a process over its trials, which is not renewed."""
    os.environ["KERAS_BACKEND"] = backend
    import search
    from benchmarks.remembering import Remembering

    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Remembering()) as executor:
        search.run(
            "resnet8", "digits", arguments={"width": 4}, norms="batch", placements="all",
            learning_rates=[0.001 + n / 1e5 for n in range(trials)], trials=trials, epochs=1,
            seeds=0, batch_size=512, jit_compile=False, executor=executor, console=False,
            out=f"{folder}/out", early_stopping="off",
        )  # fmt: skip
    sizes = executor.sizes
    third = max(1, len(sizes) // 3)
    growth = (sizes[-1] - sizes[third]) / max(1, len(sizes) - 1 - third)
    print(
        f"memory of a worker: {sizes[0]:.0f} MB after trial 1, {sizes[third]:.0f} MB after "
        f"{third + 1}, {sizes[-1]:.0f} MB after {len(sizes)}: {growth:.2f} MB a trial"
    )


def _ends(backend: str, options: str) -> list[float]:
    """The seconds after which the trials of a command ended."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    variables |= {"KERAS_BACKEND": backend}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "search", *options.split(), "--out", f"{folder}/out"]
        begun = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=variables,
            cwd=Path(__file__).parents[1],
        )
        with process:
            return [time.monotonic() - begun for line in process.stdout if ": trial " in line]


def _listed(times: list[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in sorted(times))
