"""What the runs say: is any norm better than the plain ones, and how sure is that?

Everything here works on plain rows and returns plain values: nothing is trained, no file is read.

How a difference is judged. Every arm is trained on the same seeds and tested on the same examples.
A difference has a value for each seed and each example, and both are chance: the answer is for
other seeds and other examples of this kind (`search.answer.crossed`). Where there are no values
per example, the seeds alone count, with Student's paired t test, and the answer says so. Where the
data were split anew, each split has one value (`search.answer.nested`). The reference is the
baseline with the best mean. It was chosen by the same errors that it is compared by, so it looks
better than it is: that can hide that a candidate is better, but cannot make it so; where a
candidate is worse, the p-value is multiplied by the number of baselines that could have been
chosen. "Better" and "worse" are two one-sided claims per candidate, and the 5 % are divided among
all of them. Verdicts and intervals are two views of one thing, and all hold at once: the chance
that any is wrong is at most 5 %. `python -m benchmarks answers` and `splits` try it.
The ablation is a question of its own, judged alike, with its own 5 %.

Failed runs are never left out: an arm that did not finish on every seed gets no verdict, since the
seeds on which it failed may be its worst, but still counts in the correction.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search import importance
from search.answer.advising import (
    advise,
    note_chance,
    note_failures,
    note_places,
    note_rounds,
    note_warnings,
)
from search.answer.choosing import ablation_arms, arms, ranked
from search.answer.front import front_of_arms, front_of_trials
from search.answer.judging import (
    ablated_arm,
    best_baseline,
    collect,
    compare,
    detectable,
    judge,
    layout_of,
    other_baselines,
    seeds_of,
)
from search.answer.results import (
    ALPHA,
    BETTER,
    COMPARED,
    EQUAL,
    FEWEST_SEEDS,
    NO_DIFFERENCE,
    TOO_FEW,
    UNFINISHED,
    VALIDATION,
    WORSE,
    Answer,
    Arm,
    Comparison,
)
from search.answer.sequential import Rounds, margin_of, settle, wanted
from search.measure import Measure
from search.objective import Objective
from search.rows import AnswerRow, TrialRow

__all__ = [
    "ALPHA",
    "BETTER",
    "COMPARED",
    "EQUAL",
    "FEWEST_SEEDS",
    "NO_DIFFERENCE",
    "TOO_FEW",
    "UNFINISHED",
    "VALIDATION",
    "WORSE",
    "Answer",
    "Arm",
    "Comparison",
    "ablation_arms",
    "arms",
    "conclude",
    "ranked",
    "wanted",
]

Row = Mapping[str, Any]


def conclude(
    trial_rows: Sequence[Row],
    run_rows: Sequence[Row],
    manifest: Mapping[str, Any],
    complete: bool = True,
    explain: bool = True,
) -> Answer:
    """The answer that the rows give.

    Args:
        trial_rows: the trials of the search.
        run_rows: the runs of the candidates, the baselines and the ablation.
        manifest: what was searched; used are "direction", "objective", "measure", "seeds", "data",
            "baselines", "margin", "splits" and, where seeds are added until all is settled,
            "most_seeds".
        complete: whether these are all runs; of a part of them no verdict is given.
        explain: whether to find out which hyperparameters matter, which takes a while.

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
    trials, runs = list(map(TrialRow.of, trial_rows)), list(map(AnswerRow.of, run_rows))
    seeds = seeds_of(runs, manifest)
    measure = Measure.found(manifest)
    rounds = Rounds.of(manifest, measure)
    layout = layout_of(runs, manifest)
    every = collect(runs, seeds, measure, notes, rounds.level if rounds else None, layout)
    main = [arm for arm in every if arm.role != "ablation"]
    main.sort(key=lambda arm: math.inf if arm.mean is None else arm.mean)
    candidates = [arm for arm in main if arm.role == "candidate"]
    baselines = [arm for arm in main if arm.role == "baseline"]
    margin = margin_of(manifest, measure)
    reference = best_baseline(baselines, notes)
    usable = sum(len(arm.errors) >= FEWEST_SEEDS for arm in baselines)
    comparisons = compare(candidates, reference, usable, margin) if reference else []
    if rounds is not None and reference is not None:
        settled = settle(candidates, baselines, seeds, rounds)
        comparisons = settled.comparisons
        named = None if settled.reference is None else settled.reference.name
        reference = next((arm for arm in baselines if arm.name == named), reference)
        notes += note_rounds(settled, rounds)
    if complete:
        verdict, best = judge(candidates, reference, comparisons)
        if best is None:
            # Nothing could be judged: the lowest error is all there is to go by.
            best = next((arm for arm in main if arm.mean is not None and not arm.unfinished), None)
        note_failures(every, notes)
        note_warnings(trials, runs, notes)
    else:
        verdict, best = UNFINISHED, None

    # Of equal ones the norm to use comes first.
    main.sort(key=lambda arm: (math.inf if arm.mean is None else arm.mean, arm is not best))
    objective = Objective(str(manifest.get("objective", "score")), manifest.get("direction", "min"))
    order = objective.ranked(trials)
    ablation_arms = [arm for arm in every if arm.role == "ablation"]
    ablated = ablated_arm(runs, order, main) if ablation_arms else None
    percent = measure.share and all(
        0 <= measure.cost(error) <= 1 for arm in every for error in arm.errors.values()
    )
    if verdict == BETTER:
        notes += other_baselines(best, baselines, reference, measure)
    pareto, beaten = front_of_arms(main, comparisons, notes if complete else [])
    answer = Answer(
        advice="",
        reason="",
        verdict=verdict,
        best=best.name if best else None,
        best_spec=best.spec if best else None,
        best_values=best.values if best else {},
        rests_on=COMPARED if best else None,
        percent=percent,
        measure=measure,
        reference=reference.name if reference else None,
        arms=main,
        comparisons=comparisons,
        ablated=ablated.name if ablated else None,
        ablation_arms=ablation_arms,
        ablation=compare(ablation_arms, ablated) if ablated else [],
        pareto=pareto,
        beaten=beaten,
        pareto_trials=front_of_trials(order, main, objective),
        importance=(
            importance.of_trials(trials, objective.direction)
            if explain
            else importance.Importance()
        ),
        margin=margin,
        detectable=detectable(comparisons),
        notes=notes,
        splits=manifest.get("splits", 1),
    )
    if best is None and order:
        answer.best, answer.best_spec = order[0].words, order[0].spec
        answer.best_values, answer.rests_on = dict(order[0].hyperparameters), VALIDATION
    if measure.direction == "max":
        # What was compared were costs.
        answer.arms = [arm.turned() for arm in answer.arms]
        answer.ablation_arms = [arm.turned() for arm in answer.ablation_arms]
        answer.comparisons = [one.turned() for one in answer.comparisons]
        answer.ablation = [one.turned() for one in answer.ablation]
    unasked = manifest.get("baselines") == []
    many = len(seeds) if rounds is None else max((arm.seeds for arm in main), default=0)
    answer.advice, answer.reason = advise(answer, many, order, objective, complete, unasked)
    if answer.rests_on == COMPARED:
        notes += [*note_places(answer), *note_chance(answer)]
    return answer
