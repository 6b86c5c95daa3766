"""`replace_norms`: what is replaced, what is carried, what stays as it was."""

import inspect
import json

import keras
import numpy as np
import pytest

import kerasnorm
from daily import daily

L = keras.layers
BACKEND = keras.backend.backend()


def numpy(value):
    return np.array(keras.ops.convert_to_numpy(value))


def randomize(model, seed=0):
    """Weights as a trained model might have them, so that every one of them matters."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        shape = tuple(variable.shape)
        if variable.name in ("gamma", "scale"):
            value = 1 + 0.3 * generator.normal(size=shape)
        elif "variance" in variable.name:
            value = 0.5 + generator.uniform(size=shape)
        elif variable.name in ("kernel", "depthwise_kernel", "pointwise_kernel"):
            value = generator.normal(size=shape) / np.sqrt(max(np.prod(shape[:-1]), 1))
        else:
            value = 0.3 * generator.normal(size=shape)
        variable.assign(value)
    return model


def data(model, examples=3, seed=1):
    """Inputs for a model, in its own structure."""
    generator = np.random.default_rng(seed)

    def values(tensor):
        shape = (examples, *(size or 8 for size in tensor.shape[1:]))
        if not keras.backend.is_float_dtype(tensor.dtype):
            return generator.integers(0, 5, size=shape).astype(tensor.dtype)
        return generator.normal(size=shape).astype("float32")

    return keras.tree.map_structure(values, model.input)


def outputs(model, x, training=False):
    return [numpy(y) for y in keras.tree.flatten(model(x, training=training))]


def assert_same(model, new, x, tolerance=1e-5, training=False):
    before, after = outputs(model, x, training), outputs(new, x, training)
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        scale = max(1.0, float(np.abs(one).max()))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def distance(model, new, x, training=False):
    pairs = zip(outputs(model, x, training), outputs(new, x, training), strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def all_layers(model):
    return list(model._flatten_layers(include_self=False))


def kept_weights(model):
    """All weights but those of norms, as numpy arrays, in order."""
    return [
        numpy(variable)
        for layer in all_layers(model)
        if not kerasnorm.registry.is_norm(layer)
        and not isinstance(layer, L.Identity)
        and not layer._layers
        for variable in layer.variables
    ]


def fingerprint(model):
    """Everything about a model that surgery must not touch."""
    optimizer = getattr(model, "optimizer", None)
    return (
        json.dumps(model.get_config(), sort_keys=True, default=str),
        [numpy(variable).tolist() for variable in model.variables],
        [(layer.name, len(layer._inbound_nodes), layer.trainable) for layer in all_layers(model)],
        model.compiled,
        optimizer and [numpy(v).tolist() for v in optimizer.variables],
    )


def convolutional(norm=None, channels=16, size=8, name="model", **common):
    """Convolutions and norms in three stages, with a connection around one of them."""
    norm = norm or (lambda name: L.BatchNormalization(name=name))
    x = inputs = keras.Input((size, size, 3))
    x = L.Conv2D(channels, 3, padding="same", name="conv1", **common)(x)
    x = L.ReLU()(norm(name="bn1")(x))
    x = y = L.Conv2D(channels, 3, 2, padding="same", name="conv2", **common)(x)
    x = L.ReLU()(norm(name="bn2")(x))
    x = norm(name="bn3")(L.Conv2D(channels, 3, padding="same", name="conv3", **common)(x)) + y
    x = L.GlobalAveragePooling2D()(x)
    x = norm(name="bn4")(L.Dense(channels, name="dense1", **common)(x))
    return randomize(keras.Model(inputs, L.Dense(5, name="dense2")(x), name=name))


# Families of keras.applications.


def application(name, size=32, **arguments):
    build = getattr(keras.applications, name)
    return build(input_shape=(size, size, 3), weights=None, classes=7, **arguments)


SMALLEST = [
    ("ResNet50", {}),
    ("ResNet50V2", {}),
    ("DenseNet121", {}),
    ("EfficientNetB0", {}),
    ("EfficientNetV2B0", {}),
    ("MobileNet", {"alpha": 0.25}),
    ("MobileNetV2", {"alpha": 0.35}),
    ("MobileNetV3Small", {"alpha": 0.75}),
    ("ConvNeXtTiny", {}),
    ("Xception", {"size": 71}),
    ("InceptionV3", {"size": 75}),
    ("InceptionResNetV2", {"size": 75}),
    ("NASNetMobile", {}),
]
OTHERS = [
    (f"{family}{size}", {})
    for family, sizes in {
        "ResNet": ["101", "152", "101V2", "152V2"],
        "DenseNet": ["169", "201"],
        "EfficientNet": ["B1", "B2", "B3", "B4", "B5", "B6", "B7"],
        "EfficientNetV2": ["B1", "B2", "B3", "S", "M", "L"],
        "MobileNetV3": ["Large"],
        "ConvNeXt": ["Small", "Base", "Large", "XLarge"],
        "NASNet": ["Large"],
    }.items()
    for size in sizes
]


# Surgery is the same code on every backend. torch runs all families but NASNet, which Keras refuses
# there; elsewhere most are slow, above all on JAX, which compiles every operation of each.
HERE = {"jax": ("MobileNetV2",), "tensorflow": ("MobileNetV3Small",)}


@pytest.fixture
def quick_weights(monkeypatch):
    """Initializers without random numbers, which `randomize` makes anyway."""
    zeros = keras.initializers.Zeros()
    for initializer in (keras.initializers.VarianceScaling, keras.initializers.TruncatedNormal):
        monkeypatch.setattr(
            initializer, "__call__", lambda self, shape, dtype=None, **kwargs: zeros(shape, dtype)
        )


def cases():
    """Name and arguments of a family's smallest, and, slow, of all others."""
    for name, arguments in SMALLEST:
        slow = BACKEND in HERE and name not in HERE[BACKEND]
        yield pytest.param(name, arguments, id=name, marks=[pytest.mark.slow] if slow else [])
    for name, arguments in OTHERS:
        yield pytest.param(name, arguments, id=name, marks=pytest.mark.slow)


