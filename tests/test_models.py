"""The architectures: with every norm, trained for a step, saved and loaded; counts and errors."""

import dataclasses
import math

import keras
import numpy as np
import pytest

import kerasnorm
from daily import daily
from kerasnorm import models
from kerasnorm.models import resnet
from small_models import assert_same, call, randomize

BACKEND = keras.backend.backend()
FIRST = "channels_first"

RESNETS = {
    # Trainable numbers with batch norm: torchvision's, and He et al.'s 0.27M to 1.7M.
    "ResNet18": ((224, 224, 3), 1000, 11_689_512),
    "ResNet34": ((224, 224, 3), 1000, 21_797_672),
    "ResNet50": ((224, 224, 3), 1000, 25_557_032),
    "ResNet101": ((224, 224, 3), 1000, 44_549_160),
    "ResNet152": ((224, 224, 3), 1000, 60_192_808),
    "ResNet8": ((32, 32, 3), 10, 75_290),
    "ResNet20": ((32, 32, 3), 10, 269_722),
    "ResNet32": ((32, 32, 3), 10, 464_154),
    "ResNet56": ((32, 32, 3), 10, 853_018),
    "ResNet110": ((32, 32, 3), 10, 1_727_962),
}
OTHERS = {
    "MLP": ((10,), 3),
    "LeNet": ((32, 32, 3), 10),
    "VGG13": ((32, 32, 3), 10),
    "NIN": ((32, 32, 3), 10),
    "AllCNNC": ((32, 32, 3), 10),
    "Pix2PixGenerator": ((256, 256, 3), 3),
    "Pix2PixDiscriminator": ((256, 256, 6), 1),
    "TransformerEncoder": ((50, 16), 10),
    "Transformer": ((50,), 10),
}
NAMES = (*RESNETS, *OTHERS)
CONSISTENT = {"name": "consistent", "norm": "ilm_group", "branches": 2}
NORMS = [
    CONSISTENT if name == "consistent" else name
    for name in kerasnorm.available()
    if name != "keras_unit"
]


def planned(name, norm="batch", **options):
    """A plan of an architecture, at the size that it is for."""
    input_shape, classes = (RESNETS.get(name) or OTHERS[name])[:2]
    return models.plan(getattr(models, name), input_shape, classes, norm, **options)


def tiny_resnet(block, shortcut, stem="cifar", depths=(1, 1)):
    """A residual network of a kind, with few blocks."""

    family = resnet.CIFAR._replace(stem=stem, width=8)
    return resnet._architecture("Tiny", family, resnet._Kind(depths, block, shortcut), 0)


BASIC = tiny_resnet(resnet._basic, resnet._padded)
PROJECTED = tiny_resnet(resnet._basic, resnet._projected, depths=(1, 2))
BOTTLENECK = tiny_resnet(resnet._bottleneck, resnet._projected, "imagenet")

