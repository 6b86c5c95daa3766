"""Optuna's TPE sampler as an oracle, to compare the search's own with."""

import contextlib
import warnings
from typing import Any

import keras_tuner
import optuna
from optuna.trial import TrialState

from search.objective import Objective
from search.oracle import _active, _seed, _values_of
from search.private.keras_tuner import TrialStatus, begin_random_numbers, has_tried
from search.tpe import TRIES


class OptunaOracle(keras_tuner.Oracle):
    """Optuna's TPE, which knows conditions, as a KerasTuner oracle; no trial fails or is stopped.

    Args:
        objective: a `keras_tuner.Objective`.
        max_trials: how many trials at most.
        startup_trials: how many points are random.
        seed: of the proposals.
        **kwargs: as in `keras_tuner.Oracle`.
    """

    def __init__(self, objective=None, max_trials=10, startup_trials=10, seed=0, **kwargs):
        super().__init__(objective=objective, max_trials=max_trials, seed=seed, **kwargs)
        begin_random_numbers(self, seed)
        self.startup_trials = startup_trials
        # Whether values were tried already; whoever knows better than by the values says so.
        self.is_tried = has_tried(self)

    def populate_space(self, trial_id):
        """Propose the values of a trial."""
        with _quiet():
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=self.startup_trials,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=_seed(self.seed, trial_id),
            )
            directions = optuna.study.StudyDirection
            study = optuna.create_study(
                direction=directions.MINIMIZE
                if Objective.of(self.objective).sign > 0
                else directions.MAXIMIZE,
                sampler=sampler,
            )
            for number in self.start_order:
                study.add_trial(self._told(self.trials[number]))
            # What was proposed and tried already counts as running, which drives it elsewhere,
            # but not far: a good region that is small gets searched to its end.
            for _ in range(TRIES):
                values = self._proposed(study.ask())
                if not self.is_tried(values):
                    break
        return {"status": TrialStatus.RUNNING, "values": values}

    def _proposed(self, asked):
        """The values of one of Optuna's trials."""
        values: dict[str, Any] = {}
        for hp in self.hyperparameters.space:
            if _active(hp, values):
                values[hp.name] = asked._suggest(hp.name, _distribution(hp))
        return values

    def _told(self, trial):
        """A trial as Optuna keeps it."""
        values = trial.hyperparameters.values
        spaces = {
            hp.name: _distribution(hp)
            for hp in self.hyperparameters.space
            if hp.name in values and _active(hp, values)
        }
        ended = trial.status == TrialStatus.COMPLETED
        return optuna.trial.create_trial(
            state=TrialState.COMPLETE if ended else TrialState.RUNNING,
            params={name: values[name] for name in spaces},
            distributions=spaces,
            value=trial.score if ended else None,
        )


def _distribution(hp):
    """Optuna's distribution for one of KerasTuner's hyperparameters."""
    distributions = optuna.distributions
    if hasattr(hp, "sampling"):
        log = hp.sampling in ("log", "reverse_log")
        low, high = hp.min_value, hp.max_value
        if isinstance(hp, keras_tuner.engine.hyperparameters.Int):
            step = 1 if log or not hp.step else hp.step
            return distributions.IntDistribution(low, high, log=log, step=step)
        step = None if log or not hp.step else hp.step
        return distributions.FloatDistribution(low, high, log=log, step=step)
    return distributions.CategoricalDistribution(_values_of(hp))


@contextlib.contextmanager
def _quiet():
    """Without Optuna's log, and without its word on every use that TPE's options are young."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
