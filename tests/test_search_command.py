"""The command, and the whole search that it runs."""

import io
import json
import sys
import types

import keras
import pytest
from rich.console import Console

import search
from search import cli, running
from search.errors import BadInput, NothingCompleted, OtherSearch
from search.progress import Progress
from small_search import OBJECTIVE, arrays, build, compile_eagerly

OPTIONS = {
    "norms": "batch,mode",
    "placements": "all",
    "trials": 3,
    "epochs": 1,
    "batch_size": 32,
    "compile": compile_eagerly,
    "console": False,
}


@pytest.fixture(autouse=True)
def plain_answer(monkeypatch):
    """Stand-ins for the rooms behind the engine, which have tests of their own."""
    answers = types.ModuleType("search.answer")
    answers.arms = lambda rows, k, baselines, direction, words: [
        {"arm": words(spec), "role": "baseline", "spec": spec, "values": {}, "trial": None}
        for spec in baselines[:1]
    ]
    answers.ablation_arms = lambda best, space: []
    answers.ranked = lambda rows, direction: rows
    answers.conclude = lambda rows, runs, manifest: types.SimpleNamespace(sentence="So it is.")
    report = types.ModuleType("search.report")
    report.write = lambda out, rows, runs, manifest, answer: (out / "manifest.json").write_text(
        json.dumps(manifest)
    )
    for module in (answers, report):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(search, module.__name__.partition(".")[2], module, raising=False)


def run(out, **options):
    return running.run(build, arrays(60), out=out, **{**OPTIONS, "seeds": 2, **options})


def test_a_whole_search_and_its_replay(tmp_path):
    result = run(tmp_path / "a")
    assert [row["status"] for row in result.rows] == ["completed"] * 3
    assert [row["seed"] for row in result.runs] == [1, 2]
    assert {row["seed"] for row in result.rows} == {0}
    assert all(0 <= row["test_error"] <= 1 for row in result.runs)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["seeds"] == [1, 2]
    assert manifest["data"]["classes"] == 3
    assert manifest["versions"]["keras"] == keras.__version__
    again = run(tmp_path / "b")
    assert [row["spec"] for row in again.rows] == [row["spec"] for row in result.rows]
    assert [row["score"] for row in again.rows] == [row["score"] for row in result.rows]
    # Resumed, nothing is left to do.
    resumed = run(tmp_path / "a", resume=True)
    assert resumed.rows == result.rows
    assert resumed.runs == result.runs


def test_a_changed_search_is_refused(tmp_path):
    run(tmp_path / "a", seeds=0)
    with pytest.raises(OtherSearch, match="--resume"):
        run(tmp_path / "a", seeds=0)
    with pytest.raises(OtherSearch, match="epochs: 1 there, 2 here"):
        run(tmp_path / "a", seeds=0, epochs=2, resume=True)


def test_when_everything_fails(tmp_path):
    calls = []

    def breaks(norm):
        calls.append(norm)
        if len(calls) > 1:
            raise ValueError("no such layer")
        return build(norm)

    with pytest.raises(NothingCompleted, match=r"3 of 3 failed.*no such layer"):
        running.run(breaks, arrays(60), out=tmp_path / "a", **OPTIONS)


def test_a_model_of_the_users_is_operated_on(tmp_path):
    result = running.run(build("batch"), arrays(60), out=tmp_path / "a", seeds=0, **OPTIONS)
    assert result.rows[0]["status"] == "completed", result.rows[0]["traceback"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digit"}, "data set 'digit' is unknown"),
        ({"network": "resnet8x"}, "architecture 'resnet8x' is unknown. Near it: ResNet8"),
        ({"norms": "bach"}, "norm 'bach' is unknown"),
        ({"objective": "val_f1"}, "objective 'val_f1'"),
        ({"oracle": "tpo"}, "oracle 'tpo' is unknown"),
        ({"executor": "cloud"}, "executor 'cloud' is unknown"),
        ({"trials": 0}, "trials=0"),
        ({"seeds": -1}, "seeds=-1"),
        ({"budget": 0}, "budget=0"),
        ({"network": 3}, "network=3"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, options, message):
    arguments = {"network": build, "data": "digits", **OPTIONS, **options}
    with pytest.raises(BadInput, match=message):
        running.run(out=tmp_path / "a", **arguments)
    assert not (tmp_path / "a").exists()


def test_a_model_must_fit_the_data(tmp_path):
    with pytest.raises(BadInput, match="3 outputs, and the data 10 classes"):
        running.run(build("batch"), "digits", out=tmp_path / "a", **OPTIONS)


def command(*arguments):
    return cli.main([*arguments, "--no-jit"])


def test_the_command(tmp_path, capsys):
    out = tmp_path / "results"
    arguments = ("--arch", "resnet8", "--width", "4", "--norms", "batch,group", "--epochs", "1")
    arguments += ("--trials", "2", "--seeds", "1", "--batch-size", "512", "--placements", "all")
    assert command(*arguments, "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "trial 2 of 2: group norm" in printed
    assert "2 trials (2 completed)" in printed
    assert "So it is." in printed
    replay = json.loads((out / "manifest.json").read_text())["command"]
    assert replay[1:3] == ["-m", "search"]
    options = vars(cli.parser().parse_args(replay[3:]))
    first = vars(cli.parser().parse_args([*arguments, "--no-jit"]))
    for name in set(options) - {"out", "backend"}:
        assert options[name] == first[name]
    assert command(*arguments, "--out", str(out)) == 1
    assert "--resume" in capsys.readouterr().err


def test_errors_of_the_command_are_one_line(tmp_path, capsys):
    for arguments, message in (
        (["--arch", "lenet9000"], "architecture 'lenet9000' is unknown"),
        (["--model", "nowhere"], "Needed: MODULE:FUNCTION"),
        (["--model", "nowhere:build"], "No module named 'nowhere'"),
        (["--model", str(tmp_path / "none.py") + ":build"], "there is no file"),
        (["--data", "digit"], "data set 'digit' is unknown"),
        (["--norms", ","], "the space is empty"),
    ):
        assert command(*arguments, "--out", str(tmp_path / "a")) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_model_from_a_file(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "import keras\nfrom kerasnorm.sites import norm_layer\n\ndef build(norm):\n"
        "    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(6, 3), norm_layer(norm)]\n"
        "    layers += [keras.layers.Flatten(), keras.layers.Dense(10)]\n"
        "    return keras.Sequential(layers)\n"
    )
    assert command("--model", f"{path}:build", "--show-space") == 0
    assert "group/groups" in capsys.readouterr().out


def test_help_is_complete():
    text = cli.parser().format_help()
    options = "arch model data norms oracle trials budget epochs seeds objective executor out seed"
    for option in [*options.split(), "resume"]:
        assert f"--{option}" in text
    for action in cli.parser()._actions:
        assert action.help


def test_progress_in_a_terminal_and_elsewhere():
    for terminal in (True, False):
        text = io.StringIO()
        console = Console(file=text, force_terminal=terminal, width=100)
        with Progress(2, 3, OBJECTIVE, console=console) as progress:
            task = types.SimpleNamespace(number=0, words="[mode] norm", epochs=3, label={}, seed=0)
            row = {"trial": 0, "words": "[mode] norm", "status": "completed", "score": 0.25}
            progress.trial_started(task)
            progress.epoch_ended(task, 1, 0.5)
            progress.trial_ended(task, {**row, "epochs": 3})
        shown = text.getvalue()
        assert "[mode] norm" in shown
        assert "0.2500" in shown
        assert "left" in shown