# Every architecture and every norm, not every pair, since compiling takes long: builder, input
# shape, classes, norm, options.
CASES = {
    "basic-mode-first": (BASIC, (8, 8, 3), 3, ("mode", "batch"), {}),
    "projected-none": (PROJECTED, (8, 8, 3), 3, None, {}),
    "bottleneck-ilm_group": (BOTTLENECK, (16, 16, 3), 3, ("ilm_group", "batch"), {}),
    "MLP-mode": (models.MLP, (10,), 3, "mode", {"width": 8}),
    "LeNet-mode_group": (models.LeNet, (16, 16, 1), 4, "mode_group", {}),
    "LeNet-consistent": (models.LeNet, (16, 16, 1), 4, CONSISTENT, {}),
    "LeNet-keras": (models.LeNet, (16, 16, 1), 4, ("keras_group", "keras_rms"), {}),
    "VGG13-stages": (
        models.VGG13,
        (8, 8, 3),
        3,
        {"stages": ["associate", None, "group", "keras_batch", "keras_layer"]},
        {"hidden": (8,)},
    ),
    "NIN-learned_stats": (models.NIN, (8, 8, 3), 4, ("learned_stats", None), {}),
    "AllCNNC-conv": (models.AllCNNC, (8, 8, 3), 3, ("conv", "group"), {}),
    "generator-ilm_instance": (
        models.Pix2PixGenerator,
        (8, 8, 3),
        3,
        "ilm_instance",
        {"width": 4},
    ),
    "discriminator-instance": (
        models.Pix2PixDiscriminator,
        (24, 24, 6),
        1,
        "instance",
        {"width": 4},
    ),
    "encoder-layer": (
        models.TransformerEncoder,
        (None,),
        3,
        ("layer", "group"),
        {"vocabulary": 9, "width": 8, "heads": 2, "blocks": 1},
    ),
    "encoder-ilm_layer": (
        models.TransformerEncoder,
        (6, 5),
        3,
        "ilm_layer",
        {"width": 8, "heads": 2, "blocks": 1, "placement": "post"},
    ),
    "transformer-ilm_layer": (
        models.Transformer,
        (6,),
        9,
        "ilm_layer",
        {"width": 8, "heads": 2, "blocks": 1},
    ),
}
PREDICTED = ("LeNet-mode_group", "encoder-layer")
# An architecture is the same code on every backend, and a step of each takes long to trace.
EVERYWHERE = (
    "basic-mode-first",
    "bottleneck-ilm_group",
    "MLP-mode",
    "LeNet-consistent",
    *PREDICTED,
)


def cases():
    for case in CASES:
        yield pytest.param(case, marks=daily(case in EVERYWHERE))


def batch_for(model, options, count=4):
    """Inputs and targets."""
    generator = np.random.default_rng(0)
    shape = [size or 6 for size in model.input_shape[1:]]
    x = generator.normal(size=(count, *shape)).astype("float32")
    if "vocabulary" in options:
        x = generator.integers(1, options["vocabulary"], (count, *shape)).astype("int32")
        x[0, 4:] = 0
    y = generator.uniform(size=[count, *model.output_shape[1:]]).astype("float32")
    return x, y / y.sum(-1, keepdims=True)


def values_of(weights):
    return [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]