@pytest.mark.usefixtures("quick_weights")
@pytest.mark.parametrize(("name", "arguments"), list(cases()))
def test_families_of_keras_applications(name, arguments):
    if BACKEND == "torch" and name.startswith("NASNet"):
        pytest.skip("Keras itself refuses NASNet on torch")
    model = randomize(application(name, **arguments))
    layer_norm = name.startswith("ConvNeXt")
    same = kerasnorm.replace_norms(model, "keras_layer" if layer_norm else "batch")
    norms = [layer for layer in all_layers(model) if kerasnorm.registry.is_norm(layer)]
    assert len(same.norm_report.replacements) == len(norms) > 10
    assert {r.outputs for r in same.norm_report.replacements} == {"same"}
    before = [numpy(weight) for weight in model.weights]
    assert len(before) == len(same.weights)
    for one, another in zip(before, same.weights, strict=True):
        np.testing.assert_array_equal(one, numpy(another))
    other = kerasnorm.replace_norms(model, "ilm_group")
    assert sum(isinstance(layer, kerasnorm.ILMGroupNorm) for layer in all_layers(other)) == len(
        norms
    )
    kept = kept_weights(other)
    assert len(kept) > 10
    for one, another in zip(kept_weights(model), kept, strict=True):
        np.testing.assert_array_equal(one, another)
    for one, another in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, numpy(another))
    x = data(model, examples=2)
    assert_same(model, same, x)
    # A stage alone, since JAX compiles anew for each number of channels.
    some = kerasnorm.replace_norms(model, "ilm_group", where=-1)
    assert distance(model, some, x) > 0
    assert all(np.isfinite(y).all() for y in outputs(some, x))


def test_a_backbone_of_keras_hub():
    import keras_hub as hub

    model = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        use_pre_activation=False,
        image_shape=(32, 32, 3),
    )
    randomize(model)
    x = data(model, examples=2)
    new = kerasnorm.replace_norms(model, "batch")
    assert_same(model, new, x)
    assert "ResNetBackbone and is a functional model now" in new.norm_report.notes[0]
    other = kerasnorm.replace_norms(model, {"stages": ["mode", "batch", "group"]})
    assert {(r.stage, r.new) for r in other.norm_report.replacements} == {
        (0, "ModeNorm"),
        (1, "BatchNorm"),
        (2, "GroupNorm"),
    }


def test_norms_inside_of_a_layer_of_keras_hub_are_refused():
    import keras_hub as hub

    model = hub.models.DebertaV3Backbone(
        vocabulary_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=6,
        bucket_size=4,
    )
    needed = "(?s)DisentangledAttentionEncoder 'disentangled.*where=.*register_composite"
    with pytest.raises(ValueError, match=needed):
        kerasnorm.replace_norms(model, "keras_rms")
    new = kerasnorm.replace_norms(model, "keras_rms", where="embeddings_layer_norm")
    assert [r.new for r in new.norm_report.replacements] == ["RMSNormalization"]


# The same norm, of Keras or ours.

BATCH = [L.BatchNormalization, kerasnorm.BatchNorm]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("old", "spec"),
    [
        (lambda **k: L.BatchNormalization(epsilon=2e-2, momentum=0.8, **k), "batch"),
        (lambda **k: kerasnorm.BatchNorm(epsilon=2e-2, **k), "keras_batch"),
        (lambda **k: L.BatchNormalization(scale=False, **k), "batch"),
        (lambda **k: L.BatchNormalization(center=False, **k), "batch"),
        (lambda **k: L.GroupNormalization(4, epsilon=2e-2, **k), "group"),
        (lambda **k: L.GroupNormalization(4, **k), {"name": "group", "groups": 4}),
        (lambda **k: L.GroupNormalization(-1, **k), "instance"),
        (lambda **k: L.GroupNormalization(-1, **k), "group"),
        (lambda **k: L.GroupNormalization(1, **k), "layer"),
        (lambda **k: kerasnorm.GroupNorm(8, scale=False, **k), "keras_group"),
        (lambda **k: kerasnorm.InstanceNorm(**k), {"name": "keras_group", "groups": -1}),
        (lambda **k: kerasnorm.LayerNorm(**k), {"name": "group", "groups": 1}),
        (lambda **k: L.LayerNormalization(**k), "keras_layer"),
        (lambda **k: kerasnorm.ILMGroupNorm(8, **k), "ilm_group"),
        (lambda **k: kerasnorm.ModeNorm(3, **k), "mode"),
        (lambda **k: kerasnorm.ConvNorm(momentum=0.7, **k), "conv"),
    ],
)
def test_a_swap_within_a_family_keeps_the_outputs(old, spec):
    inputs = keras.Input((6, 4, 3))
    x = L.Conv2D(16, 3, name="conv")(inputs)
    model = randomize(keras.Model(inputs, L.Conv2D(2, 1, name="conv2")(old(name="norm")(x))))
    new = kerasnorm.replace_norms(model, spec)
    x = data(model)
    assert_same(model, new, x)
    assert [r.outputs for r in new.norm_report.replacements] == ["same"]
    assert [layer.name for layer in model.layers] == [layer.name for layer in new.layers]
    # The training phase, and what it leaves behind.
    assert_same(model, new, x, 1e-4, training=True)
    assert_same(model, new, x, 1e-4)


