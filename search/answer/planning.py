"""How many seeds and test examples another answer would take, from the chance seen in this one.

A comparison has three variances (`search.answer.crossed`): of the seeds, of the test examples, and
of both together. With S seeds and E examples a mean difference has the variance

    seeds/S + examples/E + both/(S*E)

and an answer shows a difference in four cases of five if it is at least the half width of its
interval and 0.84 standard errors. Nothing is trained, and the variances are estimates: with few
seeds the plan is rough.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, Self

import numpy as np

from search import formats
from search.answer.crossed import Crossed
from search.answer.judging import FOUR_OF_FIVE, crossed_of
from search.answer.results import ALPHA, FEWEST_SEEDS, Arm
from search.errors import BadInput

# More seeds than anyone trains.
MOST_SEEDS = 1000
# Test sets so many times as large as this one.
TIMES = (1, 2, 4, 10, 100)


class Variances(NamedTuple):
    """Where the chance of a difference comes from: of one seed, of one example, of one of each."""

    seeds: float
    examples: float
    both: float

    @classmethod
    def of(cls, found: Crossed) -> Self:
        """Those that a comparison shows.

        >>> from search.answer.crossed import Crossed
        >>> Variances.of(Crossed(0.0, seeds=5, examples=10, of_seeds=3, of_examples=2, of_both=1.0))
        Variances(seeds=10.0, examples=10.0, both=50.0)
        """
        return cls(
            max(found.of_seeds - found.of_both, 0.0) * found.seeds,
            max(found.of_examples - found.of_both, 0.0) * found.examples,
            found.of_both * found.seeds * found.examples,
        )

    def shows(self, seeds: int, examples: int, alpha: float) -> float:
        """The difference that so many seeds and examples show in four cases of five."""
        both = self.both / (seeds * examples)
        of_seeds, of_examples = self.seeds / seeds + both, self.examples / examples + both
        planned = Crossed(0.0, seeds, examples, of_seeds, of_examples, both)
        return planned.half(alpha) + FOUR_OF_FIVE * planned.error

    def seeds_for(self, difference: float, examples: int, alpha: float) -> int | None:
        """The fewest seeds that show a difference; None if not even `MOST_SEEDS` do."""
        if self.shows(MOST_SEEDS, examples, alpha) > difference:
            return None
        few, enough = FEWEST_SEEDS - 1, MOST_SEEDS
        while enough - few > 1:
            middle = (few + enough) // 2
            if self.shows(middle, examples, alpha) > difference:
                few = middle
            else:
                enough = middle
        return enough


class Plan(NamedTuple):
    """What a difference would take.

    Attributes:
        difference: the least that is to be shown.
        percent: whether it is a share of the examples.
        seeds, examples: of the answer that there is.
        shown: the difference that this answer shows in four cases of five.
        arms: how many norms are trained on each seed.
        needed: for each number of test examples, how many seeds; None is more than `MOST_SEEDS`.
    """

    difference: float
    percent: bool
    seeds: int
    examples: int
    shown: float
    arms: int
    needed: dict[int, int | None]

    def __str__(self) -> str:
        """A table with what it means."""
        points = formats.points(self.difference, self.percent)
        lines = [
            f"This answer has {formats.count(self.seeds, 'seed')} and "
            f"{formats.count(self.examples, 'test example')}. It shows a difference of "
            f"{formats.points(self.shown, self.percent)} in four cases of five.",
            f"To show {points}, it would take:",
            "",
            f"{'test examples':>15}{'seeds':>17}{'trainings':>13}",
        ]
        for examples, seeds in self.needed.items():
            more = f"more than {MOST_SEEDS}"
            trainings = formats.NONE if seeds is None else formats.number(seeds * self.arms)
            many = more if seeds is None else formats.number(seeds)
            lines.append(f"{formats.number(examples):>15}{many:>17}{trainings:>13}")
        lines.append("")
        lines.append(
            "These are estimates from the seeds that there are. More test examples must be new "
            "ones of the same kind."
        )
        if all(seeds is None for seeds in self.needed.values()):
            lines.append(f"{MOST_SEEDS} seeds are too few for it. Ask for a larger difference.")
        return "\n".join(lines)


def plan(arms: Sequence[Arm], reference: Arm, difference: float, percent: bool) -> Plan:
    """What it takes to show a difference between these candidates and the reference.

    Args:
        arms: all that were trained for the answer, the reference among them.
        reference: the best baseline.
        difference: the least that is to be shown; of errors that are shares, a share.
        percent: whether errors are shares.
    """
    if not difference > 0:
        raise BadInput(f"a difference of {difference!r}. Needed: more than 0.")
    candidates = [arm for arm in arms if arm.role == "candidate"]
    alpha = ALPHA / (2 * max(1, len(candidates)))
    found = [one for one in (crossed_of(arm, reference) for arm in candidates) if one is not None]
    if not found:
        raise BadInput(
            "no candidate and plain norm have values for each test example on at least two seeds. "
            "Needed: a search that finished its comparison, made by this version."
        )
    variances = [Variances.of(one) for one in found]
    seeds, examples = min(one.seeds for one in found), found[0].examples
    needed: dict[int, int | None] = {}
    for times in TIMES:
        wanted = [one.seeds_for(difference, times * examples, alpha) for one in variances]
        middle = median(np.inf if one is None else one for one in wanted)
        needed[times * examples] = int(np.ceil(middle)) if np.isfinite(middle) else None
    shown = median(one.shows(seeds, examples, alpha) for one in variances)
    main = sum(arm.role != "ablation" for arm in arms)
    return Plan(difference, percent, seeds, examples, shown, main, needed)
