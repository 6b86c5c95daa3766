"""The executor that runs tasks on a Ray cluster.

Each worker is an actor, which Ray places on a node with room for it. What all tasks need is put
into Ray's object store once. A worker tells of its epochs at a desk, an actor on the driver's node,
and waits there for the answer. Weights travel with tasks and rows, so nodes need no folder in
common. An actor that ends, with its node or alone, costs the task that it has.
"""

import asyncio
import dataclasses
import os
import pathlib
import re
import socket
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search import files
from search.errors import BadInput, SearchError, one_line
from search.executors import devices
from search.executors.base import Executor, Lost
from search.executors.worker import Parcel, ended
from search.jsonable import jsonable

# A worker is replaced after so many tasks, as a process is.
RENEW_AFTER = 50
# Seconds between two looks at what sends no message.
TICK = 1.0


class RayExecutor(Executor):
    """Runs tasks on a Ray cluster.

    Args:
        workers: how many tasks run at a time; None is as many as the cluster has room for now.
        trial_seconds: a task that takes longer is lost; None is no limit.
        address: `"auto"` (or None), the cluster that this machine belongs to, or that RAY_ADDRESS
            names; `HOST:PORT`; or `"local"`, one that is started on this machine. A program that
            called `ray.init` has chosen already.
        cpus_per_trial, gpus_per_trial: what each task gets; GPUs may be a fraction.
    """

    apart = True

    def __init__(
        self,
        workers=None,
        trial_seconds=None,
        address=None,
        cpus_per_trial=1,
        gpus_per_trial=0,
    ):
        self.workers = workers
        self.trial_seconds = trial_seconds
        self.address = address or "auto"
        self.cpus_per_trial = cpus_per_trial
        self.gpus_per_trial = gpus_per_trial
        self.devices = f"a Ray cluster, {cpus_per_trial:g} CPU and {gpus_per_trial:g} GPU a trial"
        self._began_ray = False
        self._sent: Any = None
        self._parcel: Any = None
        self._desk: Any = None
        self._news: Any = None
        # The workers by their names.
        self._workers: dict[str, _Worker] = {}

    def start(self, run, on_report):
        """Put what tasks need into the object store."""
        super().start(run, on_report)
        if self._sent is run:
            return
        parcel = Parcel.of(run)
        self._connect()
        # Arrays of bytes stay in the object store, where the workers of a node share them.
        arrays = [np.frombuffer(buffer, np.uint8) for buffer in parcel.buffers]
        self._parcel = ray.put((parcel.sources, parcel.pickled, arrays))
        self._sent = run
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        if self.workers is None and self._room() < 1:
            raise BadInput(
                f"no node of the Ray cluster has {self.cpus_per_trial:g} CPU and "
                f"{self.gpus_per_trial:g} GPU. Needed: less for each trial, or larger nodes."
            )
        self.capacity = self.workers or self._room()

    def _connect(self):
        if ray.is_initialized():
            return
        _check_address(self.address)
        local = {"include_dashboard": False} if self.address == "local" else {}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="error", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"no Ray cluster at address {self.address!r}: {one_line(error)}. Needed: `ray "
                "start --head` on this machine; the HOST:PORT of a cluster; or local."
            ) from error
        self._began_ray = True

    def _room(self):
        """How many tasks the cluster has room for now; it may grow."""
        wanted = {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial}
        return sum(
            min(int(node["Resources"].get(k, 0) / n) for k, n in wanted.items() if n)
            for node in ray.nodes()
            if node["Alive"]
        )

    def submit(self, task):
        """Give a task to a worker that has none, or to a new one."""
        idle = (worker for worker in self._workers.values() if worker.task is None)
        worker = next(idle, None) or self._new_worker()
        worker.take(task)
        return worker.name

    def _new_worker(self):
        numbers = map(str, range(1, len(self._workers) + 2))
        name = next(number for number in numbers if number not in self._workers)
        variables = dict.fromkeys(devices.THREADS, str(max(1, int(self.cpus_per_trial))))
        if "keras" in sys.modules:
            variables["KERAS_BACKEND"] = sys.modules["keras"].config.backend()
        variables |= {k: v for k, v in os.environ.items() if k.startswith(("TF_", "KERAS_"))}
        options = {
            "num_cpus": self.cpus_per_trial,
            "num_gpus": self.gpus_per_trial,
            "runtime_env": {"env_vars": variables},
            "max_restarts": 0,
        }
        actor = ray.remote(_Actor).options(**options).remote(self._parcel, self._desk)
        self._workers[name] = _Worker(name, actor)
        return self._workers[name]

    def poll(self):
        """Listen to the desk and to the workers until a task has ended."""
        results: list = []
        self._make_room()
        while not results and any(worker.task is not None for worker in self._workers.values()):
            busy = {w.row: w for w in self._workers.values() if w.task is not None}
            if self._news is None:
                self._news = self._desk.take.remote(TICK)
            ready, _ = ray.wait([self._news, *busy], num_returns=1, timeout=TICK)
            if self._news in ready:
                # Before any row: epochs come before the end of their task.
                self._hear(ray.get(self._news))
                self._news = None
            results += [self._ended(busy[row]) for row in ready if row in busy]
            results += self._too_long()
        self.capacity = self.workers or self._room()
        return results

    def _make_room(self):
        """End the workers without a task if one with a task may wait for their cores."""
        workers = list(self._workers.values())
        if any(worker.task is not None and worker.begun is None for worker in workers):
            for worker in workers:
                if worker.task is None:
                    self._drop(worker)

    def _hear(self, news):
        """Answer what was told at the desk."""
        tasks = {w.task.number: w for w in self._workers.values() if w.task is not None}
        for number, epoch, logs in news:
            worker = tasks.get(number)
            if worker is None:
                continue
            if epoch is None:
                worker.begun = time.monotonic()
            else:
                self._desk.answer.remote(number, self.on_report(number, epoch, logs))

    def _ended(self, worker):
        """What comes of a task that ended."""
        task = worker.task
        try:
            row, weights, node = ray.get(worker.row)
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
            self._drop(worker)
            return Lost(task.number, _last_words(error))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, SearchError) else error from None
        if isinstance(row, Exception):
            raise row
        if weights is not None:
            files.write(task.save, weights)
        worker.done()
        if worker.tasks_done >= RENEW_AFTER:
            self._drop(worker)
        return {**row, "worker": f"{worker.name} on {node}"}

    def _too_long(self):
        """The tasks that took too long."""
        lost = []
        for worker in list(self._workers.values()):
            begun = worker.begun if worker.task is not None else None
            if self.trial_seconds is None or begun is None:
                continue
            if time.monotonic() - begun > self.trial_seconds:
                lost.append(Lost(worker.task.number, f"it took more than {self.trial_seconds:g} s"))
                self._drop(worker)
        return lost

    def _drop(self, worker):
        """End a worker; another one gets its name when there is a task for it."""
        del self._workers[worker.name]
        ray.kill(worker.actor)

    def close(self):
        """End all workers, and Ray where it was begun here."""
        if ray.is_initialized():
            for worker in list(self._workers.values()):
                self._drop(worker)
            if self._desk is not None:
                ray.kill(self._desk)
            if self._began_ray:
                ray.shutdown()
        self._workers, self._began_ray = {}, False
        self._sent = self._parcel = self._desk = self._news = None


