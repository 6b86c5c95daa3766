"""Oracles: Optuna's TPE behind `keras_tuner.Oracle`, and what makes any oracle safe to drive."""

import contextlib
import functools
import hashlib
import json
import math
import random
import sys
import warnings
from typing import Any

import keras_tuner
import optuna
import sklearn.exceptions
from keras_tuner.src.engine.objective import MultiObjective
from keras_tuner.src.engine.trial import TrialStatus
from optuna.trial import TrialState

from search.errors import BadInput, unknown
from search.store import plain

ORACLES = ("tpe", "random", "bayesian", "hyperband", "grid")
# How often TPE is asked for something new before it is taken to have no more.
PROPOSALS = 20
# What Hyperband adds to the values of a point.
OWN_PREFIX = "tuner/"
DIRECTIONS = {
    "val_error": "min",
    "val_loss": "min",
    "val_accuracy": "max",
    "val_sparse_categorical_accuracy": "max",
    "val_categorical_accuracy": "max",
}


def objective_of(objective):
    """A `keras_tuner.Objective`, whose direction is never guessed.

    Args:
        objective: one; or the name of a well-known metric of the validation part; or `"name:min"`
            or `"name:max"`.

    >>> from search.oracle import objective_of
    >>> objective_of("val_f1_score:max").direction
    'max'
    """
    if isinstance(objective, keras_tuner.Objective):
        if objective.direction not in ("min", "max"):
            raise BadInput(f"objective {objective} has no direction. Needed: min or max.")
        return objective
    if not isinstance(objective, str):
        raise BadInput(f"objective {objective!r}. Needed: a name, or one keras_tuner.Objective.")
    name, _, direction = objective.partition(":")
    direction = direction or DIRECTIONS.get(name)
    if direction not in ("min", "max"):
        raise BadInput(
            f"objective {objective!r}: whether less or more of it is better is not known. Needed: "
            f"one of {', '.join(DIRECTIONS)}, or its name with :min or :max."
        )
    return keras_tuner.Objective(name, direction)


class TPEOracle(keras_tuner.Oracle):
    """Optuna's TPE, which knows conditions, as a KerasTuner oracle.

    It keeps nothing of its own: each proposal is a function of the seed and of the trials so far,
    so that it goes on from restored or replayed trials as if nothing had happened.

    Args:
        objective: a `keras_tuner.Objective`.
        max_trials: how many trials at most.
        startup_trials: how many points are drawn at random before the model of the scores counts;
            points that were enqueued are among them.
        seed: of the proposals; 0 is a seed like any other.
        **kwargs: as in `keras_tuner.Oracle`.

    Example:
        >>> import keras_tuner
        >>> from search.oracle import TPEOracle
        >>> hp = keras_tuner.HyperParameters()
        >>> _ = hp.Choice("norm", ["batch", "group"])
        >>> objective = keras_tuner.Objective("val_loss", "min")
        >>> oracle = TPEOracle(objective, max_trials=4, hyperparameters=hp, seed=0)
        >>> oracle.populate_space("0")["values"]["norm"] in ("batch", "group")
        True
    """

    def __init__(self, objective=None, max_trials=10, startup_trials=10, seed=0, **kwargs):
        super().__init__(objective=objective, max_trials=max_trials, seed=seed, **kwargs)
        # KerasTuner takes 0 for no seed.
        self.seed = self._seed_state = random.randrange(2**31) if seed is None else int(seed)
        self.startup_trials = startup_trials
        self.stopped: list[str] = []
        # Whether values were tried already; whoever knows better than by the values says so.
        self.is_tried = self._duplicate

    def mark_stopped(self, trial_id):
        """Say that a trial was stopped early: its score is its last value, not its final one."""
        self.stopped.append(trial_id)

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
                direction=directions.MAXIMIZE
                if self.objective.direction == "max"
                else directions.MINIMIZE,
                sampler=sampler,
            )
            for number in self.start_order:
                study.add_trial(self._told(self.trials[number]))
            # What was proposed and tried already counts as running, which drives it elsewhere,
            # but not far: a good region that is small gets searched to its end.
            for _ in range(PROPOSALS):
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
        state, score, reported = TrialState.FAIL, None, {}
        if trial.status == TrialStatus.RUNNING:
            state = TrialState.RUNNING
        elif trial.status == TrialStatus.COMPLETED and trial.trial_id in self.stopped:
            # Among the stopped ones, the later the better, then by the last value.
            state, reported = TrialState.PRUNED, {trial.best_step: trial.score}
        elif trial.status == TrialStatus.COMPLETED:
            state, score = TrialState.COMPLETE, trial.score
        return optuna.trial.create_trial(
            state=state,
            params={name: values[name] for name in spaces},
            distributions=spaces,
            value=score,
            intermediate_values=reported,
        )

    def get_state(self):
        """The state of every oracle, and which trials were stopped."""
        return {**super().get_state(), "stopped": self.stopped}

    def set_state(self, state):
        """Restore what `get_state` gave."""
        super().set_state(state)
        self.stopped = list(state["stopped"])


