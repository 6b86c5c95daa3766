"""The Pareto fronts: what nothing beats in error, time and size."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from search import statistics
from search.answer.results import (
    ALPHA,
    BETTER,
    FEWEST_SEEDS,
    SAME_TIME,
    WORSE,
    Arm,
    Comparison,
    is_finite,
)
from search.objective import Objective
from search.rows import TrialRow

# Numbers of parameters that differ by a smaller factor make no difference to anybody.
SAME_SIZE = 1.01


def front_of_arms(
    main: Sequence[Arm], comparisons: Sequence[Comparison], notes: list[str]
) -> tuple[list[str], dict[str, tuple[str, list[str]]]]:
    """The arms on the Pareto front, and the others with what beats them.

    Errors differ where a paired t test says so, times where their ranges over the seeds are apart.
    """
    placed, left_out = [], []
    for arm in main:
        known = arm.mean is not None and arm.step_seconds and arm.parameters is not None
        (placed if known and not arm.unfinished else left_out).append(arm)
    if not placed:
        return [], {}
    if left_out:
        notes.append(
            "Not on the Pareto front for want of a full set of errors, a step time or a parameter "
            f"count: {', '.join(arm.name for arm in left_out)}."
        )
    half = math.sqrt(SAME_TIME)
    lower = _lower_errors(placed, comparisons)
    dimensions: dict[str, statistics.Dimension] = {
        "error": lambda index: (lower[index], lower[:, index]),
        "time": statistics.apart(
            [min(arm.step_low, arm.step_seconds / half) for arm in placed],
            [max(arm.step_high, arm.step_seconds * half) for arm in placed],
        ),
        "parameters": _sizes([arm.parameters for arm in placed]),
    }
    front, beaten = [], {}
    found = statistics.beaten_by(len(placed), list(dimensions.values()))
    for index, (arm, others) in enumerate(zip(placed, found, strict=True)):
        if others:
            better_in = [n for n, dimension in dimensions.items() if dimension(index)[1][others[0]]]
            beaten[arm.name] = (placed[others[0]].name, better_in)
        else:
            front.append(arm.name)
    return front, beaten


def _sizes(parameters: Sequence[int]) -> statistics.Dimension:
    """Numbers of parameters as a dimension of the front."""
    half = math.sqrt(SAME_SIZE)
    return statistics.apart([one / half for one in parameters], [one * half for one in parameters])


def _lower_errors(arms: Sequence[Arm], comparisons: Sequence[Comparison]) -> Any:
    """A matrix: whether the error of the arm of a row is lower than that of the column's.

    All have finished on their seeds; those that all have count. Candidates against the reference
    are as they were judged; for the other pairs Holm's correction goes over all of them. With too
    few seeds for a test the means decide.
    """
    common = sorted(set.intersection(*(set(arm.errors) for arm in arms)))
    errors = np.array([arm.units(common) for arm in arms])
    if errors.shape[1] < FEWEST_SEEDS:
        means = errors.mean(axis=1)
        return means[:, None] < means
    lower = np.zeros((len(arms), len(arms)), dtype=bool)
    pairs = np.nonzero(~np.eye(len(arms), dtype=bool))
    overlap = arms[0].overlap
    p_values = statistics.lower_p_values(errors[pairs[0]], errors[pairs[1]], overlap)
    lower[pairs] = np.array(statistics.holm(p_values)) <= ALPHA
    place = {arm.name: index for index, arm in enumerate(arms)}
    for judged in comparisons:
        if judged.p is not None and judged.name in place and judged.reference in place:
            one, other = place[judged.name], place[judged.reference]
            lower[one, other] = judged.verdict == BETTER
            lower[other, one] = judged.verdict == WORSE
    return lower


def front_of_trials(
    order: Sequence[TrialRow], main: Sequence[Arm], objective: Objective
) -> list[int]:
    """The trials on the Pareto front; their times vary as those of the arms do over the seeds."""
    rows = [row for row in order if is_finite(row.step_seconds) and row.parameters is not None]
    ratios = [arm.step_high / arm.step_low for arm in main if arm.step_low]
    half = math.sqrt(max(SAME_TIME, median(ratios) if ratios else 0.0))
    times = [row.step_seconds for row in rows]
    dimensions = [
        statistics.apart(*2 * [[objective.cost(row.score) for row in rows]]),
        statistics.apart([time / half for time in times], [time * half for time in times]),
        _sizes([row.parameters for row in rows]),
    ]
    beaten = statistics.beaten_by(len(rows), dimensions)
    return [row.trial for row, others in zip(rows, beaten, strict=True) if not others]
