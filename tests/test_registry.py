"""Norm specs: `get`, `spec_of`, `register`, `available`, and several specs for a network."""

import json

import keras
import numpy as np
import pytest

import kerasnorm
from kerasnorm import registry, sites
from layer_table import ROWS

NAMES = [name for name in kerasnorm.available() if name != "consistent"]


def test_every_layer_has_a_name():
    classes = {registry.parse(name).layer_class.__name__ for name in kerasnorm.available()}
    assert {*ROWS, "ConsistentNorm"} <= classes


@pytest.mark.smoke
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_spec_and_comes_back(name):
    layer = kerasnorm.get(name)
    assert kerasnorm.spec_of(layer) == {"name": name}
    for word in (name.upper(), name.replace("_", "-"), f"{name}_norm", type(layer).__name__):
        assert type(kerasnorm.get(word)) is type(layer)


@pytest.mark.parametrize(
    ("row", "variant"), [(row, v) for row in ROWS.values() for v in row.variants], ids=str
)
def test_specs_of_all_variants_come_back_from_json(row, variant):
    arguments = {"epsilon": 0.125, **row.variants[variant], "name": "a_name"}
    layer = getattr(kerasnorm, row.name)(**arguments)
    spec = json.loads(json.dumps(kerasnorm.spec_of(layer)))
    assert "a_name" not in str(spec)
    again = kerasnorm.get(spec)
    ours, theirs = again.get_config(), layer.get_config()
    assert {**ours, "name": ""} == {**theirs, "name": ""}
    assert kerasnorm.spec_of(again) == spec
    # As short as it can be.
    defaults = getattr(kerasnorm, row.name)().get_config()
    assert all(defaults[key] != value for key, value in spec.items() if key != "name")


def test_specs_hold_initializers_regularizers_and_policies():
    layer = kerasnorm.ILMGroupNorm(
        groups=4,
        association_initializer=keras.initializers.RandomNormal(stddev=0.5),
        gamma_regularizer=keras.regularizers.L2(0.25),
        mean_activation=keras.activations.gelu,
        dtype="mixed_bfloat16",
        trainable=False,
    )
    spec = json.loads(json.dumps(kerasnorm.spec_of(layer)))
    again = kerasnorm.get(spec)
    assert {**again.get_config(), "name": ""} == {**layer.get_config(), "name": ""}
    assert again.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("bn", "BatchNorm"),
        ("GN", "GroupNorm"),
        ("in", "InstanceNorm"),
        ("ln", "LayerNorm"),
        ("ilm", "ILMGroupNorm"),
        ("ilm_gn", "ILMGroupNorm"),
        ("ILM-IN", "ILMInstanceNorm"),
        ("ilm_ln", "ILMLayerNorm"),
        ("AssocNorm", "AssociateNorm"),
        ("mn", "ModeNorm"),
        ("mgn", "ModeGroupNorm"),
        ("conv", "ConvNorm"),
        ("LearnedStats", "LearnedStatsNorm"),
        ("keras_batch", "BatchNormalization"),
        ("BatchNormalization", "BatchNormalization"),
        ("GroupNormalization", "GroupNormalization"),
    ],
)
def test_aliases(word, expected):
    assert type(kerasnorm.get(word)).__name__ == expected


def test_the_kinds_of_specs():
    layer = kerasnorm.GroupNorm(4, name="given")
    for spec in (
        {"name": "group", "groups": 4},
        layer,
        {"name": "GroupNorm", "groups": 4},
    ):
        assert kerasnorm.get(spec).groups == 4
    assert kerasnorm.get(layer) is not layer
    assert kerasnorm.get(layer).name != "given"
    assert kerasnorm.get(kerasnorm.GroupNorm).groups == 32
    assert type(kerasnorm.get(None)) is keras.layers.Identity
    assert kerasnorm.get(None, name="gone", groups=4).name == "gone"
    assert kerasnorm.spec_of(kerasnorm.get(None)) is None
    assert kerasnorm.spec_of(None) is None


