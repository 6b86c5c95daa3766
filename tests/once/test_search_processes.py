"""Trainings in processes of their own: what comes back, and what the end of a process costs."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from rich.console import Console

from planted_runs import Ending, error_of, planted
from search import executors, names, store
from search.errors import BadInput, Interrupted, SearchError
from search.executors import devices, processes
from search.executors.processes import ProcessExecutor
from search.executors.worker import Parcel
from search.history import PROCESS_DIED
from search.progress import Progress
from search.report import tables
from search.stopping import MedianRule
from small_search import EPOCHS, OBJECTIVE, driver_of, searched, short_search, told

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)


@contextlib.contextmanager
def with_processes(*args, **options):
    """An executor that is closed, and whose workers are gone then."""
    with contextlib.closing(ProcessExecutor(*args, **options)) as executor:
        yield executor
        folder = executor._folder
    assert not children()
    assert folder is None or not folder.exists()


def children():
    """The workers of this process."""
    running = psutil.Process().children(recursive=True)
    return [one for one in running if "loky.backend.popen" in " ".join(one.cmdline())]


def events(folder, kind):
    """The events of a kind in a journal."""
    return [event for event in store.read(folder).events if event["event"] == kind]


def test_the_executor_does_not_matter_where_answers_come_in_the_same_order(tmp_path):
    rule = lambda: MedianRule("min", EPOCHS)  # noqa: E731
    expected = searched(driver_of(tmp_path / "whole", rule=rule()))
    assert {row["status"] for row in expected} == {"completed", "stopped"}
    with with_processes() as executor:
        rows = searched(driver_of(tmp_path / "a", planted(error_of), executor, rule=rule()))
    assert told(rows) == told(expected)
    assert {row["worker"] for row in rows} == {"1"}
    # A search goes on wherever it is: in process, in processes, and back.
    searched(driver_of(tmp_path / "b", rule=rule(), trials=4))
    with with_processes() as executor:
        searched(driver_of(tmp_path / "b", executor=executor, rule=rule(), trials=8))
    rows = searched(driver_of(tmp_path / "b", rule=rule()))
    assert told(rows) == told(expected)
    assert [row.get("worker") for row in rows] == [None] * 4 + ["1"] * 4 + [None] * 4


def test_the_end_of_a_worker_costs_one_attempt_of_one_trial(tmp_path):
    ways = {1: ("SIGKILL", 1), 2: ("SIGSEGV", 1), 4: ("status 3", 2), 5: ("more than", 1)}
    run = Ending(tmp_path, {**ways, 6: ("more than", 2)})
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(8, EPOCHS, OBJECTIVE, console=console)
    with with_processes(2, trial_seconds=1.5) as executor:
        driver = driver_of(tmp_path / "out", run, executor, trials=8, progress=progress)
        rows = {row["trial"]: row for row in searched(driver)}
    assert sorted(rows) == list(range(8))
    attempts = {n: len((tmp_path / f"trial_{n}").read_text().split()) for n in rows}
    assert attempts == {0: 1, 1: 2, 2: 2, 3: 1, 4: 2, 5: 2, 6: 2, 7: 1}
    assert {n for n, row in rows.items() if row["status"] == "failed"} == {4, 6}
    for number, (way, _) in run.ways.items():
        assert all(way in reason for reason in rows[number]["lost"])
    assert rows[6]["reason"].startswith("it was begun 2 times, and each time it was lost: it took")
    assert Counter(event["trial"] for event in events(tmp_path / "out", "lost")) == {
        1: 1,
        2: 1,
        4: 2,
        5: 1,
        6: 2,
    }
    assert len(events(tmp_path / "out", "told")) == 8
    assert "trial 1: " in console.file.getvalue()
    assert "its worker was ended by SIGKILL" in console.file.getvalue()
    remarks = {n: tables._remark(row) or "" for n, row in rows.items()}
    assert "begun again: its worker was ended by SIGSEGV" in remarks[2]
    assert "begun again" not in remarks[0]


def test_workers_are_sent_the_data_once_and_renewed(tmp_path):
    run = Ending(tmp_path, array=np.arange(10_000))
    with with_processes(1, renew_after=4) as executor:
        searched(driver_of(tmp_path / "out", run, executor, trials=10))
    ran = [(tmp_path / f"trial_{n}").read_text() for n in range(10)]
    assert list(Counter(ran).values()) == [4, 4, 2]
    # Nor did this process load it.
    assert (tmp_path / "loaded").read_text().split() == list(dict.fromkeys("".join(ran).split()))


def test_a_parcel_shares_its_arrays(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    parcel = Parcel.of(lambda task, report: (task, array))
    assert len(parcel.pickled) < 2000
    parcel.write(tmp_path / "parcel")
    run = Parcel.read(tmp_path / "parcel").open()
    found = run("task", None)[1]
    np.testing.assert_array_equal(found, array)
    # It can be written to, and nobody else sees it.
    found[0] = 7
    np.testing.assert_array_equal(Parcel.read(tmp_path / "parcel").open()(0, None)[1], array)


def test_what_cannot_be_sent_is_refused_in_one_line(tmp_path):
    lock = threading.Lock()
    with with_processes() as executor, pytest.raises(BadInput) as caught:
        searched(driver_of(tmp_path / "a", lambda task, report: lock, executor))
    assert "cannot be sent to other processes: TypeError: cannot pickle" in str(caught.value)
    with with_processes() as executor, pytest.raises(BadInput) as caught:
        searched(driver_of(tmp_path / "b", Unloadable(), executor))
    assert "a worker cannot load the search: ValueError: not here" in str(caught.value)
    assert "\n" not in str(caught.value)


class Unloadable:
    """What can be pickled and not unpickled."""

    def __reduce__(self):
        return exec, ("raise ValueError('not here')",)


def test_workers_that_end_before_they_are_ready_end_the_search(tmp_path):
    class Fatal:
        def __reduce__(self):
            return os._exit, (4,)

    with with_processes() as executor, pytest.raises(SearchError, match="3 workers ended before"):
        searched(driver_of(tmp_path, Fatal(), executor))


def environment_of(name):
    """A `run` that tells a variable of its process."""

    def run(task, report):
        row = planted(error_of)(task, report)
        return {**row, "reason": os.environ.get(name)}

    return run


def test_cores_and_gpus_are_dealt_out(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes.loky, "cpu_count", lambda: 6)
    for name, expected in (
        ("CUDA_VISIBLE_DEVICES", {"1": "5", "2": "7", "3": "5"}),
        ("OMP_NUM_THREADS", dict.fromkeys("123", "2")),
    ):
        with with_processes(3) as executor:
            rows = searched(driver_of(tmp_path / name, environment_of(name), executor, trials=6))
        assert {row["worker"]: row["reason"] for row in rows} == expected
    assert devices.described().startswith("GPU 5, 7")


def forked(run, folder, **options):
    """A search in a process of its own, which begins as a copy of this one; its number."""
    number = os.fork()
    if number:
        return number
    status = 1
    # A shell has its background commands ignore it, and these what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # Whatever this process started is not this one's.
        with contextlib.closing(ProcessExecutor(2, **options)) as executor:
            searched(driver_of(folder, run, executor, trials=8))
        status = 0
    except Interrupted:
        status = 130
    finally:
        os._exit(status)


def waited_for(condition, seconds=30):
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def workers_of(folder):
    """The numbers of all workers that began a trial."""
    return {int(n) for path in folder.glob("trial_*") for n in path.read_text().split()}


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver_and_its_end_is_not_held_against_trials(tmp_path, way):
    expected = told(searched(driver_of(tmp_path / "whole", trials=8)))
    out = tmp_path / "out"
    # Trial 3 hangs while its driver ends, three times.
    run = Ending(tmp_path, {3: ("more than", 3)})
    for times in (1, 2, 3):
        driver = forked(run, out)
        notes = tmp_path / "trial_3"
        waited_for(lambda: notes.exists() and len(notes.read_text().split()) == times)  # noqa: B023
        begun = time.monotonic()
        os.kill(driver, way)
        ended = []
        waited_for(lambda: ended.append(os.waitpid(driver, os.WNOHANG)) or any(ended[-1]))  # noqa: B023
        _, status = ended[-1]
        waited_for(lambda: not any(map(psutil.pid_exists, workers_of(tmp_path))), 5)
        assert time.monotonic() - begun < 5
        assert os.waitstatus_to_exitcode(status) == (130 if way == signal.SIGINT else -way)
    assert not [name for name in os.listdir(pathlib.Path(out)) if "run_" in name]
    with with_processes(2) as executor:
        rows = searched(driver_of(out, run, executor, trials=8))
    assert sorted(row["trial"] for row in rows) == list(range(8))
    assert {row["status"] for row in rows} == {"completed"}
    assert PROCESS_DIED not in str(events(out, "told"))
    assert {row[0] for row in told(rows)} == {row[0] for row in expected}


SCRIPT = """
import os
import keras, kerasnorm, numpy as np
import search
from own_layers import Twice
from search import executors

