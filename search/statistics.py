"""Plain statistics of a few paired runs: intervals, paired t tests, Holm's correction, fronts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

# Differences that are equal but for rounding have no spread.
ROUNDING = 1e-12


class Interval(NamedTuple):
    """A mean with its confidence interval; the ends are None where one value gives none."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of some values and Student's confidence interval for it.

    >>> [round(value, 3) for value in mean_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    >>> mean_interval([2.0])
    Interval(mean=2.0, low=None, high=None)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    half = float(special.stdtrit(len(values) - 1, (1 + level) / 2)) * _standard_error(values)
    return Interval(mean, mean - half, mean + half)


def paired_p_values(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The p-values of two one-sided paired t tests.

    Where all differences are the same the t statistic has no scale. Then the p-value is 0 for none,
    else a bound that holds for any two arms that are really the same: given the seed, their errors
    are two draws from one distribution, and those differ by one certain amount, with its sign, in
    at most one case of four; so n times in a row in at most 4**-n.

    Args:
        ours: one value per seed.
        theirs: the values of the same seeds.

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
    differences = np.subtract(ours, theirs)
    rounding = ROUNDING * max(np.abs(ours).max(), np.abs(theirs).max())
    mean = float(differences.mean())
    if np.ptp(differences) <= rounding:
        bound = 4.0**-count
        if abs(mean) <= rounding:
            return 1.0, 1.0
        return (bound, 1.0) if mean < 0 else (1.0, bound)
    t = mean / _standard_error(differences)
    return float(special.stdtr(count - 1, t)), float(special.stdtr(count - 1, -t))


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


def detectable(deviation: float, seeds: int, tests: int, alpha: float = 0.05) -> float:
    """The mean difference that a paired t test would show in about 4 cases of 5.

    Args:
        deviation: the standard deviation of the paired differences.
        seeds: the number of pairs.
        tests: how many one-sided tests share `alpha`.

    >>> round(detectable(deviation=1.0, seeds=5, tests=2), 2)
    1.66
    """
    needed = special.stdtrit(seeds - 1, 1 - alpha / tests) + special.stdtrit(seeds - 1, 0.8)
    return float(needed * deviation / np.sqrt(seeds))


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """The points that no other point beats: none is as low everywhere and lower somewhere.

    >>> pareto_front([(1, 5), (2, 2), (3, 3), (5, 1), (2, 2)])
    [0, 1, 3, 4]
    """
    array = np.asarray(points, dtype=float)
    return [
        index
        for index, point in enumerate(array)
        if not np.any((array <= point).all(axis=1) & (array < point).any(axis=1))
    ]


def _standard_error(values) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