def test_layer_normalization_is_ours_at_rank_2_alone():
    inputs = keras.Input((6,))
    x = L.LayerNormalization(epsilon=0.01, name="norm")(inputs)
    model = randomize(keras.Model(inputs, x))
    new = kerasnorm.replace_norms(model, "layer")
    assert_same(model, new, data(model))
    assert new.norm_report.replacements[0].outputs == "same"
    inputs = keras.Input((5, 6))
    model = randomize(keras.Model(inputs, L.LayerNormalization(name="norm")(inputs)))
    row = kerasnorm.replace_norms(model, "layer").norm_report.replacements[0]
    assert row.outputs == "other"
    assert "each position by itself" in row.chosen


def test_layer_normalization_over_all_axes_is_ours_while_gamma_is_even():
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, L.LayerNormalization(axis=(1, 2), epsilon=1e-3)(inputs))
    new = kerasnorm.replace_norms(model, "layer")
    assert_same(model, new, data(model))
    assert new.norm_report.replacements[0].outputs == "same"
    row = kerasnorm.replace_norms(randomize(model), "layer").norm_report.replacements[0]
    assert row.outputs == "other"
    assert row.left_out == ("gamma", "beta")


@pytest.mark.skipif(
    "renorm" not in inspect.signature(L.BatchNormalization).parameters,
    reason="this Keras has no batch renormalization",
)
def test_batch_renormalization_ends():
    inputs = keras.Input((8, 8, 4))
    renormalized = L.BatchNormalization(renorm=True, name="norm")
    model = keras.Model(inputs, renormalized(inputs))
    row = kerasnorm.replace_norms(model, "batch").norm_report.replacements[0]
    assert row.outputs == "same at inference"
    assert {"renorm=True", "moving_stddev", "renorm_mean", "renorm_stddev"} <= set(row.left_out)
    assert "batch renormalization ends here" in row.chosen


def test_root_mean_square_normalization():
    inputs = keras.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, L.RMSNormalization(name="norm")(inputs)))
    new = kerasnorm.replace_norms(model, "group")
    row = new.norm_report.replacements[0]
    assert row.carried[0] == "gamma"
    assert "subtracted no mean" in row.chosen
    np.testing.assert_array_equal(new.get_layer("norm").gamma, model.get_layer("norm").scale)
    # And back.
    again = kerasnorm.replace_norms(new, "keras_rms")
    assert_same(model, again, data(model))


# Another norm.


@pytest.mark.smoke
@pytest.mark.parametrize("spec", [n for n in kerasnorm.available() if n != "consistent"])
def test_a_swap_to_any_norm_keeps_all_other_weights(spec):
    model = convolutional()
    before = fingerprint(model)
    where = "bn[123]" if spec == "conv" else None
    new = kerasnorm.replace_norms(model, spec, where=where)
    assert fingerprint(model) == before
    layer_class = kerasnorm.registry.parse(spec).layer_class
    norms = [new.get_layer(f"bn{index}") for index in (1, 2, 3)]
    assert all(type(norm) is layer_class for norm in norms)
    for one, other in zip(kept_weights(model), kept_weights(new), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.isfinite(y).all() for y in outputs(new, data(model)))
    if "gamma" in [weight.name for weight in norms[0].weights]:
        np.testing.assert_array_equal(norms[0].gamma, model.get_layer("bn1").gamma)
    # No variable is shared.
    old = {id(variable) for variable in model.variables}
    assert not old & {id(variable) for variable in new.variables}


def test_none_removes_norms():
    model = convolutional()
    new = kerasnorm.replace_norms(model, None)
    assert not any(kerasnorm.registry.is_norm(layer) for layer in new.layers)
    assert [layer.name for layer in model.layers] == [layer.name for layer in new.layers]
    row = new.norm_report.replacements[0]
    assert (row.new, row.outputs, set(row.left_out)) == (
        "none",
        "other",
        {"gamma", "beta", "moving_mean", "moving_variance"},
    )


def test_training_the_new_model_leaves_the_old_one_alone():
    model = convolutional()
    x = data(model, 8)
    before = outputs(model, x)
    new = kerasnorm.replace_norms(model, "mode")
    new.compile("sgd", "mse")
    new.fit(x, np.ones((8, 5), "float32"), epochs=2, verbose=0)
    for one, other in zip(before, outputs(model, x), strict=True):
        np.testing.assert_array_equal(one, other)


# Keras 3.10 loads every functional model with a list as its inputs.
@pytest.mark.filterwarnings("ignore:(?s).*The structure of `inputs` doesn't match")
@pytest.mark.smoke
def test_the_new_model_is_saved_and_loaded(tmp_path):
    model = convolutional()
    new = kerasnorm.replace_norms(model, ("mode", "ilm_group"))
    path = str(tmp_path / "model.keras")
    new.save(path)
    assert_same(new, keras.models.load_model(path), data(model), 0)


# What is carried.


def carried_from(old, spec, **arguments):
    inputs = keras.Input((4, 4, 6))
    model = randomize(keras.Model(inputs, old(inputs)))
    new = kerasnorm.replace_norms(model, spec, **arguments)
    return new.get_layer(old.name), new.norm_report.replacements[0]