class _Worker:
    """A worker as the driver sees it.

    Args:
        name: of the worker.
        actor: which it is.
    """

    def __init__(self, name, actor):
        self.name = name
        self.actor = actor
        self.task = None
        self.row = None
        self.begun = None
        self.tasks_done = 0

    def take(self, task):
        """Give it a task, with the weights that it goes on from."""
        self.task, self.begun = task, None
        given = {}
        for one in task.line()[1:]:
            path = pathlib.Path(one.save)
            if path.exists():
                given[one.number] = path.read_bytes()
                break
        self.row = self.actor.run.remote(task, given)

    def done(self):
        """Its task has ended."""
        self.task = self.row = None
        self.tasks_done += 1


def _check_address(address):
    """Refuse an address where nobody is; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise BadInput(
            f"no Ray cluster at address {address!r}: {one_line(error)}. Needed: the HOST:PORT that "
            "`ray start --head` printed."
        ) from error


def _last_words(error):
    """How a worker ended."""
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return "its worker could not be reached"
    text = " ".join(str(error).split())
    if re.search(r"node\b.{0,80}\b(died|dead|lost|failed|terminated)", text):
        return "the node of its worker was lost"
    if "memory" in text.partition("Worker exit type")[0]:
        return "its worker was ended because memory ran out"
    kind = re.search(r"Worker exit type: (\w+)", text)
    return f"its worker ended ({kind[1] if kind else text[:200]})"


# In the cluster.


class _Actor:
    """A worker.

    Args:
        parcel: what tasks need.
        desk: where it tells of epochs.
    """

    def __init__(self, parcel, desk):
        sources, pickled, arrays = parcel
        # Keras reads arrays, and PyTorch warns that they must not be written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.desk = desk
        self.run_task: Any = None
        self.refusal: SearchError | None = None
        try:
            self.run_task = Parcel(sources, pickled, arrays).open()
        except SearchError as error:
            # An exception here would be taken for the death of the worker.
            self.refusal = error

    def run(self, task, given):
        """Run a task.

        Args:
            task: a `search.task.Task`.
            given: the weights that it may go on from, by the numbers of their tasks.

        Returns:
            The row, or the exception that ends the search; the weights, if any; and the node.
        """
        node = ray.util.get_node_ip_address()
        if self.refusal is not None:
            return self.refusal, None, node
        ray.get(self.desk.tell.remote(task.number, None, None))

        def report(epoch, logs):
            return ray.get(self.desk.tell.remote(task.number, epoch, jsonable(logs)))

        with tempfile.TemporaryDirectory(prefix="kerasnorm-search-") as folder:
            for number, weights in given.items():
                files.write(_place(folder, number), weights)
            row = ended(self.run_task, _moved(task, folder), report)
            saved = _place(folder, task.number)
            return row, saved.read_bytes() if saved.exists() else None, node


def _place(folder, number):
    return pathlib.Path(folder, f"trial_{number}.weights.h5")


def _moved(task, folder):
    """A task whose weights, and those that it goes on from, lie in another folder."""
    return dataclasses.replace(
        task,
        save=None if task.save is None else str(_place(folder, task.number)),
        parent=None if task.parent is None else _moved(task.parent, folder),
    )


class _Desk:
    """Where workers tell of epochs and get an answer from the driver."""

    def __init__(self):
        self.news: asyncio.Queue = asyncio.Queue()
        self.answers: dict[int, asyncio.Future] = {}

    async def tell(self, number, epoch, logs):
        """What a worker tells; the answer to it. That a task begins has none."""
        if epoch is None:
            await self.news.put((number, epoch, logs))
            return None
        self.answers[number] = asyncio.get_running_loop().create_future()
        await self.news.put((number, epoch, logs))
        return await self.answers[number]

    async def take(self, seconds):
        """What was told since the last time; it waits for some, but not for long."""
        found = []
        try:
            found.append(await asyncio.wait_for(self.news.get(), seconds))
        except TimeoutError:
            return found
        while not self.news.empty():
            found.append(self.news.get_nowait())
        return found

    async def answer(self, number, reason):
        """The driver's answer to what was told of a task."""
        future = self.answers.pop(number, None)
        if future is not None and not future.done():
            future.set_result(reason)
