"""The examples run, and do what they say."""

import json
import re

import pytest

from small_models import BACKEND
from test_two_devices import ROOT, run_on_two_devices

EXAMPLES = ROOT / "examples"


def test_training_on_two_devices():
    outputs = run_on_two_devices(EXAMPLES / f"data_parallel_{BACKEND}.py")
    told = re.search(r"^2 devices, loss ([\d.]+) -> ([\d.]+)$", outputs[0], re.MULTILINE)
    assert told, outputs
    assert float(told[2]) < float(told[1])


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="one backend is enough")
def test_the_pilot_experiment(tmp_path):
    command = (
        f"--seeds 2 --epochs 2 --examples 100 --json {tmp_path}/p.json --plot {tmp_path}/p.png"
    )
    run_on_two_devices(EXAMPLES / "pilot_consistent.py", *command.split())
    results = json.loads((tmp_path / "p.json").read_text())
    assert len(results["accuracies"]) == 5
    assert all(len(values) == 2 for values in results["accuracies"].values())
    assert (tmp_path / "p.png").stat().st_size > 1000
