"""Where trials run: `search.executors.base` says what an executor is."""

import importlib
import importlib.util
from typing import Any

from search.errors import BadInput, unknown
from search.executors.base import Executor
from search.names import EXECUTORS

_PLACES = {
    "inline": "search.executors.inline:InlineExecutor",
    "processes": "search.executors.processes:ProcessExecutor",
    "ray": "search.executors.ray:RayExecutor",
}


def check(executor: Any, **options: Any) -> dict[str, Any]:
    """Refuse, with a `BadInput`, what no executor can be made of.

    Args:
        executor: a name, or an `Executor`.
        **options: of the executor; None is its default.

    Returns:
        The options that are given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(executor, Executor):
        if given:
            raise BadInput(
                f"{', '.join(given)} and an executor were given. Needed: one or the other."
            )
        return given
    if not isinstance(executor, str):
        raise BadInput(f"executor={executor!r}. Needed: a name, or an Executor.")
    if executor not in EXECUTORS:
        raise unknown("executor", executor, EXECUTORS)
    for name, value in given.items():
        takers = [f"{one!r}" for one, options in EXECUTORS.items() if name in options]
        if name not in EXECUTORS[executor]:
            raise BadInput(
                f"{name}={value!r} with executor={executor!r}. Needed: executor="
                f"{' or '.join(takers)}."
            )
    workers = given.get("workers", 1)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise BadInput(f"workers={workers!r}. Needed: an integer of at least 1.")
    for name in ("trial_seconds", "cpus_per_trial", "gpus_per_trial"):
        if name in given and not given[name] > 0:
            raise BadInput(f"{name}={given[name]!r}. Needed: a number above 0.")
    return given


def make(executor: Any, **options: Any) -> Executor:
    """An executor, from its name or as it is; see `check`.

    >>> from search.executors import make
    >>> make("inline").capacity
    1
    """
    given = check(executor, **options)
    if isinstance(executor, Executor):
        return executor
    if executor == "ray" and importlib.util.find_spec("ray") is None:
        raise BadInput("executor='ray' needs Ray. Needed: pip install 'kerasnorm[ray]'.")
    module, _, name = _PLACES[executor].partition(":")
    made = getattr(importlib.import_module(module), name)(**given)
    made.options = {"executor": executor, **given}
    return made
