"""Bad arguments and inputs are refused early: by whom, what was received, and what is legal."""

import re

import keras
import numpy as np
import pytest

import kerasnorm
from layer_table import LAYERS
from small_models import (
    BACKEND,
    CHANNELS,
    EVERY_NAME,
    IMAGE,
    NAMES,
    has_moving_statistics,
    images,
    new_layer,
)

GROUPED = ("GroupNorm", "ILMGroupNorm", "AssociateNorm")
KEYED = ("ILMGroupNorm", "ILMInstanceNorm", "ILMLayerNorm")
PREDICTING = (*KEYED, "AssociateNorm")
MOVING = tuple(row.name for row in LAYERS if row.moving_statistics)
MODED = ("ModeNorm", "ModeGroupNorm")
SHAPE = (None, *IMAGE, CHANNELS)


def refuses(name, *said, error=ValueError):
    """A context in which an error must name the layer and say all of `said`, in this order."""
    pattern = ".*".join((rf"{name} '\w+': ", *map(re.escape, said)))
    return pytest.raises(error, match=f"(?s){pattern}")


def refuses_to_construct(name, argument, value, *said, error=ValueError, **others):
    with refuses(name, argument, *said, error=error):
        new_layer(name, **{argument: value, **others})


# -----------------------------------------------------------------------------
# At construction


@pytest.mark.parametrize("value", [0, -2, 2.5, "many", True, None])
@pytest.mark.parametrize("name", GROUPED)
def test_groups(name, value):
    refuses_to_construct(name, "groups", value, "at least 1", "-1", "'auto'")


@pytest.mark.parametrize("value", [0, -1, 2.5, "large", None])
@pytest.mark.parametrize("name", KEYED)
def test_key_group_size(name, value):
    refuses_to_construct(name, "key_group_size", value, "at least 1", "'auto'")


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, False])
@pytest.mark.parametrize("name", MODED)
def test_modes(name, value):
    refuses_to_construct(name, "modes", value, "an integer of at least 1")


@pytest.mark.parametrize("value", [0, -16, 1.5, None])
@pytest.mark.parametrize("name", PREDICTING)
def test_reduction(name, value):
    refuses_to_construct(name, "reduction", value, "an integer of at least 1")


@pytest.mark.parametrize("argument", ["mean_activation", "variance_activation"])
@pytest.mark.parametrize("name", PREDICTING)
def test_activations(name, argument):
    refuses_to_construct(name, argument, "sigmoud", "'sigmoud' is no activation", "sigmoid")
    refuses_to_construct(name, argument, 3, "3 is no activation", "keras.activations")


@pytest.mark.parametrize("value", [0, 0.0, -1e-5, float("nan"), float("inf"), "small", None])
@pytest.mark.parametrize("name", NAMES)
def test_epsilon(name, value):
    refuses_to_construct(name, "epsilon", value, "a number above 0")


@pytest.mark.parametrize("value", [-0.1, 1.1, 99, float("nan"), "most", None])
@pytest.mark.parametrize("name", MOVING)
def test_momentum(name, value):
    refuses_to_construct(name, "momentum", value, "at least 0 and at most 1")


@pytest.mark.parametrize("name", MOVING)
def test_momentum_may_be_either_end(name):
    assert new_layer(name, momentum=0).momentum == 0
    assert new_layer(name, momentum=1).momentum == 1


@pytest.mark.parametrize("name", NAMES)
def test_axis_that_is_none(name):
    refuses_to_construct(name, "axis", 0, "is the batch", "1", "-1")
    for value in (1.5, None, [3], "last"):
        refuses_to_construct(name, "axis", value, "an integer")


def test_bias_mode_and_key_features():
    refuses_to_construct(
        "AssociateNorm", "bias_mode", "during", "'after', 'before', 'multiply', 'none'"
    )
    refuses_to_construct("AssociateNorm", "key_features", "channel", "'group', 'instance'")


@pytest.mark.parametrize("value", [3, (0, 2), (2.5,), ((2, 2, 2),), "4222", ((2, -1),), (None,)])
def test_kernel_sizes_of_conv_norm(value):
    refuses_to_construct("ConvNorm", "kernel_sizes", value, "positive integers or pairs of them")


@pytest.mark.parametrize(
    ("filters", "kernel_sizes"),
    [((4, 1), (3,)), ((4, 4), (3, 3)), ((), ()), ((1,), (3, 3))],
)
def test_filters_and_kernel_sizes_of_learned_stats_norm(filters, kernel_sizes):
    refuses_to_construct(
        "LearnedStatsNorm",
        "filters",
        filters,
        "kernel_sizes",
        "two lists of the same length",
        "1 as the last",
        kernel_sizes=kernel_sizes,
    )