def test_overrides_count_more():
    spec = {"name": "group", "groups": 4, "epsilon": 0.5}
    layer = kerasnorm.get(spec, groups=2, name="norm")
    assert (layer.groups, layer.epsilon, layer.name) == (2, 0.5, "norm")
    assert spec == {"name": "group", "groups": 4, "epsilon": 0.5}


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("grupo", ValueError, r"'grupo' is unknown\. Near it: .*group.*Needed: one of batch, "),
        ("zzz", ValueError, r"'zzz' is unknown\. Needed: one of batch, "),
        ({"groups": 4}, ValueError, "has no name"),
        ({"name": "group", "group": 4}, ValueError, "no argument 'group'. Near it: groups"),
        ({"name": "batch", "groups": 4}, ValueError, "BatchNorm has no argument 'groups'"),
        (
            {"name": "batch", "momentum": 2},
            ValueError,
            "^BatchNorm '.*': momentum=2. Needed: a number",
        ),
        (4, TypeError, "Needed: a name"),
        (["mode", "batch"], TypeError, "several places.*Needed: one norm.*replace_norms"),
        ({"stages": ["mode", "batch"]}, TypeError, "several places"),
        (object, TypeError, "Needed: a name"),
    ],
)
def test_what_is_no_spec(spec, error, message):
    with pytest.raises(error, match=message):
        kerasnorm.get(spec)


