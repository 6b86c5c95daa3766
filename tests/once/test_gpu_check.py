"""`python -m benchmarks gpu`, as far as it goes without a GPU."""

import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

import xla_flags
from benchmarks import cli, gpu, machine, results
from benchmarks.timing import Deadline, HurriedPreparation, Stopwatch, interleave

ROOT = pathlib.Path(__file__).parents[2]

# What a machine with a GPU need not have.
ABSENT = """
import functools
from importlib.machinery import PathFinder

ABSENT = "tensorflow flax hypothesis optuna keras_tuner sklearn matplotlib pandas jinja2 xdist"
find_spec = PathFinder.find_spec


def find(name, path=None, target=None):
    return None if name.partition(".")[0] in ABSENT.split() else find_spec(name, path, target)


PathFinder.find_spec = functools.partial(find)  # No method, wherever it is put.
"""


def test_dry_run_needs_keras_a_backend_and_pytest_alone(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    path = tmp_path / "gpu.json"
    search_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gpu", "--dry-run", "--json", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search_path, "XLA_FLAGS": xla_flags.QUICK},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"Written to {path}." in ran.stdout
    document = json.loads(path.read_text())
    assert document["dry_run"]
    assert document["device"] is None
    for backend, native in (("torch", "torch.nn.BatchNorm2d"), ("jax", "jax.numpy batch norm")):
        part = document["backends"][backend]
        assert {"keras", backend, "numpy", "pytest"} <= part["versions"].keys()
        assert part["complete"]
        assert not part["failed"]
        assert not part["left_out"]
        # A reference, one under a mask, and in half precision.
        assert part["tests"]["passed"] >= 3
        assert part["tests"]["complete"]
        for dtype in ("float32", "bfloat16"):
            (verdict,) = (
                v
                for v in document["verdicts"]
                if (v["backend"], v["dtype"], v["what"]) == (backend, dtype, "layer")
                and v["name"] == "GroupNorm(32)"
            )
            assert {"keras BatchNormalization", native} <= verdict["to"].keys()
            assert verdict["share_of_copy"] > 0
            assert verdict["met"] is None  # There are targets on a GPU alone.
    kinds = (("layers", "float32"), ("layers", "bfloat16"), ("networks", "float32"))
    assert [(run["backend"], run["command"], run["dtype"]) for run in results.read(path)] == [
        (backend, *kind) for backend in ("torch", "jax") for kind in kinds
    ]


def cell(name, ms, role="layer"):
    return {
        "name": name,
        "role": role,
        "ms": ms,
        "phase": "train",
        "mode": "eager",
        "dtype": "bfloat16",
        "shape": [8, 4, 4, 32],
    }


def test_verdicts():
    cells = [
        cell("plain moving eager", 1.0, "plain"),
        cell("keras BatchNormalization", 10.0, "keras"),
        cell("torch.nn.BatchNorm2d", 5.0, "native"),
        cell("BatchNorm", 8.0),
        cell("ConvNorm", 11.0),
    ]
    run = {"command": "layers", "backend": "torch", "dtype": "bfloat16", "device_kind": "gpu"}
    met, missed = gpu.verdicts([{**run, "cells": cells}])
    assert met["to"] == {"keras BatchNormalization": 0.8, "torch.nn.BatchNorm2d": 1.6}
    assert met["share_of_copy"] == 0.5  # 8 times the size of x, where a copy is 2.
    assert (met["limit"], met["met"], missed["met"]) == (1.0, True, False)
    part = {"installed": True, "failed": {}, "tests": {"complete": True, "failures": []}}
    about = {"backends": {"torch": part}, "verdicts": [met]}
    assert gpu.status(about, [run]) == 0
    assert gpu.status({**about, "verdicts": [met, missed]}, [run]) == 1
    assert gpu.status({**about, "backends": {"torch": {**part, "failed": {"a": "b"}}}}, [run]) == 1
    part["tests"] = {"complete": False, "failures": []}
    assert gpu.status(about, [run]) == 1
    assert gpu.status(about, []) == 2


def test_outcomes_of_tests_that_were_stopped():
    printed = """
tests/test_a.py::test_one[BatchNorm-default] PASSED                      [ 33%]
tests/test_a.py::test_two[a b] FAILED                                    [ 66%]
tests/test_a.py::test_three \nstopped: out of time"""
    found = gpu.outcomes(printed)
    assert (found["passed"], found["failed"], found["complete"]) == (1, 1, False)
    assert found["failures"] == ["tests/test_a.py::test_two[a b]"]
    whole = gpu.outcomes("tests/test_a.py::test_one PASSED [100%]\n==== 1 passed in 0.12s ====")
    assert whole == {"passed": 1, "complete": True, "failures": []}
    shared = """
[gw3] [ 12%] PASSED tests/test_a.py::test_one[BatchNorm--bfloat16]
tests/test_a.py::test_two[a b]
[gw0] [100%] FAILED tests/test_a.py::test_two[a b]
==== 1 failed, 1 passed in 0.12s ===="""
    assert gpu.outcomes(shared)["failures"] == ["tests/test_a.py::test_two[a b]"]
    assert gpu.outcomes(shared)["passed"] == 1


def test_tests_run_though_nothing_could_be_measured(monkeypatch, capsys):
    """They are left out where the backend finds no GPU, or where there is no time."""
    measured = {"torch": {"error": "a crash"}, "jax": {"device_kind": "cpu", "error": "no GPU"}}
    tested = []

    def ran(command, backend, options, until, **variables):
        tested.append(backend)
        assert variables == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        assert command[-4:-1] == ["-p", "xdist", "-n"]
        return "tests/test_a.py::test_one PASSED [100%]\n==== 1 passed in 0.12s ===="

    monkeypatch.setattr(machine, "cuda_device", lambda: {"name": "Card"})
    monkeypatch.setattr(gpu, "_measure", lambda backend, options, until: measured[backend])
    monkeypatch.setattr(gpu, "_run", ran)
    assert cli.main(["gpu"]) == 2
    assert tested == ["torch"]
    printed = capsys.readouterr().out
    assert "; a crash; tests: 1 passed\n" in printed
    assert "; no GPU\n" in printed
    assert cli.main(["gpu", "--seconds", "10"]) == 2
    assert tested == ["torch"]
    assert "; a crash; tests: no time\n" in capsys.readouterr().out


def test_a_process_is_stopped_after_its_time(monkeypatch):
    monkeypatch.setattr(gpu, "RESERVE", 0.2)
    options = argparse.Namespace(dry_run=True)
    command = [sys.executable, "-c", "import time; print('begun'); time.sleep(60)"]
    printed = gpu._run(command, "torch", options, Deadline.within(2))
    assert printed == "begun\n\nstopped: out of time\n"


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_late_or_fails_is_left_out(threads):
    preparation = HurriedPreparation(Deadline.within(60), threads)
    makers = {"wrong": lambda: lambda: 1 / 0, "right": lambda: lambda: 1}
    steps = preparation.ready(makers)
    assert {name: step() for name, step in steps.items()} == {"right": 1}
    assert preparation.failed == {"wrong": "ZeroDivisionError: division by zero"}
    preparation.longest = 100
    assert preparation.ready({"slow": lambda: lambda: 1}) == {}
    assert preparation.left_out == ["slow"]


def test_steps_run_for_the_first_time_side_by_side():
    both = threading.Barrier(2, timeout=60)
    preparation = HurriedPreparation(Deadline.within(60), threads=2)
    steps = preparation.ready({name: lambda: both.wait for name in ("one", "other")})
    assert list(steps) == ["one", "other"]


def test_a_median_has_three_rounds():
    timings = interleave(
        {"step": lambda: None},
        Stopwatch(lambda result: None, every_step=False),
        rounds=9,
        sample_seconds=1e-6,
        deadline=Deadline.within(-1),
    )
    assert len(timings["step"].samples) == 3
    assert timings["step"].repeats == 1


class Driver:
    """A CUDA driver with one device."""

    def __init__(self, devices=1):
        self.devices = devices

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device, ordinal):
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = b"Card"
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):
        assert isinstance(memory._obj, ctypes.c_size_t)
        memory._obj.value = 80 * 2**30
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = 12040
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        if attribute == machine.CUDA_ATTRIBUTES["memory_clock_khz"]:
            return 1
        value._obj.value = attribute
        return 0


def test_device_as_its_driver_describes_it():
    facts = machine.cuda_device(Driver())
    assert (facts["name"], facts["memory_bytes"]) == ("Card", 80 * 2**30)
    assert facts["cuda_of_driver"] == "12.4"
    assert facts["l2_cache_bytes"] == 38
    assert facts["memory_clock_khz"] is None
    assert machine.cuda_device(Driver(devices=0)) is None


def test_without_a_gpu_there_is_nothing_to_check(monkeypatch, capsys):
    monkeypatch.setattr(machine, "cuda_device", lambda: None)
    assert cli.main(["gpu"]) == 2
    assert "no GPU found. Needed: a GPU with its driver, or --dry-run." in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["PYTHON=/somewhere/python"]])
def test_make_takes_the_python_that_it_is_given(given):
    ran = subprocess.run(
        ["make", "--no-print-directory", "-n", "gpu-check", "ARGS=--dry-run", *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, command = ran.stdout.splitlines()
    python = given[0].removeprefix("PYTHON=") if given else ".venv/bin/python"
    assert command == f"{python} -m benchmarks gpu --dry-run"
