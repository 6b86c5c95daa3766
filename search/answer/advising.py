"""The answer in plain words: what to do, why, and what else must be known."""

from collections.abc import Mapping, Sequence

from search import formats
from search.answer.results import (
    BETTER,
    EQUAL,
    FEWEST_SEEDS,
    TOO_FEW,
    UNFINISHED,
    VALIDATION,
    WORSE,
    Answer,
    Arm,
    Comparison,
)
from search.answer.sequential import Rounds, Settled
from search.objective import Objective
from search.rows import AnswerRow, TrialRow


def advise(
    answer: Answer,
    seeds: int,
    order: Sequence[TrialRow],
    objective: Objective,
    complete: bool,
    unasked: bool,
) -> tuple[str, str]:
    """What to do, and why; `unasked` is whether no plain norm was to be compared with."""
    if answer.best is None:
        if answer.arms:
            return "", "No answer: no norm finished its trainings, and no trial was completed."
        return "", "No answer: no trial was completed, and nothing was trained again."
    percent = answer.percent
    if answer.rests_on == VALIDATION:
        why = (
            f"it is the best of {formats.count(len(order), 'completed trial')} by validation "
            f"({objective.name} {formats.score(order[0].score, objective.name, percent)}). "
        )
        if not answer.arms:
            return f"Try {answer.best}", (
                f"{why}Nothing was trained again on new seeds, so that may be chance."
            )
        if not complete:
            return f"Try {answer.best}", (
                f"{why}The comparison on the test part is not finished, so that may be chance."
            )
        return f"Try {answer.best}", (
            f"{why}No norm finished its trainings for the comparison on all seeds, so that may be "
            "chance."
        )
    best = answer.arm(answer.best)
    splits = f" in {answer.splits} splits" if answer.splits > 1 else ""
    on_seeds = f"on {formats.count(seeds, 'seed')}{splits}"
    measure = answer.measure
    error = formats.error(best.mean, percent)
    lowest = f"it has the {measure.best} mean {measure.said} {on_seeds}, {error}"
    count = len(answer.comparisons)
    candidates = formats.count(count, "candidate")
    if answer.reference is None:
        none = "No plain norm was asked for" if unasked else "No plain norm finished a run"
        return f"Try {best.name}", f"{lowest}. {none} to compare it with."
    if not answer.comparisons:
        return f"Use {best.name}", f"{lowest}, of the plain norms; there was no other candidate."
    if answer.verdict == BETTER:
        comparison = next(c for c in answer.comparisons if c.name == best.name)
        reference = answer.arm(answer.reference)
        ends = sorted(-measure.cost(end) for end in (comparison.low, comparison.high))
        new = "new seeds and test examples" if comparison.examples else "new seeds, these examples"
        new = "new data, split anew" if answer.splits > 1 else new
        return f"Use {best.name}", (
            f"its {measure.said}, {error}, is {measure.better} than that of the best plain norm, "
            f"{reference.name} ({formats.error(reference.mean, percent)}), by "
            f"{formats.points(abs(comparison.difference), percent)} "
            f"(95 % confidence interval "
            f"{formats.points(ends[0], percent).removesuffix(' points')} to "
            f"{formats.points(ends[1], percent)} for {new}, "
            f"{formats.count(comparison.seeds, 'seed')}{splits}, "
            f"p {formats.p_value(comparison.adjusted_p)} for all comparisons together)."
        )
    if answer.verdict == EQUAL:
        return _equal(answer, best)
    if answer.verdict == TOO_FEW:
        return f"Try {best.name}", (
            f"{lowest}. These are too few seeds to tell more: {seeds} of at least {FEWEST_SEEDS}, "
            "better 5."
        )
    if answer.verdict == UNFINISHED:
        none = f"none of {candidates}" if count > 1 else "the candidate did not finish"
        none += " finished on every seed" if count > 1 else " on every seed"
        return f"Try {best.name}", f"{lowest}; {none}, so nothing could be compared."
    keep = f"Keep {best.name}"
    if all(comparison.verdict == WORSE for comparison in answer.comparisons):
        were = f"all {candidates} were" if count > 1 else "the candidate was"
        return keep, f"{on_seeds} {were} worse than this best of the plain norms ({error})."
    none = f"none of {candidates} was" if count > 1 else "the candidate was not"
    limit = (
        ""
        if answer.detectable is None
        else f" A difference below about {formats.points(answer.detectable, percent)} could easily "
        f"have gone unseen."
    )
    return keep, (
        f"no difference was shown. {on_seeds.capitalize()} {none} better than this best of the "
        f"plain norms ({error}).{limit}"
    )


