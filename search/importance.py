"""Which hyperparameters the trials' scores depend on.

A random forest learns a trial's rank from its hyperparameters; a hyperparameter is as important as
the forest gets worse when its values are shuffled among trials that it did not learn from.

Why not fANOVA or PED-ANOVA: they look only at what every trial has, and in a conditional
space that is little more than the kind of norm. Here a hyperparameter that a trial does not have
is a value of its own, a conditional one is shuffled among the trials that have it, and one that
decides what others there are is shuffled together with them. Ranks, not scores, since one diverged
trial would outweigh all others; failed trials come last.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from search.objective import Objective
from search.rows import TrialRow

FEWEST_TRIALS = 10
SHUFFLES = 20
FOLDS = 5


@dataclass
class Importance:
    """How much each hyperparameter matters.

    Attributes:
        shares: by name, the most important first; they sum to 1 where anything matters, else all
            are 0.
        explained: the share of the variance of the ranks that the forest predicts for trials that
            it has not seen (R²); None where there were too few trials to learn from. At 0 or
            below, the trials do not show that anything matters.
        trials: the number of trials that it learned from.
        note: how to read it, in words.
    """

    shares: dict[str, float] = field(default_factory=dict)
    explained: float | None = None
    trials: int = 0
    note: str = ""


def of_trials(trial_rows: Sequence[Mapping[str, Any]], direction: str = "min") -> Importance:
    """The importance of each hyperparameter for the order of the trials.

    Args:
        trial_rows: rows with "values" (without the hyperparameters that a trial does not have),
            "status" and "score".
        direction: "min" where a lower score is better, else "max".

    >>> rows = [
    ...     {"values": {"a": n % 4, "b": n % 3}, "status": "completed", "score": n % 4 + n / 100}
    ...     for n in range(24)
    ... ]
    >>> importance = of_trials(rows)
    >>> list(importance.shares), importance.shares["a"] > 0.8
    (['a', 'b'], True)
    """
    rows = [row for row in map(TrialRow.of, trial_rows) if row.hyperparameters]
    names = list(dict.fromkeys(name for row in rows for name in row.hyperparameters))
    values = {name: [row.hyperparameters.get(name) for row in rows] for name in names}
    varied = [name for name in names if len({repr(value) for value in values[name]}) > 1]
    if len(rows) < FEWEST_TRIALS or not varied:
        why = (
            f"Too few trials to tell what matters: {len(rows)}, and at least {FEWEST_TRIALS} are "
            "needed."
            if varied or not rows
            else "All trials have the same hyperparameters."
        )
        return Importance(trials=len(rows), note=why)

    features = {name: _encode(values[name]) for name in varied}
    drops, explained = _drops(features, _blocks(varied, values), _ranks(rows, direction))
    total = sum(drops.values())
    shares = {
        name: (drop / total if total > 0 and explained > 0 else 0.0)
        for name, drop in sorted(drops.items(), key=lambda item: -item[1])
    }
    if explained <= 0:
        note = (
            f"The {len(rows)} trials do not show that any hyperparameter matters: a forest cannot "
            "predict from them how a new trial ranks."
        )
    else:
        note = (
            f"From {len(rows)} trials a random forest predicts {100 * explained:.0f} % of how new "
            "trials rank. What matters by less than a few per cent may be chance."
        )
    return Importance(shares, explained, len(rows), note)


class _Feature(NamedTuple):
    """A hyperparameter as the forest sees it: columns, and which trials have it at all."""

    columns: np.ndarray
    present: np.ndarray


def _encode(values: Sequence[Any]) -> _Feature:
    """The number itself, or one column per choice; and one more where some trials have none."""
    present = np.array([value is not None for value in values])
    known = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        middle = float(np.median(known))
        columns = [[middle if value is None else float(value) for value in values]]
    else:
        choices = sorted({repr(value) for value in known})
        columns = [[float(repr(value) == choice) for value in values] for choice in choices]
    if not present.all():
        columns.append([float(has) for has in present])
    return _Feature(np.array(columns).T, present)


def _blocks(names: Sequence[str], values: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """With each hyperparameter, those whose presence its value decides."""
    blocks = {}
    for name in names:
        decided = []
        for other in names:
            has = [value is not None for value in values[other]]
            if other == name or all(has) or _numeric_with_many(values[name]):
                continue
            presence: dict[str, set[bool]] = {}
            for value, present in zip(values[name], has, strict=True):
                presence.setdefault(repr(value), set()).add(present)
            # Two that always come together decide nothing of each other: neither has a value
            # of its own for which the other is missing.
            decides = any(
                seen == {False} and value != repr(None) for value, seen in presence.items()
            )
            if decides and all(len(seen) == 1 for seen in presence.values()):
                decided.append(other)
        blocks[name] = [name, *decided]
    return blocks


def _numeric_with_many(values: Sequence[Any]) -> bool:
    """Whether a hyperparameter is a number that hardly repeats, such as a learning rate."""
    known = [value for value in values if value is not None]
    return all(isinstance(value, float) for value in known) and len(set(known)) > len(known) / 2


def _ranks(rows: Sequence[TrialRow], direction: str) -> np.ndarray:
    """The place of each trial, 0 for the best and 1 for the worst; equals share theirs."""
    objective = Objective("", direction)
    scores = [objective.cost(row.score) if row.is_scored else math.inf for row in rows]
    ranks = stats.rankdata(scores)
    return (ranks - 1) / (len(rows) - 1)


def _drops(
    features: Mapping[str, _Feature], blocks: Mapping[str, Sequence[str]], target: np.ndarray
) -> tuple[dict[str, float], float]:
    """By how much shuffling each hyperparameter worsens the predictions, and their R²."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    table = np.concatenate([feature.columns for feature in features.values()], axis=1)
    places, start = {}, 0
    for name, feature in features.items():
        places[name] = list(range(start, start + feature.columns.shape[1]))
        start += feature.columns.shape[1]
    variance = float(((target - target.mean()) ** 2).sum())
    if variance == 0:
        return dict.fromkeys(features, 0.0), 0.0
    rng = np.random.default_rng(0)
    squares = 0.0
    worse = dict.fromkeys(features, 0.0)
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(table):
        forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=2, random_state=0)
        forest.fit(table[train], target[train])
        lost = float(((forest.predict(table[test]) - target[test]) ** 2).sum())
        squares += lost
        for name, feature in features.items():
            moved = np.array([place for other in blocks[name] for place in places[other]])
            # Values come from all trials that have them: those of the fold alone are few.
            donors = np.flatnonzero(feature.present)
            takers = np.flatnonzero(feature.present[test])
            shuffled = np.repeat(table[None, test], SHUFFLES, axis=0)
            for copy in shuffled:
                chosen = rng.choice(donors, size=len(takers))
                copy[np.ix_(takers, moved)] = table[np.ix_(chosen, moved)]
            predicted = forest.predict(shuffled.reshape(-1, table.shape[1]))
            apart = (predicted.reshape(SHUFFLES, -1) - target[test]) ** 2
            worse[name] += float(apart.sum()) / SHUFFLES - lost
    return {name: max(0.0, more / variance) for name, more in worse.items()}, 1 - squares / variance
