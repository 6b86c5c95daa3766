"""What is trained for the answer: the best norms, the baselines, and the ablation."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from search import formats
from search.objective import Objective
from search.rows import TrialRow

Row = Mapping[str, Any]


class Space(Protocol):
    """What `ablation_arms` needs of a space; `search.space.NormSpace` has it."""

    def rows(self) -> Sequence[Row]:
        """The hyperparameters: "name", "values", "range" and "parent" of each."""

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that are there, missing ones filled in by their defaults."""

    def key(self, values: Mapping[str, Any]) -> str:
        """What two points have in common if they are the same."""

    def spec_from(self, values: dict[str, Any]) -> Any:
        """The norm spec of a point."""


def arms(
    trial_rows: Iterable[Row],
    k: int,
    baselines: Sequence[Any],
    direction: str = "min",
    words: Callable[[Any], str] = json.dumps,
) -> list[dict[str, Any]]:
    """What to train again for the answer: the k best norms of the search, and the baselines.

    Candidates are k different norm specs, each with the hyperparameters of its best trial. A
    baseline is none of them, even where it won; it gets the hyperparameters of its own best trial,
    where it had one.

    Args:
        trial_rows: the rows of the trials; only completed ones count.
        k: the number of candidates; fewer where there are no more.
        baselines: norm specs, as the search writes them, so that its own trials of them are known.
        direction: "min" where a lower score is better, else "max".
        words: what puts the spec of a baseline into words that no trial did.

    Returns:
        Dictionaries with "arm" (a name that no other has), "role" ("candidate" or "baseline"),
        "spec", "values" (of the trial's hyperparameters; empty without one) and "trial" (or None).

    >>> trial = {"trial": 3, "spec": {"name": "mode", "modes": 4}, "words": "mode norm, 4 modes"}
    >>> trial |= {"values": {"modes": 4}, "status": "completed", "score": 0.1}
    >>> [(arm["arm"], arm["role"]) for arm in arms([trial], 2, ["batch"], words=str)]
    [('mode norm, 4 modes', 'candidate'), ('batch', 'baseline')]
    """
    best: dict[str, TrialRow] = {}
    for row in ranked(trial_rows, direction):
        # A model of the user's has no spec: there the hyperparameters are what differs.
        best.setdefault(key_of_spec(row.hyperparameters if row.spec is None else row.spec), row)
    baseline_of = {key_of_spec(spec): spec for spec in baselines}
    candidates = [key for key in best if key not in baseline_of][:k]
    taken: set[str] = set()
    result = []
    for key in (*candidates, *baseline_of):
        trial = best.get(key)
        spec = trial.spec if trial else baseline_of[key]
        name = trial.words if trial else words(spec)
        if name in taken:
            name += f" (trial {trial.trial})" if trial else f" ({json.dumps(spec)})"
        taken.add(name)
        result.append(
            {
                "arm": name,
                "role": "baseline" if key in baseline_of else "candidate",
                "spec": spec,
                "values": dict(trial.hyperparameters) if trial else {},
                "trial": trial.trial if trial else None,
            }
        )
    return result


def ablation_arms(best_trial: Row, space: Space, most: int = 2) -> list[dict[str, Any]]:
    """What to train to see what each choice of the best trial is worth: one changed at a time.

    Choices on which others hang, such as the kind of norm, are not changed: that would change
    several at once, and other kinds of norms are candidates and baselines.

    Args:
        best_trial: its row.
        space: what was searched.
        most: how many other values to try of each hyperparameter: of numbers the nearest on either
            side, of a range half a decade away, of others the first.

    Returns:
        Dictionaries as `arms` gives them, with "changed" (the hyperparameter and its other value)
        and "around" (the best trial in words) besides.
    """
    best = TrialRow.of(best_trial)
    values = space.active(best.hyperparameters)
    rows = space.rows()
    parents = {row["parent"] for row in rows}
    seen = {space.key(values)}
    result = []
    for row in rows:
        name = row["name"]
        if name not in values or name in parents:
            continue
        for other in _other_values(row, values[name])[:most]:
            changed = space.active({**values, name: other})
            if space.key(changed) in seen:
                continue
            seen.add(space.key(changed))
            result.append(
                {
                    "arm": f"{name} = {formats.number(other)}",
                    "role": "ablation",
                    "spec": space.spec_from(changed),
                    "values": changed,
                    "trial": best.trial,
                    "changed": {name: other},
                    "around": best.words,
                }
            )
    return result


def _other_values(row: Row, value: Any) -> list[Any]:
    """The values of a hyperparameter to try instead, those nearest by first."""
    if row["range"]:
        low, high = row["values"]
        near = [max(low, value / math.sqrt(10)), min(high, value * math.sqrt(10))]
        return [other for other in near if not math.isclose(other, value, rel_tol=0.2)]
    others = [other for other in row["values"] if other != value]
    if not all(_is_number(other) for other in row["values"]):
        return others
    lower = sorted((other for other in others if other < value), reverse=True)
    higher = sorted(other for other in others if other > value)
    return [*lower[:1], *higher[:1], *lower[1:], *higher[1:]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def ranked(trial_rows: Iterable[Row], direction: str = "min") -> list[TrialRow]:
    """The completed trials, the best first.

    >>> rows = [{"trial": n, "status": "completed", "score": s} for n, s in enumerate([3, 1, 2])]
    >>> [row["trial"] for row in ranked(rows)]
    [1, 2, 0]
    """
    return Objective("score", direction).ranked(trial_rows)


def key_of_spec(spec: Any) -> str:
    """A text that is the same for the same norm; "auto" is what a missing group count means."""
    if isinstance(spec, str):
        return key_of_spec({"name": spec})
    if isinstance(spec, Mapping):
        return json.dumps(
            {key: value for key, value in sorted(spec.items()) if value != "auto"},
            default=key_of_spec,
        )
    if isinstance(spec, (list, tuple)):
        return json.dumps([key_of_spec(one) for one in spec])
    return json.dumps(spec)
