"""The command, and the whole search that it runs."""

import importlib.machinery
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from rich.console import Console

from kerasnorm.sites import norm_layer
from planted_runs import row_of
from search import cli, early, running
from search.errors import BadInput, NothingCompleted, OtherSearch
from search.hypermodel import NormHyperModel
from search.objective import Objective
from search.progress import Progress
from search.rows import TrialRow
from search.space import NormSpace, words
from search.task import Task
from search.tasks import answer_arms, answer_tasks
from small_search import OBJECTIVE, OPTIONS, arrays, build, short_search


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
        ({"objective": "val_score"}, "objective 'val_score'"),
        ({"oracle": "tpo"}, "oracle 'tpo' is unknown"),
        ({"executor": "cloud"}, "executor 'cloud' is unknown"),
        ({"trials": 0}, "trials=0"),
        ({"seeds": -1}, "seeds=-1"),
        ({"budget": 0}, "budget=0"),
        ({"network": 3}, "network=3"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, options, message):
    arguments = {"network": build, "data": arrays(60), **OPTIONS, **options}
    with pytest.raises(BadInput, match=message):
        running.run(out=tmp_path / "a", **arguments)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cutout", "--transforms 'cutout': .*size"),
        ("blur:x", "--transforms 'blur:x'. Needed: NAME:NUMBER"),
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
    search = types.SimpleNamespace(
        splits=1, objective=Objective("val_error"), candidates=1, baselines=["batch"], ablation=2
    )
    search.seed, search.seeds, search.epochs = 0, 2, 1
    tasks = answer_tasks(answer_arms(rows, space, search), search)
    assert [(task.arm["role"], task.spec.get("modes"), task.seed) for task in tasks] == [
        (role, modes, seed)
        for role, modes in [("candidate", 2), ("baseline", None), ("ablation", 3), ("ablation", 4)]
        for seed in (1, 2)
    ]
    # Of those that are trained again: with batch norm as the one candidate there is none.
    search.baselines, search.seeds = ["layer"], 1
    tasks = answer_tasks(answer_arms(rows, space, search), search)
    assert [task.arm["role"] for task in tasks] == ["candidate", "baseline"]


def test_a_model_must_fit_the_data(tmp_path):
    with pytest.raises(BadInput, match="3 outputs, and the data 10 classes"):
        running.run(build("batch"), "digits", out=tmp_path / "a", **OPTIONS)


def ends_in(*layers, compiled=None):
    """A function of a norm spec: a network with these last layers."""

    def built(norm):
        first = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3), norm_layer(norm)]
        model = keras.Sequential([*first, *(layer() for layer in layers)])
        if compiled is not None:
            model.compile("sgd", compiled)
        return model

    return built


def dense(units, activation=None):
    return lambda: keras.layers.Dense(units, activation)


POOL = keras.layers.GlobalAveragePooling2D
SPARSE = "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (ends_in(POOL, dense(2)), "2 outputs, and the data 3 classes"),
        (ends_in(POOL, dense(1)), "1 output, and the data 3 classes"),
        (ends_in(dense(3)), r"outputs of shape \(None, 6, 6, 3\)"),
        (ends_in(POOL, dense(3, "sigmoid")), "ends in sigmoid"),
        (ends_in(POOL, dense(3), compiled=SPARSE), "wants probabilities"),
        (ends_in(POOL, dense(3, "softmax"), compiled="mse"), "MeanSquaredError, for regression"),
        (
            ends_in(POOL, dense(3), compiled="categorical_crossentropy"),
            "CategoricalCrossentropy, for one-hot labels",
        ),
        (
            ends_in(
                POOL,
                dense(3),
                keras.layers.Softmax,
                compiled=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            ),
            "one of the two",
        ),
        (lambda norm: norm, "returned 'batch'"),
        (lambda: build("batch"), "cannot be called with a norm spec"),
        (lambda norm: ends_in(POOL, dense(3))(None), "has no normalization layer"),
        (lambda norm: 1 / 0, r"raised ZeroDivisionError: .*test_search_command.py, line"),
    ],
)
def test_a_function_must_fit_the_data(network, message):
    with pytest.raises(BadInput, match=message):
        NormHyperModel(network, input_shape=(8, 8, 1), classes=3, norms="batch,mode")


