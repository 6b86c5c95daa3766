"""A trial: build, fit, stop early. It knows no oracle, and writes only weights it is told to."""

import contextlib
import gc
import hashlib
import io
import json
import math
import statistics
import time
import traceback
from typing import Any

import h5py
import keras
import keras_tuner
import numpy as np

from kerasnorm.core import backends
from kerasnorm.core.keras_internals import layers_in, optimizer_lists
from search import evaluation, examples, files, fitting, rows
from search.callbacks import Callbacks
from search.errors import BadInput, SearchError
from search.jsonable import jsonable
from search.rows import Status
from search.settings import Settings


class Runner:
    """Runs tasks: `runner(task, report) -> row`.

    Args:
        hypermodel: a `keras_tuner.HyperModel`.
        inputs: `inputs(task) -> (args, kwargs)` of `hypermodel.fit`; new ones for each task.
        objective: a `keras_tuner.Objective`.
        test: `test(model, task)` measures a model on the test part, for tasks that ask for it: a
            number, or this and the value of each test example that it is the mean of, or None.
        reestimate: whether moving statistics are measured anew before each evaluation.
        deterministic: whether a process that it is sent to is to use only operations that repeat
            bit for bit.
    """

    def __init__(
        self,
        hypermodel,
        inputs,
        objective,
        test=None,
        reestimate=False,
        deterministic=False,
    ):
        self.hypermodel = hypermodel
        self.inputs = inputs
        self.objective = objective
        self.test = test
        self.reestimate = reestimate
        self.deterministic = deterministic
        # The last model of an arm of the answer, and what it was made for.
        self._last: tuple[Any, Any] = (None, None)

    def __reduce__(self):
        state = {**self.__dict__, "_last": (None, None)}
        return _runner_of, (Settings(self.deterministic), state)

    def __call__(self, task, report):
        """Train once; whatever goes wrong with this one task becomes a failed row."""
        start = time.perf_counter()
        row = rows.begun(task)
        # Entries of the row, as they become known.
        found: dict[str, Any] = {}
        watch = _Watch(self.objective, report, task.seed)
        try:
            with backends.forgetting_traces():
                self._train(task, found, watch)
        except (KeyboardInterrupt, SearchError):
            raise
        except BaseException as error:
            # BaseException: a backend's fatal errors are not always of class Exception, and a
            # user's code may call `sys.exit`.
            found |= {
                "status": Status.FAILED,
                "reason": f"{type(error).__name__}: {_first_line(error)}",
                "traceback": traceback.format_exc(),
                "score": None,
            }
            # The frames hold the model and its tensors.
            traceback.clear_frames(error.__traceback__)
        found |= {
            "curve": watch.curve,
            "epochs": len(watch.curve),
            "step_seconds": watch.step_seconds(),
            "seconds": time.perf_counter() - start,
        }
        return row.with_entries(**jsonable(found))

    def _train(self, task, found, watch):
        if task.parent is not None and not _is_whole(task.parent.save):
            self._train_parent(task.parent)
        hp = self._hyperparameters(task)
        known = len(hp.space)
        model = self._model(hp, task)
        found["parameters"] = sum(math.prod(w.shape) for w in model.trainable_weights)
        args, kwargs = self.inputs(task)
        kwargs = {"verbose": 0, **kwargs}
        own = _callbacks(kwargs.pop("callbacks", None)).fresh(task)
        training = args[0] if args else kwargs.get("x")
        validation = kwargs.get("validation_data")
        evaluates = fitting.evaluates(model)
        if not evaluates:
            for name in [name for name in kwargs if name.startswith("validation_")]:
                del kwargs[name]
        # `EarlyStopping` may go back to the best epoch; an optimizer may take averages at the end.
        watch.compares = bool(own) or getattr(model.optimizer, "use_ema", False)
        again = evaluation.Reestimation(training) if self.reestimate else None
        # The user's come last: they see what was measured.
        own = [
            *([again] if again is not None else []),
            *self._measured(validation, None if evaluates else again),
            *own,
        ]
        if task.epochs is not None:
            kwargs["epochs"] = task.epochs
        if task.parent is not None:
            load_weights(model, task.parent.save)
            kwargs["initial_epoch"] = task.initial_epoch
        watch.remember_seeds(model)
        start = time.perf_counter()
        try:
            result = self.hypermodel.fit(hp, model, *args, callbacks=[*own, watch], **kwargs)
        finally:
            found["fit_seconds"] = time.perf_counter() - start
        watch.take(result)
        if watch.changed and watch.diverged is None:
            watch.last = self._evaluated(model, validation, kwargs, evaluates)
        found |= self._judged(watch)
        if len(hp.space) > known:
            found["space"] = hp.get_config()
            found["hyperparameters"] = dict(hp.values)
        if found["status"] is Status.FAILED:
            return
        found["warning"] = evaluation.warning_of(
            model,
            training if evaluation.is_readable(training) else None,
            validation,
            found["metrics"],
        )
        if task.test:
            found |= _tested(self.test(model, task))
        if task.save is not None:
            save_weights(model, task.save)

    def _measured(self, validation, again):
        """A callback that measures the objective, where that is the measure of the answer."""
        if self.objective.name != evaluation.MEASURED or self.test is None:
            return []
        return [evaluation.Measured(self.test.on, validation, again)]

    def _evaluated(self, model, validation, kwargs, evaluates):
        """What the validation part gives where the weights changed after the last epoch."""
        found = {}
        if evaluates and validation is not None:
            parts = validation if isinstance(validation, (tuple, list)) else (validation,)
            options = dict(zip(("x", "y", "sample_weight"), parts, strict=False))
            options |= {name: kwargs.get(f"validation_{name}") for name in ("batch_size", "steps")}
            logs = model.evaluate(**options, verbose=0, return_dict=True)
            found = {f"val_{name}": value for name, value in _numbers(logs).items()}
        if self._measured(validation, None):
            found[evaluation.MEASURED] = float(self.test.on(model, *validation))
        return _with_errors(found)

    def _train_parent(self, task):
        """Train a trial once more whose weights are lost; its row is in the journal already."""
        found: dict[str, Any] = {}
        self._train(task, found, _Watch(self.objective, lambda epoch, logs: None, task.seed))
        if found["status"] is Status.FAILED:
            raise ValueError(
                f"the weights of trial {task.number}, which this one goes on from, were lost, and "
                f"training it again failed: {found['reason']}"
            )

    def _model(self, hp, task):
        """A model with new weights.

        The trainings of an arm of the answer differ in their seed only. They share one model,
        which takes over the variables of a new one each time: most of a short training is spent
        on compiling.
        """
        key = jsonable([task.spec, task.values]) if task.arm is not None else None
        made_for, model = self._last
        if key is None or made_for != key:
            model, self._last = None, (None, None)
            forget_models()
        keras.utils.set_random_seed(task.seed)
        new = self._built(hp, task)
        if model is None or not _take_variables(model, new):
            model = new
        # One that trains in its own way may have a state that nobody knows, such as a second
        # optimizer.
        alone = key is None or fitting.own_training(model)
        self._last = (None, None) if alone else (key, model)
        return model

    def _built(self, hp, task):
        """The compiled model."""
        if hasattr(self.hypermodel, "model_of"):
            model = self.hypermodel.model_of(task.spec, task.values)
        else:
            model = self.hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise TypeError(f"the hypermodel built {model!r}. Needed: a Keras model.")
        return model

    def _hyperparameters(self, task):
        hp = keras_tuner.HyperParameters()
        if task.space is not None:
            hp = keras_tuner.HyperParameters.from_config(task.space)
        hp.values = dict(task.values)
        return hp

    def _judged(self, watch):
        """How it ended, and the score, as entries of the row."""
        if not watch.curve and watch.diverged is None:
            raise ValueError("no epoch was trained. Needed: at least one.")
        last = {**(watch.curve[-1] if watch.curve else {}), **watch.last}
        metrics = {k: v for k, v in last.items() if k != "epoch"}
        score = last.get(self.objective.name)
        if watch.diverged is not None or score is None or not math.isfinite(score):
            reason = watch.diverged or f"{self.objective.name} is {score}"
            return {"metrics": metrics, "status": Status.FAILED, "reason": reason}
        return {
            "metrics": metrics,
            "status": Status.COMPLETED if watch.reason is None else Status.STOPPED,
            "reason": watch.reason,
            "score": float(score),
        }


