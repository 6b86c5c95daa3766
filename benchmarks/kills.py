"""Kill searches at random moments, and count what is lost.

Each search runs in a process of its own, with two workers and trials that only sleep. It is killed,
or something in it is, again and again until it ends by itself. Then its journal is read line by
line. A trial is lost if the journal had its result once and does not have it at the end. It is
doubled if the journal has two results. An orphan is a process that is there 5 seconds after its
search.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HELP = "kill searches at random moments, and count what is lost"

TRIALS = 8
EPOCHS = 4
WORKERS = 2
# After so many kills a search is left alone until it ends.
MOST_KILLS = 12
# Nodes of a cluster that end in each search.
NODE_KILLS = 2


@dataclass
class Count:
    """What happened to the searches of a kind."""

    kind: str
    searches: int = 0
    kills: int = 0
    trials: int = 0
    again: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    missing: int = 0
    orphans: int = 0
    seconds: float = 0.0
    problems: list = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=300, help="in all (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")


def environment(options: argparse.Namespace) -> dict[str, str]:
    # Nothing is trained: the backend that is imported fastest.
    return {"KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(options: argparse.Namespace) -> int:
    draw = random.Random(options.seed)
    # Of each kind as many, but for those of whole nodes, which take seconds each.
    weights = {kind: 0.25 if kind == "a Ray node" else 1.0 for kind in options.kinds}
    total = sum(weights.values())
    counts = []
    for kind in options.kinds:
        wanted = max(1, round(options.kills * weights[kind] / total))
        counts.append(measured(kind, wanted, draw))
        print(_line(counts[-1]), flush=True)
    print(f"\n{table(counts)}")
    for count in counts:
        for problem in count.problems[:5]:
            print(f"{count.kind}: {problem}")
    return int(any(c.lost or c.doubled or c.missing or c.orphans for c in counts))


def measured(kind: str, wanted: int, draw: random.Random) -> Count:
    """Searches of a kind until something was killed often enough."""
    count, begun = Count(kind), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as top, contextlib.ExitStack() as stack:
        act = KINDS[kind](stack)
        while count.kills < wanted:
            folder = Path(top, str(count.searches))
            folder.mkdir()
            _one_search(folder, act, count, draw)
    count.seconds = time.monotonic() - begun
    return count


def _one_search(folder: Path, act: Callable, count: Count, draw: random.Random) -> None:
    """A search that is killed until it ends; what became of its trials."""
    journal = folder / "out" / "journal.jsonl"
    seen: set[int] = set()
    children: set[int] = set()
    kills = 0
    while True:
        kills_before = kills
        status, done, processes = act(folder, kills < MOST_KILLS, draw)
        kills += done
        children |= processes
        seen |= set(_told(journal))
        if status == 0:
            break
        if kills == kills_before and status != 0:
            count.problems.append(f"the search ended with status {status}")
            break
    told = _told(journal)
    count.searches += 1
    count.kills += kills
    count.trials += len(set(told))
    count.doubled += len(told) - len(set(told))
    count.lost += len(seen - set(told))
    count.missing += len(set(range(TRIALS)) - set(told))
    rows = _rows(journal)
    count.failed += sum(row["status"] == "failed" for row in rows)
    count.again += sum(bool(row.get("lost")) for row in rows)
    count.orphans += _left(children)


def _rows(journal: Path) -> list[dict]:
    """The rows in a journal, whole lines only."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    return [event["row"] for event in map(json.loads, lines) if event["event"] == "told"]


def _told(journal: Path) -> list[int]:
    return [row["trial"] for row in _rows(journal)]


def _left(processes: set[int], seconds: float = 5.0) -> int:
    """How many of some processes are still there after a while."""
    until = time.monotonic() + seconds
    while True:
        left = [number for number in processes if _lives(number)]
        if not left or time.monotonic() > until:
            return len(left)
        time.sleep(0.02)


