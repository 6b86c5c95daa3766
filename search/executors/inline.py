"""The executor that runs tasks in the driver's own process, one after the other."""

import collections
import gc

from search.executors.base import Executor


class InlineExecutor(Executor):
    """Runs a task when it is polled.

    Example:
        >>> from search.executors.inline import InlineExecutor
        >>> executor = InlineExecutor()
        >>> executor.start(lambda task, report: {"trial": task}, on_report=None)
        >>> executor.submit(7)
        >>> executor.poll()
        [{'trial': 7}]
    """

    def __init__(self):
        self._queue = collections.deque()
        self._froze = False

    def start(self, run, on_report):
        """Get ready: what exists already is no trial's garbage and need not be searched for it."""
        super().start(run, on_report)
        if gc.get_freeze_count() == 0:
            gc.collect()
            gc.freeze()
            self._froze = True

    def submit(self, task):
        """Put a task into the queue."""
        self._queue.append(task)

    def poll(self):
        """Run the next task, however long it takes."""
        if not self._queue:
            return []
        task = self._queue.popleft()

        def report(epoch, logs):
            return self.on_report(task.number, epoch, logs)

        return [self.run(task, report)]

    def close(self):
        """Forget the queue."""
        self._queue.clear()
        if self._froze:
            gc.unfreeze()
            self._froze = False
