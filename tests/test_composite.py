"""Norms inside layers that are code: found, replaced, saved, loaded, searched."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerasnorm
import search
from daily import daily, on_torch_daily
from kerasnorm.core.keras_internals import layers_in
from kerasnorm.private.keras_hub import COMPOSITES, WRONG_ENTRIES
from kerasnorm.registry import is_norm
from kerasnorm.surgery import composite, norm_sites

L = keras.layers


@keras.saving.register_keras_serializable("tests")
class InBuild(L.Layer):
    """Norms made in `build`, one of them in a list behind a layer."""

    def build(self, shape):
        self.first = L.GroupNormalization(2, name="first", dtype=self.dtype_policy)
        self.first.build(shape)
        self.dense = L.Dense(shape[-1], name="dense", dtype=self.dtype_policy)
        self.dense.build(shape)
        self.parts = [L.GroupNormalization(4, name="last", dtype=self.dtype_policy)]
        self.parts[0].build(shape)

    def call(self, inputs):
        return inputs + self.parts[0](self.dense(self.first(inputs)))


@keras.saving.register_keras_serializable("tests")
class InInit(L.Layer):
    """A norm made in `__init__`, no `build`, and the configuration that Keras finds out."""

    def __init__(self, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.norm = L.GroupNormalization(2, name="norm", dtype=self.dtype_policy)
        self.dropout = L.Dropout(rate, dtype=self.dtype_policy)
        self.supports_masking = True

    def call(self, inputs):
        return self.dropout(self.norm(inputs))


@keras.saving.register_keras_serializable("tests")
class Stack(L.Layer):
    """Layers with norms in a list, and a norm."""

    def build(self, shape):
        self.blocks = [InBuild(name=f"block_{i}", dtype=self.dtype_policy) for i in range(2)]
        for block in self.blocks:
            block.build(shape)
        self.norm = L.GroupNormalization(2, name="end", dtype=self.dtype_policy)
        self.norm.build(shape)

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.norm(inputs)


ATTRIBUTES = {InBuild: ["first", "parts"], InInit: ["norm"], Stack: ["blocks", "norm"]}
PATHS = {
    InBuild: ["layer/first", "layer/last"],
    InInit: ["layer/norm"],
    Stack: [
        *(f"layer/block_{i}/{name}" for i in range(2) for name in ("first", "last")),
        "layer/end",
    ],
}


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(composite, "_attributes", dict(composite._attributes))
    for layer_class, names in ATTRIBUTES.items():
        kerasnorm.register_composite(layer_class, names)


def numpy(value):
    return np.array(keras.ops.convert_to_numpy(value)).astype("float64")


def network(layer_class, dtype=None):
    """A small network around a layer, its weights random."""
    inputs = keras.Input((5, 8))
    outputs = L.Dense(2, name="head")(layer_class(name="layer", dtype=dtype)(inputs))
    return randomized(keras.Model(inputs, outputs))


def randomized(model):
    generator = np.random.default_rng(0)
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(numpy(variable) + 0.1 * generator.normal(size=variable.shape))
    return model


X = np.random.default_rng(1).normal(size=(3, 5, 8)).astype("float32")


def assert_equal(model, new, x=X, tolerance=1e-5):
    before, after = (keras.tree.flatten(one(x)) for one in (model, new))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=tolerance, rtol=tolerance)


def other_weights(model):
    """The weights that are in no norm, in their order."""
    norms = [layer for layer in layers_in(model) if is_norm(layer)]
    of_norms = {id(variable) for norm in norms for variable in norm.variables}
    return [numpy(one) for one in model.weights if id(one) not in of_norms]


def assert_others_kept(model, new):
    kept, now = other_weights(model), other_weights(new)
    assert kept
    for one, other in zip(kept, now, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("layer_class", "dtype"),
    [
        (InBuild, None),
        pytest.param(InBuild, "mixed_bfloat16", marks=daily()),
        (InInit, None),
        pytest.param(Stack, None, marks=daily()),
    ],
)
# Of a layer without `build`, when it is loaded: Keras builds it by a call.
@pytest.mark.filterwarnings("ignore:`build..` was called on layer 'layer':UserWarning")
@pytest.mark.usefixtures("registered")
def test_norms_in_attributes(layer_class, dtype, tmp_path):
    model = network(layer_class, dtype)
    tolerance = 1e-5 if dtype is None else 2e-2
    plain = kerasnorm.replace_norms(model, "group")
    report = kerasnorm.report_of(plain)
    assert [row.layer for row in report.replacements] == PATHS[layer_class]
    assert {row.outputs for row in report.replacements} == {"same"}
    assert len(norm_sites(model)) == len(PATHS[layer_class])
    assert_equal(model, plain, tolerance=tolerance)
    assert_others_kept(model, plain)
    assert not [one for one in layers_in(plain) if isinstance(one, L.GroupNormalization)]
    assert isinstance(plain.get_layer("layer"), layer_class)
    # Once more, of the layer with other norms, and what the method adds to them.
    new = kerasnorm.replace_norms(plain, "ilm_group", preserve=True)
    assert_equal(plain, new, tolerance=tolerance)
    assert_others_kept(plain, new)
    (one,) = {type(x).__name__ for x in layers_in(new) if is_norm(x)}
    assert one == "ILMGroupNorm"
    paths = [weight.path for weight in new.layers[1].weights]
    assert len(set(paths)) == len(paths)
    # The last norm alone; the others stay what they are now.
    last = PATHS[layer_class][-1]
    some = kerasnorm.replace_norms(plain, "ilm_group", where=last, preserve=True)
    assert [type(x).__name__ for x in layers_in(some) if is_norm(x)].count("ILMGroupNorm") == 1
    assert_equal(plain, some, tolerance=tolerance)
    before = [numpy(weight) for weight in new.trainable_weights]
    new.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    new.fit(X, np.ones((3, 5, 2)), verbose=0)
    moved = [(a != numpy(b)).any() for a, b in zip(before, new.trainable_weights, strict=True)]
    # An association that starts at zero lets its encoder wait for a step.
    assert sum(moved) > len(moved) / 2
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(new, loaded, tolerance=1e-6)
    again = [weight.path for weight in loaded.weights]
    assert len(set(again)) == len(again)
    assert [tuple(w.shape) for w in new.weights] == [tuple(w.shape) for w in loaded.weights]
    cloned = keras.models.clone_model(loaded)
    cloned.set_weights(loaded.get_weights())
    assert_equal(new, cloned, tolerance=1e-6)


@pytest.mark.usefixtures("registered")
def test_a_frozen_layer_with_a_mask():
    inputs = keras.Input((None, 8))
    layer = InInit(0.25, name="layer")
    model = keras.Model(inputs, layer(L.Masking()(inputs)))
    layer.trainable = False
    new = kerasnorm.replace_norms(model, "group")
    (row,) = kerasnorm.report_of(new).replacements
    assert row.outputs == "other"
    assert "the mask counts" in row.chosen
    assert not new.trainable_weights
    for one in (new, keras.models.clone_model(new)):
        assert one.get_layer("layer").rate == 0.25
    some = X.copy()
    some[:, 3:] = 0
    other = numpy(new(some[:, :3]))
    np.testing.assert_allclose(numpy(new(some))[:, :3], other, atol=1e-5)


def test_an_unknown_layer_says_what_can_be_done(monkeypatch):
    monkeypatch.setattr(composite, "_attributes", {})
    model = network(Stack)
    with pytest.raises(ValueError, match="register_composite") as refused:
        kerasnorm.replace_norms(model, "group")
    calls = [line.strip() for line in str(refused.value).splitlines() if "register_c" in line]
    assert calls == [
        'kerasnorm.register_composite(InBuild, ["first", "parts"])',
        'kerasnorm.register_composite(Stack, ["blocks", "norm"])',
    ]
    assert "Stack 'layer': " in str(refused.value)
    for call in calls:
        exec(call, {"kerasnorm": kerasnorm, "InBuild": InBuild, "Stack": Stack})
    assert_equal(model, kerasnorm.replace_norms(model, "group"))


def test_what_cannot_be_registered():
    with pytest.raises(TypeError, match="layer_class=3"):
        kerasnorm.register_composite(3, ["norm"])
    for norms in ("norm", [], [3]):
        with pytest.raises(TypeError, match="names of attributes"):
            kerasnorm.register_composite(InBuild, norms)


def test_a_norm_that_is_not_made_again(monkeypatch):
    class Later(L.Layer):
        def call(self, inputs):
            return self.norm(inputs)

    monkeypatch.setattr(composite, "_attributes", {})
    kerasnorm.register_composite(Later, ["norm"])
    layer = Later(name="layer")
    layer.norm = L.BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(ValueError, match="has no norm at 'norm' after it is created"):
        kerasnorm.replace_norms(model, "batch")


# KerasHub.


def of_texts(name, **more):
    """A small backbone for texts."""
    import keras_hub as hub

    common = {"vocabulary_size": 8, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 8}
    return getattr(hub.models, f"{name}Backbone")(**{**common, **more})


def bert():
    import keras_hub as hub

    backbone = of_texts("Bert", num_layers=2, num_heads=2, max_sequence_length=6, dropout=0.0)
    return hub.models.BertTextClassifier(backbone=backbone, num_classes=2, dropout=0.0)


def vit():
    import keras_hub as hub

    backbone = hub.models.ViTBackbone(
        image_shape=(8, 8, 1), patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    return hub.models.ViTImageClassifier(backbone=backbone, num_classes=2)


def roberta():
    return of_texts("Roberta", num_heads=2)


def gpt2():
    return of_texts("GPT2", num_heads=2, max_sequence_length=6)


def f_net():
    return of_texts("FNet", max_sequence_length=6)


def inputs_of(model):
    """Inputs of a network, with padding at the end of some texts."""
    generator = np.random.default_rng(2)
    if not isinstance(model.input, dict):
        return generator.normal(size=(4, 8, 8, 1)).astype("float32")
    found = {name: np.zeros((4, 6), "int32") for name in model.input}
    found["token_ids"] = generator.integers(0, 8, size=(4, 6)).astype("int32")
    if "padding_mask" in found:
        found["padding_mask"] = np.array([[1] * 6, [1, 1, 1, 0, 0, 0]] * 2, "int32")
    return found


FAMILIES = {
    bert: [
        "bert_backbone/embeddings_layer_norm",
        *(
            f"bert_backbone/transformer_layer_{i}/{name}_layer_norm"
            for i in range(2)
            for name in ("self_attention", "feedforward")
        ),
    ],
    vit: [
        *(
            f"vi_t_backbone/vit_encoder/transformer_block_{i}/ln_{j}"
            for i in (1, 2)
            for j in (1, 2)
        ),
        "vi_t_backbone/vit_encoder/ln",
    ],
}
# Predicts with saved models, in a process that knows nothing but what it imports.
PREDICT = """
import sys
import keras
import numpy as np
import kerasnorm
assert "keras_hub" not in sys.modules
for folder in sys.argv[1:]:
    model = keras.saving.load_model(f"{folder}/model.keras")
    inputs = np.load(f"{folder}/inputs.npy", allow_pickle=True).item()["inputs"]
    np.save(f"{folder}/found.npy", model.predict(inputs, verbose=0))