def _tested(measured):
    """What a test gave, as entries of the row."""
    if not isinstance(measured, tuple):
        return {"test_error": measured}
    value, values = measured
    return {"test_error": value} | (
        {} if values is None else {"test_values": examples.packed(values)}
    )


def _runner_of(settings, state):
    """A runner that was sent here. Its settings come first, so that they hold for what follows."""
    del settings
    runner = Runner.__new__(Runner)
    runner.__dict__.update(state)
    return runner


def forget_models():
    """Free what earlier models left behind, and keep what the user set for all models.

    `keras.utils.clear_session` alone also forgets the dtype policy and the distribution.
    """
    policy = keras.config.dtype_policy()
    distribution = keras.distribution.distribution()
    interactive = keras.config.is_interactive_logging_enabled()
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.utils.clear_session(free_memory=False)
    gc.collect()
    keras.config.set_dtype_policy(policy)
    if distribution is not None:
        keras.distribution.set_distribution(distribution)
    if not interactive:
        keras.config.disable_interactive_logging()
    if not filtered:
        keras.config.disable_traceback_filtering()


def _take_variables(model, new):
    """Make a used model what a new one of the same make is; whether that could be done."""
    pairs = []
    for old_part, new_part in ((model, new), (model.optimizer, new.optimizer)):
        if old_part is None or new_part is None:
            return False
        if new_part is new.optimizer:
            new_part.build(new.trainable_variables)
        if len(old_part.variables) != len(new_part.variables):
            return False
        pairs += zip(old_part.variables, new_part.variables, strict=True)
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return False
    for variable, fresh in pairs:
        variable.assign(fresh)
    return True


