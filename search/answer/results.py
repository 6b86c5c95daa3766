"""What an answer consists of: arms, comparisons, and the answer itself."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, Self

from search import importance
from search.measure import Measure

ALPHA = 0.05
# With two seeds a t test has one degree of freedom, and rests on chance alone.
FEWEST_SEEDS = 3
BETTER = "better"
WORSE = "worse"
NO_DIFFERENCE = "no difference shown"
EQUAL = "equal within the margin"
UNFINISHED = "not judged: unfinished runs"
TOO_FEW = "not judged: too few seeds"
# Times that differ by a smaller factor are equal: one machine measures no better than this.
SAME_TIME = 1.2
# What a recommendation rests on.
COMPARED = "comparison"
VALIDATION = "validation"


@dataclass(frozen=True)
class Layout:
    """How the trainings for an answer lie in several splits of the data.

    Attributes:
        split_of: the split of each seed.
        overlap: test examples for each example of training.
    """

    split_of: Mapping[int, int]
    overlap: float


@dataclass
class Arm:
    """One way to train, on all its seeds; the interval is one of several that hold at once.

    While an answer is being found, `errors` are costs, of which less is better; in the answer they
    are what was measured.
    """

    name: str
    role: str
    spec: Any
    errors: dict[int, float]
    unfinished: dict[int, str]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    parameters: int | None = None
    step_seconds: float | None = None
    step_low: float | None = None
    step_high: float | None = None
    values: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    # Of each seed, a value for each test example, where the rows have them.
    values_of: dict[int, Any] = field(default_factory=dict, repr=False)
    # Where the data were split anew.
    layout: Layout | None = field(default=None, repr=False)

    @property
    def overlap(self) -> float:
        """What the splits have in common; 0 where there is one."""
        return 0.0 if self.layout is None else self.layout.overlap

    def groups(self, seeds: Iterable[int]) -> list[list[int]]:
        """Seeds that are judged together: those of one split; each by itself where there is one."""
        if self.layout is None:
            return [[seed] for seed in seeds]
        groups: dict[int, list[int]] = {}
        for seed in seeds:
            groups.setdefault(self.layout.split_of[seed], []).append(seed)
        return [groups[split] for split in sorted(groups)]

    def units(self, seeds: Iterable[int]) -> list[float]:
        """The errors by which it is judged: of each seed, or the mean of each split."""
        return [fmean(self.errors[seed] for seed in group) for group in self.groups(seeds)]

    def only(self, seeds: Sequence[int]) -> Self:
        """The same with some of the seeds alone; the mean is theirs, and there is no interval."""
        errors = {seed: self.errors[seed] for seed in seeds if seed in self.errors}
        return replace(
            self,
            errors=errors,
            unfinished={s: why for s, why in self.unfinished.items() if s in seeds},
            values_of={s: values for s, values in self.values_of.items() if s in seeds},
            mean=sum(errors.values()) / len(errors) if errors else None,
            low=None,
            high=None,
        )

    def turned(self) -> Self:
        """The same with the other sign: costs as a measure of which more is better."""
        return replace(
            self,
            errors={seed: -error for seed, error in self.errors.items()},
            values_of={seed: -values for seed, values in self.values_of.items()},
            mean=_minus(self.mean),
            low=_minus(self.high),
            high=_minus(self.low),
        )

    @property
    def seeds(self) -> int:
        """How many seeds there are, finished or not."""
        return len(self.errors) + len(self.unfinished)


@dataclass
class Comparison:
    """An arm against a reference on the same seeds.

    Attributes:
        low, high: an interval for new seeds and new test examples, and with several splits for new
            data; all of an answer hold at once. Where there are no values per example and one
            split it is for new seeds on these very examples.
        p: of this comparison alone; `adjusted_p` is that of all together.
        here_low, here_high: an interval for new seeds on these very examples; None of splits.
        here_p: its p-value, of all comparisons together.
        error: the standard error of the difference.
        half: half the width of the interval, on the side that shows an arm to be better.
        examples: how many test examples count; None where the seeds alone do.
        shares: how much of the variance seeds, examples, both together, and splits have.
        splits: how many splits of the data there are.
        wins: on how many of the seeds, or of several splits, it was better; a tie is half a win.
        chance_low, chance_high: with what chance it is better on a new seed, on these very
            examples; an interval by itself. None of splits.
    """

    name: str
    reference: str
    verdict: str
    seeds: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    p: float | None = None
    adjusted_p: float | None = None
    here_low: float | None = None
    here_high: float | None = None
    here_p: float | None = None
    error: float | None = None
    half: float | None = None
    examples: int | None = None
    shares: dict[str, float] = field(default_factory=dict)
    splits: int = 1
    wins: float | None = None
    chance_low: float | None = None
    chance_high: float | None = None

    def turned(self) -> Self:
        """The same with the other sign."""
        return replace(
            self,
            difference=_minus(self.difference),
            low=_minus(self.high),
            high=_minus(self.low),
            here_low=_minus(self.here_high),
            here_high=_minus(self.here_low),
        )


@dataclass
class Answer:
    """What `conclude` found, plain enough for JSON (`as_dict`).

    Attributes:
        advice: what to do, in a few words: "Use ...", "Keep ...", or "Try ..." where nothing was
            compared on the test part; empty where no trial completed.
        reason: why, in plain words.
        verdict: "better", "no difference shown", "not judged: ..." of the search as a whole.
        best: the name of the norm to use: a candidate only where it was shown to be better.
        best_spec: its norm spec.
        best_values: the hyperparameters that it was trained with, where the search chose them.
        rests_on: "comparison" where the best norm is that of the arms on the test part,
            "validation" where it is that of the best trial, else None.
        percent: whether errors are shares of the examples.
        measure: what the errors are; "error" stands for any measure here, in its own direction.
        reference: the name of the best baseline.
        arms: all arms but the ablation's, the best mean first.
        comparisons: each candidate against the best baseline.
        ablated: the name of the arm that the ablation changes.
        ablation_arms: the ablation's arms.
        ablation: each of them against the ablated arm.
        pareto: the arms that no other arm beats: none is clearly better in error, step time or
            parameters and clearly worse in none of them.
        beaten: each of the others, with an arm that beats it and what that one is better in.
        pareto_trials: numbers of the trials for which the same holds, with the validation score.
        importance: what the trials' scores depend on.
        margin: differences up to this are equal; None where nothing is.
        detectable: the difference that these seeds would have shown in about four cases of five.
        notes: what else must be known to read the answer.
        splits: how many splits of the data there are.
    """

    advice: str
    reason: str
    verdict: str
    best: str | None
    best_spec: Any
    best_values: dict[str, Any]
    rests_on: str | None
    percent: bool
    measure: Measure
    reference: str | None
    arms: list[Arm]
    comparisons: list[Comparison]
    ablated: str | None
    ablation_arms: list[Arm]
    ablation: list[Comparison]
    pareto: list[str]
    beaten: dict[str, tuple[str, list[str]]]
    pareto_trials: list[int]
    importance: importance.Importance
    margin: float | None
    detectable: float | None
    notes: list[str]
    splits: int = 1

    @property
    def sentence(self) -> str:
        """The answer in plain words: what to do, and why."""
        return f"{self.advice}: {self.reason}" if self.advice else self.reason

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries and lists."""
        result = {"sentence": self.sentence, **asdict(self)}
        for arm in (*result["arms"], *result["ablation_arms"]):
            # The journal has them.
            del arm["values_of"], arm["layout"]
        return result

    def arm(self, name: str) -> Arm:
        """The candidate or baseline of a name."""
        return next(arm for arm in self.arms if arm.name == name)


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def is_finite(value: Any) -> bool:
    """Whether it is a number, and neither NaN nor infinite."""
    return value is not None and math.isfinite(value)
