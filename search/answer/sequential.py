"""How many seeds: more of them until each candidate is settled, without more chance of being wrong.

Seeds come in rounds. After each round the candidates that are not settled are compared with the
best plain norm of that round, on all seeds so far. A candidate is settled when its interval leaves
zero out (better, worse), when it lies within the margin (equal), when one of its trainings failed,
or when more seeds would not settle it. It is not trained on further seeds then, and its comparison
stays what it was in that round. The plain norms are trained on the seeds of every round.

Why looking again and again does no harm. The chance of a wrong claim, 5 %, is divided among the
rounds before anything is trained: each round may spend the part of it that its new seeds are of
all (alpha spending, Lan and DeMets, 1983). `levels` turns what is spent into the level of each
round's intervals. It takes the means of the rounds for those of independent seeds. Test examples
that all rounds share make the rounds more alike, which makes a wrong claim in any of them rarer
(Slepian, 1962). Levels are used for intervals with Student's quantiles, as is usual; how well that
holds with few seeds is tried by `python -m benchmarks seeds`.

When training ends without a claim, it needs no part of the 5 %. That is so in two cases. Seeds make
only a part of the chance smaller: if the variances stay what they are, the interval after the last
round would still hold zero and more than the margin, also for a difference that is one standard
error from the one that was seen. And once a candidate was shown to be better, others that have no
better mean than it are not trained further.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import special

from search.answer.crossed import Crossed
from search.answer.judging import best_baseline, collect, compare, crossed_of
from search.answer.planning import Variances
from search.answer.results import ALPHA, BETTER, FEWEST_SEEDS, NO_DIFFERENCE, Arm, Comparison
from search.measure import Measure
from search.rows import AnswerRow

# A round has so many times the seeds of the one before, at least one more.
GROWTH = 1.35
# Where nothing else is asked for.
MOST_SEEDS = 20
# Why a candidate that is not settled is not trained further.
BEHIND = "it is not ahead of the one that was shown to be better"
HOPELESS = "more seeds would hardly have settled it"
# Of the sums that are followed: the lowest, how many points they have, and halvings for a limit.
LOWEST, POINTS, HALVINGS = 6.0, 800, 50


@dataclass(frozen=True)
class Rounds:
    """The rounds of an answer.

    Attributes:
        most: how many seeds there are at most.
        margin: differences up to this are equal; None where nothing is.

    >>> from search.answer.sequential import Rounds
    >>> Rounds(20).seeds()
    [3, 5, 7, 10, 14, 19, 20]
    """

    most: int = MOST_SEEDS
    margin: float | None = None

    def seeds(self) -> list[int]:
        """How many seeds there are after each round."""
        counts = [min(FEWEST_SEEDS, self.most)]
        while counts[-1] < self.most:
            counts.append(min(self.most, max(counts[-1] + 1, -int(-counts[-1] * GROWTH // 1))))
        return counts

    @classmethod
    def of(cls, manifest: Mapping[str, Any], measure: Measure) -> Self | None:
        """Those of a search; None where the number of seeds is fixed."""
        most = manifest.get("most_seeds")
        return None if most is None else cls(most, margin_of(manifest, measure))

    def level(self, seeds: int, alpha: float) -> float:
        """The level of the intervals of a round, where `alpha` is that of all rounds together.

        >>> from search.answer.sequential import Rounds
        >>> [round(Rounds(20).level(seeds, 0.05), 4) for seeds in (3, 10, 20)]
        [0.0075, 0.0129, 0.0211]
        """
        counts = self.seeds()
        found = levels(tuple(count / self.most for count in counts), alpha)
        # What ended within a round was not looked at then; the lowest level holds for it too.
        return found[counts.index(seeds)] if seeds in counts else min(found)


def margin_of(manifest: Mapping[str, Any], measure: Measure) -> float | None:
    """The margin of a search, in the unit of its values; the user's is in points of shares."""
    margin = manifest.get("margin")
    return margin / 100 if margin is not None and measure.share else margin


@functools.cache
def levels(parts: tuple[float, ...], alpha: float) -> list[float]:
    """For each round the chance that its own interval misses, if `alpha * part` is spent so far.

    Sums of independent normal values cross the limits of the rounds with these chances; what is
    known of a sum that has crossed none is followed from round to round on a grid.

    >>> from search.answer.sequential import levels
    >>> [round(level, 4) for level in levels((0.5, 1.0), 0.05)]
    [0.025, 0.0352]
    """
    found = [alpha * parts[0]]
    limit = -special.ndtri(found[0]) * np.sqrt(parts[0])
    sums = np.linspace(-LOWEST, limit, POINTS)
    density = _normal(sums, parts[0])
    for before, part in itertools.pairwise(parts):
        step = part - before
        weights = np.gradient(sums) * density

        def crossed(limit, sums=sums, weights=weights, step=step):
            return float(weights @ special.ndtr((sums - limit) / np.sqrt(step)))

        low, high = 0.0, LOWEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if crossed(middle) > alpha * step else (low, middle)
        found.append(float(special.ndtr(-high / np.sqrt(part))))
        following = np.linspace(-LOWEST, high, POINTS)
        density = _normal(following[:, None] - sums, step) @ weights
        sums = following
    return found


