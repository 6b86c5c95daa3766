"""The rooms of the search: who imports whom, and where what is not public of others stands."""

import ast
import pathlib
import re

import keras_tuner

import search
from search.private import keras_tuner as private_tuner

PRIVATE = "flatten_layers|compile_config|duplicate|brackets|check_consecutive_failures"
USED = rf"keras(_tuner)?\.src|\._({PRIVATE})\b"


def test_keras_tuner_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in private_tuner.REPLACED:
        assert callable(getattr(keras_tuner.Tuner, name))
        assert name in vars(search.NormTuner)
    oracle = keras_tuner.oracles.HyperbandOracle(keras_tuner.Objective("val_loss", "min"))
    private_tuner.write_nothing(oracle)
    private_tuner.begin_random_numbers(oracle, 0)
    oracle._set_project_dir(str(tmp_path), "p")
    hp = keras_tuner.HyperParameters()
    hp.Choice("norm", ["batch", "group"])
    oracle.update_space(hp)
    trial = oracle.create_trial("tuner0")
    assert trial.status == private_tuner.TrialStatus.RUNNING
    assert private_tuner.promotable(oracle) == [int(trial.trial_id)]
    assert private_tuner.has_tried(oracle)(trial.hyperparameters.values)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert callable(oracle._check_consecutive_failures)
    private_tuner.copy_spaces_quickly(oracle)
    ours, theirs = oracle.hyperparameters.copy(), hp.copy()
    assert vars(ours).keys() == vars(theirs).keys()
    assert ours.get_config() == theirs.get_config()
    ours.Choice("other", [1, 2])
    assert "other" not in oracle.hyperparameters.values
    assert len(oracle.hyperparameters.space) == 1


def test_it_is_used_in_one_place():
    files = pathlib.Path(search.__path__[0]).rglob("*.py")
    using = [path for path in files if re.search(USED, path.read_text())]
    assert {path.parent.name for path in using} == {"private"}


def test_rooms_import_from_those_above_them_only():
    guide = pathlib.Path(__file__).parents[2] / "docs" / "maintainers" / "search.md"
    table = guide.read_text().partition("| modules of `search` |")[2].partition("\n\n")[0]
    lines = [line.split("|")[1] for line in table.splitlines()[2:]]
    level = {name: n for n, line in enumerate(lines) for name in re.findall(r"`(\w+)`", line)}
    folder = pathlib.Path(search.__path__[0])
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder).parts[0].removesuffix(".py")
        if name.startswith("__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "search":
                room = node.module.split(".")[1:2]
                for used in room or [alias.name for alias in node.names]:
                    assert level[used] <= level[name], f"{path.name} imports {used}"
