"""A whole search: data, trials, the trainings for the answer, the answer and its report."""

import contextlib
import dataclasses
import html
import os
import pathlib
from typing import Any

import keras

from kerasnorm.core import backends
from search import answer as answers
from search import calls, executors, fitting, formats, measuring, stopping
from search import data as datasets
from search.answer.results import FEWEST_SEEDS
from search.answer.sequential import MOST_SEEDS
from search.batches import Batches
from search.callbacks import Callbacks
from search.data import nests
from search.data.splits import Splits, seeds_for
from search.data.splits import check as check_splits
from search.description import Search, architecture_of, transforms_of
from search.errors import BadInput, CannotWrite, Interrupted, NothingCompleted
from search.evaluation import MEASURED
from search.executors.base import Executor
from search.hypermodel import NormHyperModel, saved
from search.jsonable import jsonable
from search.manifest import manifest_of
from search.names import ORIGINAL, PLAIN, is_saved, refuse_kerastuner_roles
from search.objective import Objective
from search.oracle import make, objective_of
from search.progress import Observers, Progress
from search.report import live, terminal
from search.rows import Status
from search.space import norm_name
from search.store import Store
from search.task import arms_of
from search.tasks import answer_arms, answer_tasks
from search.wiring import Wiring

# Of the arguments that are counts.
MAY_BE_ZERO = ("seeds", "ablation", "seed")


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a search found; `print` it for the answer and where the report lies.

    Attributes:
        rows: of the trials.
        runs: rows of the trainings for the answer.
        manifest: what was searched, and how.
        answer: what `search.answer.conclude` makes of them.
        folder: where all of it lies.
    """

    rows: list
    runs: list
    manifest: dict
    answer: Any
    folder: pathlib.Path

    def __repr__(self):
        lines = [
            self.answer.sentence,
            f"{formats.count(len(self.rows), 'trial')}, "
            f"{formats.count(len(self.runs), 'training')} for the answer.",
            *(f"{path}  {what}" for path, what in terminal.paths(self.answer, self.folder)),
        ]
        return "\n".join(lines)

    def _repr_html_(self):
        """The same for a notebook, with links."""
        first, *others = map(html.escape, repr(self).splitlines()[:2])
        for path, what in terminal.paths(self.answer, self.folder):
            link = html.escape(path.absolute().as_uri())
            others.append(f'<a href="{link}">{html.escape(str(path))}</a> {html.escape(what)}')
        return "<br>".join([f"<strong>{first}</strong>", *others])


@calls.goes_on
def run(
    network=None,
    data="digits",
    norms=None,
    oracle="tpe",
    trials=20,
    budget=None,
    epochs=10,
    seeds=None,
    objective=None,
    executor="inline",
    workers=None,
    trial_seconds=None,
    address=None,
    cpus_per_trial=None,
    gpus_per_trial=None,
    out="search-results",
    resume=False,
    seed=0,
    candidates=3,
    baselines=None,
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
    start="fresh",
    start_examples=512,
    early_stopping="careful",
    reestimate=False,
    jit_compile="auto",
    deterministic=False,
    data_dir=None,
    image_size=None,
    command=None,
    options=None,
    console=None,
    task=None,
    measure=None,
    most_seeds=MOST_SEEDS,
    margin=None,
    splits=1,
    callbacks=None,
    frozen_epochs=0,
):
    """Search the norms of a network on some data, and say how sure the answer is.

    Args:
        network: the name of an architecture, a function of a norm spec, a Keras model, or the path
            of a `.keras` file; see `NormHyperModel`.
        data: see `search.data.load`.
        norms: which norms; None is all.
        oracle: `"tpe"`, `"random"`, `"bayesian"`, `"hyperband"`, `"grid"`, or a
            `keras_tuner.Oracle`.
        trials: how many at most.
        budget: seconds for the trials; the answer comes after them.
        epochs: of a full training.
        seeds: on how many new seeds the best norms and the plain ones are trained for the answer; 0
            is none, and no answer. `"auto"` adds seeds until each of the best norms is shown to be
            better, worse or equal, or more seeds would not show it; the answer is as sure. None is
            `"auto"`, and two for each of several `splits`.
        objective: measured on the validation part; see `NormTuner`. None is `"val_error"`, or
            `"val_loss"` of a regression and of what a model is compiled for. `"measure"` is
            `measure` on the validation part; it is also the default where a model has its own
            `train_step`, and no loss and no `test_step`.
        executor: where trainings run: `"inline"`, in this process; `"processes"`, in other
            processes of this machine; `"ray"`, on a Ray cluster; or a
            `search.executors.base.Executor`.
        workers: how many trainings run at a time. None is one, and on a cluster as many as there is
            room for.
        trial_seconds: a training that takes longer is begun once more, then it has failed; not for
            `"inline"`.
        address: of a Ray cluster; see `search.executors.ray`.
        cpus_per_trial, gpus_per_trial: what each training on a Ray cluster gets.
        out: the folder for everything.
        resume: go on with the search that is there. What is not given is what that search was
            begun with; arrays, and functions that are defined in a function or a notebook, have to
            be given again.
        seed: of the proposals and of the trials. The answer's seeds are the ones after it.
        candidates: how many of the best norms are trained for the answer.
        baselines: which norms they are compared with; those that are legal in the network. None is
            the plain ones among `norms`. Where there is none, nothing is compared. `"original"` is
            a Keras model as it is, trained like the others; it is among them where `start` is not
            `"fresh"`.
        ablation: how many other values of each hyperparameter to train, one changed at a time,
            around the best of the trials that are trained again and have hyperparameters.
        placements, learning_rates, batch_sizes: of `NormSpace`.
        batch_size, learning_rate: where they are not searched.
        transforms: for Consistent Normalization, None first; see `NormHyperModel`.
        augmentation: True, or `(pad, flip)`: pad, crop at random, flip.
        compile: `compile(model, values)`; see `NormHyperModel`.
        arguments: further ones of an architecture given by its name.
        start: how the norms of a Keras model begin: `"fresh"`, `"preserved"` or `"converted"`; see
            `NormHyperModel`. A conversion sees training images without their labels.
        start_examples: how many images a conversion sees at most.
        early_stopping: which trials are stopped early: `"careful"` (or True), those that can no
            longer become the best; `"bold"`, those below the median; `"off"` (or False), none.
        reestimate: whether the moving statistics of norms are measured anew on training data
            before each evaluation; see `kerasnorm.reestimate`.
        jit_compile: as in `keras.Model.compile`.
        deterministic: whether to use only operations that repeat bit for bit, from here on.
        data_dir, image_size: see `search.data.load`.
        command: what replays this search, for the manifest.
        options: of the command, for who resumes it.
        console: a `rich.console.Console` to show progress on; False shows nothing.
        task: what is trained for; see `search.data.load`. A model that is compiled for a regression
            says so itself.
        measure: of the answer, on the test part: `"error"`, `"accuracy"`, `"pixel_error"`,
            `"mean_iou"`, `"token_error"`, `"loss"`; a metric of Keras's or its name, of several
            outputs after the name of one, such as `"kind_accuracy"`; or `function(model, test)`
            with its direction, `(function, "max")` or `"MODULE:FUNCTION:max"`. It gets a part with
            `x` and `y`, and returns a number, or the number and an array with a value for each
            example that it is the mean of. None is the share of wrong answers, pixels or tokens,
            the mean squared error of a regression, or the loss of what a model is compiled for.
        most_seeds: of `seeds="auto"`.
        margin: a difference up to this does not matter: in points where the measure is a share (0.5
            is half a percent of the test examples), else in its unit. Norms that are shown to be
            equal within it are called so, and the cheaper one is the one to use.
        splits: for the answer, how often training part and test part are drawn anew from the
            examples of both; 1 takes them as they are. With 3 or more the answer is about data of
            this kind, and not about this one split. `seeds` is a multiple of it.
        callbacks: of each training: a list of Keras's callbacks, which are copied, or a function
            without arguments that returns a new list. Where one writes, as `ModelCheckpoint` does,
            each training gets a folder of its own.
        frozen_epochs: in how many of the first epochs the norms of a Keras model train alone, while
            all its other weights are frozen; a list is searched, the default first. Each training
            has them, that of the model as it is too. Fewer than `epochs`.

    Returns:
        A `Result`.
    """
    refuse_kerastuner_roles()
    given = dict(locals())
    seeds = seeds_for(seeds, splits)
    if is_saved(network):
        given["network"] = os.path.abspath(network)
        network = saved(network)
    if isinstance(executor, Executor) and executor.options is not None:
        given |= executor.options
    call = calls.kept(given) | ({} if options is None else {"options": options})
    _check(
        network,
        budget,
        trials=trials,
        epochs=epochs,
        seeds=0 if seeds == "auto" else seeds,
        most_seeds=most_seeds,
        candidates=candidates,
        ablation=ablation,
        batch_size=batch_size,
        seed=seed,
    )
    check_splits(splits, seeds)
    if splits > 1 and isinstance(network, keras.Model):
        raise BadInput(
            f"splits={splits} with a Keras model, whose weights may have met the test parts of new "
            "splits. Needed: a function of a norm spec, which makes a model with new weights."
        )
    if margin is not None and not margin > 0:
        raise BadInput(f"margin={margin!r}. Needed: a number above 0.")
    if seeds == "auto" and most_seeds < FEWEST_SEEDS:
        raise BadInput(f"most_seeds={most_seeds}. Needed: at least {FEWEST_SEEDS}.")
    chosen_executor = executors.make(
        executor,
        workers=workers,
        trial_seconds=trial_seconds,
        address=address,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    if deterministic:
        backends.be_deterministic()
    loaded = datasets.load(data, data_dir, image_size, task or fitting.task_of_model(network))
    callbacks = Callbacks(callbacks)
    callbacks_are = callbacks.described()
    if objective is not None and not _is_measure(objective):
        objective_of(objective)
    chosen_measure, by = measuring.chosen(
        measure, loaded.task, several=nests.are_several(loaded.train.y)
    )
    splitted = Splits(loaded, splits, seed)
    test = measuring.Test(splitted, chosen_measure, by)
    augmentation = datasets.checked_augmentation(loaded, augmentation)
    hypermodel = NormHyperModel(
        network,
        compile=compile,
        learning_rate=learning_rate,
        transforms=transforms,
        jit_compile=jit_compile,
        form=loaded.form,
        tried=test.check,
        arguments=arguments,
        start=start,
        start_data=loaded.train.x,
        start_examples=start_examples,
        norms=norms,
        placements=placements,
        learning_rates=learning_rates,
        batch_sizes=batch_sizes,
        frozen_epochs=frozen_epochs,
    )
    hypermodel.check_frozen_epochs(epochs)
    trained = hypermodel.fingerprint()
    chosen_objective = _objective(objective, loaded, hypermodel, chosen_measure, callbacks)
    description = Search(
        architecture=architecture_of(network, arguments),
        trained=trained,
        data=loaded.described(),
        space=hypermodel.space.rows(),
        oracle=oracle if isinstance(oracle, str) else type(oracle).__name__,
        objective=Objective.of(chosen_objective),
        measure=chosen_measure,
        trials=trials,
        budget=budget,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augmentation=augmentation,
        transforms=transforms_of(transforms),
        early_stopping=stopping.named(early_stopping),
        reestimate=bool(reestimate),
        deterministic=bool(deterministic),
        seed=seed,
        seeds=seeds,
        most_seeds=most_seeds,
        splits=splits,
        margin=margin,
        candidates=candidates,
        baselines=_baselines(hypermodel, baselines),
        ablation=ablation,
        callbacks=callbacks_are,
    )
    if isinstance(oracle, str):
        oracle = make(oracle, chosen_objective, trials, seed, epochs)
    wiring = Wiring(
        description,
        hypermodel,
        oracle,
        chosen_executor,
        Inputs(splitted, batch_size, augmentation, callbacks),
        early_stopping,
        test,
    )
    made = jsonable(description.made_with(command, chosen_executor.devices))
    with Store(out, description.settings(), resume, {**call, "made": made}) as store:
        return _searched(wiring, store, manifest_of(store.settings, made), console)


def _is_measure(objective):
    # One of KerasTuner's cannot be compared with a text.
    return isinstance(objective, str) and objective == "measure"


def _objective(asked, loaded, hypermodel, measure, callbacks):
    """What trials are ranked by; a model that nothing evaluates is ranked by the measure."""
    if asked is None:
        by_loss = loaded.task in ("regression", "compiled")
        asked = "val_loss" if by_loss else "val_error"
        if not hypermodel.evaluates:
            asked = "measure"
    if _is_measure(asked):
        return objective_of(f"{MEASURED}:{measure.direction}")
    objective = objective_of(asked)
    # Callbacks may measure more.
    if objective.name.startswith("val_") and not (hypermodel.evaluates or callbacks):
        raise BadInput(
            f"objective {objective.name!r} is not known: model {hypermodel.model_name!r} has its "
            "own train_step, and no loss and no test_step to evaluate it with. Needed: "
            "--objective measure (objective='measure'), or a test_step."
        )
    return objective


def _check(network, budget, **counts):
    """Refuse what no search can be made of."""
    if network is None:
        raise BadInput(
            "network=None. Needed: the name of an architecture, a function of a norm spec, or a "
            "Keras model."
        )
    for name, value in counts.items():
        least = 0 if name in MAY_BE_ZERO else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"{name}={value!r}. Needed: an integer of at least {least}.")
    if budget is not None and not budget > 0:
        raise BadInput(f"budget={budget!r}. Needed: seconds, more than 0.")


def _searched(wiring, store, manifest, console):
    """The trials, the trainings for the answer, and the report, however the search ends."""
    search, space = wiring.description, wiring.space
    progress = None
    if console is not False:
        trials = int(min(search.trials, space.size()))
        progress = Progress(
            trials,
            search.epochs,
            search.objective,
            search.budget,
            console,
            measured=search.measure.said,
        )
    reporter = live.Reporter(store.folder, store.rows, manifest)
    driver = wiring.driver(store, search.candidates, search.budget, Observers(progress, reporter))

    def finish():
        manifest["overhead"] = store.history.overhead()
        try:
            return reporter.finish()
        except OSError as error:
            raise CannotWrite.of(store.folder / "report.html", error) from error

    try:
        with progress or contextlib.nullcontext():
            rows = driver.search()
            completed = any(row.status is Status.COMPLETED for row in rows)
            runs = _retrained(driver, rows if completed else [], space, search, manifest)
            if not completed:
                raise NothingCompleted(_why_nothing(rows, store.folder))
    except BaseException as error:
        wiring.executor.close()
        # However a search ends, there is a report of what it did.
        reporter.close()
        if store.rows():
            with contextlib.suppress(OSError):
                finish()
            if isinstance(error, (Interrupted, NothingCompleted)):
                said = f"{error} The report of what there is: {store.folder / 'report.html'}"
                raise type(error)(said) from None
        raise
    wiring.executor.close()
    answer = finish()
    return Result(jsonable(rows), jsonable(runs), manifest, answer, store.folder)


def _retrained(driver, rows, space, search, manifest):
    """The rows of the trainings for the answer, which the manifest then has the arms of."""
    arms = answer_arms(rows, space, search) if rows else []
    manifest["arms"] = arms_of(answer_tasks(arms, search))
    if search.seeds != "auto":
        return driver.retrain(answer_tasks(arms, search))

    def further(run_rows):
        counts, _ = answers.wanted(arms, run_rows, manifest)
        return answer_tasks(arms, search, counts)

    return driver.retrain([], manifest["arms"], further if arms else None)


class Inputs:
    """What the trainings are fed with.

    Args:
        splits: a `search.data.splits.Splits`.
        batch_size: where it is not searched.
        augmentation: `(pad, flip)` or None.
        callbacks: `search.callbacks.Callbacks`.
    """

    def __init__(self, splits, batch_size, augmentation, callbacks):
        self.splits = splits
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.callbacks = callbacks

    def __call__(self, task):
        size = task.values.get("batch_size", self.batch_size)
        data = self.splits[task.split]
        batches = Batches(data.train, size, task.seed, self.augmentation, task.initial_epoch)
        part = data.validation
        return (batches,), {
            "validation_data": (part.x, part.y),
            "validation_batch_size": measuring.whole_batches(len(part)),
            "callbacks": self.callbacks,
        }


def _baselines(hypermodel, asked):
    """The names of the norms to compare with, those that the network can take."""
    space = hypermodel.space
    if asked is None:
        trained = hypermodel.start != "fresh"
        return [*[name for name in space.norms if name in PLAIN], *([ORIGINAL] if trained else [])]
    words = asked.split(",") if isinstance(asked, str) else asked
    names = []
    for word in dict.fromkeys(word.strip() for word in words):
        if word != ORIGINAL:
            name = norm_name(word)
            names += [name] if space.refusal(name) is None else []
        elif isinstance(hypermodel.network, keras.Model):
            names.append(word)
        else:
            raise BadInput("baseline 'original' is a Keras model as it is. Needed: such a network.")
    return list(dict.fromkeys(names))


def _why_nothing(rows, folder):
    failed = [row for row in rows if row.status is Status.FAILED]
    if not failed:
        return (
            f"No trial completed: {len(rows)} were stopped early. Needed: a longer budget, or "
            "fewer epochs."
        )
    return (
        f"No trial completed: {len(failed)} of {len(rows)} failed, the last one with "
        f"{failed[-1].reason}. {folder / 'journal.jsonl'} has the tracebacks."
    )
