"""What is legal in a network, and how it becomes hyperparameters and specs."""

import json
import random

import keras
import keras_tuner
import pytest

import kerasnorm
from kerasnorm.sites import Specs
from search.errors import BadInput
from search.names import NORMS
from search.space import NormSpace, Place, legal_arguments, sites_of, words
from small_search import build

SITES = [Place(16, (8, 8), 0), Place(16, (8, 8), 0), Place(32, (4, 4), 1), Place(24, (2, 2), 2)]


def points(space, count=60):
    generator = random.Random(0)
    return [space.random_point(generator) for _ in range(count)]


def test_every_point_is_legal_at_every_site():
    space = NormSpace(SITES)
    for values in [*space.paper_defaults(), *points(space)]:
        spec = space.spec_from(values)
        assert json.loads(json.dumps(spec)) == spec
        specs = Specs(spec, stages=3)
        for number, site in enumerate(SITES):
            layer = kerasnorm.get(specs.at(number, site.stage))
            layer.build((None, *site.size, site.channels))


def test_paper_defaults_come_one_for_each_norm():
    space = NormSpace([Place(64, (8, 8))])
    specs = {s["name"]: s for s in map(space.spec_from, space.paper_defaults())}
    assert list(specs) == list(NORMS)
    assert specs["group"]["groups"] == 32
    assert specs["ilm_group"]["key_group_size"] == 16
    assert specs["ilm_group"]["mean_activation"] == "tanh"
    assert specs["associate"]["mean_activation"] == "sigmoid"
    assert specs["mode"]["modes"] == 2
    assert specs["conv"] == {"name": "conv"}


def test_group_counts_divide_all_channels():
    (argument, counts) = legal_arguments("group", [Place(24), Place(40)])[0]
    assert (argument, set(counts)) == ("groups", {2, 4, 8})
    # Nothing divides both: each layer takes what it can.
    space = NormSpace([7, 9], norms=["group"])
    assert space.spec_from({}) == {"name": "group"}


def test_conv_norm_needs_images_of_a_fixed_size():
    space = NormSpace([Place(8, (None, None)), Place(8, (4, 4))])
    assert "conv" not in space.norms
    assert "fixed height" in space.left_out["conv"]
    with pytest.raises(BadInput, match=r"the space is empty .*conv: needs images"):
        NormSpace([8], norms=["conv"])


def test_norms_that_give_constants_at_a_single_position_are_left_out():
    single, image = Place(16, ()), Place(16, (4, 4))
    for sites in ([single], [image, Place(16, (1, 1))]):
        space = NormSpace(sites)
        assert {"instance", "ilm_instance"} <= set(space.left_out)
        assert {"batch", "group", "layer", "ilm_layer", "mode"} <= set(space.norms)
        assert {*space.norms, *space.left_out} == set(NORMS)
        assert "single position" in space.left_out["instance"]
        # 16 groups of 16 channels would be instance norm.
        assert dict(legal_arguments("group", sites))["groups"] == (8, 2, 4)
    assert "single value" in NormSpace([Place(7, ())]).left_out["group"]
    assert "single value" in NormSpace([Place(1, ())]).left_out["mode_group"]
    assert {"instance", "group"} < set(NormSpace([image, Place(7, (2, 1))]).norms)
    # Nothing is known of these.
    assert "instance" in NormSpace([16, Place(16, (None,))]).norms


def test_the_sites_of_a_model_are_read_and_nothing_is_built(monkeypatch):
    model = build("batch")
    monkeypatch.setattr(keras.Model, "__init__", None)
    assert sites_of(model) == [Place(8, (4, 4), 0), Place(8, (2, 2), 1)]
    space = NormSpace(model)
    space.declare(keras_tuner.HyperParameters())


def test_it_declares_itself_in_kerastuner_with_conditions():
    space = NormSpace(SITES)
    hp = keras_tuner.HyperParameters()
    space.declare(hp)
    assert [one.name for one in hp.space] == [choice.name for choice in space.choices]
    active = {one.name for one in hp.space if hp.is_active(one)}
    assert active == set(space.active({}))
    hp.values = {"per_stage": False, "norm": "mode", "mode/modes": 4, "placement": "all"}
    hp.ensure_active_values()
    assert len(hp.values) == 4
    assert space.spec_from(hp) == {"name": "mode", "modes": 4}


def test_size_counts_the_points():
    for options in (
        {"norms": ["batch", "mode", "group"]},
        {"norms": "batch,mode_group", "placements": "all"},
        {"norms": "batch,conv", "batch_sizes": [32, 64]},
        {"norms": "batch,mode", "placements": ["stages"]},
    ):
        space = NormSpace([Place(8, (4, 4), 0), Place(8, (2, 2), 1)], **options)
        assert space.size() == len(list(space.points()))
    assert NormSpace([8], learning_rates=("range", 1e-4, 1e-1)).size() == float("inf")


def test_names_for_the_same_spec_have_one_key():
    space = NormSpace(SITES, norms=["batch", "mode"])
    one = {"per_stage": False, "norm": "batch"}
    other = {"per_stage": True, **{f"stage_{n}/norm": "batch" for n in (1, 2, 3)}}
    assert space.spec_from(one) == space.spec_from(other)
    assert space.key(one) == space.key(other)


def test_placements():
    space = NormSpace(SITES, norms=["batch", "mode"])
    first = {"per_stage": False, "norm": "mode", "mode/modes": 3, "placement": "first"}
    assert space.spec_from(first) == [{"name": "mode", "modes": 3}, {"name": "batch"}]
    stages = {"per_stage": True, "stage_1/norm": "mode", "stage_2/norm": "batch"}
    assert space.spec_from(stages) == {
        "stages": [{"name": "mode", "modes": 2}, {"name": "batch"}, {"name": "batch"}]
    }
    assert NormSpace([8], placements="first,stages").placements == ["all"]


def test_branches_wrap_each_spec():
    space = NormSpace([8, 8], norms=["batch", "mode"], branches=[1, 3])
    values = {"norm": "mode", "placement": "first", "branches": 3}
    mode = {"name": "mode", "modes": 2}
    wrapped = [
        {"name": "consistent", "norm": one, "branches": 3} for one in (mode, {"name": "batch"})
    ]
    assert space.spec_from(values) == wrapped


def test_the_table_names_everything():
    table = str(NormSpace(SITES, learning_rates=("range", 1e-4, 1e-1)))
    for text in ("ilm_group/key_group_size", "norm is not batch", "0.0001 to 0.1"):
        assert text in table


def test_words():
    assert words({"name": "mode", "modes": 4}) == "mode norm, 4 modes"
    staged = {"stages": [{"name": "batch"}, {"name": "group", "groups": 2}]}
    assert words(staged) == "stage 1: batch norm; stage 2: group norm, 2 groups"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norms": ["bach"]}, "norm 'bach' is unknown"),
        ({"norms": []}, "no norms were given"),
        ({"norms": ["consistent"]}, "wraps another norm"),
        ({"placements": ["last"]}, "placement 'last' is unknown"),
        ({"batch_sizes": [0]}, "batch_size.*positive"),
        ({"sites": []}, "has no norm"),
        ({"sites": [0]}, "at least 1"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(BadInput, match=message):
        NormSpace(**{"sites": [8, 8], **options})