def test_arguments_are_carried():
    old = L.BatchNormalization(
        epsilon=0.02,
        momentum=0.7,
        beta_initializer=keras.initializers.Constant(2.0),
        gamma_regularizer=keras.regularizers.L2(0.1),
        beta_regularizer="l1",
        gamma_constraint="non_neg",
        beta_constraint=keras.constraints.MaxNorm(3.0),
        moving_mean_initializer="ones",
        dtype="mixed_bfloat16",
        name="a_name",
    )
    old.trainable = False
    new, row = carried_from(old, "mode")
    ours, theirs = new.get_config(), old.get_config()
    for key in set(theirs) & set(ours):
        assert ours[key] == theirs[key], key
    assert new.dtype_policy.name == "mixed_bfloat16"
    assert not new.trainable
    for word in ("gamma", "beta", "epsilon=0.02", "momentum=0.7", "trainable=False"):
        assert word in row.carried
    np.testing.assert_array_equal(new.moving_mean, np.stack([numpy(old.moving_mean)] * 2))


def test_synchronization_is_carried():
    new, row = carried_from(kerasnorm.BatchNorm(synchronized=True, name="norm"), "mode")
    assert new.synchronized
    assert "synchronized=True" in row.carried
    _, row = carried_from(kerasnorm.BatchNorm(synchronized=True, name="norm"), "group")
    assert "synchronized=True" in row.left_out


def test_arguments_of_the_spec_count_more():
    old = L.BatchNormalization(epsilon=0.02, momentum=0.7, name="norm")
    new, row = carried_from(old, {"name": "batch", "epsilon": 0.1, "scale": False})
    assert (new.epsilon, new.scale, new.momentum) == (0.1, False, 0.7)
    assert row.left_out == ("gamma",)
    assert row.outputs == "other"
    # A layer as a spec decides what it has other than by default.
    new, _ = carried_from(old, kerasnorm.BatchNorm(momentum=0.6, name="unused"))
    assert (new.epsilon, new.momentum, new.name) == (0.02, 0.6, "norm")


def test_channels_first_is_carried():
    inputs = keras.Input((6, 4, 4))
    model = randomize(keras.Model(inputs, L.BatchNormalization(axis=1, name="norm")(inputs)))
    new = kerasnorm.replace_norms(model, "batch")
    assert new.get_layer("norm").axis == 1
    assert_same(model, new, data(model))
    assert kerasnorm.replace_norms(model, "conv").get_layer("norm").image == (4, 4)


def test_what_has_no_place_is_told():
    _, row = carried_from(L.BatchNormalization(momentum=0.7, name="n"), "group")
    assert set(row.left_out) == {"momentum=0.7", "moving_mean", "moving_variance"}
    _, row = carried_from(L.GroupNormalization(3, name="n"), "batch")
    assert row.left_out == ("groups=3",)


def test_groups_go_from_norm_to_norm():
    new, row = carried_from(L.GroupNormalization(3, name="n"), "ilm_group")
    assert new.groups == 3
    assert "groups=3" in row.carried
    new, _ = carried_from(L.GroupNormalization(3, name="n"), {"name": "group", "groups": 2})
    assert new.groups == 2


def test_without_carry_nothing_but_the_place_is_kept():
    old = L.BatchNormalization(epsilon=0.02, axis=-1, dtype="mixed_bfloat16", name="n")
    new, row = carried_from(old, "batch", carry=False)
    assert (new.epsilon, new.name, new.dtype_policy.name) == (1e-5, "n", "mixed_bfloat16")
    np.testing.assert_array_equal(new.gamma, np.ones(6))
    assert row.carried == row.left_out == ()
    with pytest.raises(ValueError, match="preserve=True with carry=False"):
        carried_from(L.BatchNormalization(), "batch", carry=False, preserve=True)


def test_group_arguments_left_open_are_chosen_and_told():
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for index, channels in enumerate((8, 48, 64)):
        x = L.Conv2D(channels, 3, padding="same")(x)
        x = L.BatchNormalization(name=f"bn{index}")(x)
    model = keras.Model(inputs, x)
    rows = kerasnorm.replace_norms(model, "ilm_group").norm_report.replacements
    assert [row.chosen for row in rows] == [
        "groups=8, one group per channel: instance norm, key_group_size=8",
        "groups=24, key_group_size=16",
        "groups=32, key_group_size=16",
    ]
    new = kerasnorm.replace_norms(model, "keras_group")
    assert [new.get_layer(f"bn{index}").groups for index in range(3)] == [8, 24, 32]
    with pytest.raises(ValueError, match=r"(?s)2 of 3 norms.*bn0.*bn1") as error:
        kerasnorm.replace_norms(model, {"name": "group", "groups": 32})
    assert "bn2" not in str(error.value)


# The same function afterwards.


def norm_model(old, shape=(6, 4, 16), seed=0):
    inputs = keras.Input(shape)
    return randomize(keras.Model(inputs, old(inputs)), seed)


GROUPED = [
    (lambda **k: L.GroupNormalization(4, **k), "ilm_group"),
    (lambda **k: kerasnorm.GroupNorm(4, **k), {"name": "ilm_group", "key_group_size": 2}),
    (lambda **k: kerasnorm.InstanceNorm(**k), "ilm_instance"),
    (lambda **k: kerasnorm.LayerNorm(**k), "ilm_layer"),
    (lambda **k: L.GroupNormalization(4, **k), "associate"),
    (lambda **k: kerasnorm.GroupNorm(4, **k), {"name": "associate", "key_features": "instance"}),
    (
        lambda **k: kerasnorm.GroupNorm(4, **k),
        {"name": "ilm_group", "mean_activation": "sigmoid", "variance_activation": "softmax"}
        | {"key_group_size": 4},
    ),
]