class Halve(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2


def test_a_registered_class(restored):
    with pytest.raises(ValueError, match="Halve has no name"):
        kerasnorm.spec_of(Halve())
    kerasnorm.register("half", Halve, aliases=("h2",))
    assert "half" in kerasnorm.available()
    for word in ("half", "H2", "Halve"):
        assert type(kerasnorm.get(word)) is Halve
    assert kerasnorm.spec_of(Halve()) == {"name": "half"}
    kerasnorm.register("half", Halve)  # A notebook's cell, run again.
    with pytest.raises(ValueError, match=r"'bn' already names kerasnorm\.layers\.batch\.BatchNorm"):
        kerasnorm.register("other", Halve, aliases=("bn",))
    with pytest.raises(ValueError, match="'batch-norm' already names"):
        kerasnorm.register("batch-norm", Halve)
    with pytest.raises(ValueError, match="'norm' is not a valid name"):
        kerasnorm.register("norm", Halve)
    with pytest.raises(TypeError, match="Needed: a Keras layer class"):
        kerasnorm.register("function", abs)


def test_a_registered_class_cannot_take_the_name_of_another(restored):
    class BatchNorm(Halve):
        pass

    kerasnorm.register("mine", BatchNorm)
    assert type(kerasnorm.get("batch")) is kerasnorm.BatchNorm
    assert type(kerasnorm.get("BatchNorm")) is kerasnorm.BatchNorm
    assert type(kerasnorm.get("mine")) is BatchNorm
    assert kerasnorm.spec_of(BatchNorm()) == {"name": "mine"}


# Consistent Normalization.


@keras.saving.register_keras_serializable("kerasnorm_tests")
class Describes(keras.layers.Identity):
    """A layer that describes another one, twice, when it is made."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        described = kerasnorm.ILMGroupNorm(groups=2)
        self.specs = json.dumps([kerasnorm.spec_of(described) for _ in range(2)])


def test_a_spec_is_the_same_while_a_model_is_loaded(tmp_path):
    """Keras then marks what it serializes for a second time."""
    layer = Describes()
    keras.Sequential([keras.Input((4,)), layer]).save(tmp_path / "model.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "model.keras").layers
    assert loaded.specs == layer.specs


@pytest.mark.parametrize(
    "norm",
    [
        "mode",
        {"name": "mode", "modes": 3},
        kerasnorm.ModeNorm,
        kerasnorm.ModeNorm(modes=5),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.saving.serialize_keras_object(kerasnorm.ModeNorm(modes=4)),
    ],
    ids=["name", "dictionary", "class", "layer", "keras", "serialized"],
)
def test_consistent_norm_takes_any_spec(norm):
    layer = kerasnorm.ConsistentNorm(norm, branches=2)
    spec = json.loads(json.dumps(kerasnorm.spec_of(layer)))
    assert spec["name"] == "consistent"
    assert spec["norm"]["name"] in ("mode", "keras_batch")
    again = kerasnorm.get(spec)
    banks = [bank.get_config() for one in (layer, again) for bank in one.banks]
    assert all({**bank, "name": ""} == {**banks[0], "name": ""} for bank in banks)
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config).get_config() == layer.get_config()


def test_consistent_norm_of_a_class_without_a_name():
    layer = kerasnorm.ConsistentNorm(keras.layers.Rescaling(0.5), branches=2)
    config = layer.get_config()
    assert config["norm"]["class_name"] == "Rescaling"
    assert kerasnorm.ConsistentNorm.from_config(config).banks[1].scale == 0.5


@pytest.mark.parametrize("norm", [None, "unknown", 3, {"name": "mode", "mods": 3}])
def test_consistent_norm_refuses_what_is_no_norm(norm):
    with pytest.raises((TypeError, ValueError), match=r"ConsistentNorm 'cn': .*Needed"):
        kerasnorm.ConsistentNorm(norm, branches=2, name="cn")


# "auto", and several specs.


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, {}),
        ("batch", {}),
        ("group", {"groups": "auto"}),
        ({"name": "group", "groups": 4}, {}),
        ({"name": "ilm_group", "groups": 4}, {"key_group_size": "auto"}),
        (kerasnorm.ILMLayerNorm, {"key_group_size": "auto"}),
        (kerasnorm.GroupNorm(), {}),
        ("keras_group", {"groups": 24}),
        ({"name": "keras_group", "groups": 8}, {}),
        (
            {"name": "consistent", "norm": "gn", "branches": 2},
            {"groups": "auto"},
        ),
        ({"name": "consistent", "norm": "batch", "branches": 2}, {}),
    ],
)
def test_arguments_left_open(spec, expected):
    norm = registry.parse(spec)
    norm = norm and (norm.inner or norm)
    assert (norm.open_arguments(channels=48) if norm else {}) == expected
    if norm and spec != "keras_group":
        assert norm.open_arguments() == expected
    if spec.__class__ is kerasnorm.GroupNorm:
        return  # Its 32 groups are a decision, and not legal for 48 channels.
    layer = sites.norm_layer(spec, 48, name="norm")
    assert layer.name == "norm"
    assert layer(np.zeros((2, 4, 4, 48), "float32")).shape == (2, 4, 4, 48)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mode", ["mode"] * 4),
        (None, [None] * 4),
        (("mode", "batch"), ["mode", "batch", "batch", "batch"]),
        (["mode", None], ["mode", None, None, None]),
        ({"stages": ["mode", "batch", None]}, ["mode", "batch", "batch", None]),
    ],
)
def test_specs_of_sites(spec, expected):
    for form in (spec, json.loads(json.dumps(spec))):
        specs = sites.Specs(form, stages=3)
        assert [specs.at(site, stage) for site, stage in enumerate([0, 1, 1, 2])] == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (("batch",), "Needed: a norm spec for all"),
        (("batch", "mode", "group"), "Needed: a norm spec for all"),
        ({"stages": []}, "Needed: a norm spec for all"),
        ({"stages": ["batch"], "name": "group"}, "Needed: a norm spec for all"),
        ({"stages": ["batch", "mode"]}, "2 specs, but the network has 3 stages"),
        (("batch", ("mode", "group")), "several specs inside of several"),
        ({"stages": ["batch", ("mode", "group"), None]}, "several specs inside of several"),
        (("batch", "grupo"), "'grupo' is unknown"),
    ],
)
def test_what_is_not_several_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        sites.Specs(spec, stages=3)
