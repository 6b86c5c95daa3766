"""The driver: the only loop. Ask the oracle, submit, journal, tell.

    while there is room and the oracle has more:
        ask the oracle          -> a point and its number
        journal "asked"         -> on disk before anything is run
        submit to the executor
    poll the executor
        for every epoch         -> show it; stop the trial, if a rule says so
        for every row           -> journal "told", then tell the oracle, then drop old weights

The order decides what a crash can do. A trial that was asked for and not told is run again, with
the same values and seed; one that was journaled and not told to the oracle is told when the
journal is replayed. Replaying asks the oracle the same questions and gives it the same answers in
the same order, so its state is what it was, whatever kind it is.
"""

import json
import time

import keras_tuner

from search.errors import Interrupted
from search.stopping import MedianRule
from search.store import plain


class Driver:
    """Runs a search, and the trainings for its answer.

    Args:
        asker: a `search.oracle.Asker`.
        executor: a `search.executors.base.Executor`.
        store: a `search.store.Store`.
        run: `run(task, report) -> row`, such as a `search.trial.Runner`.
        task_of: `task_of(number, values) -> Task`, of a trial.
        objective: a `keras_tuner.Objective`.
        rule: a `MedianRule`, or None to stop only what diverges.
        keep: the weights of how many of the best trials stay on disk.
        budget: seconds after which no trial begins and those under way end at their next epoch.
        progress: what shows how it goes; see `search.progress`.
        clock: seconds.
    """

    def __init__(
        self,
        asker,
        executor,
        store,
        run,
        task_of,
        objective,
        rule=None,
        keep=1,
        budget=None,
        progress=None,
        clock=time.monotonic,
    ):
        self.asker = asker
        self.executor = executor
        self.store = store
        self.run = run
        self.task_of = task_of
        self.objective = objective
        self.rule = rule
        self.keep = keep
        self.budget = budget
        self.progress = progress
        self.clock = clock
        self._running = {}
        self._spent = 0.0
        self._begun = None
        self.wall_seconds = 0.0
        self.fit_seconds = 0.0

    # The search.

    def search(self):
        """Run trials until the oracle has no more, the limit is reached or the budget is spent.

        Returns:
            The rows of all trials, those of earlier sessions included.
        """
        pending = self._replay()
        self._begin(self._on_report)
        try:
            while True:
                while len(self._running) < self.executor.capacity:
                    task = pending.pop(0) if pending else self._next()
                    if task is None:
                        break
                    self._running[task.number] = task
                    self._show("trial_started", task)
                    self.executor.submit(task)
                if not self._running:
                    break
                for row in self.executor.poll():
                    self._ended(row)
        except KeyboardInterrupt:
            raise self._interrupted("trials", len(self.store.rows())) from None
        finally:
            self._end()
        return self.store.rows()

    def _next(self):
        """The next trial, asked for and journaled, as a task."""
        if self._over():
            return None
        asked = self.asker.ask()
        if asked is None:
            return None
        number, trial = asked
        values = dict(trial.hyperparameters.values)
        self.store.append({"event": "asked", "trial": number, "values": values})
        return self.task_of(number, values)

    def _over(self):
        return self.budget is not None and self._spent + self._elapsed() >= self.budget

    def _elapsed(self):
        return 0.0 if self._begun is None else self.clock() - self._begun

    def _on_report(self, number, epoch, logs):
        """An epoch ended somewhere; why its trial is to stop, or None."""
        value = logs.get(self.objective.name)
        task = self._running[number]
        self._show("epoch_ended", task, epoch, value)
        if self._over():
            return "the time budget is spent"
        if self.rule is None or value is None:
            return None
        return self.rule.reason(number, epoch, value)

    def _ended(self, row):
        task = self._running.pop(row["trial"])
        found = row.pop("space", None)
        event = {"event": "told", "row": row}
        if found is not None:
            event["space"] = found
        self.store.append(event)
        self._tell(event)
        self.fit_seconds += row["fit_seconds"] or 0.0
        self._drop_weights()
        self._show("trial_ended", task, row)

    def _tell(self, event):
        row = event["row"]
        self.asker.tell(
            row["trial"],
            row["status"],
            row["score"],
            row["epochs"],
            row["traceback"] or row["reason"],
            event.get("space"),
        )

    def _replay(self):
        """Bring oracle and rule to where the journal ends; the tasks that were under way."""
        asked = {}
        for event in self.store.events:
            if event["event"] == "asked":
                _, trial = self.asker.replay(event["values"])
                asked[event["trial"]] = dict(trial.hyperparameters.values)
            elif event["event"] == "told":
                self._tell(event)
                row = event["row"]
                asked.pop(row["trial"])
                self._spent += row["seconds"]
                for entry in row["curve"]:
                    value = entry.get(self.objective.name)
                    if self.rule is not None and value is not None:
                        self.rule.record(row["trial"], entry["epoch"], value)
                self._show("trial_replayed", row)
        return [self.task_of(number, values) for number, values in asked.items()]

    def _drop_weights(self):
        """Keep the weights of the best trials, and of those that somebody will go on from."""
        rows = [row for row in self.store.rows() if row["status"] == "completed"]
        sign = -1.0 if self.objective.direction == "max" else 1.0
        rows.sort(key=lambda row: (sign * row["score"], row["trial"]))
        kept = [row["trial"] for row in rows[: self.keep]] + self.asker.needed()
        loaded = {task.load for task in self._running.values()}
        kept += [row["trial"] for row in rows if str(self.store.weights(row["trial"])) in loaded]
        # A task that runs may be writing its own just now.
        self.store.keep_weights([*kept, *self._running])

    # The trainings for the answer.

    def retrain(self, tasks):
        """Run tasks that no oracle asked for; those that the journal has are not run again.

        Args:
            tasks: each with a number of its own, and at least "arm" and "role" in its label.

        Returns:
            Their rows, in the order of the tasks.
        """
        done = {
            _identity(row["role"], row["spec"], row["values"], row["seed"]): row
            for row in self.store.rows("run")
        }
        rows = [
            done.get(_identity(task.label["role"], task.spec, task.values, task.seed))
            for task in tasks
        ]
        waiting = [task for task, row in zip(tasks, rows, strict=True) if row is None]
        self._begin(self._on_run_report)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.executor.capacity:
                    task = waiting.pop(0)
                    self._running[task.number] = task
                    self._show("run_started", task, len(tasks))
                    self.executor.submit(task)
                for row in self.executor.poll():
                    task = self._running.pop(row["trial"])
                    self.store.append({"event": "run", "row": row})
                    self.fit_seconds += row["fit_seconds"] or 0.0
                    rows[tasks.index(task)] = row
                    self._show("run_ended", task, row)
        except KeyboardInterrupt:
            raise self._interrupted("trainings", len(self.store.rows("run"))) from None
        finally:
            self._end()
        return rows

    def _on_run_report(self, number, epoch, logs):
        self._show("epoch_ended", self._running[number], epoch, logs.get(self.objective.name))

    # Common.

    def _begin(self, on_report):
        self._begun = self.clock()
        self.executor.start(self.run, on_report)

    def _end(self):
        self.wall_seconds += self._elapsed()
        self._begun = None
        self._running = {}
        self.executor.close()

    def _interrupted(self, what, count):
        return Interrupted(
            f"Interrupted; {count} {what} are in {self.store.folder}. --resume (resume=True) goes "
            "on from there."
        )

    def _show(self, event, *details):
        if self.progress is not None:
            getattr(self.progress, event)(*details)

    def overhead(self):
        """The seconds of the search, those of them in `fit`, and the others."""
        outside = max(0.0, self.wall_seconds - self.fit_seconds)
        return {
            "wall_seconds": self.wall_seconds,
            "fit_seconds": self.fit_seconds,
            "outside_seconds": outside,
        }


def _identity(role, spec, values, seed):
    """What two trainings for the answer have in common if they are the same."""
    return json.dumps(plain([role, spec, values, seed]), sort_keys=True)


def rule_for(oracle, objective, epochs):
    """The rule that goes with an oracle: Hyperband stops trials by itself."""
    if isinstance(oracle, keras_tuner.oracles.HyperbandOracle) or epochs is None or epochs < 2:
        return None
    return MedianRule(objective.direction, epochs)
