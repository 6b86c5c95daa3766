"""How the parts of a search are put together, for `search.run` and for `NormTuner`."""

from collections.abc import Callable
from typing import Any

import keras_tuner

from search.description import Description
from search.driver import Driver, rule_for
from search.executors.base import Executor
from search.oracle import Asker
from search.progress import Observer
from search.store import Store
from search.tasks import task_for
from search.trial import Runner


class Wiring:
    """All parts of a search but its folder, so that what is wrong is refused before that is made.

    Args:
        description: of the search.
        hypermodel: what is built; its `space`, where it has one, is a `NormSpace`.
        oracle: a `keras_tuner.Oracle`.
        executor: where the trainings run.
        inputs: `inputs(task) -> (args, kwargs)` of `fit`.
        early_stopping: a word, or a rule of `search.stopping`.
        test: what measures the error on the test part; see `search.trial.Runner`.
    """

    def __init__(
        self,
        description: Description,
        hypermodel: keras_tuner.HyperModel,
        oracle: keras_tuner.Oracle,
        executor: Executor,
        inputs: Callable,
        early_stopping: Any,
        test: Callable | None = None,
    ):
        self.description = description
        self.space = getattr(hypermodel, "space", None)
        self.oracle = oracle
        self.executor = executor
        enqueued = () if self.space is None else self.space.paper_defaults()
        self.asker = Asker(oracle, self.space, enqueued, description.trials)
        self.rule = rule_for(oracle, description.objective, description.epochs, early_stopping)
        deterministic = getattr(description, "deterministic", False)
        self.runner = Runner(
            hypermodel,
            inputs,
            description.objective,
            test,
            description.reestimate,
            deterministic,
        )

    def driver(
        self,
        store: Store,
        keep: int = 1,
        budget: float | None = None,
        progress: Observer | None = None,
    ) -> Driver:
        """The driver of the search in a folder; see `Driver` for the arguments."""

        def task_of(number, values_of):
            seed, epochs = self.description.seed, self.description.epochs
            # Without a space of ours, KerasTuner's grows with the trials.
            config = None if self.space is not None else self.oracle.get_space().get_config()
            return task_for(number, values_of, self.space, seed, epochs, store, config)

        return Driver(
            self.asker,
            self.executor,
            store,
            self.runner,
            task_of,
            self.description.objective,
            self.rule,
            keep,
            budget,
            progress,
        )
