"""What the runs say: is any norm better than the plain ones, and how sure is that?

Everything here works on plain rows and returns plain values: nothing is trained, no file is read.

How a difference is judged. Every arm is trained on the same seeds, so arms are compared by the
differences seed by seed, with Student's paired t test. The reference is the baseline with the
lowest mean test error. It was chosen by the same errors that it is compared by, so it looks better
than it is: that can hide that a candidate is better, but cannot make it so; where a candidate
is worse, the p-value is multiplied by the number of baselines that could have been chosen. "Better"
and "worse" are two one-sided claims per candidate, and Holm's correction goes over all of them: the
chance of any wrong claim is at most 5 % for arms that are really the same, however many they are.
The ablation is a question of its own, judged alike, with its own 5 %.

Failed runs are never left out: an arm that did not finish on every seed gets no verdict, since the
seeds on which it failed may be its worst, but still counts in the correction.
"""

import json
import math
import statistics as plain_statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from search import formats, importance, statistics

ALPHA = 0.05
# With two seeds a t test has one degree of freedom, and rests on chance alone.
FEWEST_SEEDS = 3

BETTER = "better"
WORSE = "worse"
NO_DIFFERENCE = "no difference shown"
UNFINISHED = "not judged: unfinished runs"
TOO_FEW = "not judged: too few seeds"

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


@dataclass
class Arm:
    """One way to train, on all its seeds."""

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
    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> int:
        """How many seeds there are, finished or not."""
        return len(self.errors) + len(self.unfinished)


@dataclass
class Comparison:
    """An arm against a reference on the same seeds; the interval is that of this one comparison."""

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