def _lives(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2]
    except OSError:
        return False
    return not state.startswith("Z")


# The search.


def _search(folder: Path, executor, run, prepare=None) -> None:
    """The search in a folder, to its end."""
    import keras_tuner

    from search.driver import Driver
    from search.oracle import Asker, make
    from search.space import NormSpace
    from search.store import Store
    from search.tasks import task_for

    objective = keras_tuner.Objective("val_error", "min")
    space = NormSpace([16, 32])
    with Store(folder / "out", {"kills": True}, resume=None) as store:
        asker = Asker(make("random", objective, TRIALS, 0, EPOCHS), space, (), TRIALS)
        driver = Driver(
            asker,
            executor,
            store,
            run,
            lambda number, values: task_for(number, values, space, 0, EPOCHS, store),
            objective,
        )
        if prepare is not None:
            prepare(store)
        driver.search()


def _forked(folder: Path, trouble=None, trial_seconds=None, prepare=None) -> int:
    """A search in a process that begins as a copy of this one, and leads a group of its own."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        os.setpgid(0, 0)
        from benchmarks.cheap import Cheap
        from search.executors.processes import ProcessExecutor

        with contextlib.closing(ProcessExecutor(WORKERS, trial_seconds)) as executor:
            _search(folder, executor, Cheap(notes=folder, trouble=trouble), prepare)
        status = 0
    except OSError as error:
        # The disk is full.
        status = 28 if "cannot be written" in str(error) else 1
    finally:
        os._exit(status)


def _workers(driver: int) -> set[int]:
    """The processes that a process started, and those that they started."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{driver}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found |= {child} | _workers(child)
    return found


def _busy(folder: Path, workers: set[int]) -> list[int]:
    """Those that work on a trial that has not ended."""
    told = set(_told(folder / "out" / "journal.jsonl"))
    found = set()
    for number in set(range(TRIALS)) - told:
        with contextlib.suppress(OSError, ValueError):
            found.add(int((folder / f"trial_{number}").read_text()))
    return sorted(found & workers)


def _status(driver: int, block: bool = True) -> int | None:
    number, status = os.waitpid(driver, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


# What is done to it: each gives the exit status of the driver, the kills, and the processes.


def _a_worker(stack):
    def act(folder, may_kill, draw):
        driver, kills, seen = _forked(folder), 0, set()
        while True:
            time.sleep(draw.uniform(0.0, 0.3))
            status = _status(driver, block=False)
            if status is not None:
                return status, kills, seen
            seen |= _workers(driver)
            busy = _busy(folder, _workers(driver))
            if busy and may_kill and kills < MOST_KILLS:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(busy), signal.SIGKILL)
                    kills += 1

    return act


def _the_driver(everything):
    def begin(stack):
        def act(folder, may_kill, draw):
            driver = _forked(folder)
            until = time.monotonic() + (draw.uniform(0.2, 3.0) if may_kill else 60)
            seen: set[int] = set()
            while time.monotonic() < until:
                seen |= _workers(driver)
                status = _status(driver, block=False)
                if status is not None:
                    return status, 0, seen
                time.sleep(0.02)
            (os.killpg if everything else os.kill)(driver, signal.SIGKILL)
            return _status(driver), 1, seen

        return act

    return begin


def _while_writing(stack):
    def act(folder, may_kill, draw):
        after, part = draw.randrange(1, 20), draw.random()

        def prepare(store):
            store._file = _Torn(store._file, after, part)

        driver, seen = _forked(folder, prepare=prepare if may_kill else None), set()
        while True:
            seen |= _workers(driver)
            status = _status(driver, block=False)
            if status is not None:
                return status, int(status == -signal.SIGKILL), seen
            time.sleep(0.02)

    return act