def _equal(answer: Answer, best: Arm) -> tuple[str, str]:
    """What to do with norms that are equal within the margin: take the cheaper one."""
    reference, measure = answer.arm(answer.reference), answer.measure
    within = formats.points(answer.margin, answer.percent)
    if best is not reference:
        comparison = next(one for one in answer.comparisons if one.name == best.name)
        ends = " to ".join(
            formats.points(end, answer.percent, sign=True)
            for end in (comparison.low, comparison.high)
        )
        return f"Use {best.name}", (
            f"its {measure.said}, {formats.error(best.mean, answer.percent)}, is equal within "
            f"{within} to that of the best plain norm, {reference.name} "
            f"({formats.error(reference.mean, answer.percent)}; 95 % confidence interval of the "
            f"difference {ends}), and it is the cheaper one: {_costs(best)} against "
            f"{_costs(reference)}."
        )
    names = [one.name for one in answer.comparisons if one.verdict == EQUAL]
    what = "is" if len(names) == 1 else "are"
    return f"Keep {best.name}", (
        f"{' and '.join(names)} {what} equal to this best of the plain norms within {within}, and "
        "not cheaper."
    )


def _costs(arm: Arm) -> str:
    """What an arm costs, in words."""
    return (
        f"{formats.seconds(arm.step_seconds)} for a train step and "
        f"{formats.number(arm.parameters)} parameters"
    )


def note_rounds(settled: Settled, rounds: Rounds) -> list[str]:
    """How many seeds there were, and why training ended for a candidate that is not settled."""
    counts = [count for count in settled.seeds.values() if count]
    if not counts:
        return []
    span = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{max(counts)}"
    notes = [
        f"Seeds were added until all was settled: {span} of at most {rounds.most} for each norm, "
        f"{sum(counts)} trainings. Each look at them is paid for in the intervals."
    ]
    notes += [
        f"{name} was trained on {formats.count(settled.seeds[name], 'seed')} and not further: "
        f"{why}."
        for name, why in settled.ended.items()
    ]
    last = None if settled.reference is None else settled.reference.name
    return notes + [
        f"{one.name} was settled against {one.reference}, the best plain norm in that round."
        for one in settled.comparisons
        if one.reference != last
    ]


def note_places(answer: Answer) -> list[str]:
    """Why the recommended norm is not the first in a table or a plot, where it is not."""
    best, first = answer.arm(answer.best), answer.arms[0]
    notes = []
    if first is not best:
        by = f"is {answer.measure.better} by "
        by += formats.points(abs(best.mean - first.mean), answer.percent)
        why = (
            "it did not finish on every seed"
            if first.unfinished
            else "that is not more than chance explains on these seeds"
        )
        notes.append(
            f"{first.name} stands above {best.name} in the leaderboard: its mean "
            f"{answer.measure.said} {by}, but {why}."
        )
    if best.name in answer.beaten:
        other, better_in = answer.beaten[best.name]
        saved = {"time": "less time for a train step", "parameters": "fewer parameters"}
        if "error" not in better_in:
            needs = " and ".join(saved[one] for one in better_in)
            notes.append(
                f"{best.name} is recommended for its {answer.measure.said} alone. {other} was not "
                f"shown to have a {answer.measure.worse} one, and needs {needs}."
            )
    return notes