"""


@on_torch_daily
def test_tasks_of_keras_hub(tmp_path):
    for build, paths in FAMILIES.items():
        model = randomized(build())
        x = inputs_of(model)
        same = kerasnorm.replace_norms(model, "keras_layer", preserve=True)
        assert [row.layer for row in kerasnorm.report_of(same).replacements] == paths
        assert {row.outputs for row in kerasnorm.report_of(same).replacements} == {"same"}
        assert_equal(model, same, x)
        plain = kerasnorm.replace_norms(model, "group")
        new = kerasnorm.replace_norms(plain, "ilm_group", preserve=True)
        assert {row.outputs for row in kerasnorm.report_of(new).replacements} == {"same"}
        assert_equal(plain, new, x)
        assert np.abs(numpy(model(x)) - numpy(new(x))).max() > 1e-3
        for one in (same, plain, new):
            assert_others_kept(model, one)
        # The task's own loss and optimizer.
        before = new.get_weights()
        new.fit(x, np.arange(4) % 2, verbose=0)
        after = new.get_weights()
        assert sum((a != b).any() for a, b in zip(before, after, strict=True)) > len(before) / 2
        folder = tmp_path / build.__name__
        folder.mkdir()
        new.save(folder / "model.keras")
        np.save(folder / "inputs.npy", {"inputs": x}, allow_pickle=True)
        np.save(folder / "wanted.npy", new.predict(x, verbose=0))
    folders = [tmp_path / build.__name__ for build in FAMILIES]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREDICT, *map(str, folders)],
        check=True,
        cwd=pathlib.Path(__file__).parents[1],
    )
    for folder in folders:
        wanted, found = (np.load(folder / f"{name}.npy") for name in ("wanted", "found"))
        np.testing.assert_allclose(wanted, found, atol=1e-5)


@on_torch_daily
@pytest.mark.parametrize(("build", "norms"), [(roberta, 3), (gpt2, 3), (f_net, 3)])
def test_backbones_of_keras_hub(build, norms, tmp_path):
    model = randomized(build())
    x = inputs_of(model)
    same = kerasnorm.replace_norms(model, "keras_layer")
    assert len(kerasnorm.report_of(same).replacements) == norms
    assert_equal(model, same, x)
    new = kerasnorm.replace_norms(model, "keras_rms", preserve=True)
    assert_others_kept(model, new)
    new.save(tmp_path / "model.keras")
    assert_equal(new, keras.saving.load_model(tmp_path / "model.keras"), x)


@on_torch_daily
def test_a_task_of_keras_hub_is_searched(tmp_path):
    data = (np.random.default_rng(3).normal(size=(60, 8, 8, 1)), np.arange(60) % 2)
    task = vit()
    # KerasHub's own metric has another name.
    task.compile(metrics=["accuracy"], run_eagerly=True)
    result = search.run(
        task,
        data,
        norms=["group", "ilm_group"],
        placements="all",
        trials=2,
        epochs=1,
        seeds=0,
        out=tmp_path,
        console=False,
    )
    assert [row["status"] for row in result.rows] == ["completed"] * 2


@on_torch_daily
def test_a_network_of_keras_hub_is_converted():
    model = randomized(vit())
    x = inputs_of(model)
    new = kerasnorm.convert(model, "keras_rms", x)
    assert len(kerasnorm.report_of(new).sites) == 5
    assert np.isfinite(numpy(new(x))).all()


@on_torch_daily
def test_all_private_names_of_keras_hub_are_there():
    import importlib
    import inspect

    for name in {*COMPOSITES, *WRONG_ENTRIES}:
        module, _, class_name = name.rpartition(".")
        layer_class = getattr(importlib.import_module(module), class_name)
        text = inspect.getsource(layer_class)
        for attribute in COMPOSITES.get(name, ()):
            assert f"self.{attribute} = " in text
        wrong, missing = WRONG_ENTRIES.get(name, ((), ()))
        for entry in wrong:
            assert f'"{entry}": ' in text
            assert entry not in inspect.signature(layer_class).parameters
        for entry in missing:
            assert f"self.{entry} = " in text
            assert f'"{entry}": ' not in text
