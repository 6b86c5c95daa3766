"""`NormTuner`: a `keras_tuner.Tuner` whose search is the driver's."""

import pathlib
import shutil

import keras_tuner
from rich.console import Console

from search.driver import Driver, rule_for
from search.errors import BadInput
from search.executors.inline import InlineExecutor
from search.oracle import OWN_PREFIX, Asker, make, objective_of
from search.progress import Progress
from search.space import words
from search.store import JOURNAL, Store
from search.trial import Runner, Task, forget_models, load_weights


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
        early_stopping: whether bad trials are stopped; a `MedianRule`, True or False.
        executor: a `search.executors.base.Executor`; None runs trials in this process.

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
        early_stopping=True,
        executor=None,
        **kwargs,
    ):
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
        self.executor = executor
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

        Args:
            *fit_args: as `model.fit` takes them; `verbose=0` hides the progress.
            **fit_kwargs: the same by name. Callbacks are copied for each trial.
        """
        if self._used:
            raise BadInput("search was called already. Needed: a new tuner; it goes on from there.")
        self._used = True
        verbose = fit_kwargs.pop("verbose", "auto")
        epochs = fit_kwargs.pop("epochs", None) or self.epochs or 1
        space = self.space
        asker = Asker(
            self.oracle,
            space,
            () if space is None else space.paper_defaults(),
            self.max_trials,
        )
        objective = self.oracle.objective
        rule = self.early_stopping
        if isinstance(rule, bool):
            rule = rule_for(self.oracle, objective, epochs) if rule else None
        progress = Progress(self.max_trials, epochs, objective) if verbose else None
        # Declared by a NormSpace, the space is part of the search; found on the way, it cannot be.
        rows = None if space is None else space.rows()
        settings = {
            "oracle": self.oracle_name,
            "oracle_seed": self.oracle.seed,
            "objective": objective.name,
            "direction": objective.direction,
            "epochs": epochs,
            "seed": self.seed,
            "space": rows if space else self.oracle.get_space().get_config()["space"],
            "trials": self.max_trials,
        }
        with Store(self.folder, settings, resume=True) as store:
            driver = Driver(
                asker,
                self.executor or InlineExecutor(),
                store,
                Runner(self.hypermodel, _Same(fit_args, fit_kwargs), objective),
                lambda number, values: task_for(
                    number, values, space, self.seed, epochs, store, self._config()
                ),
                objective,
                rule,
                self.keep,
                progress=progress,
            )
            if progress is None:
                self._rows = driver.search()
            else:
                with progress:
                    self._rows = driver.search()

    def _config(self):
        return None if self.space is not None else self.oracle.get_space().get_config()

    def rows(self):
        """A row for each trial: its spec, values, status, score, curve and times."""
        return list(self._rows)

    def best_rows(self, count=1):
        """The rows of the best trials that completed; fewer if there are no more."""
        sign = -1.0 if self.oracle.objective.direction == "max" else 1.0
        completed = [row for row in self._rows if row["status"] == "completed"]
        return sorted(completed, key=lambda row: (sign * row["score"], row["trial"]))[:count]

    def get_best_hyperparameters(self, num_trials=1):
        """The hyperparameters of the best trials that completed; fewer if there are no more."""
        return [self._hyperparameters(row) for row in self.best_rows(num_trials)]

    def get_best_models(self, num_models=1):
        """The best models with their weights, as many as were kept (`keep`)."""
        if num_models > self.keep:
            raise BadInput(
                f"num_models={num_models}, but the weights of {self.keep} were kept. Needed: at "
                "most as many, or `NormTuner(keep=...)`."
            )
        return [self._model(row) for row in self.best_rows(num_models)]

    def load_model(self, trial):
        """The model of one of KerasTuner's trials, if its weights were kept."""
        row = next(row for row in self._rows if row["trial"] == int(trial.trial_id))
        return self._model(row)

    def results_summary(self, num_trials=10):
        """Print the best trials."""
        console = Console()
        for row in self.best_rows(num_trials):
            console.print(f"{row['score']:.5g}  trial {row['trial']}: {row['words']}")

    def _hyperparameters(self, row):
        hp = self.oracle.get_space()
        hp.values = dict(row["values"])
        return hp

    def _model(self, row):
        path = self.folder / "weights" / f"trial_{row['trial']:05d}.weights.h5"
        forget_models()
        model = self.hypermodel.build(self._hyperparameters(row))
        if not model.built:
            raise BadInput("the model has no input shape to load weights into. Needed: an Input.")
        load_weights(model, path)
        return model


class _Same:
    """What a user gave to `search`, for every trial."""

    def __init__(self, args, kwargs):
        self.args = args
        self.kwargs = kwargs

    def __call__(self, task):
        return self.args, dict(self.kwargs)


def task_for(number, values, space, seed, epochs, store, config=None):
    """The task of a trial.

    Args:
        number: of the trial.
        values: of the oracle.
        space: the `NormSpace`, or None.
        seed, epochs: of every trial; Hyperband says epochs itself.
        store: where its weights go.
        config: KerasTuner's hyperparameters, where there is no `NormSpace`.
    """
    own = {key: value for key, value in values.items() if key.startswith(OWN_PREFIX)}
    if space is not None:
        spec = space.spec_from(values)
        shown = space.active(values)
        others = [f"{k} {v:g}" for k in ("learning_rate", "batch_size") if (v := shown.get(k))]
        said = ", ".join([words(spec), *others])
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
        load=None if parent is None else str(store.weights(int(parent))),
        save=str(store.weights(number)),
        space=config,
        label={} if parent is None else {"continues": int(parent)},
    )
