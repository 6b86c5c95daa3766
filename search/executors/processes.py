"""The executor that runs tasks in processes of this machine.

Each worker is a process of its own, started by loky, with a pipe to the driver. A worker is sent
what all tasks need once, then task after task. It sends back a message for every epoch, for which
it waits for an answer, and a row for every task. A worker that ends, or that takes too long, costs
the task that it has; another worker takes its place.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import os
import pathlib
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from multiprocessing import Pipe, connection
from typing import Any

import loky
from loky.backend import get_context
from loky.backend.utils import kill_process_tree

from search.errors import SearchError
from search.executors import devices
from search.executors.base import Executor, Lost
from search.executors.worker import Parcel, ended
from search.jsonable import jsonable

# A worker is replaced after so many tasks: whatever they left in its memory goes with it.
RENEW_AFTER = 50
# A worker that is not ready after so many seconds is taken for dead.
SECONDS_TO_START = 300.0
# So many workers that end before they are ready, one after the other, end the search.
MOST_FAILED_STARTS = 3
# Seconds between two looks at what sends no message.
TICK = 1.0


class ProcessExecutor(Executor):
    """Runs tasks in processes.

    Args:
        workers: how many tasks run at a time.
        trial_seconds: a task that takes longer is lost; None is no limit.
        renew_after: how many tasks a worker runs before another takes its place.

    Example:
        >>> from search.executors.processes import ProcessExecutor
        >>> from search.task import Task
        >>> executor = ProcessExecutor(workers=2)
        >>> executor.start(lambda task, report: {"trial": task.number}, on_report=None)
        >>> executor.submit(Task(7, None, "", {}, seed=0, epochs=1))
        '1'
        >>> executor.poll()
        [{'trial': 7, 'worker': '1'}]
        >>> executor.close()
    """

    apart = True

    def __init__(self, workers=1, trial_seconds=None, renew_after=RENEW_AFTER):
        self.capacity = workers
        self.trial_seconds = trial_seconds
        self.renew_after = renew_after
        self.devices = devices.described()
        self._folder: pathlib.Path | None = None
        self._parcel: pathlib.Path | None = None
        self._sent: Any = None
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._environments: list[dict] = []
        self._modules: tuple = ()

    def warm(self, modules=()):
        """Start the workers, which import modules while the driver does other things.

        Args:
            modules: the names of those.
        """
        if self._workers:
            return
        # Nobody else reads it; what a worker unpickles comes from here alone.
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="kerasnorm-search-"))
        atexit.register(self.close)
        cores, found = loky.cpu_count(), devices.gpus()
        keras = sys.modules.get("keras")
        backend = {} if keras is None else {"KERAS_BACKEND": keras.config.backend()}
        self._environments = [
            {
                **backend,
                **devices.threads(cores, self.capacity),
                **devices.share_of(number, self.capacity, found),
            }
            for number in range(self.capacity)
        ]
        self._modules = tuple(modules)
        self._workers = [self._new(number) for number in range(self.capacity)]

    def _new(self, number):
        return _Worker(
            str(number + 1),
            self._environments[number],
            self._folder,
            self._modules,
            self.trial_seconds,
        )

    def start(self, run, on_report):
        """Send the workers what their tasks need."""
        super().start(run, on_report)
        if self._workers and self._sent is run:
            return
        parcel = Parcel.of(run)
        self.warm()
        # A new name: workers may still read the old one.
        self._parcel = self._folder / f"run_{time.monotonic_ns()}"
        parcel.write(self._parcel)
        self._sent = run
        for worker in self._workers:
            worker.load(self._parcel)

    def submit(self, task):
        """Give a task to a worker that has none."""
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.take(task)
        return worker.name

    def poll(self):
        """Listen to the workers until a task has ended."""
        results: list = []
        while not results and any(worker.task is not None for worker in self._workers):
            for worker in self._with_news():
                for message in worker.messages():
                    results += self._heard(worker, *message)
            for worker in self._workers:
                reason = worker.why_to_end()
                if reason is not None:
                    results += self._replace(worker, reason)
        return results

    def _with_news(self):
        """The workers that may have sent something, once there is one or a while has passed."""
        waited_for: dict[Any, _Worker] = {w.connection: w for w in self._workers}
        waited_for |= {worker.process.sentinel: worker for worker in self._workers}
        now = time.monotonic()
        left = [worker.until - now for worker in self._workers if worker.until is not None]
        ready = connection.wait(list(waited_for), max(0.0, min([TICK, *left])))
        return dict.fromkeys(waited_for[one] for one in ready)

    def _heard(self, worker, kind, *what):
        """What comes of a message."""
        if kind == "ready":
            worker.ready()
        elif kind == "begun":
            self._failed_starts, worker.has_begun = 0, True
        elif kind == "epoch":
            number, epoch, logs = what
            worker.send("answer", self.on_report(number, epoch, logs))
        elif kind == "row":
            (row,) = what
            if isinstance(row, Exception):
                raise row
            worker.done()
            if worker.tasks_done >= self.renew_after:
                self._replace(worker, None)
            return [{**row, "worker": worker.name}]
        elif kind == "error":
            raise what[0]
        return []

    def _replace(self, worker, reason):
        """End a worker and start another; its task, if it has one, is lost for a reason."""
        worker.end()
        new = self._new(int(worker.name) - 1)
        self._workers[self._workers.index(worker)] = new
        new.load(self._parcel)
        if worker.is_ready and worker.task is None:
            return []
        if worker.has_begun:
            return [Lost(worker.task.number, reason)]
        # A task that it had not begun is not to blame.
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            raise SearchError(
                f"{self._failed_starts} workers ended before they were ready, the last one so: "
                f"{reason}. Needed: memory for {self.capacity} of them, or --executor inline "
                "(executor='inline')."
            )
        if worker.task is not None:
            new.take(worker.task)
        return []

    def close(self):
        """End all workers, whatever they do."""
        atexit.unregister(self.close)
        for worker in self._workers:
            worker.end()
        self._workers, self._sent = [], None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class _Worker:
    """A worker as the driver sees it.

    Args:
        name: of the worker.
        environment: variables for it.
        folder: removed by a worker that finds itself alone.
        modules: to import first.
        trial_seconds: the limit of a task.
    """

    def __init__(self, name, environment, folder, modules, trial_seconds):
        self.name = name
        self.trial_seconds = trial_seconds
        self.task = None
        self.tasks_done = 0
        self.is_ready = False
        # Whether it has said that it works on its task.
        self.has_begun = False
        # Whether its end of the pipe is closed.
        self.is_deaf = False
        # When it is taken for dead.
        self.until = None
        self.connection, its_end = Pipe()
        self.process = get_context("loky").Process(
            target=_work,
            args=(its_end, str(folder), modules),
            env=environment,
            name=f"kerasnorm-search-{name}",
        )
        with _without_interrupts():
            self.process.start()
        its_end.close()

    def load(self, parcel):
        """Let it read what its tasks need."""
        self.is_ready = False
        self.until = time.monotonic() + SECONDS_TO_START
        self.send("load", str(parcel))

    def take(self, task):
        """Give it a task, which it begins when it is ready."""
        self.task, self.has_begun = task, False
        if self.is_ready:
            self._send_task()

    def ready(self):
        """It is ready for tasks."""
        self.is_ready, self.until = True, None
        if self.task is not None:
            self._send_task()

    def _send_task(self):
        if self.trial_seconds is not None:
            self.until = time.monotonic() + self.trial_seconds
        self.send("task", self.task)

    def done(self):
        """Its task has ended."""
        self.task, self.until, self.has_begun = None, None, False
        self.tasks_done += 1

    def send(self, *message):
        """Send a message; one that has ended does not get it."""
        try:
            self.connection.send(message)
        except OSError:
            self.is_deaf = True

    def messages(self):
        """What it has sent so far."""
        while not self.is_deaf:
            try:
                if not self.connection.poll():
                    return
                message = self.connection.recv()
            except (OSError, EOFError):
                self.is_deaf = True
                return
            yield message

    def why_to_end(self):
        """Why it cannot go on, in words, or None."""
        if self.until is not None and time.monotonic() > self.until:
            if self.is_ready:
                return f"it took more than {self.trial_seconds:g} s"
            return f"its worker was not ready after {SECONDS_TO_START:g} s"
        if not self.is_deaf and (self.process.exitcode is None or self.connection.poll()):
            return None
        # Its pipe may be closed a moment before it has ended.
        self.process.join(TICK)
        return _last_words(self.process.exitcode)

    def end(self):
        """End it at once, with the processes that it started."""
        # The number of one that has ended may be another's by now.
        if self.process.exitcode is None:
            kill_process_tree(self.process)
        # Not before: a worker that finds its pipe closed takes the driver for dead.
        self.connection.close()


def _last_words(code):
    """How a process ended, from its exit code."""
    if code is None:
        return "its worker fell silent"
    if code >= 0:
        return f"its worker exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", which is what the system does where memory runs out" if name == "SIGKILL" else ""
    return f"its worker was ended by {name}{hint}"


@contextlib.contextmanager
def _without_interrupts():
    """A process that is started in this context does not end by Ctrl-C; the driver ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the worker.


