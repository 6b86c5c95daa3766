"""`kerasnorm-convert`: what it writes, and what it refuses in one line."""

import keras
import numpy as np
import pytest

import kerasnorm
from kerasnorm.conversion.command import _data, main, parser
from readme import ROOT, blocks


@pytest.fixture
def saved(tmp_path):
    """The paths of a model and of its data."""
    layers = [keras.Input((4, 4, 2)), kerasnorm.BatchNorm(name="norm")]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])
    x = np.random.default_rng(0).normal(3.0, 2.0, (64, 4, 4, 2)).astype("float32")
    kerasnorm.reestimate(model, x)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "images.npz", x=x, y=np.arange(64) % 2)
    return [str(tmp_path / name) for name in ("model.keras", "images.npz", "new.keras")]


def test_it_writes_a_model_and_its_report(saved, tmp_path, capsys):
    model, data, out = saved
    assert main([model, "--norm", "layer,instance", "--data", data, "--out", out, "--quiet"]) == 0
    report = (tmp_path / "new.txt").read_text()
    assert "Tried: " in report
    assert "accuracy was" in report
    assert capsys.readouterr().out.startswith(report)
    new = keras.saving.load_model(out)
    assert isinstance(new.get_layer("norm"), (kerasnorm.LayerNorm, kerasnorm.InstanceNorm))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "images.npz",
        "model.keras",
        "new.keras",
        "new.png",
        "new.txt",
    ]


@pytest.mark.parametrize("classes", [[], ["cats", "dogs"]])
def test_a_folder_of_images(saved, tmp_path, classes, capsys):
    _, _, out = saved
    layers = [keras.Input((4, 6, 3)), kerasnorm.BatchNorm(name="norm")]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])
    model.save(tmp_path / "colours.keras")
    generator = np.random.default_rng(0)
    for number in range(16):
        folder = tmp_path / "images" / (classes[number % 2] if classes else "")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (9, 7, 3)).astype("uint8")
        keras.utils.save_img(folder / f"{number}.png", pixels, scale=False)
    given = [str(tmp_path / "colours.keras"), "--norm", "layer", "--data", str(tmp_path / "images")]
    assert main([*given, "--scale", "0.5", "--out", out, "--quiet"]) == 0
    report = (tmp_path / "new.txt").read_text()
    assert "On 2 held-out examples, fitted on 14" in " ".join(report.split())
    assert ("accuracy was" in report) == bool(classes)
    # Batches of what model.predict gets.
    options = parser().parse_args([*given, "--scale", "0.5", "--out", out, "--batch-size", "5"])
    data, labels = _data(options, model)
    batches = list(data)
    x = np.concatenate([batch[0] if classes else batch for batch in batches])
    assert labels is None
    assert x.shape == (16, 4, 6, 3)
    assert 80 < x.max() <= 127.5
    if classes:
        assert sorted(np.concatenate([batch[1] for batch in batches])) == [0] * 8 + [1] * 8


@pytest.mark.parametrize("returned", ["x", "{'x': x, 'y': np.arange(64) % 2}", "iter([(x, None)])"])
def test_a_function_in_a_file(saved, tmp_path, returned):
    model, _, out = saved
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\n\ndef examples():\n"
        "    x = np.random.default_rng(0).normal(size=(64, 4, 4, 2)).astype('float32')\n"
        f"    return {returned}\n"
    )
    data = f"{tmp_path / 'mine.py'}:examples"
    assert main([model, "--norm", "layer", "--data", data, "--out", out, "--quiet"]) == 0
    report = (tmp_path / "new.txt").read_text()
    assert ("accuracy was" in report) == ("'y'" in returned)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--norm": "nothing"}, "norm spec 'nothing' is unknown"),
        ({"--norm": "{'name'"}, "Needed: JSON such as"),
        ({"--data": "none.npz"}, "--data 'none.npz' is not there"),
        ({"--data": "none.py:examples"}, "--data 'none.py:examples' is not there"),
        ({"--data": f"{__file__}:nothing"}, "has no attribute 'nothing'"),
        ({"--data": str(ROOT / "docs")}, "Needed for a folder of images: a model with one input"),
        ({"--out": "new.h5"}, "--out 'new.h5'. Needed: the path of a .keras file."),
        ({"--examples": "many"}, "--examples: invalid int value: 'many'"),
        ({"--examples": "1"}, "examples=1. Needed: an integer of at least 2"),
        ({"--where": "nothing*"}, "nothing*"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(saved, changed, message, capsys, tmp_path):
    model, data, out = saved
    options = {"--norm": "layer", "--data": data, "--out": out, **changed}
    assert main([model, *(part for pair in options.items() for part in pair), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kerasnorm-convert: ")
    assert message in line
    assert not (tmp_path / "new.keras").exists()


def test_interrupted_it_writes_nothing(saved, monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kerasnorm.conversion.command.convert", interrupted)
    model, data, out = saved
    assert main([model, "--data", data, "--out", out]) == 130
    assert capsys.readouterr().err == "kerasnorm-convert: Interrupted. Nothing was written.\n"
    assert not (tmp_path / "new.keras").exists()


def test_the_command_of_the_guide_is_one():
    (block,) = blocks("sh", ROOT / "docs" / "convert.md")
    assert parser().parse_args(block.split()[1:]).norm == "best"
