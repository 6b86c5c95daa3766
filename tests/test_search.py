"""A short search on each backend: trials, the trainings for the answer, resuming, the command."""

import json
import pathlib
import shutil

import keras
import pytest

import kerasnorm
import search
from daily import on_torch_daily
from golden_files import GOLDEN
from kerasnorm import transforms
from search import cli, running
from search.errors import BadInput, OtherSearch
from search.space import NormSpace, Place
from small_search import OPTIONS, arrays, build, compile_eagerly, short_search


def run(out, **options):
    return short_search(out, **{"candidates": 1, "ablation": 0, **options})


def test_a_whole_search(tmp_path):
    result = run(tmp_path / "a")
    assert [row["status"] for row in result.rows] == ["completed"] * 3
    assert {row["seed"] for row in result.runs} == {1, 2}
    assert {row["role"] for row in result.runs} >= {"candidate", "baseline"}
    # The norm to use is that of the lowest mean test error, or the best plain one.
    best = result.answer.arm(result.answer.best)
    errors = {arm.name: arm.mean for arm in result.answer.arms}
    assert best.role == "baseline" or errors[best.name] == min(errors.values())
    assert json.loads((tmp_path / "a" / "best_norm.json").read_text()) == best.spec
    assert best.name in result.answer.sentence
    assert best.name in (tmp_path / "a" / "report.html").read_text()
    assert {row["seed"] for row in result.rows} == {0}
    assert all(0 <= row["test_error"] <= 1 for row in result.runs)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["seeds"] == [1, 2]
    assert manifest["data"]["classes"] == 3
    for package in (keras, kerasnorm):
        assert manifest["versions"][package.__name__] == package.__version__
    # Resumed, nothing is left to do; what it is made of is in the journal, but for arrays.
    with pytest.raises(BadInput, match=r"does not hold data.*Needed: the same data"):
        running.run(out=tmp_path / "a", resume=True)
    resumed = running.run(data=arrays(60), out=tmp_path / "a", resume=True, console=False)
    assert resumed.rows == result.rows
    assert resumed.runs == result.runs
    spent, of_both = result.manifest["overhead"], resumed.manifest["overhead"]
    assert of_both["fit_seconds"] == spent["fit_seconds"] > 0
    assert spent["wall_seconds"] <= of_both["wall_seconds"]
    assert 0 < of_both["share"] < 1


@on_torch_daily
def test_the_same_search_has_the_same_trials(tmp_path):
    first, again = (run(tmp_path / name, seeds=0) for name in "ab")
    assert [row["spec"] for row in again.rows] == [row["spec"] for row in first.rows]
    assert [row["score"] for row in again.rows] == [row["score"] for row in first.rows]


def test_a_model_of_the_users_is_operated_on(tmp_path):
    result = running.run(build("batch"), arrays(60), out=tmp_path / "a", seeds=0, **OPTIONS)
    assert result.rows[0]["status"] == "completed", result.rows[0]["traceback"]


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("*/search")), ids=lambda f: f.parent.name)
def test_a_search_of_an_earlier_version(folder, tmp_path):
    """The journal alone is enough to write the report anew, and on its backend to go on."""
    journal = shutil.copy(folder / "journal.jsonl", tmp_path)
    assert cli.main(["report", str(tmp_path)]) == 0
    best = (folder / "best_norm.json").read_text()
    assert (tmp_path / "best_norm.json").read_text() == best
    lines = pathlib.Path(journal).read_text().splitlines()
    begun = json.loads(lines[0])
    if begun["settings"]["backend"] != keras.backend.backend():
        with pytest.raises(OtherSearch, match="backend: "):
            running.run(out=tmp_path, resume=True, console=False)
        return
    result = running.run(out=tmp_path, resume=True, console=False)
    assert len(result.rows) == begun["settings"]["trials"]
    assert result.answer.best_spec == json.loads(best)
    # Nothing was left to train.
    added = pathlib.Path(journal).read_text().splitlines()[len(lines) :]
    assert {json.loads(line)["event"] for line in added} == {"session", "ended"}


@on_torch_daily
def test_branches_are_searched(tmp_path):
    """Consistent Normalization, with one transformation: as many points as branches."""
    transform = transforms.ScaleAndPad(0.5)
    result = run(tmp_path / "a", norms="batch", transforms=[None, transform])
    assert [row["status"] for row in result.rows] == ["completed"] * 2, result.rows
    consistent = {"name": "consistent", "norm": {"name": "batch"}, "branches": 2}
    assert [row["spec"] for row in result.rows] == [{"name": "batch"}, consistent]
    assert "branch_1_loss" in result.rows[1]["curve"][0]
    assert result.manifest["transforms"][1]["scale"] == 0.5
    arms = {row["role"]: row for row in result.runs}
    assert arms["candidate"]["spec"] == consistent
    assert {row["status"] for row in result.runs} == {"completed"}


def command(*arguments):
    return cli.main([*arguments, "--no-jit"])


@on_torch_daily
def test_the_command(tmp_path, capsys):
    out = tmp_path / "results"
    arguments = ("--arch", "resnet8", "--width", "4", "--norms", "batch,group", "--epochs", "1")
    arguments += ("--trials", "2", "--seeds", "1", "--batch-size", "512", "--placements", "all")
    arguments += ("--candidates", "1", "--ablation", "0", "--baselines", "batch")
    assert command(*arguments, "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "2 of 2: trial 1: group norm" in printed
    assert "2 trials (2 completed)" in printed
    assert "report.html" in printed
    replay = json.loads((out / "manifest.json").read_text())["command"]
    assert replay[0] == "kerasnorm-search"
    options = vars(cli.parser().parse_args(replay[1:]))
    first = vars(cli.parser().parse_args([*arguments, "--no-jit"]))
    for name in set(options) - {"out", "backend"}:
        assert options[name] == first[name]
    assert command(*arguments, "--out", str(out)) == 1
    assert "--resume" in capsys.readouterr().err
    # The journal has the options; those that are given again must agree.
    lines = len((out / "journal.jsonl").read_bytes().splitlines())
    assert cli.main(["--resume", "--out", str(out)]) == 0
    assert "2 trials (2 completed)" in capsys.readouterr().out
    assert len((out / "journal.jsonl").read_bytes().splitlines()) == lines + 4
    assert json.loads((out / "manifest.json").read_text())["command"] == replay
    assert cli.main(["--resume", "--out", str(out), "--epochs", "2"]) == 1
    assert "epochs: 1 there, 2 here" in capsys.readouterr().err
    assert cli.main(["--resume", "--out", str(out / "none")]) == 1
    assert "holds no search to go on with" in capsys.readouterr().err


@on_torch_daily
def test_hyperband_promotes_and_continues(tmp_path):
    space = NormSpace([Place(8, (4, 4), 0), Place(8, (2, 2), 1)], placements="all")
    model = search.NormHyperModel(build, space=space, compile=compile_eagerly)
    tuner = search.NormTuner(
        model, "hyperband", "val_error", max_trials=7, epochs=3, keep=2, directory=tmp_path
    )
    x, y = arrays()
    tuner.search(x, y, epochs=3, batch_size=32, validation_data=(x[:32], y[:32]), verbose=0)
    continued = [row for row in tuner.rows() if "continues" in row]
    assert continued
    assert all(row["curve"][0]["epoch"] == 2 for row in continued)
    assert {row["status"] for row in tuner.rows()} == {"completed"}