class _Torn:
    """A file that ends the process in the middle of a line."""

    def __init__(self, file, after, part):
        self.file, self.after, self.part = file, after, part

    def write(self, line):
        self.after -= 1
        if not self.after:
            self.file.write(bytes(line)[: int(len(line) * self.part)])
            os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(line)

    def __getattr__(self, name):
        return getattr(self.file, name)


def _full_disk(stack):
    def act(folder, may_kill, draw):
        def prepare(store):
            # More than so many bytes do not fit into a file.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            limit = os.fstat(store._file.fileno()).st_size + draw.randrange(50, 5000)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        driver = _forked(folder, prepare=prepare if may_kill else None)
        status = _status(driver)
        return status, int(status == 28), set()

    return act


def _trouble(trouble, trial_seconds=None):
    def begin(stack):
        def act(folder, may_kill, draw):
            driver, seen = _forked(folder, trouble, trial_seconds), set()
            while True:
                seen |= _workers(driver)
                status = _status(driver, block=False)
                if status is not None:
                    lost = _rows(folder / "out" / "journal.jsonl")
                    return status, sum(len(row.get("lost") or ()) for row in lost), seen
                time.sleep(0.02)

        return act

    return begin


def _a_ray_node(stack):
    import ray
    from ray.cluster_utils import Cluster

    from benchmarks.cheap import Cheap
    from search.executors.ray import RayExecutor

    kind = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    head = {**kind, "num_cpus": 0, "node_ip_address": "127.0.0.2"}
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": quick})
    stack.callback(cluster.shutdown)
    addresses = iter(range(3, 250))
    nodes: list = []
    stack.callback(ray.shutdown)

    def act(folder, may_kill, draw):
        while len(nodes) < 2 + NODE_KILLS:
            nodes.append(cluster.add_node(**kind, node_ip_address=f"127.0.0.{next(addresses)}"))
        if not ray.is_initialized():
            ray.init(cluster.address, log_to_driver=False, logging_level="critical")
        # The driver's own node is not among those that end.
        here = ray.util.get_node_ip_address()
        others = [node for node in nodes if node.node_ip_address != here]
        over, kills = threading.Event(), 0

        def end_nodes():
            nonlocal kills
            while kills < NODE_KILLS and not over.wait(draw.uniform(0.5, 2.5)):
                node = others.pop(draw.randrange(len(others)))
                nodes.remove(node)
                cluster.remove_node(node, allow_graceful=False)
                kills += 1

        thread = threading.Thread(target=end_nodes)
        thread.start()
        try:
            with contextlib.closing(RayExecutor(WORKERS + NODE_KILLS)) as executor:
                _search(folder, executor, Cheap(seconds=0.3))
        finally:
            over.set()
            thread.join()
        return 0, kills, set()

    return act


KINDS: dict[str, Callable] = {
    "a worker, in a trial": _a_worker,
    "the driver, at any moment": _the_driver(everything=False),
    "the driver, while it writes": _while_writing,
    "the driver and its workers": _the_driver(everything=True),
    "a Ray node": _a_ray_node,
    "a full disk": _full_disk,
    "a trial that hangs": _trouble("hang", trial_seconds=0.5),
    "a trial that takes all memory": _trouble("memory"),
}

# What is shown.

COLUMNS = {
    "searches": "searches",
    "kills": "kills",
    "trials": "trials",
    "begun again": "again",
    "failed": "failed",
    "lost": "lost",
    "doubled": "doubled",
    "never ended": "missing",
    "orphans": "orphans",
}


def table(counts: list[Count]) -> str:
    """The counts as a table in Markdown."""
    lines = [f"| killed | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    lines += [_line(count) for count in counts]
    whole = Count("all")
    for name in COLUMNS.values():
        setattr(whole, name, sum(getattr(count, name) for count in counts))
    return "\n".join([*lines, _line(whole)])


def _line(count: Count) -> str:
    cells = " | ".join(str(getattr(count, name)) for name in COLUMNS.values())
    return f"| {count.kind} | {cells} |"
