"""Trainings on a Ray cluster of three nodes, all on this machine."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from planted_runs import Ending, Weighing, error_of, planted
from search.errors import BadInput
from search.executors.ray import RayExecutor
from search.stopping import MedianRule
from small_search import EPOCHS, driver_of, searched, told

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
QUICK_TO_NOTICE = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one core, with addresses of this machine alone."""
    others = psutil.Process().children(recursive=True)
    head = {**NODE, "node_ip_address": "127.0.0.2", "_system_config": QUICK_TO_NOTICE}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.others = [made.add_node(**NODE, node_ip_address=f"127.0.0.{n}") for n in (3, 4)]
    ray.init(made.address, log_to_driver=False, logging_level="error")
    yield made
    # What tests in this process began before stays.
    begun = set(psutil.Process().children(recursive=True)) - set(others)
    ray.shutdown()
    made.shutdown()
    psutil.wait_procs(begun, timeout=30)
    assert not [one for one in begun if one.is_running() and one.status() != "zombie"]


def test_the_same_trials_as_in_process_and_back(cluster, tmp_path):
    rule = lambda: MedianRule("min", EPOCHS)  # noqa: E731
    expected = searched(driver_of(tmp_path / "whole", rule=rule()))
    assert {row["status"] for row in expected} == {"completed", "stopped"}
    searched(driver_of(tmp_path / "a", rule=rule(), trials=3))
    with contextlib.closing(RayExecutor(1)) as executor:
        run = planted(error_of)
        rows = searched(driver_of(tmp_path / "a", run, executor, rule=rule(), trials=9))
    assert "1 on 127.0.0." in rows[-1]["worker"]
    assert told(searched(driver_of(tmp_path / "a", rule=rule()))) == told(expected)


def test_workers_and_a_node_that_are_lost_cost_attempts(cluster, tmp_path):
    ways = {1: ("SIGKILL", 1), 2: ("status 3", 2), 4: ("more than", 1), 6: ("node", 1)}
    run = Ending(tmp_path, ways, array=np.zeros(10_000))

    def lose_node():
        """End the node that trial 6 runs on, unless that is the driver's."""
        notes = tmp_path / "node"
        while not over.wait(0.05):
            if notes.exists():
                for node in cluster.others:
                    if notes.read_text() == node.node_ip_address != here:
                        cluster.remove_node(node, allow_graceful=False)
                return

    here = ray.util.get_node_ip_address()
    over = threading.Event()
    thread = threading.Thread(target=lose_node)
    thread.start()
    executor = RayExecutor(trial_seconds=3)
    try:
        with contextlib.closing(executor):
            rows = searched(driver_of(tmp_path / "out", run, executor, trials=9))
    finally:
        over.set()
        thread.join()
    rows = {row["trial"]: row for row in rows}
    assert sorted(rows) == list(range(9))
    assert {n for n, row in rows.items() if row["status"] == "failed"} == {2}
    # A busy machine may lose more.
    assert {n for n, row in rows.items() if row.get("lost")} >= set(ways)
    assert rows[1]["lost"] == ["its worker ended (SYSTEM_ERROR)"]
    assert rows[4]["lost"] == ["it took more than 3 s"]
    # The node of the driver stays; a trial that waits there takes too long.
    ends = ("the node of its worker was lost", "its worker could not be reached")
    assert rows[6]["lost"][0] in (*ends, "it took more than 3 s")
    # The third worker may have been lost before it ended any trial.
    workers = {row["worker"].partition(" on 127.0.0.")[0] for n, row in rows.items() if n != 2}
    assert {"1", "2"} <= workers <= {"1", "2", "3"}


def test_weights_travel_with_tasks_and_rows(cluster, tmp_path):
    # More workers than cores: one waits until another has nothing left to do. Each first round of
    # Hyperband fits in, whatever the order of answers, and so some trials go on from others.
    driver = driver_of(tmp_path, Weighing(), RayExecutor(4), oracle="hyperband", trials=30)
    with contextlib.closing(driver.executor):
        rows = searched(driver)
    assert [row for row in rows if "continues" in row]
    assert not [row for row in rows if row["status"] == "failed"]
    assert {path.suffix for path in (tmp_path / "weights").iterdir()} == {".h5"}


def test_where_there_is_no_cluster(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    executor = RayExecutor(address="127.0.0.1:1")
    with pytest.raises(BadInput, match=r"no Ray cluster at address '127.0.0.1:1': Connection"):
        executor.start(planted(error_of), None)


NETWORK = """
import keras
from own_layers import Twice


def build(norm):
    import kerasnorm

    layers = [keras.layers.Conv2D(4, 3, strides=2), kerasnorm.get(norm), Twice()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])
"""


@pytest.mark.slow
def test_the_command_on_a_cluster_with_the_users_own_file(cluster, tmp_path):
    layers = "import keras\n\n\nclass Twice(keras.layers.Layer):\n    def call(self, x):\n"
    (tmp_path / "own_layers.py").write_text(f"{layers}        return 2 * x\n")
    (tmp_path / "own.py").write_text(NETWORK)
    options = (
        "--model own.py:build --norms batch,layer --placements all --epochs 1 --seeds 2 "
        "--candidates 1 --ablation 0 --no-jit --backend torch --executor ray --address"
    )
    command = [sys.executable, "-m", "search", *options.split(), cluster.address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "search-results" / "journal.jsonl").read_text()
    rows = [json.loads(line)["row"] for line in text.splitlines() if '"row"' in line]
    assert len(rows) == 2 + 4
    assert all(row["status"] == "completed" and "127.0.0." in row["worker"] for row in rows)
