"""Oracles: TPE behind `keras_tuner.Oracle`, and what makes any oracle safe to drive."""

import functools
import hashlib
import json
import math
import random
import sys
import warnings
from typing import Any

import keras_tuner
import sklearn.exceptions

from search.errors import BadInput, unknown
from search.jsonable import jsonable
from search.names import ORACLES, direction_of
from search.objective import Objective
from search.private import keras_tuner as private_tuner
from search.private.keras_tuner import MultiObjective, TrialStatus
from search.rows import Status
from search.tpe import Categorical, Numeric, ParzenEstimator

# What Hyperband adds to the values of a point.
OWN_PREFIX = "tuner/"


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
    return keras_tuner.Objective(*direction_of(objective))


class TPEOracle(keras_tuner.Oracle):
    """TPE, which knows conditions, as a KerasTuner oracle: `search.tpe`.

    It keeps nothing of its own but a view of the trials: each proposal is a function of the seed
    and of the trials so far, so that it goes on from restored or replayed trials as if nothing had
    happened, and nobody need ask it again for what it proposed.

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

    # Whether proposals depend on the seed and the trials alone.
    stateless = True

    def __init__(self, objective=None, max_trials=10, startup_trials=10, seed=0, **kwargs):
        super().__init__(objective=objective, max_trials=max_trials, seed=seed, **kwargs)
        own = random.randrange(2**31) if seed is None else int(seed)
        private_tuner.begin_random_numbers(self, own)
        self.startup_trials = startup_trials
        self.stopped: list[str] = []
        # Whether values were tried already; whoever knows better than by the values says so.
        self.is_tried = private_tuner.has_tried(self)
        self._view = _View(self)

    def mark_stopped(self, trial_id):
        """Say that a trial was stopped early: its score is its last value, not its final one."""
        self.stopped.append(trial_id)

    def populate_space(self, trial_id):
        """Propose the values of a trial."""
        found = self._view.estimator().propose(
            _seed(self.seed, trial_id), self.startup_trials, self.is_tried
        )
        order = (hp.name for hp in self.hyperparameters.space)
        values = {name: found[name] for name in dict.fromkeys(order) if name in found}
        return {"status": TrialStatus.RUNNING, "values": values}

    def get_state(self):
        """The state of every oracle, and which trials were stopped."""
        return {**super().get_state(), "stopped": self.stopped}

    def set_state(self, state):
        """Restore what `get_state` gave."""
        super().set_state(state)
        self.stopped = list(state["stopped"])
        self._view = _View(self)


class _View:
    """An oracle's trials as its estimator sees them, brought up to date when it is asked.

    Args:
        oracle: a `TPEOracle`.
    """

    def __init__(self, oracle):
        self._oracle = oracle
        self._space: list[Any] = []
        self._estimator: Any = None
        # The numbers of the trials that have not ended, as far as is known here.
        self._running: list[int] = []
        self._stopped: dict[str, None] = {}

    def estimator(self):
        """A `search.tpe.ParzenEstimator` that knows all trials."""
        oracle = self._oracle
        if self._estimator is None or len(self._space) != len(oracle.hyperparameters.space):
            self._space = list(oracle.hyperparameters.space)
            self._estimator = ParzenEstimator([_axis(hp) for hp in self._space])
            self._running = []
        for number in range(len(self._estimator), len(oracle.start_order)):
            trial = oracle.trials[oracle.start_order[number]]
            self._estimator.add(trial.hyperparameters.values)
            self._running.append(number)
        self._stopped.update(dict.fromkeys(oracle.stopped[len(self._stopped) :]))
        self._running = [number for number in self._running if not self._ended(number)]
        return self._estimator

    def _ended(self, number):
        """Whether a trial has ended; then the estimator is told how."""
        oracle = self._oracle
        trial = oracle.trials[oracle.start_order[number]]
        if trial.status == TrialStatus.RUNNING:
            return False
        score, step = None, None
        if trial.status == TrialStatus.COMPLETED:
            score = Objective.of(oracle.objective).cost(trial.score)
            step = trial.best_step if trial.trial_id in self._stopped else None
        self._estimator.tell(number, score, step, trial.hyperparameters.values)
        return True


def _active(hp, values):
    """Whether a hyperparameter is there; unlike KerasTuner's test, without merging spaces."""
    return all(values.get(c.name) in c.values for c in hp.conditions)


def _axis(hp):
    """One of KerasTuner's hyperparameters as an axis, and its conditions."""
    conditions = [(condition.name, condition.values) for condition in hp.conditions]
    if hasattr(hp, "sampling"):
        integer = isinstance(hp, keras_tuner.engine.hyperparameters.Int)
        log = hp.sampling in ("log", "reverse_log")
        step = 1 if integer and (log or not hp.step) else None if log else hp.step or None
        return Numeric(hp.name, hp.min_value, hp.max_value, log, step, integer), conditions
    return Categorical(hp.name, _values_of(hp)), conditions


