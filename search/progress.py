"""What a search shows while it runs: a live table in a terminal, plain lines elsewhere."""

import time

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from search import formats
from search.objective import Objective
from search.rows import Status


class Observer:
    """What the driver tells about a search; each method does nothing unless it is overridden."""

    def trial_replayed(self, row):
        """A trial of an earlier session."""

    def trial_started(self, task):
        """A trial begins."""

    def placed(self, task, worker):
        """A worker with this name has a task; None is the driver's own process."""

    def lost(self, task, reason):
        """A task was lost with its worker."""

    def epoch_ended(self, task, epoch, value):
        """An epoch of anything ended, with this objective."""

    def trial_ended(self, task, row):
        """A trial ended, one way or another."""

    def run_started(self, task, total):
        """A training for the answer begins, one of so many."""

    def run_ended(self, task, row):
        """A training for the answer ended."""


class Observers(Observer):
    """Several observers, told one after the other.

    Args:
        *observers: those; None is left out.
    """

    def __init__(self, *observers):
        self.observers = [observer for observer in observers if observer is not None]

    def trial_replayed(self, row):
        """A trial of an earlier session."""
        for observer in self.observers:
            observer.trial_replayed(row)

    def trial_started(self, task):
        """A trial begins."""
        for observer in self.observers:
            observer.trial_started(task)

    def placed(self, task, worker):
        """A worker has a task."""
        for observer in self.observers:
            observer.placed(task, worker)

    def lost(self, task, reason):
        """A task was lost with its worker."""
        for observer in self.observers:
            observer.lost(task, reason)

    def epoch_ended(self, task, epoch, value):
        """An epoch of anything ended."""
        for observer in self.observers:
            observer.epoch_ended(task, epoch, value)

    def trial_ended(self, task, row):
        """A trial ended, one way or another."""
        for observer in self.observers:
            observer.trial_ended(task, row)

    def run_started(self, task, total):
        """A training for the answer begins."""
        for observer in self.observers:
            observer.run_started(task, total)

    def run_ended(self, task, row):
        """A training for the answer ended."""
        for observer in self.observers:
            observer.run_ended(task, row)


