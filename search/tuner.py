"""`NormTuner`: a `keras_tuner.Tuner` whose search is the driver's."""

import contextlib
import pathlib
import shutil

import keras_tuner
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search import executors, fingerprint, stopping
from search.description import Tuning
from search.errors import BadInput, NothingCompleted, one_line
from search.hypermodel import NormHyperModel
from search.jsonable import jsonable
from search.names import refuse_kerastuner_roles
from search.objective import Objective
from search.oracle import make, objective_of
from search.progress import Progress
from search.rows import Status
from search.store import JOURNAL, Store, read
from search.trial import forget_models, load_weights
from search.wiring import Wiring


class NormTuner(keras_tuner.Tuner):
    """Searches over norms, or over whatever else a hypermodel of KerasTuner's declares.

    `search` takes what `model.fit` takes, as in every tuner. What it does is in a journal in
    `directory/project_name`; a tuner with the same settings goes on from there. Every trial has
    the same seed. A trial's score is the objective after its last epoch, and its weights are those
    of that epoch.

    Args:
        hypermodel: a `NormHyperModel`, any `keras_tuner.HyperModel`, or a function `build(hp)`. A
            space that is declared by `declare_hyperparameters` costs no build; another one becomes
            known with the trials.
        oracle: `"tpe"`, `"random"`, `"bayesian"`, `"hyperband"`, `"grid"`, or any
            `keras_tuner.Oracle`.
        objective: a `keras_tuner.Objective`, `"val_error"`, `"val_loss"`, `"val_accuracy"`, or
            another name with `:min` or `:max`. With an oracle that has one: None.
        max_trials: how many at most; of a small space, never more than it has points.
        epochs: of a full trial; None is what `search` says.
        seed: of the proposals and of the trials.
        directory, project_name: where the journal lies.
        overwrite: begin anew, and delete an earlier search there.
        keep: the weights of how many of the best trials stay on disk.
        early_stopping: `"careful"` (or True), `"bold"`, `"off"` (or False), or a rule of
            `search.stopping`.
        reestimate: whether the moving statistics of norms are measured anew on training data
            before each evaluation; see `kerasnorm.reestimate`.
        executor, workers, trial_seconds: where trials run, how many at a time and how long at
            most; see `search.run`.

    Example:
        >>> import keras, numpy as np, tempfile
        >>> from search import NormTuner
        >>> def build(hp):
        ...     layers = [keras.Input((4,)), keras.layers.Dense(hp.Choice("units", [2, 4]))]
        ...     model = keras.Sequential([*layers, keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse", jit_compile=False)
        ...     return model
        >>> tuner = NormTuner(
        ...     build, objective="val_loss", max_trials=3, directory=tempfile.mkdtemp()
        ... )
        >>> x, y = np.ones((8, 4)), np.ones((8, 1))
        >>> tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
        >>> len(tuner.rows())
        2
    """

    def __init__(
        self,
        hypermodel,
        oracle="tpe",
        objective=None,
        max_trials=20,
        epochs=None,
        seed=0,
        directory=None,
        project_name=None,
        overwrite=False,
        keep=1,
        early_stopping="careful",
        reestimate=False,
        executor="inline",
        workers=None,
        trial_seconds=None,
        **kwargs,
    ):
        refuse_kerastuner_roles()
        if "executions_per_trial" in kwargs:
            raise BadInput(
                "executions_per_trial: KerasTuner averages the seeds before they are stored. "
                "Needed: one training a trial; seeds are compared by `search.run`."
            )
        self.epochs = epochs
        self.max_trials = max_trials
        self.seed = seed
        self.keep = keep
        self.early_stopping = early_stopping
        self.reestimate = bool(reestimate)
        self.executor = executors.make(executor, workers=workers, trial_seconds=trial_seconds)
        self.oracle_name = oracle if isinstance(oracle, str) else type(oracle).__name__
        if isinstance(oracle, str):
            objective = objective_of("val_error" if objective is None else objective)
            oracle = make(oracle, objective, max_trials, seed, epochs or 10)
        elif objective is not None and objective_of(objective) != oracle.objective:
            raise BadInput("oracle and objective were given, and differ. Needed: one of them.")
        objective_of(oracle.objective)
        super().__init__(
            oracle=oracle,
            hypermodel=hypermodel,
            directory=directory,
            project_name=project_name,
            **kwargs,
        )
        self.folder = pathlib.Path(self.directory) / self.project_name
        self.space = getattr(self.hypermodel, "space", None)
        if overwrite and (self.folder / JOURNAL).exists():
            shutil.rmtree(self.folder)
        self._rows = []
        self._used = False

    def _populate_initial_space(self):
        """Let the hypermodel declare its space; nothing is built."""
        hp = self.oracle.get_space()
        self.hypermodel.declare_hyperparameters(hp)
        self.oracle.update_space(hp)

    def _get_tuner_fname(self):
        """KerasTuner's own state file, which is neither written nor read."""
        return str(pathlib.Path(self.directory) / self.project_name / "no-tuner-state")

    def save(self):
        """Nothing: the journal is the state."""

    def reload(self):
        """Nothing: `search` replays the journal."""

    def search(self, *fit_args, **fit_kwargs):
        """Run the search.

        It raises `search.errors.NothingCompleted`, with the last traceback, if no trial completed.

        Args:
            *fit_args: as `model.fit` takes them; `verbose=0` hides the progress.
            **fit_kwargs: the same by name. Callbacks are copied for each trial.
        """
        if self._used:
            raise BadInput("search was called already. Needed: a new tuner; it goes on from there.")
        self._used = True
        verbose = fit_kwargs.pop("verbose", "auto")
        epochs = fit_kwargs.pop("epochs", None) or self.epochs or 1
        progress = Progress(self.max_trials, epochs, self.oracle.objective) if verbose else None
        if isinstance(self.hypermodel, NormHyperModel):
            self.hypermodel.check_frozen_epochs(epochs)
        # Declared by a NormSpace, the space is part of the search; found on the way, it cannot be.
        rows = None if self.space is None else self.space.rows()
        description = Tuning(
            oracle=self.oracle_name,
            oracle_seed=self.oracle.seed,
            objective=Objective.of(self.oracle.objective),
            epochs=epochs,
            early_stopping=stopping.named(self.early_stopping),
            reestimate=self.reestimate,
            seed=self.seed,
            space=self.oracle.get_space().get_config()["space"] if rows is None else rows,
            trials=self.max_trials,
            trained=self._fingerprint(),
            fit=fingerprint.of_arguments(fit_args, fit_kwargs),
        )
        wiring = Wiring(
            description,
            self.hypermodel,
            self.oracle,
            self.executor,
            _Same(fit_args, fit_kwargs),
            self.early_stopping,
        )
        with Store(self.folder, description.settings(), resume=None) as store:
            driver = wiring.driver(store, self.keep, progress=progress)
            with progress or contextlib.nullcontext(), contextlib.closing(self.executor):
                self._rows = driver.search()
        if not any(row.status is Status.COMPLETED for row in self._rows):
            raise NothingCompleted(_why_nothing(self._rows, self.folder))

    def _fingerprint(self):
        """What is trained and how, for which a hypermodel that does not say it builds once."""
        if hasattr(self.hypermodel, "fingerprint"):
            return self.hypermodel.fingerprint()
        try:
            model = self.hypermodel.build(keras_tuner.HyperParameters())
            network = fingerprint.of_network(model)
            return {"network": network, "training": fingerprint.of_training(model)}
        except Exception as error:
            # The trials will say more of it.
            return {"network": {"error": one_line(error)}, "training": None}

    def rows(self):
        """A row for each trial: its spec, values, status, score, curve and times.

        Before `search` was called, they are those that the folder holds.
        """
        return jsonable(self._typed_rows())

    def _typed_rows(self):
        if not self._rows and (self.folder / JOURNAL).exists():
            return list(read(self.folder).rows.values())
        return self._rows

    def best_rows(self, count=1):
        """The rows of the best trials that completed; fewer if there are no more."""
        return jsonable(self._best(count))

    def _best(self, count):
        return Objective.of(self.oracle.objective).ranked(self._typed_rows())[:count]

    def get_best_hyperparameters(self, num_trials=1):
        """The hyperparameters of the best trials that completed; fewer if there are no more."""
        return [self._hyperparameters(row) for row in self._best(num_trials)]

    def get_best_models(self, num_models=1):
        """The best models with their weights, as many as were kept (`keep`)."""
        if num_models > self.keep:
            raise BadInput(
                f"num_models={num_models}, but the weights of {self.keep} were kept. Needed: at "
                "most as many, or `NormTuner(keep=...)`."
            )
        return [self._model(row) for row in self._best(num_models)]

    def load_model(self, trial):
        """The model of one of KerasTuner's trials, if its weights were kept."""
        row = next(row for row in self._typed_rows() if row.trial == int(trial.trial_id))
        return self._model(row)

    def search_space_summary(self, extended=False):
        """Print the space.

        Args:
            extended: also the configuration of each hyperparameter, as KerasTuner prints it.
        """
        if extended or self.space is None:
            super().search_space_summary(extended)
        if self.space is not None:
            _print(str(self.space))

    def results_summary(self, num_trials=10):
        """Print how the trials ended, and the best of them."""
        rows, objective = self._typed_rows(), self.oracle.objective
        table = Table("trial", "what", objective.name, "epochs", "parameters")
        for row in self._best(num_trials):
            table.add_row(
                str(row.trial),
                Text(row.words),
                f"{row.score:.5g}",
                str(row.epochs),
                f"{row.parameters:,}",
            )
        counts = [(sum(row.status is status for row in rows), status) for status in Status]
        said = ", ".join(f"{count} {status}" for count, status in counts if count)
        _print(f"{len(rows)} trials in {self.folder}" + (f": {said}" if said else ""))
        if table.rows:
            _print(table)
        for row in rows:
            if row.status is Status.FAILED:
                _print(f"trial {row.trial} failed: {row.words}: {row.reason}")

    def _hyperparameters(self, row):
        hp = self.oracle.get_space()
        hp.values = dict(row.hyperparameters)
        return hp

    def _model(self, row):
        path = self.folder / "weights" / f"trial_{row.trial:05d}.weights.h5"
        forget_models()
        model = self.hypermodel.build(self._hyperparameters(row))
        if not model.built:
            raise BadInput("the model has no input shape to load weights into. Needed: an Input.")
        load_weights(model, path)
        return model


def _print(what):
    Console().print(what, markup=False, highlight=False, soft_wrap=isinstance(what, str))


def _why_nothing(rows, folder):
    """No trial completed: how they ended, with the last traceback."""
    failed = [row for row in rows if row.status is Status.FAILED]
    said = f"No trial completed: {len(failed)} of {len(rows)} failed. All are in {folder}."
    if failed:
        said += f" The last one: {failed[-1].reason}"
        if failed[-1].traceback:
            said += f"\n\n{failed[-1].traceback}"
    return said


class _Same:
    """What a user gave to `search`, for every trial."""

    def __init__(self, args, kwargs):
        self.args = args
        self.kwargs = kwargs

    def __call__(self, task):
        return self.args, dict(self.kwargs)