def _values_of(hp):
    """What a hyperparameter without an order can be."""
    if isinstance(hp, keras_tuner.engine.hyperparameters.Boolean):
        return False, True
    if isinstance(hp, keras_tuner.engine.hyperparameters.Fixed):
        return (hp.value,)
    return tuple(hp.values)


def _is_point(space, values):
    """Whether values are those of a point of a space of KerasTuner's."""
    for hp in space:
        if not _active(hp, values):
            continue
        if hp.name not in values:
            return False
        value = values[hp.name]
        if not hasattr(hp, "sampling") and value not in _values_of(hp):
            return False
        if hasattr(hp, "sampling") and not hp.min_value <= value <= hp.max_value:
            return False
    return True


def _without_warnings(function):
    """The function without what scikit-learn says of the Gaussian process's fit each time."""

    @functools.wraps(function)
    def quiet(*args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
            return function(*args)

    return quiet


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
        # What the journal says was proposed.
        self._given: dict | None = None
        self._adopt()

    def _adopt(self):
        oracle = self.oracle
        oracle.verbose = 0
        private_tuner.count_no_failures(oracle)
        # A trial that failed fails again; the journal keeps what it said.
        oracle.max_retries_per_trial = 0
        private_tuner.write_nothing(oracle)
        if self.space is not None:
            declared = oracle.get_space()
            self.space.declare(declared)
            oracle.update_space(declared)
        private_tuner.copy_spaces_quickly(oracle)
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
        if self._is_stateless:
            # Asked or replayed, the queue is the same.
            while self._queue and self._key(self._queue[0]) in self._seen:
                self._queue.pop(0)
        return number, trial

    @property
    def _is_stateless(self):
        return getattr(self.oracle, "stateless", False)

    def replay(self, values):
        """Bring back what the journal says was asked for.

        An oracle whose proposals depend on more than the trials is asked again.
        """
        self.exhausted = False
        limits, self._limits = self._limits, []
        if self._is_stateless and _is_point(self.oracle.hyperparameters.space, values):
            self._given = dict(values)
        # More trials than before may be wanted: that must not change the names of the old ones.
        asked = self.ask()
        self._limits, self._given = limits, None
        if asked is None or jsonable(asked[1].hyperparameters.values) != values:
            got = None if asked is None else asked[1].hyperparameters.values
            raise BadInput(
                f"the oracle proposes {json.dumps(jsonable(got))} where the journal has "
                f"{json.dumps(values)}. Needed: the version of keras-tuner that the "
                "search was begun with, or a new folder."
            )
        return asked

    def tell(self, number, status, score, step=0, message=None, space=None):
        """Hand a result to the oracle.

        Args:
            number: of the trial.
            status: a `search.rows.Status`.
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
        failed = status == Status.FAILED or score is None or not math.isfinite(score)
        if failed and isinstance(self.oracle, keras_tuner.oracles.HyperbandOracle):
            # It waits for the scores of a whole round before it promotes anything.
            worst = sys.float_info.max * Objective.of(self.oracle.objective).sign
            failed, score = False, worst
        if failed:
            trial.status, trial.message = TrialStatus.FAILED, message
        else:
            self.oracle.update_trial(trial.trial_id, {self.oracle.objective.name: score}, step)
            trial.status = TrialStatus.COMPLETED
            if status == Status.STOPPED and hasattr(self.oracle, "mark_stopped"):
                self.oracle.mark_stopped(trial.trial_id)
        self.oracle.end_trial(trial)
        self._seen.add(self._key(trial.hyperparameters.values))

    def needed(self):
        """The trials whose weights the oracle may ask to go on from."""
        return private_tuner.promotable(self.oracle)

    def _key(self, values):
        if self.space is not None:
            return self.space.key(values)
        own = {k: v for k, v in values.items() if not k.startswith(OWN_PREFIX)}
        return json.dumps(jsonable(own), sort_keys=True)

    def _unseen(self, trial_id):
        """What the oracle proposes, where that is new."""
        if self._given is not None:
            return {"status": TrialStatus.RUNNING, "values": self._given}
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
        generator = self._random
        if self._is_stateless:
            generator = random.Random(_seed("unseen", self.oracle.seed, len(self.trials)))
        if self.space is not None:
            return self.space.unseen(self._seen, generator)
        for _ in range(200):
            point = _random_point(self.oracle.hyperparameters.space, generator)
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
