"""Arms from rows, and what their paired differences show."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, stdev
from typing import Any

import numpy as np
from scipy import special

from search import examples, formats, statistics
from search.answer.choosing import key_of_spec
from search.answer.crossed import Crossed, crossed
from search.answer.nested import Nested, nested
from search.answer.results import (
    ALPHA,
    BETTER,
    EQUAL,
    FEWEST_SEEDS,
    NO_DIFFERENCE,
    SAME_TIME,
    TOO_FEW,
    UNFINISHED,
    WORSE,
    Arm,
    Comparison,
    Layout,
    is_finite,
)
from search.measure import Measure
from search.rows import AnswerRow, Status, TrialRow

NOT_RUN = "not run"
# So many standard errors beyond the limit, a difference is shown in four cases of five.
FOUR_OF_FIVE = float(special.ndtri(0.8))


def seeds_of(run_rows: Sequence[AnswerRow], manifest: Mapping[str, Any]) -> list[int]:
    """The seeds that every arm should have run on."""
    planned = manifest.get("seeds")
    planned = list(planned) if isinstance(planned, (list, tuple)) and run_rows else []
    return list(dict.fromkeys([*planned, *(row.seed for row in run_rows)]))


def layout_of(run_rows: Sequence[AnswerRow], manifest: Mapping[str, Any]) -> Layout | None:
    """How the trainings lie in several splits of the data; None where there is one."""
    if manifest.get("splits", 1) == 1:
        return None
    shapes = manifest["data"]["shapes"]
    overlap = _count(shapes["test"]) / _count(shapes["train"])
    return Layout({row.seed: row.split for row in run_rows}, overlap)


def _count(shape: Any) -> int:
    """How many examples there are, by the shape of their input or those of several."""
    while not isinstance(shape, int):
        shape = next(iter(shape.values() if isinstance(shape, Mapping) else shape))
    return shape


def collect(
    run_rows: Sequence[AnswerRow],
    seeds: Sequence[int],
    measure: Measure,
    notes: list[str],
    level: Callable[[int, float], float] | None = None,
    layout: Layout | None = None,
) -> list[Arm]:
    """The arms, each with all its seeds, and what was measured as costs.

    Args:
        run_rows: of all arms.
        seeds: that each arm should have.
        measure: what was measured.
        notes: what else must be known is added to them.
        level: `level(seeds, alpha)`, that of the interval of an arm with so many seeds. With it
            arms may have fewer seeds than others.
        layout: where the data were split anew.
    """
    rows_of: dict[tuple[str, str], dict[int, AnswerRow]] = {}
    for row in run_rows:
        runs = rows_of.setdefault((row.role, row.arm), {})
        if row.seed in runs:
            notes.append(f"{row.arm} ran more than once on seed {row.seed}: the last run counts.")
        runs[row.seed] = row
    result = []
    for (role, name), runs in rows_of.items():
        finished = {seed: row for seed, row in runs.items() if _finished(row)}
        first = next(iter(runs.values()))
        arm = Arm(
            name=name,
            role=role,
            spec=first.spec,
            errors={seed: measure.cost(float(row.test_error)) for seed, row in finished.items()},
            values_of={
                seed: measure.cost(examples.unpacked(row.test_values))
                for seed, row in finished.items()
                if row.test_values is not None
            },
            unfinished={
                seed: _reason(runs[seed], measure) if seed in runs else NOT_RUN
                for seed in (seeds if level is None else runs)
                if seed not in finished
            },
            parameters=next(
                (r.parameters for r in runs.values() if r.parameters is not None), None
            ),
            values=dict(first.hyperparameters),
            changed=dict(first.changed or {}),
            layout=layout,
        )
        if arm.errors:
            alpha = ALPHA / (2 * len(rows_of))
            _set_interval(arm, alpha if level is None else level(len(arm.errors), alpha))
        times = [r.step_seconds for r in runs.values() if is_finite(r.step_seconds)]
        if times:
            arm.step_seconds = float(median(times))
            arm.step_low, arm.step_high = float(min(times)), float(max(times))
        result.append(arm)
    return result


def _set_interval(arm: Arm, alpha: float) -> None:
    """The mean error of an arm, with an interval for new seeds and new test examples."""
    interval = statistics.mean_interval(arm.units(arm.errors), 1 - 2 * alpha, arm.overlap)
    arm.mean, arm.low, arm.high = interval
    found = _sources_of(arm, arm.errors, arm.values_of)
    if found is not None:
        half = found.half(alpha)
        arm.low, arm.high = arm.mean - half, arm.mean + half
        values = list(arm.values_of.values())
        if min(one.min() for one in values) >= 0:
            arm.low = max(0.0, arm.low)
        if max(one.max() for one in values) <= 0:
            arm.high = min(0.0, arm.high)


def _finished(row: AnswerRow) -> bool:
    return row.status is not Status.FAILED and is_finite(row.test_error)


def _reason(row: AnswerRow, measure: Measure) -> str:
    if row.reason:
        return row.reason
    error = row.test_error
    return "failed" if error is None else f"{measure.said} {formats.number(error)}"


def best_baseline(baselines: Sequence[Arm], notes: list[str]) -> Arm | None:
    """The baseline with the lowest mean error, of those that finished the most seeds."""
    usable = [arm for arm in baselines if arm.errors]
    if not usable:
        return None
    most = max(len(arm.errors) for arm in usable)
    best = min((arm for arm in usable if len(arm.errors) == most), key=lambda arm: arm.mean)
    lower = [arm.name for arm in usable if arm.mean < best.mean]
    if lower:
        notes.append(
            f"Not taken as the best baseline for their unfinished runs: {', '.join(lower)}."
        )
    return best


def compare(
    compared: Sequence[Arm],
    reference: Arm,
    choices: int = 1,
    margin: float | None = None,
    alpha: float | None = None,
) -> list[Comparison]:
    """Each arm against a reference; the verdicts and intervals of all hold at once.

    An arm may be better or worse, so `ALPHA` is divided by twice the number of arms. The side of
    the interval that shows an arm to be worse is divided by `choices` again. A verdict other than
    "no difference shown" is an interval that leaves zero out.

    Args:
        compared: the arms; those that cannot be judged count in the division all the same.
        reference: what they are compared to.
        choices: of how many arms the reference was chosen for its low error.
        margin: an interval within it, on both sides of zero, shows that two arms are equal.
        alpha: of one side of one arm; None is `ALPHA`, divided.
    """
    result = []
    better = ALPHA / (2 * max(1, len(compared))) if alpha is None else alpha
    worse = better / max(1, choices)
    for arm in compared:
        seeds = [seed for seed in arm.errors if seed in reference.errors]
        comparison = Comparison(arm.name, reference.name, NO_DIFFERENCE, len(seeds))
        result.append(comparison)
        found = None
        if seeds:
            ours, theirs = arm.units(seeds), reference.units(seeds)
            differences = [one - other for one, other in zip(ours, theirs, strict=True)]
            comparison.difference = float(np.mean(differences))
            comparison.wins = sum((one < 0) + (one == 0) / 2 for one in differences)
            if arm.layout is None:
                chance = statistics.chance_interval(comparison.wins, len(seeds))
                comparison.chance_low, comparison.chance_high = chance
            else:
                comparison.splits = len(ours)
            if len(ours) > 1:
                comparison.deviation = stdev(differences)
                error = comparison.deviation * math.sqrt(1 / len(ours) + arm.overlap)
                found = sources_of(arm, reference)
                _set_intervals(comparison, found, error, len(ours), better, worse)
        if arm.unfinished:
            comparison.verdict = UNFINISHED
        elif not seeds or len(ours) < FEWEST_SEEDS:
            comparison.verdict = TOO_FEW
        else:
            paired = statistics.paired_p_values(ours, theirs, arm.overlap)
            _decide(comparison, found, paired, better, worse)
            within = margin is not None and -margin <= comparison.low <= comparison.high <= margin
            if within and comparison.verdict == NO_DIFFERENCE:
                comparison.verdict = EQUAL
    return result


def _set_intervals(
    comparison: Comparison,
    found: Crossed | Nested | None,
    error: float,
    units: int,
    better: float,
    worse: float,
) -> None:
    """The intervals of a comparison; the lower end is what shows an arm to be worse.

    Args:
        comparison: gets them.
        found: what seeds and examples, or splits, say; None without values for each example.
        error: the standard error of the seeds alone, or of the splits alone.
        units: how many of these there are.
        better, worse: the chance that either side misses.
    """
    mean, alphas = comparison.difference, (worse, better)
    half = [float(special.stdtrit(units - 1, 1 - alpha)) * error for alpha in alphas]
    if comparison.splits == 1:
        comparison.here_low, comparison.here_high = mean - half[0], mean + half[1]
    if found is not None:
        comparison.examples, comparison.shares = found.examples, found.shares()
        half, error = [found.half(alpha) for alpha in alphas], found.error
    comparison.error, comparison.half = error, half[1]
    comparison.low, comparison.high = mean - half[0], mean + half[1]


def _decide(
    comparison: Comparison,
    found: Crossed | Nested | None,
    paired: tuple[float, float],
    better: float,
    worse: float,
) -> None:
    """The p-values of a comparison and its verdict."""

    def adjusted(lower: float, higher: float) -> float:
        return min(1.0, ALPHA * min(lower / better, higher / worse))

    if comparison.splits == 1:
        comparison.here_p = adjusted(*paired)
    p_values = paired
    if found is not None:
        p_value = found.p_value()
        p_values = (p_value, 1.0) if found.mean < 0 else (1.0, p_value)
    comparison.p = min(1.0, 2 * min(p_values))
    comparison.adjusted_p = adjusted(*p_values)
    if comparison.adjusted_p <= ALPHA:
        comparison.verdict = BETTER if comparison.difference < 0 else WORSE


def crossed_of(arm: Arm, reference: Arm) -> Crossed | None:
    """What seeds and examples of one split say of a difference; see `sources_of`."""
    found = sources_of(arm, reference)
    return found if isinstance(found, Crossed) else None


def sources_of(arm: Arm, reference: Arm) -> Crossed | Nested | None:
    """What seeds and examples, and splits, say of a difference; None without values for each."""
    seeds = [seed for seed in arm.errors if seed in reference.errors]
    differences = {
        seed: arm.values_of[seed] - reference.values_of[seed]
        for seed in seeds
        if seed in arm.values_of
        and seed in reference.values_of
        and len(arm.values_of[seed]) == len(reference.values_of[seed])
    }
    return _sources_of(arm, seeds, differences)


def _sources_of(
    arm: Arm, seeds: Iterable[int], values: Mapping[int, Any]
) -> Crossed | Nested | None:
    """The same of some values; None where a seed lacks them."""
    groups = arm.groups(seeds) if arm.layout is not None else [list(seeds)]
    if not all(seed in values for group in groups for seed in group):
        return None
    sizes = [{len(values[seed]) for seed in group} for group in groups]
    if not all(len(one) == 1 and min(one) > 1 for one in sizes):
        return None
    arrays = [np.array([values[seed] for seed in group]) for group in groups]
    if arm.layout is not None:
        return nested(arrays, arm.overlap) if len(arrays) > 1 else None
    return crossed(arrays[0]) if len(arrays[0]) > 1 else None


def judge(
    candidates: Sequence[Arm], reference: Arm | None, comparisons: Sequence[Comparison]
) -> tuple[str, Arm | None]:
    """The verdict on the whole, and the arm to use where one was found."""
    verdicts = {comparison.name: comparison.verdict for comparison in comparisons}
    better = [arm for arm in candidates if verdicts.get(arm.name) == BETTER]
    if better:
        return BETTER, min(better, key=lambda arm: arm.mean)
    equal = [arm for arm in candidates if verdicts.get(arm.name) == EQUAL]
    if equal and reference is not None:
        return EQUAL, min([reference, *equal], key=lambda arm: _cost(arm, reference))
    if not verdicts or set(verdicts.values()) <= {TOO_FEW, UNFINISHED}:
        return (UNFINISHED if UNFINISHED in verdicts.values() else TOO_FEW), None
    return NO_DIFFERENCE, reference


def _cost(arm: Arm, reference: Arm) -> tuple[float, float]:
    """What an arm costs, for a choice among equals: time, then size, where these are clear."""
    time = size = 1.0
    if arm.step_seconds and reference.step_seconds:
        time = arm.step_seconds / reference.step_seconds
    if arm.parameters and reference.parameters:
        size = arm.parameters / reference.parameters
    return time if max(time, 1 / time) > SAME_TIME else 1.0, size


def other_baselines(
    best: Arm, baselines: Sequence[Arm], reference: Arm, measure: Measure
) -> list[str]:
    """Baselines that the winner was not shown to beat: worse on average, but of wide spread."""
    notes = []
    for arm in baselines:
        shared = [seed for seed in best.errors if seed in arm.errors]
        if arm is reference or len(arm.groups(shared)) < FEWEST_SEEDS:
            continue
        p, _ = statistics.paired_p_values(best.units(shared), arm.units(shared), best.overlap)
        if 2 * p > ALPHA:
            varies = "seed" if arm.layout is None else "split"
            notes.append(
                f"Against {arm.name} by itself, whose {measure.words} varies more with the "
                f"{varies}, no difference was shown (p {formats.p_value(min(1.0, 2 * p))})."
            )
    return notes


def detectable(comparisons: Sequence[Comparison]) -> float | None:
    """The difference that these comparisons would have shown in about four cases of five."""
    needed = [
        comparison.half + FOUR_OF_FIVE * comparison.error
        for comparison in comparisons
        if comparison.p is not None and comparison.error
    ]
    return median(needed) if needed else None


def ablated_arm(
    run_rows: Sequence[AnswerRow], order: Sequence[TrialRow], main: Sequence[Arm]
) -> Arm | None:
    """The arm that the ablation changes: that of the best trial, which was ablated."""
    named = {row.around for row in run_rows if row.role == "ablation"}
    best_spec = key_of_spec(order[0].spec) if order else None
    for fits in (
        lambda arm: arm.name in named,
        lambda arm: key_of_spec(arm.spec) == best_spec,
        lambda arm: arm.role == "candidate",
    ):
        for arm in main:
            if fits(arm):
                return arm
    return None