# Another branch's norms have no part in a plain step.
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .*branch_1:UserWarning")
@pytest.mark.parametrize("case", list(cases()))
def test_trains_a_step_is_saved_and_loaded(case, tmp_path):
    architecture, input_shape, classes, norm, options = CASES[case]
    keras.utils.set_random_seed(0)
    model = architecture(input_shape, classes, norm, **options)
    assert isinstance(model, keras.Model)
    assert model.output_shape[-1] == classes
    plan = models.plan(architecture, input_shape, classes, norm, **options)
    assert plan.parameters() == sum(math.prod(w.shape) for w in model.trainable_weights)
    x, y = batch_for(model, options)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = values_of(model.trainable_weights)
    assert np.isfinite(model.train_on_batch(x, y))
    after = values_of(model.trainable_weights)
    changed = {
        weight.path
        for weight, a, b in zip(model.trainable_weights, before, after, strict=True)
        if (a != b).any()
    }
    # Norms have weights that move at once; where there is none, at least the classifier does.
    assert any("norm" in path for path in changed) or norm is None
    assert all(np.isfinite(value).all() for value in after)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.get_config() for layer in loaded.layers] == [
        layer.get_config() for layer in model.layers
    ]
    for path, value, expected in zip(
        (weight.path for weight in model.weights),
        values_of(loaded.weights),
        values_of(model.weights),
        strict=True,
    ):
        np.testing.assert_array_equal(value, expected, err_msg=path)
    # With the same layers and weights it does the same; two forward passes for some.
    if case in PREDICTED:
        assert_same(call(loaded, x), call(model, x), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_trains(name):
    shape = {"Pix2PixGenerator": (16, 16, 3), "Pix2PixDiscriminator": (24, 24, 6)}
    shape |= {"TransformerEncoder": (6, 5), "Transformer": (6,), "MLP": (10,)}
    input_shape = shape.get(name, (32, 32, 3))
    model = getattr(models, name)(input_shape, 3, "ilm_group")
    model.compile(keras.optimizers.SGD(0.01), "mse")
    assert np.isfinite(model.train_on_batch(*batch_for(model, {}, count=2)))


def test_every_norm_is_legal_at_every_width():
    # Those with widths that are no powers of two, or of another rank.
    names = ("LeNet", "NIN", "TransformerEncoder")
    sites = {
        (site.channels, len(site.shape)): site for name in names for site in planned(name).sites
    }
    assert {channels for channels, _ in sites} == {6, 10, 16, 64, 96, 160, 192}
    for norm in NORMS:
        for site in sites.values():
            site = dataclasses.replace(site, norm=kerasnorm.registry.parse(norm))
            if norm == "conv" and len(site.shape) != 4:
                with pytest.raises(ValueError, match="rank 4"):
                    site.built_layer()
                continue
            layer = site.built_layer()
            assert layer.name == site.path
            assert layer.compute_output_shape(site.shape) == site.shape


@pytest.mark.parametrize("name", RESNETS)
def test_residual_networks_have_their_known_size(name):
    expected = RESNETS[name][2]
    assert planned(name).parameters() == expected


def test_other_architectures_have_their_known_size():
    # LeNet-5 and torchvision's vgg13, both without norms; pix2pix as its authors' code prints it,
    # with biases where that has none beside no norm.
    assert models.plan(models.LeNet, (32, 32, 1), 10, None).parameters() == 61_706
    # The image is smaller than ImageNet's, so that its dense layer, not its size, fits a test.
    vgg = models.plan(models.VGG13, (32, 32, 3), 1000, None, hidden=(4096, 4096))
    assert vgg.parameters() + 4096 * 512 * (7 * 7 - 1) == 133_047_848
    assert round(planned("Pix2PixGenerator").parameters() / 1e6, 3) == 54.415
    assert round(planned("Pix2PixDiscriminator").parameters() / 1e6, 3) == 2.769
    # ALL-CNN-C has 1.4M, Network in Network 1.0M (both papers).
    assert round(planned("AllCNNC", None).parameters() / 1e6, 1) == 1.4
    assert round(planned("NIN", None).parameters() / 1e6, 1) == 1.0


def test_mode_norm_adds_less_than_one_percent_to_network_in_network():
    plain = planned("NIN").parameters()
    added = planned("NIN", {"name": "mode", "modes": 2}).parameters() - plain
    assert 0 < added < 0.01 * plain


def test_a_plan_is_the_model():
    plan = planned("ResNet20", "group")
    model = models.ResNet20((32, 32, 3), 10, "group")
    norms = [layer for layer in model.layers if isinstance(layer, kerasnorm.GroupNorm)]
    assert [layer.name for layer in norms] == [site.path for site in plan.sites]
    assert [tuple(layer.input.shape) for layer in norms] == [site.shape for site in plan.sites]
    assert [site.channels for site in plan.sites[::6]] == [16, 16, 32, 64]
    assert [site.shape[1] for site in plan.sites] == [32] * 7 + [16] * 6 + [8] * 6
    assert [layer.groups_of(layer.channels) for layer in norms[::6]] == [16, 16, 32, 32]
    assert not any(layer.use_bias for layer in model.layers if "conv" in layer.name)
    # Once outside of `plan`, functions build again.
    assert isinstance(BASIC((8, 8, 3), 2), keras.Model)


def test_where_norms_are():
    assert [site.shape[1] for site in planned("ResNet18").sites] == (
        [112] + [56] * 4 + [28] * 5 + [14] * 5 + [7] * 5
    )
    # The first 1x1 of a bottleneck sees the image as it comes; the shortcut shrinks it.
    second = [site for site in planned("ResNet50").sites if site.path.startswith("stage2_block1")]
    assert [site.shape[1:] for site in second] == [
        (56, 56, 128),
        (28, 28, 128),
        (28, 28, 512),
        (28, 28, 512),
    ]
    assert planned("ResNet50", stem="cifar").sites[0].shape == (None, 224, 224, 64)
    generator = planned("Pix2PixGenerator").sites
    assert [site.shape[1:] for site in generator if site.stage == 0] == [
        (64, 64, 128),
        (32, 32, 256),
        *((side, side, 512) for side in (16, 8, 4, 2)),
    ]
    assert [site.shape[1:] for site in generator if site.stage == 1] == [
        *((side, side, 512) for side in (2, 4, 8, 16)),
        (32, 32, 256),
        (64, 64, 128),
        (128, 128, 64),
    ]
    discriminator = planned("Pix2PixDiscriminator").sites
    assert [site.shape[1:] for site in discriminator] == [
        (64, 64, 128),
        (32, 32, 256),
        (31, 31, 512),
    ]


def test_several_norms():
    stages = {"stages": ["batch", {"name": "group", "groups": 4}, None]}
    sites = planned("ResNet20", stages).sites
    assert [site.stage for site in sites] == [0] * 7 + [1] * 6 + [2] * 6
    assert [site.spec for site in sites] == [stages["stages"][site.stage] for site in sites]
    sites = planned("NIN", ["mode", None]).sites
    assert [site.spec for site in sites] == ["mode"] + [None] * 8
    model = BASIC((8, 8, 3), 2, {"stages": ["instance", None]})
    biased = {layer.name for layer in model.layers if getattr(layer, "use_bias", False)}
    assert biased == {"stage2_block1_conv1", "stage2_block1_conv2", "classifier"}
    assert {layer.name for layer in model.layers if "norm" in layer.name} == {
        "stem_norm",
        "stage1_block1_norm1",
        "stage1_block1_norm2",
    }
    numbers = {
        name: len({site.stage for site in planned(name).sites})
        for name in ("ResNet18", "ResNet152", *OTHERS)
    }
    assert list(numbers.values()) == [4, 4, 1, 2, 5, 3, 3, 2, 3, 2, 2]


def test_what_a_spec_says_counts_more_than_the_architecture():
    sites = planned("AllCNNC", "conv").sites
    stacks = [site.layer().kernel_sizes for site in sites]
    expected = [[4, 2, 2, 2]] * 2 + [[4, 2, 2]] * 3 + [[2, 2]] * 2 + [[2]]
    assert stacks == [[[size, size] for size in stack] for stack in expected]
    own = planned("AllCNNC", {"name": "conv", "kernel_sizes": [2]}).sites
    assert all(site.layer().kernel_sizes == [[2, 2]] for site in own)
    inside = planned("AllCNNC", {"name": "consistent", "norm": "conv", "branches": 2}).sites
    assert inside[2].layer().banks[1].kernel_sizes == [[4, 4], [2, 2], [2, 2]]
    # Another image: the table's stacks do not divide it, so that it is factored.
    small = models.plan(models.AllCNNC, (20, 20, 3), 10, "conv").sites
    assert small[0].layer().kernel_sizes is None
    learned = [site.layer() for site in planned("AllCNNC", "learned_stats").sites]
    assert [len(layer.filters) for layer in learned] == [3] + [4] * 7
    assert tuple(learned[1].filters) == (4, 4, 2, 1)
    assert tuple(learned[1].kernel_sizes) == (4, 3, 2, 3)


def test_without_norms_branches_start_at_zero():
    model = models.ResNet32((8, 8, 3), 10, None, width=8)
    assert not any("norm" in layer.name for layer in model.layers)
    x, _ = batch_for(model, {})
    probabilities = call(model, x)
    np.testing.assert_allclose(probabilities, 0.1, rtol=1e-6)
    last = model.get_layer("stage1_block1_conv2")
    assert not keras.ops.convert_to_numpy(last.kernel).any()
    first = keras.ops.convert_to_numpy(model.get_layer("stage3_block2_conv1").kernel)
    # He's deviation, sqrt(2 / fan in), over the root of the number of blocks.
    assert abs(first.std() / math.sqrt(2 / (9 * 32) / 15) - 1) < 0.1


def test_convolutions_start_with_he():
    model = models.ResNet20((8, 8, 3), 10)
    kernel = keras.ops.convert_to_numpy(model.get_layer("stage3_block2_conv2").kernel)
    assert abs(kernel.std() / math.sqrt(2 / (9 * 64)) - 1) < 0.05
    gammas = [w for w in model.weights if w.name == "gamma"]
    assert len(gammas) == 19
    assert all((values == 1).all() for values in values_of(gammas))


@pytest.mark.parametrize(
    ("architecture", "shape", "options"),
    [
        (BASIC, (8, 8, 3), {}),
        (models.LeNet, (16, 16, 3), {}),
        (models.Pix2PixGenerator, (8, 8, 3), {"width": 4, "dropout": 0.0}),
        (models.Pix2PixDiscriminator, (24, 24, 6), {"width": 4}),
        (models.AllCNNC, (8, 8, 3), {}),
    ],
    ids=["ResNet", "LeNet", "generator", "discriminator", "AllCNNC"],
)
def test_channels_first(architecture, shape, options):
    norm = "ilm_group"
    if architecture is models.AllCNNC:
        norm = ({"name": "consistent", "norm": "keras_batch", "branches": 2}, "keras_group")
    last = architecture(shape, 3, norm, **options)
    first = architecture((shape[2], *shape[:2]), 3, norm, data_format=FIRST, **options)
    first.set_weights(last.get_weights())
    x, _ = batch_for(last, options)
    expected = call(last, x)
    outputs = call(first, x.transpose(0, 3, 1, 2))
    if outputs.ndim == 4:
        outputs = outputs.transpose(0, 2, 3, 1)
    assert_same(outputs, expected, 1e-4)


def test_data_format_is_that_of_keras():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(FIRST)
    try:
        sites = models.plan(models.ResNet20, (3, 32, 32), 10).sites
    finally:
        keras.config.set_image_data_format(before)
    assert sites[0].shape == (None, 16, 32, 32)
    assert sites[0].layer().axis == 1


@pytest.mark.parametrize(
    ("placement", "norm"),
    [
        ("pre", "ilm_group"),
        ("post", "layer"),
        *(pytest.param(*case, marks=daily()) for case in (("post", "ilm_group"), ("pre", "layer"))),
    ],
)
def test_padding_counts_nowhere(norm, placement):
    keras.utils.set_random_seed(0)
    model = models.TransformerEncoder(
        (None, 5), 3, norm, width=8, heads=2, blocks=1, placement=placement
    )
    randomize(model)
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")
    x[:, 4:] = 0
    assert_same(call(model, x), call(model, x[:, :4]), 1e-5)
    # It would count without a mask.
    open_model = models.TransformerEncoder(
        (None, 5), 3, norm, width=8, heads=2, blocks=1, placement=placement, mask_value=None
    )
    open_model.set_weights(model.get_weights())
    assert abs(call(open_model, x) - call(model, x)).max() > 1e-4


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_padding_counts_nowhere_for_tokens(norm):
    keras.utils.set_random_seed(0)
    model = models.Transformer((None,), 7, norm, width=8, heads=2, blocks=1)
    randomize(model)
    tokens = np.random.default_rng(0).integers(1, 7, (2, 6)).astype("int32")
    tokens[:, 4:] = 0
    assert_same(call(model, tokens)[:, :4], call(model, tokens[:, :4]), 1e-5)
    # Of a larger vocabulary as well.
    larger = models.Transformer((None,), 7, norm, vocabulary=30, width=8, heads=2, blocks=1)
    assert larger.get_layer("embedding").input_dim == 30
    assert model.get_layer("embedding").input_dim == 7


def test_sequences_have_their_own_sites():
    network = planned("TransformerEncoder", "group", blocks=3)
    assert [site.stage for site in network.sites] == [0, 0, 1, 1, 2, 2, 2]
    assert len(planned("TransformerEncoder", "group", placement="post").sites) == 4
    assert {site.shape for site in network.sites} == {(None, 50, 64)}


def test_mixed_precision_ends_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.LeNet((16, 16, 1), 4, "ilm_group")
    finally:
        keras.config.set_dtype_policy(before)
    assert model.output.dtype == "float32"
    assert model.get_layer("norm1").compute_dtype == "bfloat16"


def test_illegal_norms_are_named_together_before_anything_is_built(monkeypatch):
    built = []
    original = keras.layers.Conv2D.build
    monkeypatch.setattr(
        keras.layers.Conv2D, "build", lambda self, shape: built.append(original(self, shape))
    )
    with pytest.raises(ValueError, match="7 of 19 norms cannot be built") as caught:
        models.ResNet20((32, 32, 3), 10, {"name": "group", "groups": 32})
    message = str(caught.value)
    assert message.startswith("ResNet20: ")
    assert "stem_norm: GroupNorm 'stem_norm': groups=32 does not divide the 16 channels" in message
    assert "stage1_block3_norm2" in message
    assert "stage2" not in message.partition("Needed: a spec")[0]
    assert not built
    with pytest.raises(ValueError, match=r"5 of 5 norms[^$]*block1_attention_norm"):
        models.TransformerEncoder((8, 4), 2, "conv")
    with pytest.raises(ValueError, match=r"3 specs, but ResNet18 has 4 stages"):
        models.ResNet18((32, 32, 3), 10, {"stages": ["batch"] * 3})
    with pytest.raises(ValueError, match=r"'grup' is unknown.*group"):
        models.LeNet((32, 32, 3), 10, "grup")
    with pytest.raises(ValueError, match="fixed height and width"):
        models.NIN((None, None, 3), 10, "conv")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.ResNet20((32, 32), 10), r"ResNet20: input_shape=\(32, 32\).*height, width"),
        (lambda: models.ResNet20((32, 32, None), 10), "a number of channels"),
        (lambda: models.ResNet20(32, 10), "input_shape=32"),
        (lambda: models.ResNet20((32, 32, 3), 0), "classes=0"),
        (lambda: models.ResNet20((32, 32, 3), 2.5), r"classes=2\.5"),
        (lambda: models.ResNet20((32, 32, 3), 10, stem="mnist"), "stem='mnist'.*'imagenet'"),
        (lambda: models.ResNet20((32, 32, 3), 10, width=-1), "width=-1"),
        (lambda: models.ResNet20((32, 32, 3), 10, data_format="last"), "data_format='last'"),
        (lambda: models.LeNet((8, 8, 1), 10), "at least 16"),
        (lambda: models.MLP((8, 8, 1), 10), r"Needed: \(features,\)"),
        (lambda: models.MLP((None,), 10), "Needed: numbers for all"),
        (lambda: models.VGG13((None, None, 3), 10), "numbers for all"),
        (lambda: models.Pix2PixGenerator((48, 48, 3), depth=5), "depth=5.*up to 4"),
        (lambda: models.Pix2PixGenerator((9, 8, 3)), r"sides that divide by 2\*\*depth"),
        (lambda: models.Pix2PixDiscriminator((16, 16, 6)), "at least 24"),
        (lambda: models.TransformerEncoder((8,), 2), r"\(length, features\)"),
        (lambda: models.TransformerEncoder((8, 4), 2, vocabulary=9), r"\(length,\)"),
        (lambda: models.TransformerEncoder((8, 4), 2, width=10, heads=4), "heads=4"),
        (lambda: models.TransformerEncoder((8, 4), 2, placement="mid"), "placement='mid'"),
        (lambda: models.TransformerEncoder((8, 4), 2, blocks=0), "blocks=0"),
        (lambda: models.Transformer((8, 4), 2), r"Transformer: input_shape.*\(length,\)"),
        (lambda: models.Transformer((8,), 2, width=10), "Transformer: heads=4 do not divide"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