@pytest.mark.parametrize("missing", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize(("old", "spec"), GROUPED)
def test_preserve_starts_predicting_norms_as_their_plain_norm(old, spec, missing):
    model = norm_model(old(name="norm", **missing))
    x = data(model)
    assert distance(model, kerasnorm.replace_norms(model, spec), x) > 0.01
    new = kerasnorm.replace_norms(model, spec, preserve=True)
    assert_same(model, new, x)
    row = new.norm_report.replacements[0]
    assert row.outputs == "same"
    # It still learns: only the decoders are zero.
    norm = new.get_layer("norm")
    assert numpy(norm.encoder).any()
    assert not numpy(norm.mean_decoder).any()


def test_a_norm_that_is_still_its_plain_norm_can_become_that():
    model = norm_model(kerasnorm.GroupNorm(4, name="norm"))
    predicting = kerasnorm.replace_norms(model, "ilm_group", preserve=True)
    # Its gamma lacks what the activation adds.
    row = kerasnorm.replace_norms(predicting, "group").norm_report.replacements[0]
    assert row.outputs == "other"
    spec = {"name": "ilm_group", "mean_activation": None, "variance_activation": None}
    predicting = kerasnorm.replace_norms(model, spec, preserve=True)
    back = kerasnorm.replace_norms(predicting, "group")
    assert back.norm_report.replacements[0].outputs == "same"
    assert_same(model, back, data(model))


@pytest.mark.parametrize("mode", ["before", "multiply", "none"])
def test_preserve_with_the_bias_modes_of_associate_norm(mode):
    model = norm_model(kerasnorm.GroupNorm(4, name="norm"))
    x = data(model)
    spec = {"name": "associate", "bias_mode": mode, "variance_activation": "sigmoid"}
    new = kerasnorm.replace_norms(model, spec, preserve=True)
    row = new.norm_report.replacements[0]
    if mode == "multiply":
        assert_same(model, new, x)
        assert row.outputs == "same"
    else:
        # A sigmoid reaches no gamma above 1.
        assert row.outputs == "other"
        assert "no bias brings the activations to the old gamma and beta" in row.chosen
    norm = model.get_layer("norm")
    norm.gamma.assign(np.full(16, 0.7))
    norm.beta.assign(np.full(16, 0.2))
    new = kerasnorm.replace_norms(model, spec, preserve=True)
    assert (new.norm_report.replacements[0].outputs == "same") is (mode != "none")
    if mode != "none":
        assert_same(model, new, x)


@pytest.mark.parametrize("beta", [-0.4, 0.0, 0.9])
def test_preserve_of_a_shift_before_a_tanh(beta):
    model = norm_model(kerasnorm.GroupNorm(4, name="norm"))
    model.get_layer("norm").gamma.assign(np.full(16, 0.7))
    model.get_layer("norm").beta.assign(np.full(16, beta))
    spec = {"name": "associate", "bias_mode": "before"}
    new = kerasnorm.replace_norms(model, spec, preserve=True)
    assert new.norm_report.replacements[0].outputs == "same"
    assert_same(model, new, data(model))


def test_preserve_says_why_it_cannot():
    model = norm_model(L.BatchNormalization(name="norm"))
    row = kerasnorm.replace_norms(model, "ilm_group", preserve=True).norm_report.replacements[0]
    assert row.outputs == "other"
    assert "statistics of the batch have no counterpart" in row.chosen
    model = norm_model(L.GroupNormalization(4, name="norm"))
    spec = {"name": "ilm_group", "groups": 8}
    row = kerasnorm.replace_norms(model, spec, preserve=True).norm_report.replacements[0]
    assert "4 groups were standardized, not 8" in row.chosen


@pytest.mark.parametrize("missing", [{}, {"scale": False, "center": False}])
@pytest.mark.parametrize("old", BATCH)
def test_batch_norm_to_mode_norm(old, missing):
    model = norm_model(old(name="norm", **missing))
    x = data(model, examples=16)
    new = kerasnorm.replace_norms(model, {"name": "mode", "modes": 3}, preserve=True)
    assert_same(model, new, x)
    assert new.norm_report.replacements[0].outputs == "same at inference"
    assert 0 < distance(model, new, x, training=True) < 0.05


def test_batch_norm_to_one_mode():
    model = norm_model(L.BatchNormalization(name="norm"))
    new = kerasnorm.replace_norms(model, {"name": "mode", "modes": 1})
    assert_same(model, new, data(model))
    assert_same(model, new, data(model), training=True)
    # What training leaves behind is ModeNorm's own.
    assert new.norm_report.replacements[0].outputs == "same at inference"


@pytest.mark.parametrize("weighted", [False, True])
def test_batch_norm_to_conv_norm(weighted):
    model = norm_model(L.BatchNormalization(name="norm"))
    x = data(model, examples=8)
    spec = {"name": "conv", "weighted_variance": weighted}
    new = kerasnorm.replace_norms(model, spec)
    assert new.norm_report.replacements[0].outputs == "same at inference"
    assert_same(model, new, x)
    new = kerasnorm.replace_norms(model, spec, preserve=True)
    assert new.norm_report.replacements[0].outputs == "same"
    assert_same(model, new, x, 1e-4, training=True)
    assert_same(model, new, x, 1e-4)


@pytest.mark.parametrize("missing", [{}, {"scale": False}, {"center": False}])
def test_batch_norm_to_learned_stats_norm(missing):
    model = norm_model(L.BatchNormalization(name="norm", **missing))
    x = data(model)
    new = kerasnorm.replace_norms(model, "learned_stats", preserve=True)
    assert_same(model, new, x)
    assert new.norm_report.replacements[0].outputs == "same at inference"
    spec = {"name": "learned_stats", "scale": False, "center": False}
    row = kerasnorm.replace_norms(model, spec, preserve=True).norm_report.replacements[0]
    assert row.outputs == "other"


def test_layer_norm_to_mode_group_norm():
    model = norm_model(kerasnorm.LayerNorm(name="norm"))
    x = data(model)
    plain = kerasnorm.replace_norms(model, {"name": "mode_group", "modes": 3})
    new = kerasnorm.replace_norms(model, {"name": "mode_group", "modes": 3}, preserve=True)
    assert new.norm_report.replacements[0].outputs == "near"
    assert distance(model, new, x) < 0.05
    assert distance(model, new, x) < 0.2 * distance(model, plain, x)


# Consistent Normalization.


def test_consistent_norm_gets_the_weights_in_each_bank():
    model = convolutional()
    x = data(model)
    spec = {"name": "consistent", "norm": "batch", "branches": 3}
    new = kerasnorm.replace_norms(model, spec)
    for branch in range(3):
        with kerasnorm.branch(branch):
            assert_same(model, new, x)
    norm, old = new.get_layer("bn2"), model.get_layer("bn2")
    assert norm.banks[2].epsilon == old.epsilon
    assert norm.banks[2].momentum == old.momentum
    assert {r.outputs for r in new.norm_report.replacements} == {"same"}
    # And back, from the bank that inference uses.
    norm.banks[0].gamma.assign(2 * numpy(norm.banks[0].gamma))
    back = kerasnorm.replace_norms(new, "keras_batch")
    assert type(back.get_layer("bn2")) is L.BatchNormalization
    assert_same(new, back, x)


def test_the_norm_of_a_consistent_norm_is_a_spec():
    model = convolutional()
    spec = {"name": "consistent", "norm": {"name": "mode", "modes": 4}, "branches": 2}
    new = kerasnorm.replace_norms(model, spec, where="bn1")
    norm = new.get_layer("bn1")
    assert [bank.modes for bank in norm.banks] == [4, 4]
    new = kerasnorm.replace_norms(model, {**spec, "norm": "group"}, where="bn1")
    assert new.norm_report.replacements[0].chosen.startswith("groups=16")


# Where.


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        (None, "1234"),
        ("first", "1"),
        ("bn[23]", "23"),
        ("*4", "4"),
        ("stage:1", "23"),
        (0, "1"),
        (-1, "4"),
        (slice(1, None), "234"),
        (lambda layer: layer.name != "bn3", "124"),
    ],
)
def test_where(where, selected):
    new = kerasnorm.replace_norms(convolutional(), "group", where=where)
    assert "".join(r.layer[-1] for r in new.norm_report.replacements) == selected
    for index in "1234":
        expected = kerasnorm.GroupNorm if index in selected else L.BatchNormalization
        assert type(new.get_layer(f"bn{index}")) is expected
    assert len(new.norm_report.kept) == 4 - len(selected)


