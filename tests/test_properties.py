"""What holds for any legal layer on any input: drawn, not listed."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backend_tools import (
    BACKEND,
    assert_near,
    call,
    channels_first,
    channels_last,
    data,
    float64,
    make_layer,
    random_mask,
    value_and_gradients,
    weights_of,
)
from layer_table import LAYERS
from references import reference

# A new shape costs JAX a second of compiling.
settings.register_profile(
    "properties",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
profile = settings.get_profile("properties")
some = settings(profile, max_examples=5 if BACKEND == "jax" else 20)
few = settings(profile, max_examples=2 if BACKEND == "jax" else 8)
ULPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclasses.dataclass(frozen=True)
class Case:
    """One drawn layer and input; the shape has its channels last."""

    arguments: dict
    shape: tuple
    axis: int
    dtype: str
    masked: bool
    training: bool
    seed: int

    def layer(self, name):
        first = self.axis == 1
        shape = (self.shape[0], self.shape[-1], *self.shape[1:-1]) if first else self.shape
        policy = "float32" if self.dtype == "float32" else f"mixed_{self.dtype}"
        return make_layer(name, self.arguments, shape, seed=self.seed, axis=self.axis, dtype=policy)

    def inputs(self):
        """The input as its dtype has it, in a dtype that numpy has."""
        values = keras.ops.convert_to_tensor(data(self.shape, seed=self.seed), dtype=self.dtype)
        return float64(values).astype("float32")

    def mask(self):
        if not self.masked or self.seed % 5 == 0:
            return None if not self.masked else np.zeros(self.shape[:-1], dtype=bool)
        nothing = [self.seed % self.shape[0]] if self.shape[0] else []
        return random_mask(self.shape, seed=self.seed, fully_masked=nothing)


def divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


def own_arguments(draw, name, channels):
    """Legal arguments of the layer's own."""
    arguments = {}
    if name in ("GroupNorm", "ILMGroupNorm", "AssociateNorm"):
        arguments["groups"] = draw(st.sampled_from([*divisors(channels), -1, "auto"]))
    if name.startswith("ILM"):
        arguments["key_group_size"] = draw(st.sampled_from([*divisors(channels), "auto"]))
    if name == "AssociateNorm":
        arguments["key_features"] = draw(st.sampled_from(["group", "instance"]))
        arguments["bias_mode"] = draw(st.sampled_from(["after", "before", "multiply", "none"]))
    if name.startswith("Mode"):
        arguments["modes"] = draw(st.integers(1, 4))
    if name == "ConvNorm":
        arguments["weighted_variance"] = draw(st.booleans())
    if draw(st.booleans()):
        arguments["center"] = draw(st.booleans())
        arguments["scale"] = draw(st.booleans())
    return arguments


@st.composite
def any_case(draw, row, least=0):
    """Any legal layer of a row; `least` is the least number of examples."""
    rank = draw(st.sampled_from(row.ranks))
    channels = draw(st.sampled_from([1, 2, 4, 6]))
    batch = draw(st.integers(least, 5))
    side = st.integers(2 if row.name == "ConvNorm" else 1, 5)
    positions = [draw(side) for _ in range(rank - 2)]
    return Case(
        arguments=own_arguments(draw, row.name, channels),
        shape=(batch, *positions, channels),
        axis=draw(st.sampled_from([-1, 1])),
        dtype=draw(st.sampled_from(["float32", "float32", "float16", "bfloat16"])),
        masked=draw(st.booleans()),
        training=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


def each_row(rows=LAYERS):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


@each_row()
@given(choices=st.data())
@some
def test_any_input_gives_what_the_formula_says(row, choices):
    case = choices.draw(any_case(row))
    layer = case.layer(row.name)
    inputs, mask = case.inputs(), case.mask()
    weights = weights_of(layer)
    arranged = channels_first(inputs) if case.axis == 1 else inputs
    outputs = call(layer, arranged, case.training, mask, dtype=case.dtype, quick=True)
    assert outputs.shape == arranged.shape
    assert keras.backend.standardize_dtype(outputs.dtype) == case.dtype
    outputs = float64(channels_last(outputs) if case.axis == 1 else outputs)
    assert np.isfinite(outputs).all()
    expected, updates = reference(row.name, inputs, weights, case.arguments, case.training, mask)
    # A channel of one or two positions can have next to no variance: inverse deviations reach 316.
    assert_near(outputs, expected.numpy(), 1e-3 + 2 * ULPS[case.dtype], where=mask)
    for key, value in updates.items():
        assert_near(weights_of(layer)[key], value.numpy(), 1e-5, key)


@each_row()
@given(choices=st.data())
@few
def test_any_gradient_is_finite(row, choices):
    case = dataclasses.replace(choices.draw(any_case(row)), axis=-1)
    layer = case.layer(row.name)
    output_weights = data(case.shape, seed=case.seed + 1)
    result = value_and_gradients(
        layer,
        case.inputs(),
        output_weights,
        case.training,
        case.mask(),
        dtype=case.dtype,
        compiled=BACKEND == "jax",
    )
    assert result.finite()
    assert result.input_gradient.shape == case.shape
    assert keras.backend.standardize_dtype(result.input_gradient.dtype) == case.dtype


@each_row([row for row in LAYERS if row.name in ("GroupNorm", "InstanceNorm", "LayerNorm")])
@given(
    choices=st.data(),
    factor=st.floats(0.5, 100),
    offset=st.floats(-100, 100),
)
@some
def test_an_affine_change_of_the_input_changes_nothing(row, choices, factor, offset):
    case = dataclasses.replace(
        choices.draw(any_case(row, least=1)), dtype="float32", axis=-1, masked=False
    )
    assume(np.prod(case.shape[1:-1]) >= 4)
    layer = case.layer(row.name)
    inputs = case.inputs()
    assume(inputs.reshape(len(inputs), -1, inputs.shape[-1]).std(axis=1).min() > 0.3)
    changed = (factor * inputs + offset).astype("float32")
    assert_near(call(layer, changed, quick=True), call(layer, inputs, quick=True), 2e-3)


@each_row([row for row in LAYERS if row.name != "ConvNorm"])
@given(choices=st.data())
@few
def test_permuting_positions_permutes_the_output(row, choices):
    case = choices.draw(any_case(row, least=1))
    case = dataclasses.replace(case, axis=-1, dtype="float32")
    assume(len(case.shape) > 2)
    inputs, mask = case.inputs(), case.mask()
    order = np.random.default_rng(case.seed).permutation(case.shape[1])
    layer = case.layer(row.name)
    outputs = call(layer, inputs, True, mask, quick=True)
    layer = case.layer(row.name)
    permuted = None if mask is None else mask[:, order]
    result = call(layer, inputs[:, order], True, permuted, quick=True)
    assert_near(result, outputs[:, order], 1e-3, where=permuted)


@pytest.mark.smoke
@each_row([row for row in LAYERS if row.scope == "example"])
@given(choices=st.data())
@few
def test_examples_do_not_see_each_other(row, choices):
    case = choices.draw(any_case(row, least=2))
    case = dataclasses.replace(case, axis=-1, dtype="float32")
    inputs, mask = case.inputs(), case.mask()
    layer = case.layer(row.name)
    together = call(layer, inputs, True, mask, quick=True)
    alone = call(layer, inputs[:1], True, None if mask is None else mask[:1], quick=True)
    assert_near(alone, together[:1], 1e-3, where=None if mask is None else mask[:1])