@pytest.mark.parametrize(
    "network",
    [
        ends_in(POOL, dense(3)),
        ends_in(POOL, dense(5, "softmax"), compiled=SPARSE),
        ends_in(POOL, lambda: keras.Sequential([dense(3, "softmax")()]), compiled=SPARSE),
        ends_in(POOL, dense(3), compiled=lambda y, outputs: outputs[:, 0]),
    ],
)
def test_functions_that_fit_the_data(network):
    NormHyperModel(network, input_shape=(8, 8, 1), classes=3, norms="batch")


def command(*arguments):
    return cli.main([*arguments, "--no-jit"])


REFUSED_WITHOUT_KERAS = [
    (["--trials", "0"], "--trials '0'. Needed: an integer of at least 1."),
    (["--seeds", "1.5"], "--seeds '1.5'. Needed: an integer of at least 0."),
    (["--budget", "nan"], "--budget 'nan'. Needed: a number above 0."),
    (["--learning-rates", "1e-3,x"], "--learning-rates 'x'. Needed: a number above 0."),
    (["--image-size", "32"], "'32' is not a size. Needed: HxW"),
    (["--trails", "3"], "the option --trails is unknown. Near it: --trials"),
    (["--arch", "lenet9000"], "architecture 'lenet9000' is unknown. Near it: LeNet"),
    (["--arch", "lenet", "--model", "a:b"], "--model: not allowed with argument --arch"),
    (["--norms", "bach"], "norm 'bach' is unknown. Near it: batch"),
    (["--placements", "last"], "placement 'last' is unknown"),
    (["--transforms", "blurr"], "transform 'blurr' is unknown. Near it: blur"),
    (["--oracle", "tpo"], "oracle 'tpo' is unknown. Near it: tpe"),
    (["--executor", "cloud"], "executor 'cloud' is unknown"),
    (["--objective", "val_score"], "objective 'val_score' does not say"),
    (["--measure", "score"], "Needed: score:min or score:max"),
    (["--measure", "none.py:f:max"], "--measure 'none.py:f': there is no file none.py"),
    (["--task", "ranking"], "--task: invalid choice 'ranking'"),
    (["--task", "regression"], "are for a classification"),
    (["--model", "nowhere"], "Needed: MODULE:FUNCTION"),
    (["--model", "none.py:build"], "there is no file none.py"),
    (["--model", "broken.py:build"], "(broken.py, line 1)"),
    (["--model", "a.b:c", "--width", "8"], "--width 8 with --model"),
    (["--data", "digit"], "data set 'digit' is unknown. Near it: digits"),
    (["--data", "none.npz"], "there is no such file"),
    (["--data", "text.npz"], "'text.npz' is not an .npz file"),
    (["--data", "table.npz", "--augment"], "augmentation needs images"),
    (["--data", "none.py:load"], "--data 'none.py:load': there is no file none.py"),
    (["--data", "broken.py:load"], "(broken.py, line 1)"),
    (["--data", "x.npy,none.npy"], "none.npy': there is no such file"),
    (["--data-dir", "x"], "--data-dir with --data 'digits'"),
    (["--out", "text.npz"], "text.npz is a file. Needed: a folder"),
    (["--backend", "jaxx"], "--backend jaxx is not a backend"),
    (["report"], "the following arguments are required: DIR"),
    (["report", "."], "has no journal.jsonl. Needed: the folder of a search"),
]
# In a process of its own, where Keras is not imported yet.
REFUSE = """
import contextlib, io, json, sys
from search import cli

for arguments, message in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = cli.main(arguments)
    said = said.getvalue()
    assert status == 2, (arguments, status, said)
    assert message in said and said.count("\\n") == 1, (arguments, said)
    assert not {"keras", "tensorflow", "jax", "torch", "keras_tuner"} & set(sys.modules), arguments
"""