@pytest.mark.parametrize("where", ["nothing*", 7, "stage:9", lambda layer: False])
def test_a_where_that_selects_nothing_names_the_norms(where):
    with pytest.raises(ValueError, match=r"selects none(.|\n)*stage 1, .* 4x4: bn2, bn3"):
        kerasnorm.replace_norms(convolutional(), "group", where=where)


def test_a_where_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="Needed: a pattern"):
        kerasnorm.replace_norms(convolutional(), "group", where=1.5)


def test_several_specs():
    model = convolutional()

    def classes(spec, **arguments):
        new = kerasnorm.replace_norms(model, spec, **arguments)
        return [type(new.get_layer(f"bn{index}")).__name__ for index in (1, 2, 3, 4)]

    assert classes(("mode", "batch")) == ["ModeNorm", "BatchNorm", "BatchNorm", "BatchNorm"]
    per_stage = {"stages": ["mode", {"name": "group", "groups": 4}, None]}
    assert classes(per_stage) == ["ModeNorm", "GroupNorm", "GroupNorm", "Identity"]
    assert classes(("mode", "batch"), where="bn2")[:2] == ["BatchNormalization", "BatchNorm"]
    with pytest.raises(ValueError, match="2 specs, but model 'model' has 3 stages"):
        classes({"stages": ["mode", "batch"]})
    with pytest.raises(ValueError, match="Needed: a norm spec for all"):
        classes(("mode", "batch", "group"))


# Errors before anything is made.


def test_all_illegal_sites_are_named_at_once():
    model = convolutional()
    before = fingerprint(model)
    with pytest.raises(ValueError, match="1 of 4 norms cannot") as error:
        kerasnorm.replace_norms(model, "conv")
    assert "bn4" in str(error.value)
    assert "rank 4" in str(error.value)
    inputs = keras.Input((None, None, 3))
    unknown = keras.Model(inputs, L.BatchNormalization(name="norm")(inputs))
    with pytest.raises(ValueError, match=r"norm: ConvNorm 'norm': .*fixed height and width"):
        kerasnorm.replace_norms(unknown, "conv")
    assert fingerprint(model) == before


def test_a_shared_norm_has_to_fit_every_call():
    norm, first = L.BatchNormalization(name="norm"), keras.Input((8, 8, 4))
    second = L.MaxPool2D()(first)
    model = keras.Model(first, [norm(first), norm(second)])
    with pytest.raises(ValueError, match="1 of 1 norms"):
        kerasnorm.replace_norms(model, "conv")
    new = kerasnorm.replace_norms(randomize(model), "batch")
    assert_same(model, new, data(model))