def _normal(values, variance):
    return np.exp(-(values**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


@dataclass(frozen=True)
class Settled:
    """What the rounds so far have shown.

    Attributes:
        comparisons: of each candidate, from the round in which it was settled, or from the last
            one that was complete.
        reference: the best plain norm of the last complete round; None without one.
        seeds: for each arm, by its name, on how many of the first seeds it is to be trained.
        complete: whether all of that is done.
        ended: why candidates that are not settled are not trained further, by their names.
    """

    comparisons: list[Comparison]
    reference: Arm | None
    seeds: dict[str, int]
    complete: bool
    ended: dict[str, str]


def settle(
    candidates: Sequence[Arm],
    baselines: Sequence[Arm],
    seeds: Sequence[int],
    rounds: Rounds,
) -> Settled:
    """Follow the rounds through the trainings that there are.

    Args:
        candidates, baselines: the arms, with what is known of them.
        seeds: all that there may be, in their order.
        rounds: how many there are after each round.
    """
    open_ones = list(candidates)
    found: dict[str, Comparison] = {}
    ended: dict[str, str] = {}
    wanted = dict.fromkeys((arm.name for arm in (*candidates, *baselines)), 0)
    reference, complete = None, True
    for count in rounds.seeds():
        if not open_ones and reference is not None:
            break
        first = list(seeds[:count])
        for arm in (*open_ones, *baselines):
            wanted[arm.name] = count
        if not all(_has(arm, first) for arm in (*open_ones, *baselines)):
            complete = False
            break
        plain = [arm.only(first) for arm in baselines]
        reference = best_baseline(plain, [])
        if reference is None:
            break
        usable = sum(len(arm.errors) >= FEWEST_SEEDS for arm in plain)
        compared = [arm.only(first) for arm in open_ones]
        level = rounds.level(count, ALPHA / (2 * max(1, len(candidates))))
        for one in compare(compared, reference, usable, rounds.margin, level):
            found[one.name] = one
        winners = [found[arm.name] for arm in candidates if _won(found.get(arm.name))]
        least = min((one.difference for one in winners), default=None)
        still = []
        for arm, now in zip(open_ones, compared, strict=True):
            one = found[arm.name]
            if one.verdict != NO_DIFFERENCE or count == rounds.most:
                continue
            if least is not None and one.difference >= least:
                ended[arm.name] = BEHIND
            elif not can_be_settled(now, reference, rounds, level):
                ended[arm.name] = HOPELESS
            else:
                still.append(arm)
        open_ones = still
    comparisons = [found[arm.name] for arm in candidates if arm.name in found]
    return Settled(comparisons, reference, wanted, complete, ended)


def can_be_settled(arm: Arm, reference: Arm, rounds: Rounds, alpha: float) -> bool:
    """Whether all seeds together may show a difference, or that there is none."""
    found = crossed_of(arm, reference)
    if found is None:
        return True
    variances = Variances.of(found)
    both = variances.both / (rounds.most * found.examples)
    planned = Crossed(
        found.mean,
        rounds.most,
        found.examples,
        variances.seeds / rounds.most + both,
        variances.examples / found.examples + both,
        both,
    )
    half, slack = planned.half(alpha), found.error
    if abs(found.mean) + slack > half:
        return True
    return rounds.margin is not None and max(0.0, abs(found.mean) - slack) + half < rounds.margin


def _won(comparison: Comparison | None) -> bool:
    return comparison is not None and comparison.verdict == BETTER


def _has(arm: Arm, seeds: Sequence[int]) -> bool:
    """Whether an arm has ended on all seeds, one way or another."""
    return all(seed in arm.errors or seed in arm.unfinished for seed in seeds)


def wanted(
    arms: Sequence[Mapping[str, Any]], run_rows: Sequence[Any], manifest: Mapping[str, Any]
) -> tuple[dict[tuple[str, str], int], bool]:
    """On how many seeds each arm is to be trained, by its role and name, and whether all is done.

    The ablation comes last, on the seeds of the arm that it is around.

    Args:
        arms: all that the answer compares, as the journal has them.
        run_rows: of the trainings that there are.
        manifest: of a search with "most_seeds".
    """
    measure = Measure.found(manifest)
    rounds = Rounds.of(manifest, measure)
    assert rounds is not None
    rows = list(map(AnswerRow.of, run_rows))
    there = {(arm.role, arm.name): arm for arm in collect(rows, [], measure, [], rounds.level)}
    known = {
        (arm["role"], arm["arm"]): Arm(arm["arm"], arm["role"], arm["spec"], {}, {}) for arm in arms
    } | there
    seeds = manifest["seeds"]
    of_role = {
        role: [known[arm["role"], arm["arm"]] for arm in arms if arm["role"] == role]
        for role in ("candidate", "baseline")
    }
    settled = settle(of_role["candidate"], of_role["baseline"], seeds, rounds)
    counts = {
        (role, arm.name): settled.seeds[arm.name] for role, own in of_role.items() for arm in own
    }
    if not settled.complete:
        return counts, False
    for arm in arms:
        if arm["role"] == "ablation":
            around = (counts.get((role, arm["around"])) for role in of_role)
            counts["ablation", arm["arm"]] = next(filter(None, around), FEWEST_SEEDS)
    done = all(_has(known[key], seeds[:count]) for key, count in counts.items())
    return counts, done