def _work(its_end, folder, modules):
    """What a worker does until its driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # Processes that a trial starts may be interrupted.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Where memory runs out, the system is to end a worker and not the driver.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/oom_score_adj").write_text("500")
    driver = _Driver(its_end, folder)
    for name in modules:
        # What is wrong with it is said when it is needed.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    run: Any = None
    while True:
        kind, what = driver.tasks.get()
        if kind == "load":
            try:
                run = Parcel.read(what).open()
            except SearchError as error:
                driver.send("error", error)
                continue
            # What exists now is no trial's garbage and need not be searched for it.
            gc.collect()
            gc.freeze()
            driver.send("ready")
        else:
            driver.send("begun")
            driver.send("row", ended(run, what, functools.partial(driver.report, what.number)))


class _Driver:
    """The driver as a worker sees it; when it is gone, the worker ends.

    Args:
        its_end: of the pipe.
        folder: what the driver leaves behind.
    """

    def __init__(self, its_end, folder):
        self.connection = its_end
        self.folder = folder
        self.tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                kind, what = self.connection.recv()
            except (OSError, EOFError):
                self._gone()
            (self._answers if kind == "answer" else self.tasks).put((kind, what))

    def send(self, *message):
        """Send a message."""
        try:
            self.connection.send(message)
        except OSError:
            self._gone()

    def report(self, number, epoch, logs):
        """Tell of an epoch, and wait for the reason to stop, or None."""
        self.send("epoch", number, epoch, jsonable(logs))
        return self._answers.get()[1]

    def _gone(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(1)
