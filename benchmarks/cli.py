"""The command line. Nothing here imports Keras: the backend is chosen first.

A command is a module with `HELP`, `add_arguments(parser)`, `environment(options)` (variables that
the process needs from its start) and `run(options)`, which returns the exit status.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from benchmarks import (
    answers,
    branches,
    conversion_pairs,
    conversion_time,
    convert,
    gpu,
    kills,
    layers,
    many_trials,
    networks,
    oracle,
    reestimate,
    seeds,
    show,
    splits,
    stopping,
    workers,
)

COMMANDS: dict[str, ModuleType] = {
    "answers": answers,
    "layers": layers,
    "networks": networks,
    "branches": branches,
    "convert": convert,
    "conversion-pairs": conversion_pairs,
    "conversion-time": conversion_time,
    "gpu": gpu,
    "kills": kills,
    "oracle": oracle,
    "reestimate": reestimate,
    "search": many_trials,
    "seeds": seeds,
    "show": show,
    "splits": splits,
    "stopping": stopping,
    "workers": workers,
}


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks.")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command in this process, in the environment that it has.

    Args:
        arguments: as on the command line; None takes those.

    Returns:
        The exit status.
    """
    options = parser().parse_args(arguments)
    return COMMANDS[options.command].run(options)


def start_over_in_environment() -> None:
    """Replace this process by itself, if its command needs other environment variables.

    Some are read when a process starts (those of malloc), the others when a backend is imported.
    """
    options = parser().parse_args()
    wanted = COMMANDS[options.command].environment(options)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **wanted})
