"""A trial: build, fit, stop early. It knows no oracle, and writes only weights it is told to."""

import copy
import dataclasses
import datetime
import gc
import math
import os
import pathlib
import statistics
import time
import traceback
from typing import Any

import keras
import keras_tuner

from kerasnorm.core import backends
from search.errors import BadInput
from search.store import plain


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be trained; plain, so that it can be sent to another process.

    Attributes:
        number: of the trial, or of the training for the answer.
        spec: the norm spec; None where a hypermodel of the user's is searched.
        words: the same for a reader.
        values: of the hyperparameters.
        seed: of the initial weights, of dropout and of the order of the data.
        epochs, initial_epoch: train from one to the other.
        load: the file of weights to go on from.
        save: the file to write the weights to.
        test: whether to measure the error on the test part.
        space: the hyperparameters known so far, as KerasTuner's configuration.
        label: further entries of the row.
    """

    number: int
    spec: Any
    words: str
    values: dict
    seed: int
    epochs: int | None
    initial_epoch: int = 0
    load: str | None = None
    save: str | None = None
    test: bool = False
    space: dict | None = None
    label: dict = dataclasses.field(default_factory=dict)


class Runner:
    """Runs tasks: `runner(task, report) -> row`.

    Args:
        hypermodel: a `keras_tuner.HyperModel`.
        inputs: `inputs(task) -> (args, kwargs)` of `hypermodel.fit`; new ones for each task.
        objective: a `keras_tuner.Objective`.
        test: `test(model, task) -> error` on the test part, for tasks that ask for it.
    """

    def __init__(self, hypermodel, inputs, objective, test=None):
        self.hypermodel = hypermodel
        self.inputs = inputs
        self.objective = objective
        self.test = test
        # The last model of an arm of the answer, and what it was made for.
        self._last: tuple[Any, Any] = (None, None)

    def __getstate__(self):
        return {**self.__dict__, "_last": (None, None)}

    def __call__(self, task, report):
        """Train once; whatever goes wrong with this one task becomes a failed row."""
        start = time.perf_counter()
        row = new_row(task)
        watch = _Watch(self.objective, report, task.seed)
        try:
            with backends.forgetting_traces():
                self._train(task, row, watch)
        except (KeyboardInterrupt, SystemExit, GeneratorExit, BadInput):
            raise
        except BaseException as error:
            # BaseException: a backend's fatal errors are not always of class Exception.
            row["status"] = "failed"
            row["reason"] = f"{type(error).__name__}: {_first_line(error)}"
            row["traceback"] = traceback.format_exc()
            # The frames hold the model and its tensors.
            traceback.clear_frames(error.__traceback__)
        row["curve"] = watch.curve
        row["epochs"] = len(watch.curve)
        row["step_seconds"] = watch.step_seconds()
        row["seconds"] = time.perf_counter() - start
        return plain(row)

    def _train(self, task, row, watch):
        hp = self._hyperparameters(task)
        known = len(hp.space)
        model = self._model(hp, task)
        row["parameters"] = sum(math.prod(w.shape) for w in model.trainable_weights)
        args, kwargs = self.inputs(task)
        kwargs = {"verbose": 0, **kwargs}
        own = _own_callbacks(kwargs.pop("callbacks", None) or [], task)
        if task.epochs is not None:
            kwargs["epochs"] = task.epochs
        if task.load is not None:
            load_weights(model, task.load)
            kwargs["initial_epoch"] = task.initial_epoch
        watch.remember_seeds(model)
        start = time.perf_counter()
        try:
            result = self.hypermodel.fit(hp, model, *args, callbacks=[*own, watch], **kwargs)
        finally:
            row["fit_seconds"] = time.perf_counter() - start
        watch.take(result)
        self._judge(row, watch)
        if len(hp.space) > known:
            row["space"] = hp.get_config()
            row["values"] = dict(hp.values)
        if row["status"] == "failed":
            return
        if task.test:
            row["test_error"] = self.test(model, task)
        if task.save is not None:
            save_weights(model, task.save)

    def _model(self, hp, task):
        """A model with new weights.

        The trainings of an arm of the answer differ in their seed only. They share one model,
        which takes over the variables of a new one each time: most of a short training is spent
        on compiling.
        """
        key = plain([task.spec, task.values]) if "arm" in task.label else None
        made_for, model = self._last
        if key is None or made_for != key:
            model, self._last = None, (None, None)
            forget_models()
        keras.utils.set_random_seed(task.seed)
        new = self._built(hp, task)
        if model is None or not _take_variables(model, new):
            model = new
        self._last = (None, None) if key is None else (key, model)
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

    def _judge(self, row, watch):
        """Write down how it ended, and the score."""
        if not watch.curve and watch.diverged is None:
            raise ValueError("no epoch was trained. Needed: at least one.")
        last = watch.curve[-1] if watch.curve else {}
        row["metrics"] = {k: v for k, v in last.items() if k != "epoch"}
        score = last.get(self.objective.name)
        if watch.diverged is not None or score is None or not math.isfinite(score):
            row["status"] = "failed"
            row["reason"] = watch.diverged or f"{self.objective.name} is {score}"
            return
        row["status"] = "completed" if watch.reason is None else "stopped"
        row["reason"] = watch.reason
        row["score"] = float(score)


def new_row(task):
    """A row of which nothing is known yet but the task."""
    return {
        "trial": task.number,
        "spec": task.spec,
        "words": task.words,
        "values": dict(task.values),
        "seed": task.seed,
        "status": "failed",
        "reason": None,
        "traceback": None,
        "score": None,
        "metrics": {},
        "curve": [],
        "epochs": 0,
        "parameters": None,
        "step_seconds": None,
        "seconds": 0.0,
        "fit_seconds": 0.0,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **task.label,
    }


def failed_row(task, reason, details=None):
    """The row of a task that ended without saying so: its worker died."""
    return plain({**new_row(task), "reason": reason, "traceback": details})


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
        entry = {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}}
        for name in [k for k in entry if k.endswith("accuracy")]:
            entry[f"{name.removesuffix('accuracy')}error"] = 1 - entry[name]
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
        if self.diverged is None and not self.model.stop_training:
            self.reason = self.report(epoch + 1, entry)
            self.model.stop_training = self.reason is not None

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


def _own_callbacks(callbacks, task):
    """Copies of the user's callbacks for one trial; those with a log folder get one of its own."""
    copies = copy.deepcopy(list(callbacks))
    for callback in copies:
        folder = getattr(callback, "log_dir", None)
        if isinstance(folder, (str, os.PathLike)):
            callback.log_dir = os.path.join(folder, f"trial_{task.number:05d}")
    return copies


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), "")


def save_weights(model, path):
    """Write a model's weights and its optimizer's state, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part_{path.name}")
    model.save_weights(part)
    os.replace(part, path)


def load_weights(model, path):
    """Go on from what `save_weights` wrote."""
    if getattr(model, "optimizer", None) is not None:
        # One that has no variables yet would be left without its state.
        model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