@dataclass
class Answer:
    """What `conclude` found, plain enough for JSON (`as_dict`).

    Attributes:
        sentence: the answer in plain words.
        verdict: "better", "no difference shown", "not judged: ..." of the search as a whole.
        best: the name of the arm to use: a candidate only where it was shown to be better.
        best_spec: its norm spec.
        percent: whether errors are shares of the examples.
        reference: the name of the best baseline.
        arms: all arms but the ablation's, lowest mean test error first.
        comparisons: each candidate against the best baseline.
        ablated: the name of the arm that the ablation changes.
        ablation_arms: the ablation's arms.
        ablation: each of them against the ablated arm.
        pareto: the arms that no other arm beats in error, step time and parameters at once.
        pareto_trials: numbers of the trials for which the same holds, with the validation score.
        importance: what the trials' scores depend on.
        detectable: the difference that these seeds would have shown in about four cases of five.
        notes: what else must be known to read the answer.
    """

    sentence: str
    verdict: str
    best: str | None
    best_spec: Any
    percent: bool
    reference: str | None
    arms: list[Arm]
    comparisons: list[Comparison]
    ablated: str | None
    ablation_arms: list[Arm]
    ablation: list[Comparison]
    pareto: list[str]
    pareto_trials: list[int]
    importance: importance.Importance
    detectable: float | None
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries and lists."""
        return asdict(self)

    def arm(self, name: str) -> Arm:
        """The candidate or baseline of a name."""
        return next(arm for arm in self.arms if arm.name == name)


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
    best: dict[str, Row] = {}
    for row in ranked(trial_rows, direction):
        # A model of the user's has no spec: there the hyperparameters are what differs.
        best.setdefault(_key(row["values"] if row["spec"] is None else row["spec"]), row)
    plain = {_key(spec): spec for spec in baselines}
    candidates = [key for key in best if key not in plain][:k]
    taken: set[str] = set()
    result = []
    for key in (*candidates, *plain):
        row = best.get(key)
        name = row["words"] if row else words(plain[key])
        if name in taken:
            name += f" (trial {row['trial']})" if row else f" ({json.dumps(plain[key])})"
        taken.add(name)
        result.append(
            {
                "arm": name,
                "role": "baseline" if key in plain else "candidate",
                "spec": row["spec"] if row else plain[key],
                "values": dict(row["values"]) if row else {},
                "trial": row["trial"] if row else None,
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
    values = space.active(best_trial["values"])
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
                    "trial": best_trial["trial"],
                    "changed": {name: other},
                    "around": best_trial["words"],
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


def ranked(trial_rows: Iterable[Row], direction: str = "min") -> list[Row]:
    """The completed trials, the best first.

    >>> rows = [{"trial": n, "status": "completed", "score": s} for n, s in enumerate([3, 1, 2])]
    >>> [row["trial"] for row in ranked(rows)]
    [1, 2, 0]
    """
    sign = -1.0 if direction == "max" else 1.0
    completed = [
        row for row in trial_rows if row["status"] == "completed" and _is_finite(row["score"])
    ]
    return sorted(completed, key=lambda row: (sign * row["score"], row["trial"]))


def conclude(
    trial_rows: Sequence[Row], run_rows: Sequence[Row], manifest: Mapping[str, Any]
) -> Answer:
    """The answer that the rows give.

    Args:
        trial_rows: the trials of the search.
        run_rows: the runs of the candidates, the baselines and the ablation.
        manifest: what was searched; used are "direction", "seeds" and "data".

    >>> runs = [
    ...     {"arm": arm, "spec": arm, "role": role, "seed": seed, "status": "completed"}
    ...     | {"test_error": error + seed / 1000, "parameters": 10, "step_seconds": 0.01}
    ...     for arm, role, error in [("a", "candidate", 0.1), ("b", "baseline", 0.2)]
    ...     for seed in range(5)
    ... ]
    >>> answer = conclude([], runs, {"direction": "min", "data": {"classes": 10}})
    >>> answer.best, answer.verdict
    ('a', 'better')
    """
    notes: list[str] = []
    seeds = _seeds(run_rows, manifest)
    every = _collect(run_rows, seeds, notes)
    main = [arm for arm in every if arm.role != "ablation"]
    main.sort(key=lambda arm: math.inf if arm.mean is None else arm.mean)
    candidates = [arm for arm in main if arm.role == "candidate"]
    baselines = [arm for arm in main if arm.role == "baseline"]
    reference = _best_baseline(baselines, notes)
    usable = sum(len(arm.errors) >= FEWEST_SEEDS for arm in baselines)
    comparisons = _compare(candidates, reference, choices=usable) if reference else []
    verdict, best = _judge(candidates, reference, comparisons)
    if best is None:
        # Nothing could be judged: the lowest error is all there is to go by.
        best = next((arm for arm in main if arm.mean is not None and not arm.unfinished), None)

    direction = manifest.get("direction", "min")
    order = ranked(trial_rows, direction)
    ablation_arms = [arm for arm in every if arm.role == "ablation"]
    ablated = _ablated(run_rows, order, main) if ablation_arms else None
    percent = bool((manifest.get("data") or {}).get("classes")) and all(
        0 <= error <= 1 for arm in every for error in arm.errors.values()
    )
    _note_failures(every, notes)
    if verdict == BETTER:
        notes += _other_baselines(best, baselines, reference)
    limit = _detectable(comparisons)
    pareto_trials = [
        row for row in order if _is_finite(row["step_seconds"]) and row["parameters"] is not None
    ]
    sign = -1.0 if direction == "max" else 1.0
    answer = Answer(
        sentence="",
        verdict=verdict,
        best=best.name if best else None,
        best_spec=best.spec if best else None,
        percent=percent,
        reference=reference.name if reference else None,
        arms=main,
        comparisons=comparisons,
        ablated=ablated.name if ablated else None,
        ablation_arms=ablation_arms,
        ablation=_compare(ablation_arms, ablated) if ablated else [],
        pareto=_pareto_arms(main, notes),
        pareto_trials=[
            pareto_trials[index]["trial"]
            for index in statistics.pareto_front(
                [
                    (sign * row["score"], row["step_seconds"], row["parameters"])
                    for row in pareto_trials
                ]
            )
        ],
        importance=importance.of_trials(trial_rows, direction),
        detectable=limit,
        notes=notes,
    )
    if best is None and order:
        answer.best_spec = order[0]["spec"]
    answer.sentence = _sentence(answer, len(seeds), order)
    return answer


def _seeds(run_rows: Sequence[Row], manifest: Mapping[str, Any]) -> list[int]:
    """The seeds that every arm should have run on."""
    planned = manifest.get("seeds")
    planned = list(planned) if isinstance(planned, (list, tuple)) and run_rows else []
    return list(dict.fromkeys([*planned, *(row["seed"] for row in run_rows)]))


def _collect(run_rows: Sequence[Row], seeds: Sequence[int], notes: list[str]) -> list[Arm]:
    """The arms, each with all its seeds."""
    rows_of: dict[tuple[str, str], dict[int, Row]] = {}
    for row in run_rows:
        runs = rows_of.setdefault((row["role"], row["arm"]), {})
        if row["seed"] in runs:
            notes.append(
                f"{row['arm']} ran more than once on seed {row['seed']}: the last run counts."
            )
        runs[row["seed"]] = row
    result = []
    for (role, name), runs in rows_of.items():
        finished = {seed: row for seed, row in runs.items() if _finished(row)}
        first = next(iter(runs.values()))
        arm = Arm(
            name=name,
            role=role,
            spec=first["spec"],
            errors={seed: float(row["test_error"]) for seed, row in finished.items()},
            unfinished={
                seed: _reason(runs[seed]) if seed in runs else "not run"
                for seed in seeds
                if seed not in finished
            },
            parameters=next(
                (r["parameters"] for r in runs.values() if r.get("parameters") is not None), None
            ),
            changed=dict(first.get("changed") or {}),
        )
        if arm.errors:
            interval = statistics.mean_interval(list(arm.errors.values()))
            arm.mean, arm.low, arm.high = interval
        times = [r["step_seconds"] for r in runs.values() if _is_finite(r.get("step_seconds"))]
        arm.step_seconds = float(plain_statistics.median(times)) if times else None
        result.append(arm)
    return result


def _finished(row: Row) -> bool:
    return row["status"] != "failed" and _is_finite(row["test_error"])


def _reason(row: Row) -> str:
    given = row.get("reason")
    if given:
        return str(given)
    error = row["test_error"]
    return "failed" if error is None else f"test error {formats.number(error)}"


def _best_baseline(baselines: Sequence[Arm], notes: list[str]) -> Arm | None:
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


def _compare(compared: Sequence[Arm], reference: Arm, choices: int = 1) -> list[Comparison]:
    """Each arm against a reference, with Holm's correction over both directions of all.

    Args:
        compared: the arms; those that cannot be judged count in the correction all the same.
        reference: what they are compared to.
        choices: of how many arms the reference was chosen for its low error.
    """
    result, p_values = [], []
    for arm in compared:
        seeds = [seed for seed in arm.errors if seed in reference.errors]
        comparison = Comparison(arm.name, reference.name, NO_DIFFERENCE, len(seeds))
        result.append(comparison)
        ours = [arm.errors[seed] for seed in seeds]
        theirs = [reference.errors[seed] for seed in seeds]
        if seeds:
            differences = [a - b for a, b in zip(ours, theirs, strict=True)]
            interval = statistics.mean_interval(differences)
            comparison.difference, comparison.low, comparison.high = interval
            if len(seeds) > 1:
                comparison.deviation = plain_statistics.stdev(differences)
        if arm.unfinished:
            comparison.verdict = UNFINISHED
        elif len(seeds) < FEWEST_SEEDS:
            comparison.verdict = TOO_FEW
        if comparison.verdict != NO_DIFFERENCE:
            p_values += [1.0, 1.0]
            continue
        lower, higher = statistics.paired_p_values(ours, theirs)
        p_values += [lower, min(1.0, higher * choices)]
    adjusted = statistics.holm(p_values)
    for index, comparison in enumerate(result):
        if comparison.verdict != NO_DIFFERENCE:
            continue
        # The smaller of the two one-sided p-values, doubled, as a two-sided test has it.
        comparison.p = min(1.0, 2 * min(p_values[2 * index : 2 * index + 2]))
        lower, higher = adjusted[2 * index : 2 * index + 2]
        comparison.adjusted_p = min(lower, higher)
        if comparison.adjusted_p <= ALPHA:
            comparison.verdict = BETTER if lower < higher else WORSE
    return result


def _judge(
    candidates: Sequence[Arm], reference: Arm | None, comparisons: Sequence[Comparison]
) -> tuple[str, Arm | None]:
    """The verdict on the whole, and the arm to use where one was found."""
    verdicts = {comparison.name: comparison.verdict for comparison in comparisons}
    better = [arm for arm in candidates if verdicts.get(arm.name) == BETTER]
    if better:
        return BETTER, min(better, key=lambda arm: arm.mean)
    if not verdicts or set(verdicts.values()) <= {TOO_FEW, UNFINISHED}:
        return (UNFINISHED if UNFINISHED in verdicts.values() else TOO_FEW), None
    return NO_DIFFERENCE, reference


def _other_baselines(best: Arm, baselines: Sequence[Arm], reference: Arm) -> list[str]:
    """Baselines that the winner was not shown to beat: worse on average, but of wide spread."""
    notes = []
    for arm in baselines:
        shared = [seed for seed in best.errors if seed in arm.errors]
        if arm is reference or len(shared) < FEWEST_SEEDS:
            continue
        p, _ = statistics.paired_p_values(
            [best.errors[seed] for seed in shared], [arm.errors[seed] for seed in shared]
        )
        if 2 * p > ALPHA:
            notes.append(
                f"Against {arm.name} by itself, whose error varies more with the seed, no "
                f"difference was shown (p {formats.p_value(min(1.0, 2 * p))})."
            )
    return notes


def _note_failures(every: Sequence[Arm], notes: list[str]) -> None:
    for arm in every:
        if arm.unfinished:
            reasons = "; ".join(dict.fromkeys(arm.unfinished.values()))
            notes.append(
                f"{arm.name} ({arm.role}) did not finish on "
                f"{len(arm.unfinished)} of {formats.count(arm.seeds, 'seed')}: {reasons}."
            )


def _detectable(comparisons: Sequence[Comparison]) -> float | None:
    spreads = [
        (comparison.deviation, comparison.seeds)
        for comparison in comparisons
        if comparison.p is not None and comparison.deviation
    ]
    if not spreads:
        return None
    deviation = plain_statistics.median(spread for spread, _ in spreads)
    seeds = min(seeds for _, seeds in spreads)
    return statistics.detectable(deviation, seeds, tests=2 * len(comparisons), alpha=ALPHA)


def _ablated(run_rows: Sequence[Row], order: Sequence[Row], main: Sequence[Arm]) -> Arm | None:
    """The arm that the ablation changes: that of the best trial, which was ablated."""
    named = {row.get("around") for row in run_rows if row["role"] == "ablation"}
    best_spec = _key(order[0]["spec"]) if order else None
    for fits in (
        lambda arm: arm.name in named,
        lambda arm: _key(arm.spec) == best_spec,
        lambda arm: arm.role == "candidate",
    ):
        for arm in main:
            if fits(arm):
                return arm
    return None


def _pareto_arms(main: Sequence[Arm], notes: list[str]) -> list[str]:
    placed, left_out = [], []
    for arm in main:
        known = arm.mean is not None and arm.step_seconds and arm.parameters is not None
        (placed if known and not arm.unfinished else left_out).append(arm)
    if left_out:
        notes.append(
            "Not on the Pareto front for want of a full set of errors, a step time or a parameter "
            f"count: {', '.join(arm.name for arm in left_out)}."
        )
    front = statistics.pareto_front(
        [(arm.mean, arm.step_seconds, arm.parameters) for arm in placed]
    )
    return [placed[index].name for index in front]


def _sentence(answer: Answer, seeds: int, order: Sequence[Row]) -> str:
    """The answer in plain words."""
    percent = answer.percent
    if not answer.arms:
        if not order:
            return "No answer: no trial was completed, and nothing was trained again."
        return (
            f"No answer yet: nothing was trained again on fresh seeds. The best trial of the "
            f"search was {order[0]['words']}."
        )
    if answer.best is None:
        return "No answer: no arm finished on all of its seeds."
    best = answer.arm(answer.best)
    on_seeds = f"on {formats.count(seeds, 'seed')}"
    lowest = f"lowest mean test error {on_seeds}: {best.name}, {formats.error(best.mean, percent)}"
    candidates = formats.count(len(answer.comparisons), "candidate")
    if answer.reference is None:
        return f"No answer: no baseline finished a run to compare with. The {lowest}."
    if not answer.comparisons:
        return f"No answer: there was no candidate besides the plain norms. The {lowest}."
    reference = answer.arm(answer.reference)
    plain = f"{reference.name} ({formats.error(reference.mean, percent)})"
    if answer.verdict == BETTER:
        comparison = next(c for c in answer.comparisons if c.name == best.name)
        return (
            f"Use {best.name}: its test error, {formats.error(best.mean, percent)}, is lower than "
            f"that of the best plain norm, {plain}, by "
            f"{formats.points(-comparison.difference, percent)} "
            f"(95 % confidence interval "
            f"{formats.points(-comparison.high, percent).removesuffix(' points')} to "
            f"{formats.points(-comparison.low, percent)}, "
            f"{formats.count(comparison.seeds, 'seed')}, "
            f"p {formats.p_value(comparison.adjusted_p)} after Holm's correction)."
        )
    if answer.verdict == TOO_FEW:
        return f"Too few seeds to tell: {seeds} of at least {FEWEST_SEEDS}, better 5. The {lowest}."
    if answer.verdict == UNFINISHED:
        return f"No answer: none of {candidates} finished on every seed. The {lowest}."
    shown = f"No difference shown: {on_seeds} none of {candidates} was better than the best plain "
    if len(answer.comparisons) == 1:
        shown = f"No difference shown: {on_seeds} the candidate was not better than the best plain "
    limit = (
        ""
        if answer.detectable is None
        else f" A difference below about {formats.points(answer.detectable, percent)} could easily "
        f"have gone unseen."
    )
    if all(comparison.verdict == WORSE for comparison in answer.comparisons):
        shown = shown.replace("No difference shown: ", "Keep the plain norm: ")
        shown = shown.replace("was better than", "was better, and all were worse, than")
        shown = shown.replace("was not better than", "was worse than")
        limit = ""
    return f"{shown}norm, {plain}.{limit}"


def _key(spec: Any) -> str:
    """A text that is the same for the same norm; "auto" is what a missing group count means."""
    if isinstance(spec, str):
        return _key({"name": spec})
    if isinstance(spec, Mapping):
        return json.dumps(
            {key: value for key, value in sorted(spec.items()) if value != "auto"}, default=_key
        )
    if isinstance(spec, (list, tuple)):
        return json.dumps([_key(one) for one in spec])
    return json.dumps(spec)


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
