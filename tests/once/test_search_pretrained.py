"""Searches that begin with a trained model: from a file, beside the model as it is."""

import json

import keras
import numpy as np
import pytest

from search import cli, running
from search.errors import BadInput, OtherSearch
from search.hypermodel import NormHyperModel, copied
from small_search import OPTIONS, arrays, build

X, Y = arrays(120)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file with a model that is better than chance."""
    keras.utils.set_random_seed(0)
    model = build("keras_batch")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], run_eagerly=True)
    model.fit(X, Y, epochs=4, batch_size=32, verbose=0)
    file = tmp_path_factory.mktemp("trained") / "trained.keras"
    model.save(file)
    return file


def test_a_copy_is_the_model_once_more(path):
    model = keras.saving.load_model(path)
    copy = copied(model)
    assert copy is not model
    np.testing.assert_allclose(copy.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)
    assert int(copy.optimizer.iterations) == int(model.optimizer.iterations) > 0
    copy.fit(X, Y, epochs=1, verbose=0)
    assert int(copy.optimizer.iterations) > int(model.optimizer.iterations)
    hypermodel = NormHyperModel(str(path), norms="batch,group", start="preserved")
    as_it_is = hypermodel.model_of(None, {"learning_rate": 0.5})
    np.testing.assert_allclose(
        as_it_is.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5
    )
    assert float(as_it_is.optimizer.learning_rate) == 0.5


def test_the_model_as_it_is_is_a_baseline(path, tmp_path):
    options = OPTIONS | {"norms": "batch,group", "seeds": 2, "ablation": 0, "start": "preserved"}
    found = running.run(path, (X, Y), out=tmp_path / "a", **options)
    arms = {arm.name: arm for arm in found.answer.arms}
    assert arms["the model as it is"].role == "baseline"
    assert found.manifest["baselines"] == ["batch", "group", "original"]
    # What it learnt is there from the start, and one epoch more does not take it away.
    assert arms["the model as it is"].mean < 0.5
    np.testing.assert_allclose(arms["the model as it is"].mean, arms["batch norm"].mean, atol=0.05)
    again = running.run(out=tmp_path / "a", resume=True, data=(X, Y), compile=None, console=False)
    assert again.answer.sentence == found.answer.sentence
    options |= {"start": "fresh", "baselines": "original"}
    found = running.run(path, (X, Y), out=tmp_path / "b", **options)
    assert [arm.name for arm in found.answer.arms if arm.role == "baseline"] == [
        "the model as it is"
    ]


def test_the_command_takes_a_file(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    np.savez("data.npz", x=X, y=Y)
    command = ["--model", "trained.keras", "--data", "data.npz", "--norms", "batch,group"]
    command += ["--placements", "all", "--trials", "1", "--epochs", "1", "--seeds", "1"]
    command += ["--ablation", "0", "--start", "preserved", "--executor", "inline"]
    out = tmp_path / "c"
    assert cli.main([*command, "--out", str(out)]) == 0
    assert "the model as it is" in capsys.readouterr().out
    call = json.loads((out / "journal.jsonl").read_text().splitlines()[0])["call"]
    assert str(path) in call["options"]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--resume", "--out", str(out)]) == 0


def test_frozen_epochs_and_the_learning_rate_are_searched(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(path.parent)
    np.savez("data.npz", x=X, y=Y)
    command = ["--model", "trained.keras", "--data", "data.npz", "--norms", "batch,group"]
    command += ["--placements", "all", "--frozen-epochs", "0,1", "--start", "preserved"]
    command += ["--learning-rates", "0.001..0.1", "--backend", keras.backend.backend()]
    assert cli.main([*command, "--show-space"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "frozen_epochs 0, 1" in shown
    assert "learning_rate 0.001 to 0.1" in shown
    out = tmp_path / "c"
    command += ["--trials", "6", "--epochs", "2", "--executor", "inline", "--candidates", "1"]
    assert cli.main([*command, "--seeds", "1", "--ablation", "1", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    trials = [line["row"] for line in rows if line["event"] == "told"]
    assert {row["values"]["frozen_epochs"] for row in trials} == {0, 1}
    assert len({row["values"]["learning_rate"] for row in trials}) > 2
    for row in trials:
        assert ("1 frozen epoch" in row["words"]) == (row["values"]["frozen_epochs"] == 1)
    arms = next(line["arms"] for line in rows if line["event"] == "arms")
    assert "frozen_epochs" in {name for arm in arms for name in arm.get("changed", {})}
    assert "the model as it is" in [arm["arm"] for arm in arms]
    # The numbers 0 and 1 are no truth values.
    assert r"frozen\_epochs = 1" in (out / "tables" / "trials.md").read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    again = manifest["command"]
    assert again[again.index("--frozen-epochs") + 1] == "0,1"
    assert again[again.index("--learning-rates") + 1] == "0.001..0.1"
    assert cli.main(["--resume", "--trials", "7", "--out", str(out)]) == 0


def test_a_fixed_number_of_frozen_epochs_is_of_the_search(path, tmp_path):
    options = OPTIONS | {"norms": "batch,group", "seeds": 0, "epochs": 2, "trials": 1}
    found = running.run(path, (X, Y), out=tmp_path / "a", frozen_epochs=1, **options)
    assert found.manifest["frozen_epochs"] == 1
    assert "frozen epochs" in (tmp_path / "a" / "report.html").read_text()
    assert "frozen_epochs=1" in found.manifest["command"][0]
    with pytest.raises(OtherSearch, match="frozen_epochs: 1 there, null here"):
        running.run(path, (X, Y), out=tmp_path / "a", resume=True, frozen_epochs=0, **options)
    again = running.run(
        out=tmp_path / "a", resume=True, trials=2, data=(X, Y), compile=None, console=False
    )
    assert len(again.rows) == 2


def test_what_is_refused(path, tmp_path):
    with pytest.raises(BadInput, match="there is no such file"):
        running.run("none.keras", (X, Y), out=tmp_path / "a", **OPTIONS)
    (tmp_path / "bad.keras").write_text("no model")
    with pytest.raises(BadInput, match=r"bad\.keras'"):
        running.run(tmp_path / "bad.keras", (X, Y), out=tmp_path / "a", **OPTIONS)
    with pytest.raises(BadInput, match="baseline 'original' is a Keras model as it is"):
        running.run(build, (X, Y), out=tmp_path / "a", baselines="original", **OPTIONS)
    assert cli.main(["--model", "none.keras", "--out", str(tmp_path / "a")]) == 2
    with pytest.raises(BadInput, match=r"frozen_epochs=1 of 1 epochs\. Needed: fewer"):
        running.run(path, (X, Y), out=tmp_path / "a", frozen_epochs=[0, 1], **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frozen-epochs", "2"], "--frozen-epochs 2 without --model, so there are no weights"),
        (["--arch", "resnet8", "--frozen-epochs", "0,2"], "--frozen-epochs 2 without --model"),
        (["--model", "m.keras", "--frozen-epochs", "10"], "--frozen-epochs 10 of --epochs 10"),
        (["--frozen-epochs", "-1"], "--frozen-epochs '-1'. Needed: an integer of at least 0"),
        (["--learning-rates", "0.1..0.01"], "'0.1..0.01'. Needed: LOW..HIGH"),
    ],
)
def test_the_command_refuses_at_once(capsys, options, message):
    assert cli.main(options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
