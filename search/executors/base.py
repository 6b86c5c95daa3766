"""What an executor is: submit and poll."""

import abc
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Lost:
    """What comes back of a task whose worker ended before it.

    Attributes:
        number: of the task.
        reason: in words, such as "its worker was ended by SIGKILL".
    """

    number: int
    reason: str


class Executor(abc.ABC):
    """Runs tasks somewhere and brings back their rows.

    The driver calls `start` once for the trials and once for the answer, then `submit` while there
    is room, and `poll` until all is done. An executor calls `on_report(number, epoch, logs)` in the
    driver's process for every epoch that it hears of, in each task's own order, before it returns
    that task's row. The answer is None, or the reason for which the task is to stop, which goes
    into its row.

    A task that cannot be finished, because its worker died, comes back as a `Lost`. Whether it is
    submitted again is the driver's decision. No task is run twice otherwise, and none is lost.

    Attributes:
        capacity: how many tasks it takes at a time.
        apart: whether a task can end its process without ending the driver's.
        devices: what tasks run on, in words; None is what the driver's process sees.
        options: the arguments of `search.run` that it was made of; None where it was given.
    """

    capacity = 1
    apart = False
    devices: str | None = None
    options: dict[str, Any] | None = None

    def warm(self, modules=()):  # noqa: B027 - not every executor has something to do
        """Begin to get ready while the driver's process does other things.

        Args:
            modules: the names of modules to import where tasks run.
        """

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
        """Take a task (`search.task.Task`). It returns at once.

        Returns:
            The name of the worker that has it; None is the driver's own process.
        """

    @abc.abstractmethod
    def poll(self):
        """The rows of tasks that ended, or `Lost` for each that was lost; it waits for some.

        They come in the order in which they ended. There may be none all the same, and then it is
        called again.
        """

    @abc.abstractmethod
    def close(self):
        """Let go of everything; tasks under way are given up without a row."""