class _Watch(keras.callbacks.Callback):
    """Keeps the curve, measures steps, and stops what diverges or what it is told to stop."""

    def __init__(self, objective, report, seed):
        super().__init__()
        self.seed = seed
        self.objective = objective
        self.report = report
        self.curve: list[dict] = []
        self.steps: list[float] = []
        self.reason = None
        self.diverged = None
        # Whether the weights may change after the last epoch; whether they did; and what the
        # validation part gave then.
        self.compares = False
        self.changed = False
        self.last: dict[str, float] = {}
        self._digest: Any = None
        self._begun = 0.0
        self._seeds: list[tuple] = []

    def remember_seeds(self, model):
        """Keep the states of a model's random numbers, such as those of dropout.

        The first `fit` of a model draws some while it finds out shapes; a later one of the same
        model does not.
        """
        self._seeds = [
            (variable, keras.ops.convert_to_numpy(variable.value).copy())
            for variable in model.variables
            if variable.name == "seed_generator_state"
        ]

    def on_train_begin(self, logs=None):
        keras.utils.set_random_seed(self.seed)
        for variable, state in self._seeds:
            variable.assign(state)

    def on_train_batch_begin(self, batch, logs=None):
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(time.perf_counter() - self._begun)
        self._check((logs or {}).get("loss"), "loss", len(self.curve) + 1)

    def on_epoch_end(self, epoch, logs=None):
        entry = _with_errors({"epoch": epoch + 1, **_numbers(logs or {})})
        self.curve.append(entry)
        if self.diverged is not None:
            return
        if self.objective.name not in entry:
            found = ", ".join(k for k in entry if k != "epoch")
            raise BadInput(
                f"objective {self.objective.name!r} is not among what training measures ({found}). "
                "Needed: one of these; those of the validation part need validation data."
            )
        self._check(entry.get("loss"), "loss", epoch + 1)
        self._check(entry[self.objective.name], self.objective.name, epoch + 1)
        if self.diverged is None:
            reason = self.report(epoch + 1, entry)
            # A callback of the user's may have ended the training: then it is complete.
            if not self.model.stop_training:
                self.reason = reason
                self.model.stop_training = reason is not None
        last = self.model.stop_training or epoch + 1 == (self.params or {}).get("epochs")
        if self.compares and last:
            self._digest = _digest(self.model)

    def on_train_end(self, logs=None):
        self.changed = self._digest is not None and self._digest != _digest(self.model)

    def _check(self, value, name, epoch):
        if value is not None and self.diverged is None and not math.isfinite(value):
            self.diverged = f"{name} became {float(value)} in epoch {epoch}"
            self.model.stop_training = True

    def take(self, result):
        """What a user's own `HyperModel.fit` returned, where it did not call these callbacks."""
        if self.curve:
            return
        if isinstance(result, keras.callbacks.History):
            result = {name: values[-1] for name, values in result.history.items() if values}
        if not isinstance(result, dict):
            result = {self.objective.name: result}
        self.curve.append({"epoch": 1, **{k: float(v) for k, v in result.items()}})

    def step_seconds(self):
        """The median of the train steps, without the first ones, which compile."""
        steps = self.steps[3:] or self.steps[1:]
        return statistics.median(steps) if steps else None


