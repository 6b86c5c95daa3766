"""The experiment of docs/consistent.md runs, and writes what it found."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_the_pilot_experiment(tmp_path):
    script = ROOT / "examples" / "pilot_consistent.py"
    command = [sys.executable, script, "--seeds", "2", "--epochs", "2", "--examples", "100"]
    command += ["--json", tmp_path / "p.json", "--plot", tmp_path / "p.png"]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True)
    results = json.loads((tmp_path / "p.json").read_text())
    assert len(results["accuracies"]) == 5
    assert all(len(values) == 2 for values in results["accuracies"].values())
    assert (tmp_path / "p.png").stat().st_size > 1000