def _active(hp, values):
    """Whether a hyperparameter is there; unlike KerasTuner's test, without merging spaces."""
    return all(values.get(c.name) in c.values for c in hp.conditions)


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
    if isinstance(hp, keras_tuner.engine.hyperparameters.Boolean):
        return distributions.CategoricalDistribution((False, True))
    if isinstance(hp, keras_tuner.engine.hyperparameters.Fixed):
        return distributions.CategoricalDistribution((hp.value,))
    return distributions.CategoricalDistribution(tuple(hp.values))


def _without_warnings(function):
    """The function without what scikit-learn says of the Gaussian process's fit each time."""

    @functools.wraps(function)
    def quiet(*args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
            return function(*args)

    return quiet


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


def _seed(*parts):
    """A number of 32 bits that depends on all parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")


def make(name, objective, trials, seed=0, epochs=None):
    """One of the known oracles, by its name.

    Args:
        name: `"tpe"`, `"random"`, `"bayesian"`, `"hyperband"` or `"grid"`.
        objective: a `keras_tuner.Objective`.
        trials: how many at most. Hyperband plans by itself, for at least one round of brackets.
        seed: of its proposals.
        epochs: of a full training, for Hyperband.

    Returns:
        A `keras_tuner.Oracle`.
    """
    # For KerasTuner 0 is no seed; so every seed moves by one.
    common = {"objective": objective, "seed": seed + 1}
    if name == "tpe":
        return TPEOracle(objective, max_trials=trials, seed=seed)
    if name == "random":
        return keras_tuner.oracles.RandomSearchOracle(max_trials=trials, **common)
    if name == "bayesian":
        # Three points per hyperparameter, which is KerasTuner's own choice, are a whole search.
        first = max(3, min(10, trials // 2))
        return keras_tuner.oracles.BayesianOptimizationOracle(
            max_trials=trials, num_initial_points=first, **common
        )
    if name == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(
            max_epochs=epochs, hyperband_iterations=None, **common
        )
        oracle.max_trials = trials
        return oracle
    if name == "grid":
        return keras_tuner.oracles.GridSearchOracle(max_trials=trials, **common)
    raise unknown("oracle", name, ORACLES)


class Asker:
    """Any KerasTuner oracle, asked for points and told results, without its faults.

    The points enqueued come first; no point comes twice, but for Hyperband's promotions; a space
    is left when all of it was seen; a score that is not finite is a failure; however many trials
    fail in a row, the oracle neither raises nor keeps its lock; it writes no files.

    Args:
        oracle: a `keras_tuner.Oracle`.
        space: a `NormSpace`, or None for a space that a user's own hypermodel declares.
        enqueued: points to try first.
        limit: how many trials at most; None leaves it to the oracle.

    Attributes:
        trials: KerasTuner's trials by their number, the order in which they were asked for.
    """

    def __init__(self, oracle, space=None, enqueued=(), limit=None):
        if not isinstance(oracle, keras_tuner.Oracle):
            raise BadInput(f"oracle={oracle!r}. Needed: a keras_tuner.Oracle or a known name.")
        if isinstance(oracle.objective, MultiObjective):
            raise BadInput("the oracle has several objectives. Needed: one.")
        self.oracle = oracle
        self.space = space
        self.trials: list[Any] = []
        self.exhausted = False
        self._limits = [n for n in (limit, oracle.max_trials) if n]
        self._seen: set[str] = set()
        # Grid search goes by the points that it gave itself.
        own_order = isinstance(oracle, keras_tuner.oracles.GridSearchOracle)
        self._queue = [] if own_order else list(enqueued)
        self._random = random.Random(_seed("unseen", oracle.seed))
        self._adopt()

    def _adopt(self):
        oracle = self.oracle
        oracle.verbose = 0
        # The check raises inside of a lock that is not released then.
        oracle.max_consecutive_failed_trials = math.inf
        # A trial that failed fails again; the journal keeps what it said.
        oracle.max_retries_per_trial = 0
        oracle.save = oracle._save_trial = lambda *args: None
        if self.space is not None:
            declared = oracle.get_space()
            self.space.declare(declared)
            oracle.update_space(declared)
        if hasattr(oracle, "is_tried"):
            oracle.is_tried = lambda values: self._key(values) in self._seen
        self._populate = _without_warnings(oracle.populate_space)
        oracle.populate_space = self._unseen

    def ask(self):
        """The next trial as `(number, KerasTuner's trial)`, or None if there is none now.

        There is none for now, or none any more: then `exhausted` is true.
        """
        if self.exhausted or any(len(self.trials) >= limit for limit in self._limits):
            self.exhausted = True
            return None
        number = len(self.trials)
        trial = self.oracle.create_trial(f"tuner{number}")
        if trial.status == TrialStatus.IDLE:
            return None
        if trial.status != TrialStatus.RUNNING:
            self.exhausted = True
            return None
        self.trials.append(trial)
        self._seen.add(self._key(trial.hyperparameters.values))
        return number, trial

    def replay(self, values):
        """Ask again for what the journal says was asked for."""
        self.exhausted = False
        limits, self._limits = self._limits, []
        # More trials than before may be wanted: that must not change the names of the old ones.
        asked = self.ask()
        self._limits = limits
        if asked is None or plain(asked[1].hyperparameters.values) != values:
            got = None if asked is None else asked[1].hyperparameters.values
            raise BadInput(
                f"the oracle proposes {json.dumps(plain(got))} where the journal has "
                f"{json.dumps(values)}. Needed: the versions of keras-tuner and optuna that the "
                "search was begun with, or a new folder."
            )
        return asked

    def tell(self, number, status, score, step=0, message=None, space=None):
        """Hand a result to the oracle.

        Args:
            number: of the trial.
            status: `"completed"`, `"stopped"` or `"failed"`.
            score: the objective.
            step: the epoch that the score is of.
            message: a traceback.
            space: hyperparameters that the trial met for the first time, as a configuration.
        """
        trial = self.trials[number]
        if space:
            found = keras_tuner.HyperParameters.from_config(space)
            trial.hyperparameters.merge(found.space)
            trial.hyperparameters.values.update(found.values)
        failed = status == "failed" or score is None or not math.isfinite(score)
        if failed and isinstance(self.oracle, keras_tuner.oracles.HyperbandOracle):
            # It waits for the scores of a whole round before it promotes anything.
            worst = sys.float_info.max
            failed, score = False, -worst if self.oracle.objective.direction == "max" else worst
        if failed:
            trial.status, trial.message = TrialStatus.FAILED, message
        else:
            self.oracle.update_trial(trial.trial_id, {self.oracle.objective.name: score}, step)
            trial.status = TrialStatus.COMPLETED
            if status == "stopped" and hasattr(self.oracle, "mark_stopped"):
                self.oracle.mark_stopped(trial.trial_id)
        self.oracle.end_trial(trial)
        self._seen.add(self._key(trial.hyperparameters.values))

    def needed(self):
        """The trials whose weights the oracle may ask to go on from."""
        brackets = getattr(self.oracle, "_brackets", ())
        return [
            int(info["id"]) for bracket in brackets for infos in bracket["rounds"] for info in infos
        ]

    def _key(self, values):
        if self.space is not None:
            return self.space.key(values)
        own = {k: v for k, v in values.items() if not k.startswith(OWN_PREFIX)}
        return json.dumps(plain(own), sort_keys=True)

    def _unseen(self, trial_id):
        """What the oracle proposes, where that is new."""
        response = self._populate(trial_id)
        values = response.get("values") or {}
        if response["status"] == TrialStatus.STOPPED and self._gives_up_early():
            values, response = {}, {"status": TrialStatus.RUNNING}
        elif response["status"] != TrialStatus.RUNNING or self._is_wanted(values):
            return response
        own = {k: v for k, v in values.items() if k.startswith(OWN_PREFIX)}
        point = self._another()
        if point is None:
            return {"status": TrialStatus.STOPPED}
        return {**response, "values": {**point, **own}}

    def _is_wanted(self, values):
        """Whether what the oracle proposes can stay: a promotion, or new and its turn."""
        promoted = f"{OWN_PREFIX}trial_id" in values
        return promoted or (not self._queue and self._key(values) not in self._seen)

    def _another(self):
        """A point that was not tried: the next enqueued one, else a random one."""
        while self._queue:
            point = self._queue.pop(0)
            if self._key(point) not in self._seen:
                return point
        if self.space is not None:
            return self.space.unseen(self._seen, self._random)
        for _ in range(200):
            point = _random_point(self.oracle.hyperparameters.space, self._random)
            if self._key(point) not in self._seen:
                return point
        return None

    def _gives_up_early(self):
        """Whether the oracle stops after a few random points that it had tried already."""
        return isinstance(
            self.oracle,
            (
                keras_tuner.oracles.RandomSearchOracle,
                keras_tuner.oracles.BayesianOptimizationOracle,
            ),
        )


def _random_point(space, generator):
    """A point of a space of KerasTuner's, drawn hyperparameter by hyperparameter."""
    values: dict[str, Any] = {}
    for hp in space:
        if _active(hp, values):
            values[hp.name] = hp.random_sample(generator.randrange(2**31))
    return values