def test_refusals_that_need_no_keras(tmp_path):
    (tmp_path / "text.npz").write_text("text")
    (tmp_path / "broken.py").write_text("def build(")
    np.savez(tmp_path / "table.npz", x=np.zeros((60, 2)), y=np.arange(60) % 3)
    np.save(tmp_path / "x.npy", np.zeros((60, 2)))
    script = [sys.executable, "-c", REFUSE, json.dumps(REFUSED_WITHOUT_KERAS)]
    path = str(pathlib.Path(cli.__file__).parents[1])
    done = subprocess.run(
        script,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_errors_of_the_command_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("def build(norm):\n    raise OSError('no cable')\nx = 3\n")
    (tmp_path / "search.py").write_text("1 / 0")
    for arguments, message in (
        (["--model", "nowhere:build"], "No module named 'nowhere'"),
        (["--model", "search.py:build"], "ZeroDivisionError: division by zero ("),
        (["--model", "search:build"], "Needed: the path of your file, such as search.py:build"),
        (["--model", "own.py:built"], "the name 'built' is unknown. Near it: build"),
        (["--model", "own.py:x"], "network=3. Needed: a function"),
        (["--model", "own.py:build"], "OSError: no cable ("),
        (["--norms", ","], "the space is empty"),
        (["--arch", "lenet", "--width", "3"], "architecture 'lenet' does not take width"),
        (["--arch", "transformerencoder"], "TransformerEncoder: input_shape=(8, 8, 1)"),
        (["--transforms", "blur:x"], "Needed: NAME:NUMBER"),
    ):
        assert command(*arguments, "--out", str(tmp_path / "a")) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_what_nobody_expected_is_one_line_too(capsys, monkeypatch):
    def broken(options):
        raise RuntimeError("first line\nsecond")

    monkeypatch.setattr(cli, "_run", broken)
    assert cli.main([]) == 1
    assert "RuntimeError: first line (" in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        cli.main(["--debug"])


@pytest.mark.parametrize(
    ("asked", "variable", "configured", "installed", "chosen", "said"),
    [
        (None, None, "tensorflow", ["jax"], "jax", "the backend that is installed"),
        (None, None, "torch", ["jax", "torch"], "torch", "keras.json. Others: --backend jax"),
        (None, None, None, ["jax", "torch"], "jax", "the first that is installed"),
        (None, "torch", "jax", ["jax", "torch"], "torch", None),
        ("jax", "torch", "torch", ["jax", "torch"], "jax", None),
        ("jax", None, None, ["torch"], None, "jax is not installed. Needed: --backend torch"),
        (None, "tensorflow", None, ["torch"], None, "tensorflow is not installed"),
        (None, "numpy", None, ["torch"], None, "KERAS_BACKEND=numpy is not a backend"),
        (None, None, None, [], None, "no backend of Keras is installed"),
    ],
)
def test_the_backend(asked, variable, configured, installed, chosen, said, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", variable or "")
    monkeypatch.setattr(early, "_is_installed", installed.__contains__)
    if configured is not None:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": configured}))
    if chosen is None:
        with pytest.raises(BadInput, match=said):
            early.choose_backend(asked)
        return
    name, sentence = early.choose_backend(asked)
    assert name == chosen
    assert (sentence is None) if said is None else said in sentence


def test_a_model_from_a_file(tmp_path, capsys):
    # Not even a name of the search's own is in its way.
    path = tmp_path / "search.py"
    path.write_text(
        "import keras\nfrom kerasnorm.sites import norm_layer\n\ndef build(norm):\n"
        "    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(6, 3), norm_layer(norm)]\n"
        "    layers += [keras.layers.Flatten(), keras.layers.Dense(10)]\n"
        "    return keras.Sequential(layers)\n"
    )
    assert command("--model", f"{path}:build", "--show-space") == 0
    assert "group/groups" in capsys.readouterr().out
    assert sys.modules["search"].__name__ == "search"
    assert hasattr(sys.modules["search"], "run")
    # Workers start with the same path.
    found = importlib.machinery.PathFinder.find_spec("search", sys.path)
    assert found.submodule_search_locations


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
            task = types.SimpleNamespace(number=0, words="[mode] norm", epochs=3, arm=None, seed=0)
            row = TrialRow(words="[mode] norm", status="completed", score=0.25, epochs=3)
            progress.trial_started(task)
            progress.epoch_ended(task, 1, 0.5)
            progress.trial_ended(task, row)
        shown = text.getvalue()
        assert "[mode] norm" in shown
        assert "0.2500" in shown
        assert "left" in shown
