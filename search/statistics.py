"""Plain statistics of a few paired runs: intervals, paired t tests, Holm's correction, fronts."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

# Differences that are equal but for rounding have no spread.
ROUNDING = 1e-12


class Interval(NamedTuple):
    """A mean with its confidence interval; the ends are None where one value gives none."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], level: float = 0.95, overlap: float = 0.0) -> Interval:
    """The mean of some values and Student's confidence interval for it.

    Args:
        values: one for each seed; or for each split of the data, which have examples in common.
        level: of the interval.
        overlap: of splits, how many test examples there are for each one of training. The variance
            of their mean is then the one of the splits times 1/splits + overlap (Nadeau and
            Bengio, 2003).

    >>> [round(value, 3) for value in mean_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    >>> mean_interval([2.0])
    Interval(mean=2.0, low=None, high=None)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    half = float(special.stdtrit(len(values) - 1, (1 + level) / 2))
    half *= float(np.std(values, ddof=1)) * math.sqrt(1 / len(values) + overlap)
    return Interval(mean, mean - half, mean + half)


def paired_p_values(
    ours: Sequence[float], theirs: Sequence[float], overlap: float = 0.0
) -> tuple[float, float]:
    """The p-values of two one-sided paired t tests.

    Where all differences are the same the t statistic has no scale. Then the p-value is 0 for none,
    else a bound that holds for any two arms that are really the same: given the seed, their errors
    are two draws from one distribution, and those differ by one certain amount, with its sign, in
    at most one case of four; so n times in a row in at most 4**-n.

    Args:
        ours: one value per seed.
        theirs: the values of the same seeds.
        overlap: as `mean_interval` has it.

    Returns:
        The p-value for "our mean is lower", and that for "our mean is higher".

    >>> lower, higher = paired_p_values([1.0, 2.0, 3.0], [2.0, 4.0, 5.0])
    >>> round(lower, 3), round(higher, 3)
    (0.019, 0.981)
    >>> paired_p_values([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    (1.0, 1.0)
    """
    count = len(ours)
    if count != len(theirs) or count < 2:
        raise ValueError(
            f"paired_p_values: {count} values against {len(theirs)}. Needed: as many on both "
            f"sides, at least 2."
        )
    lower, higher = (lower_p_values(*pair, overlap) for pair in ((ours, theirs), (theirs, ours)))
    return float(lower), float(higher)


def lower_p_values(ours: Any, theirs: Any, overlap: float = 0.0) -> Any:
    """The first p-value of `paired_p_values`, for many pairs at once: the last axis is the seeds.

    >>> lower_p_values(
    ...     [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]], [[2.0, 4.0, 5.0], [1.0, 1.0, 1.0]]
    ... ).round(3)
    array([0.019, 1.   ])
    """
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    differences = ours - theirs
    count = differences.shape[-1]
    rounding = ROUNDING * np.maximum(np.abs(ours).max(-1), np.abs(theirs).max(-1))
    mean = differences.mean(-1)
    spread = np.ptp(differences, axis=-1) > rounding
    error = np.where(spread, differences.std(-1, ddof=1), 1.0) * np.sqrt(1 / count + overlap)
    bound = np.where(mean < -rounding, 4.0**-count, 1.0)
    return np.where(spread, special.stdtr(count - 1, mean / error), bound)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: all that are at most 0.05 may be claimed at once.

    The chance that any claim among them is wrong is then at most 5 %, whatever depends on what.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def chance_interval(wins: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """An interval for the chance of a win (Clopper and Pearson, 1934), of any law.

    Args:
        wins: how many there were; with a half in it, the interval is that of both neighbours.
        trials: of how many.

    >>> low, high = chance_interval(5, 5)
    >>> round(low, 3), high
    (0.478, 1.0)
    """
    fewest, most = math.floor(wins), math.ceil(wins)
    tail = (1 - level) / 2
    low = special.betaincinv(fewest, trials - fewest + 1, tail) if fewest else 0.0
    high = special.betaincinv(most + 1, trials - most, 1 - tail) if most < trials else 1.0
    return float(low), float(high)


# Of the point with an index: which others are clearly above it, and which clearly below.
Dimension = Callable[[int], tuple[np.ndarray, np.ndarray]]


def apart(lows: Sequence[float], highs: Sequence[float]) -> Dimension:
    """A dimension in which intervals that overlap count as equal.

    >>> above, below = apart([1, 2, 4], [3, 3, 5])(0)
    >>> above.tolist(), below.tolist()
    ([False, False, True], [False, False, False])
    """
    low, high = np.asarray(lows, dtype=float), np.asarray(highs, dtype=float)
    return lambda index: (high[index] < low, high < low[index])


def beaten_by(count: int, dimensions: Sequence[Dimension]) -> list[list[int]]:
    """For each point, those that beat it; the Pareto front is where there are none.

    One point beats another if it is clearly below it in some dimension and clearly above it in
    none.

    >>> errors, times = [1, 2, 3, 5, 2], [5, 2, 3, 1, 2]
    >>> beaten_by(5, [apart(errors, errors), apart(times, times)])
    [[], [], [1, 4], [], []]
    """
    result = []
    for index in range(count):
        above, below = np.any([dimension(index) for dimension in dimensions], axis=0)
        result.append([int(other) for other in np.flatnonzero(below & ~above)])
    return result
