"""The command, and the whole search that it runs."""

import io
import re
import types

import pytest
from rich.console import Console

from search import cli, running
from search.errors import BadInput, NothingCompleted, OtherSearch
from search.progress import Progress
from search.space import NormSpace, words
from search.trial import Task
from small_search import OBJECTIVE, OPTIONS, arrays, build, row_of, short_search


def test_a_changed_search_is_refused(tmp_path):
    short_search(tmp_path / "a", seeds=0)
    with pytest.raises(OtherSearch, match="--resume"):
        short_search(tmp_path / "a", seeds=0)
    with pytest.raises(OtherSearch, match="epochs: 1 there, 2 here"):
        short_search(tmp_path / "a", seeds=0, epochs=2, resume=True)


def test_when_everything_fails(tmp_path):
    calls = []

    def breaks(norm):
        calls.append(norm)
        if len(calls) > 1:
            raise ValueError("no such layer")
        return build(norm)

    with pytest.raises(NothingCompleted, match=r"3 of 3 failed.*no such layer"):
        running.run(breaks, arrays(60), out=tmp_path / "a", **OPTIONS)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blurr", "transform 'blurr' is unknown. Near it: Blur"),
        ("cutout", "--transforms 'cutout': .*size"),
        ("blur:x", "--transforms 'blur:x'"),
        ("scale_and_pad:2", "scale=2"),
    ],
)
def test_transforms_that_are_none(text, message, capsys, tmp_path):
    assert cli.main(["--transforms", text, "--out", str(tmp_path / "a")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_space_with_transforms(capsys):
    command = ["--transforms", "scale_and_pad:0.75,blur", "--norms", "batch", "--show-space"]
    assert cli.main([*command, "--placements", "all"]) == 0
    assert re.search(r"branches +1, 2, 3 *\n3 points", capsys.readouterr().out)


def test_the_ablation_is_around_the_best_trial_that_has_something_to_change():
    space = NormSpace([8], norms="batch,mode")
    points = [{"norm": "mode", "mode/modes": 6}, {"norm": "batch"}, {"norm": "mode"}]
    rows = []
    for number, (values, error) in enumerate(zip(points, (0.3, 0.1, 0.2), strict=True)):
        spec = space.spec_from(values)
        trial = Task(number, spec, words(spec), space.active(values), 0, 1)
        rows.append(row_of(trial, [{"epoch": 1, "val_error": error}]))
    tasks = running._answer_tasks(rows, space, OBJECTIVE, 1, ["batch"], 2, 2, 0, 1)
    assert [(task.label["role"], task.spec.get("modes"), task.seed) for task in tasks] == [
        (role, modes, seed)
        for role, modes in [("candidate", 2), ("baseline", None), ("ablation", 3), ("ablation", 4)]
        for seed in (1, 2)
    ]
    # Of those that are trained again: with batch norm as the one candidate there is none.
    tasks = running._answer_tasks(rows, space, OBJECTIVE, 1, ["layer"], 2, 1, 0, 1)
    assert [task.label["role"] for task in tasks] == ["candidate", "baseline"]


def test_a_model_must_fit_the_data(tmp_path):
    with pytest.raises(BadInput, match="3 outputs, and the data 10 classes"):
        running.run(build("batch"), "digits", out=tmp_path / "a", **OPTIONS)


def command(*arguments):
    return cli.main([*arguments, "--no-jit"])


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
