"""Tasks: what is to be trained for a trial, and for the answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search import answer as answers
from search.data.splits import split_of
from search.names import ORIGINAL
from search.oracle import OWN_PREFIX
from search.rows import TrialRow
from search.space import NormSpace, besides, words
from search.store import Store
from search.task import Task


def task_for(
    number: int,
    values_of: Callable[[int], dict[str, Any]],
    space: NormSpace | None,
    seed: int,
    epochs: int,
    store: Store,
    config: dict[str, Any] | None = None,
) -> Task:
    """The task of a trial.

    Args:
        number: of the trial.
        values_of: `values_of(number)`, the oracle's values of a trial that was asked for.
        space: the `NormSpace`, or None.
        seed, epochs: of every trial; Hyperband says epochs itself.
        store: where its weights go.
        config: KerasTuner's hyperparameters, where there is no `NormSpace`.
    """
    values = values_of(number)
    own = {key: value for key, value in values.items() if key.startswith(OWN_PREFIX)}
    if space is not None:
        spec = space.spec_from(values)
        shown = space.active(values)
        said = ", ".join([words(spec), *besides(shown)])
    else:
        spec = None
        shown = {key: value for key, value in values.items() if key not in own}
        said = ", ".join(f"{key} {value}" for key, value in shown.items()) or "the defaults"
    parent = own.get(f"{OWN_PREFIX}trial_id")
    return Task(
        number=number,
        spec=spec,
        words=said,
        values=shown,
        seed=seed,
        epochs=own.get(f"{OWN_PREFIX}epochs", epochs),
        initial_epoch=own.get(f"{OWN_PREFIX}initial_epoch", 0),
        parent=None
        if parent is None
        else task_for(int(parent), values_of, space, seed, epochs, store, config),
        save=str(store.weights(number)),
        space=config,
    )


def answer_arms(rows: Sequence[TrialRow], space: NormSpace, search: Any) -> list[dict[str, Any]]:
    """What the answer compares; see `search.answer.arms`.

    Args:
        rows: of the trials.
        space: what was searched.
        search: a `search.description.Search`.
    """
    if not search.seeds:
        return []
    baselines = [
        None if name == ORIGINAL else space.default_spec(name) for name in search.baselines
    ]
    arms = answers.arms(rows, search.candidates, baselines, search.objective.direction, words)
    if search.ablation:
        trained = {arm["trial"] for arm in arms}
        best = [row for row in search.objective.ranked(rows) if row.trial in trained]
        around = (answers.ablation_arms(row, space, search.ablation) for row in best)
        arms += next(filter(None, around), [])
    return arms


def answer_tasks(
    arms: Sequence[dict[str, Any]], search: Any, counts: Mapping[tuple[str, str], int] | None = None
) -> list[Task]:
    """The trainings for the answer: every arm on its seeds, arm by arm.

    Args:
        arms: as `answer_arms` gives them.
        search: a `search.description.Search`.
        counts: on how many of the seeds each arm is trained, by its role and name; None is all.
    """
    most = search.most_seeds if search.seeds == "auto" else search.seeds
    return [
        Task(
            number=index * most + place,
            spec=arm["spec"],
            words=words(arm["spec"]),
            values=arm["values"],
            seed=search.seed + 1 + place,
            split=split_of(place, search.splits),
            epochs=search.epochs,
            test=True,
            arm={k: v for k, v in arm.items() if k not in ("spec", "values", "trial")},
        )
        for index, arm in enumerate(arms)
        for place in range(most if counts is None else counts.get((arm["role"], arm["arm"]), 0))
    ]