def _callbacks(given):
    """The user's callbacks, as `fit` was to be given them."""
    return given if isinstance(given, Callbacks) else Callbacks(given or [])


def _numbers(logs):
    """What was measured, as far as it is numbers: callbacks may add other things."""
    found = {}
    for name, value in logs.items():
        with contextlib.suppress(TypeError, ValueError):
            found[name] = float(value)
    return found


def _with_errors(entry):
    """What was measured, with an error beside each accuracy."""
    for name in [name for name in entry if name.endswith("accuracy")]:
        entry[f"{name.removesuffix('accuracy')}error"] = 1 - entry[name]
    return entry


def _digest(model):
    """Tells the weights of a model from others."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), "")


# In a file of weights: which variables each optimizer trains.
OPTIMIZERS = "kerasnorm_optimizers"


class _InMemory(io.BytesIO):
    """A file for `Model.save_weights`, which asks for the name of one."""

    def __str__(self):
        return "in_memory.weights.h5"


def save_weights(model, path):
    """Write a model's weights and its optimizer's state, whole or not at all.

    HDF5 ends the process where a disk is full; so the file is made in memory.
    """
    file = _InMemory()
    model.save_weights(file)
    with h5py.File(file, "r+") as whole:
        whole.attrs[OPTIMIZERS] = json.dumps(_trained(model))
    files.write(path, file.getbuffer())


def load_weights(model, path):
    """Go on from what `save_weights` wrote."""
    with h5py.File(path) as whole:
        trained = json.loads(whole.attrs.get(OPTIMIZERS, "{}"))
    # One that has no variables yet would be left without its state.
    variables = model.variables
    for place, optimizer in _optimizers(model).items():
        if place in trained:
            optimizer.build([variables[index] for index in trained[place]])
    own = getattr(model, "optimizer", None)
    if own is not None and not own.built:
        own.build(model.trainable_variables)
    model.load_weights(path)


def _optimizers(model):
    """The optimizers of a model, in attributes of it and of the models in it."""
    return {
        f"{place}.{name}": value
        for place, layer in enumerate(layers_in(model))
        for name, value in sorted(vars(layer).items())
        if isinstance(value, keras.optimizers.Optimizer)
    }


def _trained(model):
    """Which variables of the model each optimizer trains, by their places."""
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    found = {}
    for name, optimizer in _optimizers(model).items():
        weights = [places.get(id(variable)) for variable in optimizer_lists(optimizer)[1]]
        if optimizer.built and weights and None not in weights:
            found[name] = weights
    return found


def _is_whole(path):
    """Whether a file of weights is there and can be read."""
    try:
        h5py.File(path).close()
    except OSError:
        return False
    return True