@pytest.mark.parametrize("argument", ["filters", "kernel_sizes"])
@pytest.mark.parametrize("value", [4, (4, 0, 1), (4.5, 4, 1), None, "441"])
def test_lists_of_learned_stats_norm(argument, value):
    refuses_to_construct("LearnedStatsNorm", argument, value, "integer")


@pytest.mark.parametrize("name", NAMES)
def test_unknown_arguments(name):
    with pytest.raises((TypeError, ValueError), match="gama"):
        new_layer(name, gama=1)


@pytest.mark.skipif(BACKEND != "jax", reason="a matter of JAX")
@pytest.mark.parametrize("name", EVERY_NAME)
def test_float64_without_x64(name):
    import jax

    if jax.config.jax_enable_x64:
        assert new_layer(name, dtype="float64").compute_dtype == "float64"
        return
    with pytest.raises(ValueError, match=r"\w+ '\w+': dtype='float64'.*jax_enable_x64"):
        new_layer(name, dtype="float64")


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True])
def test_branches(value):
    with refuses("ConsistentNorm", "branches=", "an integer of at least 1"):
        kerasnorm.ConsistentNorm(kerasnorm.BatchNorm(), value)


@pytest.mark.parametrize("value", ["bach", 3, None, dict, lambda x: x, {"groups": 2}])
def test_a_norm_that_is_no_spec(value):
    with refuses("ConsistentNorm", "norm", "Needed: ", error=(TypeError, ValueError)):
        kerasnorm.ConsistentNorm(value, 2)


@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True])
def test_a_branch_that_is_no_index(value):
    with (
        pytest.raises(ValueError, match=r"^branch: k=.*an integer of at least 0"),
        kerasnorm.branch(value),
    ):
        pass


# -----------------------------------------------------------------------------
# At build


@pytest.mark.smoke
@pytest.mark.parametrize("name", GROUPED)
def test_groups_that_do_not_divide_the_channels(name):
    layer = new_layer(name, groups=3, **({"key_group_size": 1} if name in KEYED else {}))
    with refuses(
        name, "groups=3", "the 8 channels", "Needed: 2 or 4 (the nearest)", "1, 2, 4, 8", '"auto"'
    ):
        layer.build(SHAPE)


@pytest.mark.parametrize("name", KEYED)
def test_key_groups_that_do_not_divide_the_channels(name):
    with refuses(name, "key_group_size=5", "the 8 channels", "1, 2, 4, 8", '"auto"'):
        new_layer(name, key_group_size=5).build(SHAPE)


def test_more_groups_than_channels():
    with refuses("GroupNorm", "groups=32", "the 16 channels", "1, 2, 4, 8, 16"):
        kerasnorm.GroupNorm().build((None, 4, 4, 16))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_number_of_channels(name):
    shape = (None, *IMAGE, None)
    with refuses(name, "channel axis -1", "None)", "is unknown", "a fixed number of channels"):
        new_layer(name).build(shape)
    with refuses(name, "channel axis -1", "is unknown"):
        new_layer(name)(keras.Input(shape[1:]))
    with refuses(name, "channel axis -1", "is unknown"):
        new_layer(name).compute_output_shape(shape)


@pytest.mark.parametrize("name", NAMES)
def test_rank_1(name):
    with refuses(name, "(8,)", "rank"):
        new_layer(name).build((8,))
    with refuses(name, "(3,)", "rank"):
        new_layer(name)(np.ones(3, "float32"))


@pytest.mark.parametrize("axis", [4, -4, 7])
@pytest.mark.parametrize("name", NAMES)
def test_axis_out_of_range(name, axis):
    # -4 is the batch axis of rank 4.
    with refuses(name, f"axis={axis}", "from 1 to 3", "from -3 to -1"):
        new_layer(name, axis=axis).build(SHAPE)


@pytest.mark.parametrize("shape", [(None, CHANNELS), (None, 6, CHANNELS), (None, 2, 4, 4, 8)])
def test_conv_norm_needs_images(shape):
    with refuses("ConvNorm", "shape", "rank 4"):
        kerasnorm.ConvNorm().build(shape)
    with refuses("ConvNorm", "shape", "rank 4"):
        kerasnorm.ConvNorm()(keras.Input(shape[1:]))


@pytest.mark.parametrize("shape", [(None, 4, CHANNELS), (4, None, CHANNELS)])
def test_conv_norm_needs_a_known_image_size(shape):
    with refuses("ConvNorm", "None", "a fixed height and width"):
        kerasnorm.ConvNorm()(keras.Input(shape))


def test_conv_norm_kernels_that_do_not_divide_the_image():
    with refuses("ConvNorm", "height by 8", "the height of 4", "divides 4"):
        kerasnorm.ConvNorm(kernel_sizes=[4, 2]).build(SHAPE)
    with refuses("ConvNorm", "width by 4", "the width of 6", "divides 6"):
        kerasnorm.ConvNorm(kernel_sizes=[(2, 4)]).build(SHAPE)
    with refuses("ConvNorm", "width by 8", "the width of 6"):
        kerasnorm.ConvNorm(kernel_sizes=[(2, 4), (2, 2)], axis=1).build((None, 8, 4, 6))


