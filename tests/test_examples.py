"""The examples run, and do what they say."""

import importlib.util
import re
import sys

import pytest

import kerasnorm
from daily import on_torch_daily
from small_models import BACKEND
from test_two_devices import ROOT, run_on_two_devices

EXAMPLES = ROOT / "examples"


def module_of(name, monkeypatch):
    """The module of an example; it goes with the test."""
    place = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(place)
    monkeypatch.setitem(sys.modules, name, module)
    place.loader.exec_module(module)
    return module


@pytest.fixture
def my_norm(restored, monkeypatch):
    """The example's module; what it registers goes with the test."""
    return module_of("my_norm", monkeypatch)


def test_a_norm_of_ones_own(my_norm, capsys):
    # Replaceable, and the function is kept as its class says.
    assert my_norm.main() < 1e-5
    assert "1 same." in capsys.readouterr().out
    model = kerasnorm.models.LeNet((32, 32, 1), 10, norm={"name": "blend", "gate": 0.1})
    new = kerasnorm.replace_norms(model, "batch")
    assert {r.outputs for r in new.norm_report.replacements} == {"other"}
    # Searchable, where it is legal.
    from search.space import NormSpace, Place, words

    space = NormSpace([Place(16, (8, 8)), Place(32, (4, 4))], norms="batch,blend")
    assert space.choices[1].values == (0.5, 0.1, 0.9)
    assert "blend" in NormSpace([Place(16, (8, 8))]).norms
    assert "single position" in NormSpace([Place(16, ())]).left_out["blend"]
    assert words({"name": "blend", "gate": 0.1}) == "blend norm, gate from 0.1"


def test_benchmarks_time_a_norm_of_ones_own(restored, monkeypatch, capsys):
    from benchmarks import cli, contestants

    monkeypatch.setattr(contestants, "BY_LABEL", dict(contestants.BY_LABEL))
    monkeypatch.setattr(sys, "path", [*sys.path])
    small = ["--quick", "--no-kept", "--rounds", "1", "--phase", "inference"]
    own = ["--import", str(EXAMPLES / "my_norm.py"), "--layers", "blend"]
    assert cli.main(["layers", *small, "--shapes", "2x4x4x32", *own]) == 0
    assert re.search(r"^BlendNorm +\d", capsys.readouterr().out, re.MULTILINE)


def test_a_search_offers_a_norm_of_ones_own(restored, monkeypatch, capsys):
    from search import cli

    monkeypatch.setattr(sys, "path", [*sys.path])
    place = str(EXAMPLES / "my_norm.py")
    assert cli.main(["--import", place, "--norms", "batch,blend", "--show-space"]) == 0
    assert "blend/gate" in capsys.readouterr().out


@on_torch_daily
def test_training_on_two_devices():
    outputs = run_on_two_devices(EXAMPLES / f"data_parallel_{BACKEND}.py")
    told = re.search(r"^2 devices, loss ([\d.]+) -> ([\d.]+)$", outputs[0], re.MULTILINE)
    assert told, outputs
    assert float(told[2]) < float(told[1])