def test_a_model_without_norms_is_refused():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(2)(L.Normalization()(inputs)))
    with pytest.raises(ValueError, match="has no normalization layer"):
        kerasnorm.replace_norms(model, "batch")
    with pytest.raises(TypeError, match="Needed: a Keras model"):
        kerasnorm.replace_norms(L.BatchNormalization(), "batch")
    with pytest.raises(ValueError, match="is not built"):
        kerasnorm.replace_norms(keras.Sequential([L.BatchNormalization()]), "batch")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = L.BatchNormalization(name="inner_norm")

    def call(self, inputs):
        return self.norm(inputs)


class Block(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = L.BatchNormalization(name="inner_norm")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, inputs):
        return self.norm(inputs)


def test_norms_that_cannot_be_reached_are_refused():
    model = Subclassed()
    model(np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match=r"Subclassed.*own `call`(.|\n)*inner_norm"):
        kerasnorm.replace_norms(model, "batch")
    inputs = keras.Input((3,))
    x = L.BatchNormalization(name="outer_norm")(Block(name="block")(inputs))
    model = keras.Model(inputs, x)
    with pytest.raises(ValueError, match=r"Block 'block': block/inner_norm(.|\n)*'outer_norm'"):
        kerasnorm.replace_norms(model, "batch")
    new = kerasnorm.replace_norms(randomize(model), "batch", where="outer_norm")
    assert_same(model, new, data(model))
    with pytest.raises(ValueError, match="block/inner_norm"):
        kerasnorm.replace_norms(model, "batch", where="block/*")


def test_a_layer_that_cannot_be_copied_is_named():
    class Stubborn(L.Layer):
        def __init__(self, function):
            super().__init__(name="stubborn")
            self.function = function

        def call(self, inputs):
            return self.function(inputs)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Stubborn(keras.ops.relu)(L.BatchNormalization()(inputs)))
    with pytest.raises(ValueError, match=r"layer 'stubborn' \(Stubborn\) cannot be copied"):
        kerasnorm.replace_norms(model, "batch")


# Graphs.


def encoder(name="encoder"):
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, name="conv")(inputs)
    return keras.Model(inputs, L.ReLU()(L.BatchNormalization(name="bn")(x)), name=name)


def test_nested_and_shared_models():
    shared, head = (
        encoder(),
        keras.Sequential([L.Dense(6), L.BatchNormalization(name="bn")], name="head"),
    )
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    pooled = [L.GlobalAveragePooling2D()(shared(side)) for side in (left, right)]
    model = keras.Model([left, right], head(L.Concatenate()(pooled)), name="twins")
    randomize(model)
    new = kerasnorm.replace_norms(model, "batch")
    assert [r.layer for r in new.norm_report.replacements] == ["encoder/bn", "head/bn"]
    assert_same(model, new, data(model))
    assert len(new.weights) == len(model.weights)
    assert isinstance(new.get_layer("head"), keras.Sequential)
    one = kerasnorm.replace_norms(model, "group", where="head/*")
    assert type(one.get_layer("encoder").get_layer("bn")) is L.BatchNormalization


def test_several_inputs_and_outputs_by_name():
    image, number = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="number")
    x = L.GlobalAveragePooling2D()(encoder()(image))
    y = L.BatchNormalization(name="b")(L.Dense(8, name="d")(number))
    z = keras.ops.concatenate([x, 2 * y], axis=-1)
    model = keras.Model(
        {"image": image, "number": number},
        {"sum": L.Dense(1, name="sum")(z), "rest": keras.ops.relu(x - y)},
    )
    randomize(model)
    model.compile("adam", {"sum": "mse", "rest": "mae"}, loss_weights={"sum": 1.0, "rest": 2.0})
    new = kerasnorm.replace_norms(model, "batch")
    x = data(model)
    assert_same(model, new, x)
    targets = {"sum": np.ones((3, 1), "float32"), "rest": np.ones((3, 8), "float32")}
    a, b = (m.evaluate(x, targets, verbose=0, return_dict=True) for m in (model, new))
    assert a == pytest.approx(b, rel=1e-4)


def test_layers_with_state_functions_and_preprocessing():
    inputs = keras.Input((4, 4, 3))
    prepare = L.Normalization(name="prepare")
    prepare.adapt(np.random.default_rng(0).normal(3.0, 2.0, (20, 4, 4, 3)).astype("float32"))
    offset = 0.5
    x = L.Rescaling(2.0)(prepare(inputs))
    x = L.Lambda(lambda t: t + offset, name="lambda")(x)
    x = L.Dropout(0.5, seed=3)(L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="c")(x)))
    x = L.TimeDistributed(L.BatchNormalization(name="inner"), name="rows")(x)
    model = keras.Model(inputs, x)
    for name in ("bn", "c", "rows"):
        layer = model.get_layer(name)
        for weight in layer.weights:
            weight.assign(1 + 0.1 * numpy(weight))
    model(data(model), training=True)  # The dropout's state is another one now.
    new = kerasnorm.replace_norms(model, "batch")
    assert [r.layer for r in new.norm_report.replacements] == ["bn", "rows/inner"]
    assert_same(model, new, data(model))
    assert type(new.get_layer("prepare")) is L.Normalization
    assert_same(model, new, data(model), 1e-4, training=True)


def test_masks():
    inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(5, 4, mask_zero=True)(inputs)
    model = randomize(keras.Model(inputs, L.BatchNormalization(name="bn")(x)))
    x = data(model)
    new = kerasnorm.replace_norms(model, "batch")
    kept = numpy(x) != 0  # What comes out at masked positions means nothing.
    for training in (False, True):
        a, b = (outputs(m, x, training)[0][kept] for m in (model, new))
        np.testing.assert_allclose(a, b, atol=1e-5)
    row = kerasnorm.replace_norms(model, "keras_group").norm_report.replacements[0]
    assert "the mask is not used" in row.chosen
    assert kerasnorm.replace_norms(model, None)(x).shape == (3, 6, 4)


