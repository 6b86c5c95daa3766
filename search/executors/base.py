"""What an executor is: submit, poll, cancel."""

import abc


class Executor(abc.ABC):
    """Runs tasks somewhere and brings back their rows.

    The driver calls `start` once, then `submit` while there is room, and `poll` until all is
    done. An executor calls `on_report(number, epoch, logs)` in the driver's process for
    every epoch that it hears of, in each task's own order, before it returns that task's row. The
    answer is None, or the reason for which the task is to stop: the executor cancels it then.

    A task that cannot be finished, because its worker died, comes back as a failed row, which
    `search.trial.failed_row` makes. No task is run twice, and none is lost.

    Attributes:
        capacity: how many tasks it takes at a time.
    """

    capacity = 1

    def start(self, run, on_report):
        """Get ready.

        Args:
            run: `run(task, report) -> row`; `report(epoch, logs)` gives a reason to stop, or None.
                It can be pickled if its parts can.
            on_report: what to tell the driver, as above.
        """
        self.run = run
        self.on_report = on_report

    @abc.abstractmethod
    def submit(self, task):
        """Take a task (`search.trial.Task`). It returns at once."""

    @abc.abstractmethod
    def poll(self, timeout=None):
        """The rows of tasks that ended, in the order in which they ended.

        Args:
            timeout: seconds to wait for at least one; None waits as long as it takes. There may be
                none then.
        """

    @abc.abstractmethod
    def cancel(self, number, reason):
        """Let a task stop, with this reason in its row. Its row still comes, by `poll`."""

    @abc.abstractmethod
    def close(self):
        """Let go of everything; tasks under way are given up without a row."""
