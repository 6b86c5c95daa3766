"""The driver: the only loop. Ask the oracle, submit, journal, tell.

    while there is room and the oracle has more:
        ask the oracle          -> a point and its number
        journal "asked"         -> on disk before anything is run
        journal "started"       -> so that a training that ends the process is known
        submit to the executor
    poll the executor
        for every epoch         -> show it; stop the trial, if a rule says so
        for every row           -> journal "told", then tell the oracle, then drop old weights
        for every lost task     -> journal "lost", then run it again

The trainings for the answer go through the same loop, without an oracle.

The order decides what a crash can do. A trial that was asked for and not told is run again, with
the same values and seed; one that was journaled and not told to the oracle is told when the
journal is replayed. Replaying asks the oracle the same questions and gives it the same answers in
the same order, so its state is what it was, whatever kind it is. A training that was lost
`MOST_DEATHS` times with the process that it ran in is not run again: it has failed. Where trainings
run apart from the driver, the death of the driver is not held against them.
"""

import contextlib
import datetime
import time

import keras_tuner

from search import formats, stopping
from search.errors import CannotWrite, Interrupted
from search.executors.base import Lost
from search.history import PROCESS_DIED, key_of, key_of_run
from search.jsonable import jsonable
from search.objective import Objective
from search.progress import Observer
from search.rows import failed_row, row_of
from search.task import arms_of

# The second attempt is the last: what ended a process once may have been chance.
MOST_DEATHS = 2