def build(norm):
    layers = [keras.layers.Conv2D(4, 3, strides=2), kerasnorm.get(norm), Twice()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])

def logging():
    return [keras.callbacks.CSVLogger(os.path.join("logs", f"{os.getpid()}.csv"))]

keras.config.set_dtype_policy("mixed_bfloat16")
labels = np.arange(60) % 3
x = np.random.default_rng(0).normal(size=(60, 8, 8, 1)) * 0.3 + labels[:, None, None, None]
options = dict(
    norms="batch,layer", placements="all", trials=2, epochs=1, candidates=1, ablation=0,
    jit_compile=False, console=False, callbacks=logging,
)
inline = search.run(build, (x, labels), seeds=3, executor="inline", out="inline", **options)
executor = executors.make("processes", workers=1)
first = search.run(build, (x, labels), seeds=2, executor=executor, out="mixed", **options)
mixed = search.run(
    build, (x, labels), seeds=3, executor="inline", out="mixed", resume=True, **options
)
errors = [{(r["arm"], r["seed"]): r["test_error"] for r in s.runs} for s in (inline, mixed)]
print(errors[0] == errors[1], len(errors[0]))
print([row.get("worker") for row in mixed.rows + mixed.runs])
"""


def test_a_script_without_a_guard_and_its_own_layers(tmp_path):
    (tmp_path / "own_layers.py").write_text(
        "import keras\n\n\nclass Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n        assert self.compute_dtype == 'bfloat16'\n"
        "        return 2 * x\n"
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    # PyTorch alone is quicker to import.
    for name in ("tensorflow", "jax"):
        (tmp_path / f"{name}.py").write_text("raise ImportError\n")
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Callbacks are made where the trainings run.
    assert len({path.name for path in (tmp_path / "logs").glob("*/*.csv")}) == 2
    # Test errors depend on the seed alone, and a search goes on with another executor.
    workers = ["1"] * 2 + ["1", "1", None] * 2
    assert done.stdout.splitlines() == ["True 6", str(workers)]
    arguments = store.read(tmp_path / "mixed").call["arguments"]
    assert (arguments["executor"], arguments["workers"]) == ("processes", 1)


# The other kinds have tests of their own, here and in the files of the driver, the store and Ray.
ONE_KILL = ["--kills", "1", "--kinds", "a trial that takes all memory"]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(ONE_KILL, id="memory"),
        pytest.param(["--kills", "300"], id="300", marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_lose_nothing(options):
    command = [sys.executable, "-m", "benchmarks", "kills", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    _, kills, *_ = map(int, re.search(r"^\| all \| (.*) \|$", done.stdout, re.M)[1].split(" | "))
    assert kills >= int(options[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"executor": "inline", "workers": 2}, "workers=2 with executor='inline'. Needed: exec"),
        ({"executor": "processes", "workers": 0}, "workers=0. Needed: an integer of at least 1"),
        ({"executor": "processes", "trial_seconds": 0}, "trial_seconds=0. Needed: a number"),
        ({"executor": "processes", "address": "auto"}, "address='auto' with executor='processes'"),
        ({"executor": 3}, "executor=3. Needed: a name, or an Executor"),
        ({"executor": ProcessExecutor(), "workers": 2}, "workers and an executor were given"),
    ],
)
def test_options_of_executors_that_cannot_be(given, message):
    with pytest.raises(BadInput, match=message.replace(".", r"\.")):
        executors.make(**given)


@pytest.mark.parametrize("name", names.KERASTUNER_VARIABLES)
def test_kerastuners_own_chief_and_workers_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "chief")
    with pytest.raises(BadInput, match=f"{name} is set.*--executor ray"):
        short_search(tmp_path)
