"""The examples run, and do what they say."""

import re

from small_models import BACKEND
from test_two_devices import ROOT, run_on_two_devices

EXAMPLES = ROOT / "examples"


def test_training_on_two_devices():
    outputs = run_on_two_devices(EXAMPLES / f"data_parallel_{BACKEND}.py")
    told = re.search(r"^2 devices, loss ([\d.]+) -> ([\d.]+)$", outputs[0], re.MULTILINE)
    assert told, outputs
    assert float(told[2]) < float(told[1])