def note_chance(answer: Answer) -> list[str]:
    """What intervals and verdicts are for, and where the chance in them comes from."""
    judged = [one for one in answer.comparisons if one.p is not None]
    if not judged:
        return []
    if answer.splits > 1:
        return _note_splits(next((one for one in judged if one.name == answer.best), judged[0]))
    if any(one.examples is None for one in judged):
        why = "Not all trainings have a value for each test example"
        if not any(arm.values_of for arm in answer.arms):
            why = f"There is no {answer.measure.words} of a single test example"
        return [
            f"{why}, so the seeds alone count: what is said holds for new seeds on these very test "
            "examples."
        ]
    one = next((one for one in judged if one.name == answer.best), judged[0])
    share = _in_percent(one.shares)
    more, less = "test examples", "seeds"
    if one.shares["seeds"] > one.shares["examples"]:
        more, less = less, more
    ends = " to ".join(
        formats.points(end, answer.percent, sign=True) for end in (one.here_low, one.here_high)
    )
    chance = " to ".join(f"{100 * end:.0f}" for end in (one.chance_low, one.chance_high))
    draws = ", a draw counting half" if one.wins % 1 else ""
    return [
        f"{one.name} was better than {one.reference} on {one.wins:g} of "
        f"{formats.count(one.seeds, 'seed')}{draws}. On a new seed, with these very examples, it "
        f"is better with a chance of {chance}\N{NARROW NO-BREAK SPACE}%.",
        f"Intervals and verdicts are for new seeds and new test examples. On these very examples, "
        f"{one.name} differs from {one.reference} by {ends}.",
        f"Of the variance of that difference, {share['seeds']} comes from the seeds, "
        f"{share['examples']} from the test examples and {share['both']} from both together. More "
        f"{more} would help more than more {less}.",
    ]


def _note_splits(one: Comparison) -> list[str]:
    """The same where the data were split anew."""
    notes = [
        f"{one.name} was better than {one.reference} in {one.wins:g} of "
        f"{formats.count(one.splits, 'split')} of the data.",
        "Intervals and verdicts are for new data of this kind: other examples to train on, other "
        "test examples, other seeds. Each split counts as one value.",
        "The candidates were chosen on split 0. The validation part that chose them is in no test "
        "part. Examples that the trials were trained on may be, in the other splits. No training "
        "is tested on an example that it was trained on.",
    ]
    if not one.shares:
        return notes
    share = _in_percent(one.shares)
    if "seeds" in one.shares:
        parts = (
            f"{share['splits']} comes from the split, {share['seeds']} from the seeds, "
            f"{share['examples']} from the test examples and {share['both']} from seeds and "
            "examples together"
        )
    else:
        parts = (
            f"{share['splits']} comes from the split and its one seed, and {share['examples']} "
            "from the test examples"
        )
    most = max(("splits", "seeds", "examples"), key=lambda name: one.shares.get(name, 0.0))
    more = {"splits": "splits", "seeds": "seeds for each split", "examples": "test examples"}[most]
    return [
        *notes,
        f"Of the variance of the difference in one split, {parts}. More {more} would help most.",
    ]


def _in_percent(shares: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{100 * part:.0f}\N{NARROW NO-BREAK SPACE}%" for name, part in shares.items()}


def note_failures(every: Sequence[Arm], notes: list[str]) -> None:
    """Say which arms did not finish on every seed, and why."""
    for arm in every:
        if arm.unfinished:
            reasons = "; ".join(dict.fromkeys(arm.unfinished.values()))
            notes.append(
                f"{arm.name} ({arm.role}) did not finish on "
                f"{len(arm.unfinished)} of {formats.count(arm.seeds, 'seed')}: {reasons}."
            )


def note_warnings(
    trial_rows: Sequence[TrialRow], run_rows: Sequence[AnswerRow], notes: list[str]
) -> None:
    """Say which norms were ranked by evaluations that may not be fair to them."""
    for found, end in (
        ([(row.words, row.warning) for row in trial_rows], ""),
        ([(row.arm, row.warning) for row in run_rows], " for the answer"),
    ):
        what = "training" if end else "trial"
        warned: dict[str, list[str]] = {}
        for name, warning in found:
            if warning:
                # Figures in brackets differ from row to row.
                said = warning.partition(" (")[0]
                warned.setdefault(said, []).append(name)
        for said, names in warned.items():
            advice = " More epochs or --reestimate help." if formats.LAGS in said else ""
            notes.append(
                f"{formats.count(len(names), what)}{end} ended with an {said}: "
                f"{', '.join(dict.fromkeys(names))}.{advice}"
            )