class Driver:
    """Runs a search, and the trainings for its answer.

    Args:
        asker: a `search.oracle.Asker`.
        executor: a `search.executors.base.Executor`. Who made it closes it; a search that ends
            with an exception has closed it.
        store: a `search.store.Store`.
        run: `run(task, report) -> row`, such as a `search.trial.Runner`.
        task_of: `task_of(number, values_of) -> Task`, of a trial; `values_of(number)` gives the
            values of any trial that was asked for.
        objective: a `keras_tuner.Objective`.
        rule: one of `search.stopping`, or None to stop only what diverges.
        keep: the weights of how many of the best trials stay on disk.
        budget: seconds after which no trial begins and those under way end at their next epoch.
        progress: a `search.progress.Observer`, told how it goes.
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
        self.objective = Objective.of(objective)
        self.rule = rule
        self.keep = keep
        self.budget = budget
        self.progress = Observer() if progress is None else progress
        self.clock = clock
        # What runs, and how its events name it.
        self._running: dict = {}
        self._events: dict = {}
        self._spent = 0.0
        self._begun = None
        self._noted = 0.0

    # The search.

    def search(self):
        """Run trials until the oracle has no more, the limit is reached or the budget is spent.

        Returns:
            The rows of all trials, those of earlier sessions included.
        """
        waiting = self._replay()

        def following():
            return waiting.pop(0) if waiting else self._next()

        self._work(following, self._start_trial, self._on_report, self._end_trial)
        return self.store.rows()

    def _next(self):
        """The next trial, asked for and journaled, as a task."""
        if self._over():
            return None
        asked = self.asker.ask()
        if asked is None:
            return None
        number, _ = asked
        self.store.append({"event": "asked", "trial": number, "values": self._values(number)})
        return self._task(number)

    def _values(self, number):
        return dict(self.asker.trials[number].hyperparameters.values)

    def _task(self, number):
        return self.task_of(number, self._values)

    def _over(self):
        return self.budget is not None and self._spent + self._elapsed() >= self.budget

    def _elapsed(self):
        return 0.0 if self._begun is None else self.clock() - self._begun

    def _start_trial(self, task):
        self.progress.trial_started(task)
        return {"trial": task.number}

    def _on_report(self, number, epoch, logs):
        """An epoch ended somewhere; why its trial is to stop, or None."""
        value = logs.get(self.objective.name)
        task = self._running[number]
        self.progress.epoch_ended(task, epoch, value)
        if self._over():
            return "the time budget is spent"
        if self.rule is None or value is None:
            return None
        return self.rule.reason(number, epoch, value)

    def _end_trial(self, task, row):
        found, row = row.space, row.with_entries(space=None)
        event = {"event": "told", "row": row, "wall_seconds": self._since_last()}
        if found is not None:
            event["space"] = found
        self.store.append(event)
        self._tell(row, found)
        self._drop_weights()
        self.progress.trial_ended(task, row)

    def _tell(self, row, space):
        message = row.traceback or row.reason
        self.asker.tell(row.trial, row.status, row.score, row.epochs, message, space)

    def _replay(self):
        """Bring oracle and rule to where the journal ends; the tasks that were under way."""
        for event in self.store.history.events:
            if event["event"] == "asked":
                self.asker.replay(event["values"])
            elif event["event"] == "told":
                row = self.store.history.rows[event["row"]["trial"]]
                self._tell(row, event.get("space"))
                self._spent += row.seconds
                for entry in row.curve:
                    value = entry.get(self.objective.name)
                    if self.rule is not None and value is not None:
                        self.rule.record(row.trial, entry["epoch"], value)
                self.progress.trial_replayed(row)
        return [self._task(number) for number in self.store.history.under_way()]

    def _drop_weights(self):
        """Keep the weights of the best trials, and of those that somebody will go on from."""
        best = self.objective.ranked(self.store.rows())[: self.keep]
        kept = [row.trial for row in best] + self.asker.needed()
        for task in self._running.values():
            # A task that runs may be writing its own just now.
            kept += [one.number for one in task.line()]
        self.store.keep_weights(kept)

    # The trainings for the answer.

    def retrain(self, tasks, arms=None, further=None):
        """Run tasks that no oracle asked for; those that the journal has are not run again.

        One that failed with an exception is run again: what made it fail may be mended.

        Args:
            tasks: each with a number and an arm of its own.
            arms: all that are compared, as `search.task.arms_of` has them; None is those of the
                tasks.
            further: `further(rows)`, all tasks that there are to be once these have rows; it is
                asked again until there are no more.

        Returns:
            Their rows, in the order of the tasks.
        """
        tasks = list(tasks)
        waiting = [task for task in tasks if not self._is_done(task)]
        runs = self.store.history.runs

        def rows():
            # What the trainings are called follows from the tasks of today: with more trials other
            # arms are compared, around another best.
            return [
                runs[key_of_run(_run_of(task))].with_entries(
                    number=task.number, **jsonable(task.arm)
                )
                for task in tasks
            ]

        def following():
            while not waiting and not self._running and further is not None:
                known = {task.number for task in tasks}
                more = [task for task in further(rows()) if task.number not in known]
                if not more:
                    return None
                tasks.extend(more)
                tasks.sort(key=lambda task: task.number)
                waiting.extend(task for task in more if not self._is_done(task))
            return waiting.pop(0) if waiting else None

        def start(task):
            self.progress.run_started(task, len(tasks))
            return {"run": _run_of(task)}

        arms = arms_of(tasks) if arms is None else arms
        plan = [] if arms == self.store.history.arms else [{"event": "arms", "arms": arms}]
        self._work(following, start, self._on_run_report, self._end_run, plan)
        return rows()

    def _is_done(self, task):
        key = key_of_run(_run_of(task))
        row = self.store.history.runs.get(key)
        if row is None or row.traceback is None:
            return row is not None
        return self.store.history.deaths(key) >= MOST_DEATHS

    def _on_run_report(self, number, epoch, logs):
        self.progress.epoch_ended(self._running[number], epoch, logs.get(self.objective.name))

    def _end_run(self, task, row):
        self.store.append({"event": "run", "row": row, "wall_seconds": self._since_last()})
        self.progress.run_ended(task, row)

    # Common.

    def _work(self, following, start, on_report, end, plan=()):
        """The loop.

        Args:
            following: the next task, or None if there is none now.
            start: `start(task) -> event`: the entries of its events that say which task it is.
            on_report: for the executor.
            end: `end(task, row)`.
            plan: events that come first.
        """
        self.store.append({"event": "session", "started": _now()})
        for event in plan:
            self.store.append(event)
        self._begun, self._noted = self.clock(), 0.0
        # What was lost with its worker and is to be run again.
        again: list = []
        try:
            self.executor.start(self.run, on_report)
            while True:
                while len(self._running) < self.executor.capacity:
                    task = again.pop(0) if again else following()
                    if task is None:
                        break
                    failed = self._begin(task, start(task))
                    if failed is not None:
                        end(task, failed)
                if not self._running:
                    break
                for result in self.executor.poll():
                    number = result.number if isinstance(result, Lost) else row_of(result).number
                    task, event = self._running.pop(number), self._events.pop(number)
                    if isinstance(result, Lost):
                        self._lose(task, event, result.reason)
                        again.append(task)
                    else:
                        losses = self.store.history.losses(key_of(event))
                        end(task, row_of(result).with_entries(lost=losses or None))
        except BaseException as error:
            # First of all: what runs is to end.
            self.executor.close()
            if isinstance(error, KeyboardInterrupt):
                raise self._interrupted() from None
            raise
        finally:
            self._running, self._events = {}, {}
            # On a full disk the line is missing, and the next session takes this one for dead.
            with contextlib.suppress(CannotWrite):
                self.store.append({"event": "ended", "wall_seconds": self._since_last()})
            self._begun = None

    def _begin(self, task, event):
        """Submit a task; the row of one that was lost too often is returned instead."""
        apart = {"apart": True} if self.executor.apart else {}
        self.store.append({"event": "started", **event, **apart})
        losses = self.store.history.losses(key_of(event))
        if len(losses) >= MOST_DEATHS:
            return failed_row(task, _fatal(losses)).with_entries(lost=losses)
        self._running[task.number], self._events[task.number] = task, event
        self.progress.placed(task, self.executor.submit(task))
        return None

    def _lose(self, task, event, reason):
        """A task was lost with its worker."""
        since = self._since_last()
        self.store.append({"event": "lost", **event, "reason": reason, "wall_seconds": since})
        self.progress.lost(task, reason)

    def _interrupted(self):
        return Interrupted(
            f"Interrupted; {formats.count(len(self.store.rows()), 'trial')} and "
            f"{formats.count(len(self.store.history.runs), 'training')} for the answer are in "
            f"{self.store.folder}. --resume (resume=True) goes on from there."
        )

    def _since_last(self):
        """The seconds since the last event that has them."""
        elapsed = self._elapsed()
        since, self._noted = elapsed - self._noted, elapsed
        return max(0.0, since)


def _run_of(task):
    """What the history knows a training for the answer by."""
    return jsonable(
        {
            "role": task.arm["role"],
            "spec": task.spec,
            "values": task.values,
            "seed": task.seed,
            "split": task.split,
        }
    )


def _fatal(losses):
    if set(losses) == {PROCESS_DIED}:
        return f"the process died {len(losses)} times during this training"
    return f"it was begun {len(losses)} times, and each time it was lost: {'; '.join(losses)}"


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def rule_for(oracle, objective, epochs, early_stopping="careful"):
    """The rule that goes with an oracle: Hyperband stops trials by itself.

    Args:
        oracle: a `keras_tuner.Oracle`.
        objective: a `keras_tuner.Objective`.
        epochs: of a full trial.
        early_stopping: see `search.stopping.make`.
    """
    rule = stopping.make(early_stopping, objective.direction, epochs or 1)
    hyperband = isinstance(oracle, keras_tuner.oracles.HyperbandOracle)
    return None if hyperband or epochs is None or epochs < 2 else rule