class Progress(Observer):
    """Shows the trials, then the trainings for the answer.

    Args:
        trials: how many there will be at most; None if that is not known.
        epochs: of a trial.
        objective: a `keras_tuner.Objective`.
        budget: seconds for the trials, or None.
        console: a `rich.console.Console`; None is the terminal.
        lines: how many of the last trials the live table shows.
        measured: what is measured on the test part, in words.
    """

    def __init__(
        self,
        trials,
        epochs,
        objective,
        budget=None,
        console=None,
        lines=12,
        measured="test error",
    ):
        self.trials = trials
        self.epochs = epochs
        self.objective = Objective.of(objective)
        self.budget = budget
        self.console = console or Console()
        self.lines = lines
        self.measured = measured
        self.rows = []
        self.best = None
        self.now = {}
        # Which worker has each task.
        self.workers = {}
        self.started = time.monotonic()
        self.worked = 0
        self.title = "Search"
        self.total = trials
        self._live = None

    def __enter__(self):
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(self, *exception):
        if self._live is not None:
            self._live.update(self._table())
            self._live.__exit__(*exception)
            self._live = None

    # What the driver tells.

    def trial_replayed(self, row):
        """A trial of an earlier session."""
        self._note(row)

    def trial_started(self, task):
        """A trial begins."""
        self.now[task.number] = (task, 0, None)
        self._refresh()

    def epoch_ended(self, task, epoch, value):
        """An epoch of anything ended."""
        self.now[task.number] = (task, epoch, value)
        self._refresh()

    def placed(self, task, worker):
        """A worker has a task."""
        if worker is not None:
            self.workers[task.number] = worker
            self._refresh()

    def lost(self, task, reason):
        """A task was lost with its worker."""
        self.now.pop(task.number, None)
        what = f"trial {task.number}: {task.words}"
        if task.arm is not None:
            what = f"answer: {task.arm['arm']}, seed {task.seed}"
        self._line(f"{what}: {reason}")
        self._refresh()

    def trial_ended(self, task, row):
        """A trial ended, one way or another."""
        self.now.pop(task.number, None)
        self._note(row)
        self.worked += 1
        if self._live is None:
            best = "none" if self.best is None else f"{self.best.score:.4f}"
            self._line(
                f"{len(self.rows)}{self._of()}: trial {row.trial}: {row.words}: "
                f"{self._result(row)}; best {best}; {self._left()}"
            )
        self._refresh()

    def run_started(self, task, total):
        """A training for the answer begins."""
        # Seeds may be added.
        self.total = total
        if self.title != "Answer":
            self.title = "Answer"
            self.started, self.worked = time.monotonic(), 0
            self.rows, self.now, self.workers = [], {}, {}
        self.now[task.number] = (task, 0, None)
        self._refresh()

    def run_ended(self, task, row):
        """A training for the answer ended."""
        self.now.pop(task.number, None)
        self.worked += 1
        self.rows.append(row)
        if self._live is None:
            self._line(
                f"answer {self.worked} of {self.total}: {row.arm}, seed {row.seed}: "
                f"{self._result(row)}; {self._left()}"
            )
        self._refresh()

    # How it looks.

    def _note(self, row):
        self.rows.append(row)
        if row.status is Status.COMPLETED and (
            self.best is None or self.objective.is_better(row.score, self.best.score)
        ):
            self.best = row

    def _result(self, row):
        if row.status is Status.FAILED:
            return f"failed ({row.reason})"
        value, name = row.score, self.objective.name
        if self.title == "Answer":
            value, name = row.test_error, self.measured
        if row.status is Status.STOPPED:
            return f"stopped after epoch {row.epochs} ({name} {value:.4f})"
        return f"{name} {value:.4f}"

    def _of(self):
        return f" of {self.total}" if self.total else ""

    def _left(self):
        """How long it will take, from how long it took."""
        spent = time.monotonic() - self.started
        estimates = []
        if self.worked and self.total:
            done = len(self.rows)
            estimates.append(spent / self.worked * max(0, self.total - done))
        if self.budget is not None and self.title == "Search":
            estimates.append(max(0.0, self.budget - spent))
        return (
            f"{formats.seconds(round(min(estimates)))} left"
            if estimates
            else "time left not known yet"
        )

    def _line(self, text):
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _refresh(self):
        if self._live is not None:
            self._live.update(self._table())

    def _table(self):
        table = Table(box=box.SIMPLE, expand=True)
        result = self.measured if self.title == "Answer" else self.objective.name
        table.add_column("trial" if self.title == "Search" else "seed", justify="right")
        table.add_column("norm", ratio=1, overflow="fold")
        table.add_column(result, justify="right")
        table.add_column("epochs", justify="right")
        if self.workers:
            table.add_column("worker")
        table.add_column("")
        for row in self.rows[-self.lines :]:
            value = row.test_error if self.title == "Answer" else row.score
            style = {Status.FAILED: "red", Status.STOPPED: "dim"}.get(row.status, "")
            if self.best is not None and row is self.best:
                style = "bold green"
            table.add_row(
                str(row.trial if self.title == "Search" else row.seed),
                _text(row.words if self.title == "Search" else row.arm),
                "" if value is None else f"{value:.4f}",
                str(row.epochs),
                *([row.worker or ""] if self.workers else []),
                row.status,
                style=style,
            )
        for task, epoch, value in self.now.values():
            table.add_row(
                str(task.number if self.title == "Search" else task.seed),
                _text(task.words if task.arm is None else task.arm["arm"]),
                "" if value is None else f"{value:.4f}",
                f"{epoch}/{task.epochs}",
                *([self.workers.get(task.number, "")] if self.workers else []),
                "running",
                style="cyan",
            )
        best = ""
        if self.best is not None and self.title == "Search":
            best = f"; best {self.best.score:.4f}: {self.best.words}"
        table.caption = _text(f"{self.title}: {len(self.rows)}{self._of()}; {self._left()}{best}")
        return table


def _text(text):
    """Text as it is: brackets in it are no markup."""
    from rich.text import Text

    return Text(text)