def test_mixed_dtype_policies():
    model = convolutional(lambda name: L.BatchNormalization(name=name, dtype="mixed_bfloat16"))
    new = kerasnorm.replace_norms(model, ("batch", "ilm_group"))
    for index in range(1, 5):
        assert new.get_layer(f"bn{index}").compute_dtype == "bfloat16"
    assert_same(model, kerasnorm.replace_norms(model, "batch"), data(model), 0.02)


def test_trainable_is_kept():
    model = keras.Sequential([keras.Input((8, 8, 3)), encoder(), L.Flatten(), L.Dense(2)])
    model.layers[0].trainable = False
    model.layers[0].get_layer("conv").trainable = True
    new = kerasnorm.replace_norms(model, "batch")
    flags = [[(x.name, x.trainable) for x in all_layers(m)] for m in (model, new)]
    assert flags[0] == flags[1]
    assert [v.path.split("/")[-2:] for v in new.trainable_variables] == [
        v.path.split("/")[-2:] for v in model.trainable_variables
    ]


@keras.saving.register_keras_serializable("surgery")
class Stepwise(keras.Model):
    """A class of the user, made from inputs and outputs."""

    steps = 7


def test_the_class_of_a_model_is_kept_where_it_is_made_from_a_graph():
    inputs = keras.Input((4,))
    model = Stepwise(inputs, L.BatchNormalization()(inputs))
    new = kerasnorm.replace_norms(model, "batch")
    assert type(new) is Stepwise
    assert new.norm_report.notes == ()


# Compiled models.


def weighted_error(target, prediction):
    return keras.ops.mean(keras.ops.square(target - prediction)) * 3


@pytest.mark.parametrize(
    "make_optimizer",
    [
        pytest.param(lambda: keras.optimizers.SGD(0.01), marks=daily()),
        pytest.param(lambda: keras.optimizers.SGD(0.01, momentum=0.9), marks=daily()),
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
        pytest.param(lambda: keras.optimizers.AdamW(0.01, amsgrad=True), marks=daily()),
        pytest.param(lambda: keras.optimizers.Nadam(0.01), marks=daily()),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    ],
)
def test_the_optimizer_goes_on_for_weights_that_are_kept(make_optimizer):
    model = convolutional()
    metrics = ["mae", keras.metrics.MeanSquaredError()]
    model.compile(make_optimizer(), weighted_error, metrics=metrics)
    x, y = data(model, 8), np.ones((8, 5), "float32")
    model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    before = fingerprint(model)
    new = kerasnorm.replace_norms(model, "keras_batch")
    assert fingerprint(model) == before
    assert type(new.optimizer) is type(model.optimizer)
    assert new.optimizer is not model.optimizer
    assert int(numpy(new.optimizer.iterations)) == 4
    total = len(model.trainable_variables)
    assert f"state is kept for {total} of {total} weights" in new.norm_report.notes[0]
    # It trains on as if nothing had happened: the norms are the same to the last bit.
    for one in (model, new):
        one.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    assert_same(model, new, x, 1e-6)
    results = [m.evaluate(x, y, verbose=0, return_dict=True) for m in (model, new)]
    assert set(results[0]) == set(results[1]) == {"loss", "mae", "mean_squared_error"}


def test_the_optimizer_starts_anew_for_other_weights():
    model = convolutional()
    model.compile("adam", "mse")
    new = kerasnorm.replace_norms(model, "group")
    assert "no state yet" in new.norm_report.notes[0] or "0 of" not in new.norm_report.notes[0]
    model.fit(data(model, 4), np.ones((4, 5), "float32"), verbose=0)
    new = kerasnorm.replace_norms(model, {"name": "ilm_group", "scale": False})
    total = len(new.trainable_variables)
    # 5 kernels and 5 biases, and a beta in each of 4 norms.
    assert f"state is kept for 14 of {total} weights" in new.norm_report.notes[0]
    new.fit(data(model, 4), np.ones((4, 5), "float32"), verbose=0)


def test_a_model_that_is_not_compiled_stays_so():
    new = kerasnorm.replace_norms(convolutional(), "group")
    assert not new.compiled
    assert new.norm_report.notes == ()


# The report.


def test_the_report_is_a_table():
    new = kerasnorm.replace_norms(convolutional(), "group", where="bn[12]")
    report = kerasnorm.report_of(new)
    assert report is new.norm_report
    lines = str(report).splitlines()
    assert " ".join(lines[0].split()) == "layer from to chosen outputs"
    assert lines[2].startswith("bn1    BatchNormalization  GroupNorm  groups=")
    assert "Left out: moving_mean, moving_variance." in lines
    assert lines[-2] == "Not selected (2): bn3, bn4."
    assert lines[-1].startswith(
        "Replaced 2 of 4 norms: 2 by GroupNorm. Outputs for the same inputs"
    )
    with pytest.raises(ValueError, match="has no report"):
        kerasnorm.report_of(convolutional())


def test_the_report_fits_100_columns():
    features = inputs = keras.Input((8, 24))
    for norm, name in (
        (keras.layers.BatchNormalization, "a_long_name_of_a_layer" * 3),
        (keras.layers.LayerNormalization, "short"),
    ):
        features = norm(name=name)(features)
    report = kerasnorm.replace_norms(keras.Model(inputs, features), "ilm_group").norm_report
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert "key_group_size=12" in str(report)
    assert "Left out: moving_mean (1), moving_variance (1)." in lines
    # Nothing of a long name is lost.
    assert sum(line[:34].count("a_long") for line in lines) == 3
