"""A whole search: data, trials, the trainings for the answer, the answer and its report."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
from typing import Any

import keras
import numpy as np

from kerasnorm.core import backends
from search import data as datasets
from search.driver import Driver, rule_for
from search.errors import BadInput, NothingCompleted, unknown
from search.executors.base import Executor
from search.executors.inline import InlineExecutor
from search.hypermodel import NormHyperModel
from search.oracle import Asker, make, objective_of
from search.progress import Progress
from search.space import PLAIN, words
from search.store import Store, plain
from search.trial import Runner, Task
from search.tuner import task_for

EXECUTORS = {"inline": InlineExecutor}
PACKAGES = ("kerasnorm", "keras", "keras-tuner", "optuna", "numpy", "tensorflow", "jax", "torch")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        rows: of the trials.
        runs: rows of the trainings for the answer.
        manifest: what was searched, and how.
        answer: what `search.answer.conclude` makes of them; None without seeds.
        folder: where all of it lies.
    """

    rows: list
    runs: list
    manifest: dict
    answer: Any
    folder: pathlib.Path


def run(
    network,
    data="digits",
    norms=None,
    oracle="tpe",
    trials=20,
    budget=None,
    epochs=10,
    seeds=5,
    objective="val_error",
    executor="inline",
    out="search-results",
    resume=False,
    seed=0,
    candidates=3,
    baselines=PLAIN,
    ablation=2,
    placements=("all", "first", "stages"),
    batch_size=64,
    learning_rate=1e-3,
    learning_rates=None,
    batch_sizes=None,
    transforms=None,
    augmentation=None,
    compile=None,
    arguments=None,
    early_stopping=True,
    jit_compile="auto",
    data_dir=None,
    image_size=None,
    command=None,
    console=None,
):
    """Search the norms of a network on some data, and say how sure the answer is.

    Args:
        network: the name of an architecture, a function of a norm spec, or a Keras model; see
            `NormHyperModel`.
        data: see `search.data.load`.
        norms: which norms; None is all.
        oracle: `"tpe"`, `"random"`, `"bayesian"`, `"hyperband"`, `"grid"`, or a
            `keras_tuner.Oracle`.
        trials: how many at most.
        budget: seconds for the trials; the answer comes after them.
        epochs: of a full training.
        seeds: on how many new seeds the best norms and the plain ones are trained for the answer; 0
            is none, and no answer.
        objective: measured on the validation part; see `NormTuner`.
        executor: `"inline"`, or a `search.executors.base.Executor`.
        out: the folder for everything.
        resume: go on with the search that is there.
        seed: of the proposals and of the trials. The answer's seeds are the ones after it.
        candidates: how many of the best norms are trained for the answer.
        baselines: which plain norms they are compared with; those that are legal in the network.
        ablation: how many other values of each hyperparameter to train, one changed at a time,
            around the best of the trials that are trained again and have hyperparameters.
        placements, learning_rates, batch_sizes: of `NormSpace`.
        batch_size, learning_rate: where they are not searched.
        transforms: for Consistent Normalization, None first; see `NormHyperModel`.
        augmentation: True, or `(pad, flip)`: pad, crop at random, flip.
        compile: `compile(model, values)`; see `NormHyperModel`.
        arguments: further ones of an architecture given by its name.
        early_stopping: whether bad trials are stopped.
        jit_compile: as in `keras.Model.compile`.
        data_dir, image_size: see `search.data.load`.
        command: what replays this search, for the manifest.
        console: a `rich.console.Console` to show progress on; False shows nothing.

    Returns:
        A `Result`.
    """
    objective = objective_of(objective)
    for name, value, least in (
        ("trials", trials, 1),
        ("epochs", epochs, 1),
        ("seeds", seeds, 0),
        ("candidates", candidates, 1),
        ("ablation", ablation, 0),
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"{name}={value!r}. Needed: an integer of at least {least}.")
    if budget is not None and not budget > 0:
        raise BadInput(f"budget={budget!r}. Needed: seconds, more than 0.")
    if isinstance(executor, str):
        if executor not in EXECUTORS:
            raise unknown("executor", executor, EXECUTORS)
        executor = EXECUTORS[executor]()
    elif not isinstance(executor, Executor):
        raise BadInput(f"executor={executor!r}. Needed: a name, or an Executor.")
    loaded = datasets.load(data, data_dir, image_size)
    augmentation = datasets.checked_augmentation(loaded, augmentation)
    hypermodel = NormHyperModel(
        network,
        compile=compile,
        learning_rate=learning_rate,
        transforms=transforms,
        jit_compile=jit_compile,
        input_shape=loaded.input_shape,
        classes=loaded.classes,
        arguments=arguments,
        norms=norms,
        placements=placements,
        learning_rates=learning_rates,
        batch_sizes=batch_sizes,
    )
    space = hypermodel.space
    _check_network(network, loaded)
    oracle_name = oracle if isinstance(oracle, str) else type(oracle).__name__
    chosen = make(oracle, objective, trials, seed, epochs) if isinstance(oracle, str) else oracle
    asker = Asker(chosen, space, space.paper_defaults(), trials)
    rule = early_stopping
    if isinstance(rule, bool):
        rule = rule_for(chosen, objective, epochs) if rule else None
    size = space.size()
    settings = {
        "backend": keras.backend.backend(),
        "dtype_policy": keras.config.dtype_policy().name,
        "architecture": _described(network, arguments),
        "data": loaded.described(),
        "space": space.rows(),
        "oracle": oracle_name,
        "objective": objective.name,
        "direction": objective.direction,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "augmentation": augmentation,
        "transforms": None if transforms is None else list(map(_described_transform, transforms)),
        "early_stopping": bool(early_stopping),
        "seed": seed,
        "trials": trials,
        "seeds": seeds,
        "budget": budget,
        "candidates": candidates,
        "ablation": ablation,
    }
    runner = Runner(
        hypermodel, Inputs(loaded, batch_size, augmentation), objective, TestError(loaded)
    )
    progress = None
    if console is not False:
        progress = Progress(int(min(trials, size)), epochs, objective, budget, console)
    with Store(out, settings, resume) as store:
        driver = Driver(
            asker,
            executor,
            store,
            runner,
            lambda number, values: task_for(number, values, space, seed, epochs, store),
            objective,
            rule,
            keep=candidates,
            budget=budget,
            progress=progress,
        )
        with progress or _Nothing():
            rows = driver.search()
            if not any(row["status"] == "completed" for row in rows):
                raise NothingCompleted(_why_nothing(rows, store.folder))
            searched = driver.overhead()
            tasks = []
            if seeds:
                tasks = _answer_tasks(
                    rows, space, objective, candidates, baselines, ablation, seeds, seed, epochs
                )
            runs = driver.retrain(tasks)
        manifest = plain(
            {
                **settings,
                "versions": _versions(),
                "device": _device(),
                "seeds": [seed + 1 + n for n in range(seeds)],
                "command": command or _python_call(settings),
                "overhead": _overhead(searched, store.folder / "manifest.json"),
            }
        )
        answer = _concluded(store.folder, rows, runs, manifest) if seeds else None
    return Result(rows, runs, manifest, answer, store.folder)


