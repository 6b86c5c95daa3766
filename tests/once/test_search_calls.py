"""What a journal keeps of a call, and what another process makes of it."""

import json
import sys
import types

import keras_tuner
import numpy as np
import pytest

from kerasnorm import transforms
from search import calls, running
from search.errors import BadInput
from search.space import NormSpace
from small_search import arrays, build


def test_what_has_a_name_comes_back(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("def compiled(model, values):\n    return 'there'\n")
    there = calls.module_of_file(tmp_path / "elsewhere.py")
    monkeypatch.chdir(tmp_path)
    given = {
        "network": build,
        "compile": there.compiled,
        "data": "own.npz",
        "transforms": [None, transforms.Blur(1.5)],
        "learning_rates": ("range", 1e-4, 1e-2),
        "objective": keras_tuner.Objective("val_loss", "min"),
        "out": "folder",
    }
    call = json.loads(json.dumps(calls.kept(given)))
    assert call["unnamed"] == []
    del sys.modules["elsewhere"]
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    monkeypatch.chdir("/")
    again = calls._again(call["arguments"])
    assert set(again) == set(given) - {"out"}
    assert again["network"] is build
    assert again["compile"](None, None) == "there"
    assert again["data"] == str(tmp_path / "own.npz")
    assert again["transforms"][0] is None
    assert again["transforms"][1].get_config()["sigma"] == 1.5
    assert again["objective"] == "val_loss:min"
    (tmp_path / "elsewhere.py").unlink()
    sys.modules.pop("elsewhere")
    with pytest.raises(BadInput, match=r"elsewhere:compiled of .* cannot be imported"):
        calls._again(call["arguments"])


def test_what_has_no_name_is_to_be_given_again():
    def local(norm):
        return build(norm)

    nameless = {"network": local, "compile": lambda m, v: None, "data": arrays(9), "x": np.ones(2)}
    assert calls.kept({**nameless, "model": build("batch")})["unnamed"] == [*nameless, "model"]


@pytest.mark.parametrize(
    ("norms", "asked", "expected"),
    [
        ("batch,group,ilm_group", None, ["batch", "group"]),
        ("mode,ilm_group", None, []),
        ("mode,ilm_group", "batch, layer", ["batch", "layer"]),
        (None, None, ["batch", "group", "instance", "layer"]),
    ],
)
def test_baselines_are_the_plain_norms_among_those_asked_for(norms, asked, expected):
    assert running._baselines(searched(NormSpace([16], norms=norms)), asked) == expected


def searched(space, network=None, start="fresh"):
    """What is known of a hypermodel."""
    return types.SimpleNamespace(space=space, network=network, start=start)


def test_norms_that_were_not_asked_for_are_nowhere():
    space = NormSpace([16, 16], norms="mode,layer")
    specs = [space.spec_from(point) for point in space.points()]
    assert [{"name": "mode", "modes": 2}, {"name": "layer"}] in specs
    assert "batch" not in str(specs)
    assert NormSpace([16, 16], norms="mode,conv").placements == ["all"]
    with pytest.raises(BadInput, match="norm 'bach' is unknown"):
        running._baselines(searched(space), "bach")


@pytest.mark.parametrize(
    ("data", "kept"), [("x.npy,y.npy", "{0}/x.npy,{0}/y.npy"), ("own.py:load", "{0}/own.py:load")]
)
def test_places_of_data_do_not_depend_on_the_folder(tmp_path, monkeypatch, data, kept):
    monkeypatch.chdir(tmp_path)
    assert calls.kept({"data": data})["arguments"]["data"] == kept.format(tmp_path)