@pytest.mark.parametrize("name", ["GroupNorm", "ILMGroupNorm", "AssociateNorm", "ConvNorm"])
def test_a_build_that_failed_can_be_repeated(name):
    argument = {"kernel_sizes": [(4, 3)]} if name == "ConvNorm" else {"groups": 4}
    layer = new_layer(name, **argument)
    with pytest.raises(ValueError, match=name):
        layer.build((None, 5, 5, 6))
    layer.build(SHAPE)
    other = new_layer(name, **argument)
    other.build(SHAPE)
    assert [w.name for w in layer.weights] == [w.name for w in other.weights]
    assert [w.shape for w in layer.weights] == [w.shape for w in other.weights]


# -----------------------------------------------------------------------------
# At the call


@pytest.mark.smoke
@pytest.mark.parametrize("name", EVERY_NAME)
def test_integer_inputs(name):
    layer = new_layer(name)
    layer.build(SHAPE)
    said = r"\w+ '\w+': the inputs have dtype int32.*floating point"
    with pytest.raises(TypeError, match=said):
        layer(np.ones((2, *IMAGE, CHANNELS), "int32"))
    with pytest.raises(TypeError, match=said):
        layer(keras.Input((*IMAGE, CHANNELS), dtype="int32"))
    with pytest.raises(TypeError, match=said):
        new_layer(name)(keras.Input((*IMAGE, CHANNELS), dtype="int32"))


@pytest.mark.parametrize("name", NAMES)
def test_another_number_of_channels(name):
    layer = new_layer(name)
    layer.build(SHAPE)
    said = ("the inputs have 16 channels", "4, 6, 16)", "8 channels", "built for")
    with refuses(name, *said):
        layer(images(2, channels=16))
    with refuses(name, *said):
        layer(keras.Input((*IMAGE, 16)))


@pytest.mark.parametrize("shape", [(CHANNELS,), (4, CHANNELS), (4, 6, 2, CHANNELS)])
def test_conv_norm_another_rank(shape):
    layer = kerasnorm.ConvNorm()
    layer.build(SHAPE)
    for inputs in (np.ones((3, *shape), "float32"), keras.Input(shape)):
        with refuses("ConvNorm", "rank 4"):
            layer(inputs)


def test_conv_norm_another_image_size():
    layer = kerasnorm.ConvNorm()
    layer.build(SHAPE)
    for shape in ((8, 6), (4, 3)):
        said = (f"height and width {shape}", "(4, 6)", "built")
        with refuses("ConvNorm", *said):
            layer(images(2, image=shape))
        with refuses("ConvNorm", *said):
            layer(keras.Input((*shape, CHANNELS)))


@pytest.mark.parametrize("shape", [(2, *IMAGE, CHANNELS), (2, *IMAGE, 1), ()])
@pytest.mark.parametrize("name", NAMES)
def test_rank_of_a_mask(name, shape):
    layer = new_layer(name)
    layer.build(SHAPE)
    said = ("the mask has shape", "without the channel axis", "leading part")
    with refuses(name, *said):
        layer(images(2), mask=keras.ops.ones(shape, dtype="bool"))


@pytest.mark.parametrize("shape", [(2, 6), (2, 4, 4), (3,), (1, 3, 1)])
@pytest.mark.parametrize("name", ["BatchNorm", "GroupNorm", "ConvNorm"])
def test_sizes_of_a_mask(name, shape):
    layer = new_layer(name)
    layer.build(SHAPE)
    with refuses(name, "the mask has shape", "without the channel axis"):
        layer(images(2), mask=keras.ops.ones(shape, dtype="bool"))


def test_a_branch_out_of_range():
    layer = new_layer("ConsistentNorm")
    said = ("branch 3", "from 0 to 2", "branches=3")
    with kerasnorm.branch(3), refuses("ConsistentNorm", *said):
        layer(images(2))


@pytest.mark.parametrize("name", EVERY_NAME)
def test_an_error_in_a_model_is_the_layers_own(name):
    """Keras wraps what a layer raises in a model: the text has to come through."""
    layer = new_layer(name)
    layer.build(SHAPE)
    inputs = keras.Input((*IMAGE, CHANNELS))
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises((TypeError, ValueError), match=r"16|\(4, 6, 8\)"):
        model(images(2, channels=16))


def test_moving_layers_are_those_of_the_table():
    """The lists of this file follow the table of layers."""
    assert set(MOVING) == {name for name in NAMES if has_moving_statistics(name)}
    assert set(GROUPED) | set(PREDICTING) | set(MODED) | set(MOVING) <= set(NAMES)