class Inputs:
    """What the trainings are fed with.

    Args:
        data: a `Data`.
        batch_size: where it is not searched.
        augmentation: `(pad, flip)` or None.
    """

    def __init__(self, data, batch_size, augmentation):
        self.data = data
        self.batch_size = batch_size
        self.augmentation = augmentation

    def __call__(self, task):
        size = task.values.get("batch_size", self.batch_size)
        batches = datasets.Batches(
            self.data.train, size, task.seed, self.augmentation, task.initial_epoch
        )
        part = self.data.validation
        return (batches,), {
            "validation_data": (part.x, part.y),
            "validation_batch_size": _whole_batches(len(part)),
        }


class TestError:
    """The share of wrong answers on the test part.

    Args:
        data: a `Data`.
    """

    # Not a test, whatever pytest makes of the name.
    __test__ = False

    def __init__(self, data):
        self.data = data

    def __call__(self, model, task):
        part = self.data.test
        outputs = model.predict(part.x, batch_size=_whole_batches(len(part)), verbose=0)
        return float(np.mean(np.argmax(outputs, axis=-1) != part.y))


def _whole_batches(count, most=512):
    """A batch size with few batches of nearly one size: other sizes are compiled anew."""
    batches = -(-count // most)
    return -(-count // batches)


class _Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def _check_network(network, data):
    """Refuse a model whose inputs or outputs do not fit the data."""
    if not isinstance(network, keras.Model):
        return
    expected = tuple(network.input_shape[1:])
    if len(expected) != len(data.input_shape) or any(
        a is not None and a != b for a, b in zip(expected, data.input_shape, strict=True)
    ):
        raise BadInput(
            f"model '{network.name}' takes inputs of shape {expected}, and the data's examples "
            f"have {data.input_shape}. Needed: the same."
        )
    if network.output_shape[-1] < data.classes:
        raise BadInput(
            f"model '{network.name}' has {network.output_shape[-1]} outputs, and the data "
            f"{data.classes} classes. Needed: an output for each class."
        )


def _described(network, arguments):
    """The network, for manifest and settings."""
    if isinstance(network, str):
        return {"name": network.lower(), **(arguments or {})}
    if isinstance(network, keras.Model):
        return {"model": network.name, "parameters": network.count_params()}
    return {"function": f"{network.__module__}:{getattr(network, '__qualname__', network)}"}


def _overhead(searched, manifest):
    """The time spent outside of training, with that of the runs that this one went on from.

    Args:
        searched: seconds of this run.
        manifest: the file of the last run, if there was one.
    """
    before = json.loads(manifest.read_text())["overhead"] if manifest.exists() else {}
    seconds = {key: value + before.get(key, 0.0) for key, value in searched.items()}
    return {**seconds, "share": seconds["outside_seconds"] / max(seconds["wall_seconds"], 1e-9)}


def _described_transform(transform):
    """One of Consistent Normalization's transformations, for manifest and settings."""
    if transform is None:
        return None
    if isinstance(transform, keras.layers.Layer):
        config = plain(transform.get_config())
        about = {key: v for key, v in config.items() if key not in ("name", "dtype", "trainable")}
        return {"transform": type(transform).__name__, **about}
    return f"{transform.__module__}:{getattr(transform, '__qualname__', transform)}"


def _answer_tasks(rows, space, objective, count, baselines, ablation, seeds, seed, epochs):
    """The trainings for the answer: every arm on every seed, arm by arm."""
    from search import answer as answers

    direction = objective.direction
    plain_specs = [space.default_spec(name) for name in baselines]
    arms = answers.arms(rows, count, plain_specs, direction, words)
    if ablation:
        trained = {arm["trial"] for arm in arms}
        best = [row for row in answers.ranked(rows, direction) if row["trial"] in trained]
        around = (answers.ablation_arms(row, space, ablation) for row in best)
        arms += next(filter(None, around), [])
    return [
        Task(
            number=number,
            spec=arm["spec"],
            words=words(arm["spec"]),
            values=arm["values"],
            seed=seed + 1 + number % seeds,
            epochs=epochs,
            test=True,
            label={k: v for k, v in arm.items() if k not in ("spec", "values", "trial")},
        )
        for number, arm in enumerate(arm for arm in arms for _ in range(seeds))
    ]


def _concluded(folder, rows, runs, manifest):
    """The answer, with its report written."""
    from search import answer as answers
    from search import report

    answer = answers.conclude(rows, runs, manifest)
    report.write(folder, rows, runs, manifest, answer)
    return answer


def _why_nothing(rows, folder):
    failed = [row for row in rows if row["status"] == "failed"]
    if not failed:
        return (
            f"No trial completed: {len(rows)} were stopped early. Needed: a longer budget, or "
            "fewer epochs."
        )
    return (
        f"No trial completed: {len(failed)} of {len(rows)} failed, the last one with "
        f"{failed[-1]['reason']}. {folder / 'journal.jsonl'} has the tracebacks."
    )


def _versions():
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _device():
    return f"{', '.join(backends.devices())}; {platform.machine()}, {os.cpu_count()} cores"


def _python_call(settings):
    """What to call in Python where no command was given."""
    chosen = ("oracle", "trials", "epochs", "seeds", "seed", "batch_size", "learning_rate")
    arguments = ", ".join(f"{key}={settings[key]!r}" for key in chosen)
    objective = f"{settings['objective']}:{settings['direction']}"
    return [f"search.run(network, data, objective={objective!r}, {arguments}, out=...)"]


def shown(command):
    """A command as one would type it.

    >>> from search.running import shown
    >>> shown(["python", "-m", "search", "--out", "a b"])
    "python -m search --out 'a b'"
    """
    return shlex.join(command)
