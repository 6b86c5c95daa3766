"""What a normalization layer hands on to the one that takes its place."""

import inspect
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasnorm.consistent import ConsistentNorm
from kerasnorm.core.groups import Association, GroupStandardization
from kerasnorm.core.layer import Normalization
from kerasnorm.layers.associate import AssociatedRescaling
from kerasnorm.layers.batch import BatchNorm
from kerasnorm.layers.conv import ConvNorm
from kerasnorm.layers.ilm import InstanceLevelMeta
from kerasnorm.layers.learned_stats import LearnedStatsNorm
from kerasnorm.layers.mode import ModeGroupNorm, ModeNorm
from kerasnorm.registry import (
    AUTO_ARGUMENTS,
    auto_arguments,
    auto_groups,
    get,
    given_arguments,
    make,
)
from kerasnorm.sites import inner_spec

# What every swap keeps, since the layer would not fit its place otherwise.
PLACE = ("name", "dtype", "axis")
# What any two layers that have it mean the same by.
COMMON = (
    "trainable",
    "activity_regularizer",
    "epsilon",
    "center",
    "scale",
    "beta_initializer",
    "gamma_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
    "momentum",
    "synchronized",
    "moving_mean_initializer",
    "moving_variance_initializer",
    "groups",
)
# Those that every Keras layer takes as `**kwargs`.
BASE = ("name", "dtype", "trainable", "activity_regularizer")
SHARED_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")

# How the outputs of the new layer relate to those of the old.
SAME = "same"
SAME_AT_INFERENCE = "same at inference"
NEAR = "near"
OTHER = "other"

# The width of a gate's weights with which modes are nearly alike: what ModeNorm starts with.
EVEN_GATE = 0.01


class Handed(NamedTuple):
    """What went from one layer to another.

    Attributes:
        carried: weights and arguments, as words for a reader.
        left_out: those that the new layer has no place for.
        pairs: `(old variable, new variable)` with the same values.
        outputs: `SAME`, `SAME_AT_INFERENCE`, `NEAR` or `OTHER`.
    """

    carried: tuple
    left_out: tuple
    pairs: tuple
    outputs: str


# The new layer.


def successor(old, spec, shape, carry=True, preserve=False):
    """The unbuilt layer that takes the place of `old`.

    Args:
        old: a built normalization layer.
        spec: a norm spec.
        shape: of the inputs.
        carry: whether arguments beyond name, dtype policy and axis come from `old`.
        preserve: give it a gamma and a beta where `adjust` will need them.

    Returns:
        The layer.
    """
    if spec is None:
        return get(None, name=old.name, dtype=_policy(old))
    layer_class, given = given_arguments(spec)
    if issubclass(layer_class, ConsistentNorm):
        outer = _inherited(old, layer_class, None, carry)
        if "norm" in given:
            norm = inner_spec(given["norm"])
            given = {**given, "norm": successor(plain(old), norm, shape, carry, preserve)}
        return layer_class(**{**outer, **given})
    old, outer = plain(old), old
    channel_axis = channel_axis_of(old, len(shape))
    arguments = {
        **auto_arguments(spec, shape[channel_axis]),
        **_inherited(old, layer_class, channel_axis, carry),
        **{key: outer.get_config()[key] for key in ("name", "trainable") if outer is not old},
        **given,
    }
    layer = make(layer_class, arguments)
    if preserve and issubclass(layer_class, Normalization):
        wanted = [key for key in _needed_weights(layer, old, shape) if key not in given]
        if wanted:
            layer = make(layer_class, {**arguments, **dict.fromkeys(wanted, True)})
    return layer


def plain(layer):
    """The layer, or the first bank of a `ConsistentNorm`: what inference uses."""
    return layer.banks[0] if isinstance(layer, ConsistentNorm) else layer


def channel_axis_of(layer, rank):
    """The axis along which gamma and beta lie, as the layer gives it where it gives one."""
    axis = getattr(plain(layer), "axis", -1)
    if isinstance(axis, (list, tuple)):
        if len(axis) == 1:
            return axis[0]
        return -1 if rank - 1 in [a % rank for a in axis] else max(axis)
    return axis


def _inherited(old, layer_class, channel_axis, carry):
    """The constructor arguments that come from the old layer."""
    config = {**old.get_config(), "dtype": _policy(old)}
    keys = PLACE if not carry else (*PLACE, *COMMON)
    if carry and _method(type(old)) is _method(layer_class):
        keys = tuple(config)
    elif "axis" in config:
        config["axis"] = channel_axis
    parameters = inspect.signature(layer_class).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {
        key: config[key]
        for key in keys
        if key in config and (key in parameters or (open_ended and key in BASE))
    }


def _policy(layer):
    """A layer's dtype policy, by its name where that says all."""
    policy = layer.dtype_policy
    return policy.name if type(policy) is keras.dtype_policies.DTypePolicy else policy


def _method(layer_class):
    """Classes with the same arguments and weights of their own share a method."""
    return InstanceLevelMeta if issubclass(layer_class, InstanceLevelMeta) else layer_class


def chosen(layer, spec, shape):
    """What "auto" came to, for a reader; empty where nothing was left open."""
    layer = plain(layer)
    channels = shape[channel_axis_of(layer, len(shape))]
    words = []
    groups = getattr(layer, "groups", None)
    _, given = (None, {}) if spec is None else given_arguments(spec)
    if isinstance(given.get("norm"), (str, dict)):
        _, given = given_arguments(given["norm"])
    if groups is not None and "groups" not in given:
        count = _group_count(layer, channels)
        words.append(f"groups={count}")
        if count == channels:
            words.append("one group per channel: instance norm")
    if getattr(layer, "key_group_size", None) == "auto":
        size = channels // layer.key_groups_of(channels)
        words.append(f"key_group_size={size}" + (" (a key per channel)" if size == 1 else ""))
    return ", ".join(words)


def _group_count(layer, channels):
    """The number of groups of a layer that has them."""
    if isinstance(layer, GroupStandardization):
        return layer.groups_of(channels)
    groups = getattr(layer, "groups", 1)
    if groups == "auto":
        return auto_groups(channels)
    return channels if groups == -1 else groups


# Weights.


def hand_on(old, new, shape, carry=True, preserve=False):
    """Copy to `new`, which is built, what it shares with `old`.

    Args:
        old: a built normalization layer.
        new: a built layer, from `successor`.
        shape: of the inputs.
        carry: whether to copy weights.
        preserve: whether to `adjust` the new layer's own weights.

    Returns:
        A `Handed`.
    """
    sources = old.banks if isinstance(old, ConsistentNorm) else [old]
    targets = new.banks if isinstance(new, ConsistentNorm) else [new]
    handed = []
    for index, target in enumerate(targets):
        source = sources[min(index, len(sources) - 1) if len(targets) > 1 else 0]
        handed.append(_hand_on(source, target, shape, carry, preserve))
    first = handed[0]
    outer = old if len(sources) > 1 else sources[0]
    left_out = tuple(w for w in _lost_arguments(outer, targets[0], carry)) + first.left_out
    pairs = tuple(pair for one in handed for pair in one.pairs)
    return first._replace(left_out=left_out, pairs=pairs)


def _hand_on(old, new, shape, carry, preserve):
    """`hand_on` for two layers of which none is a `ConsistentNorm`."""
    carried, left_out, pairs = [], [], []
    if carry:
        values = _fitting(old, new)
        variables = _variables(new)
        for name, variable in _variables(old).items():
            if name in values:
                assign(variables[name], values[name])
                carried.append(name)
                if tuple(variable.shape) == tuple(variables[name].shape):
                    pairs.append((variable, variables[name]))
            else:
                left_out.append(name)
    if preserve and isinstance(new, Normalization):
        adjusted = adjust(old, new, shape)
        pairs = [pair for pair in pairs if not adjusted]
    carried += _carried_arguments(old, new, len(shape), carry)
    return Handed(tuple(carried), tuple(left_out), tuple(pairs), compare(old, new, shape))


def assign(variable, value):
    """Give a variable a copy of a value, so that no buffer is shared (JAX gives them away)."""
    if hasattr(value, "assign"):
        value = ops.convert_to_numpy(value)
    variable.assign(np.array(value))


def _variables(layer):
    """The weights of a layer by name; RMSNormalization's `scale` is a gamma."""
    renamed = {"scale": "gamma"} if isinstance(layer, keras.layers.RMSNormalization) else {}
    return {renamed.get(variable.name, variable.name): variable for variable in layer.variables}


def _fitting(old, new):
    """Values for the weights of `new`, by name, from those of `old`."""
    source = {name: _numpy(variable) for name, variable in _variables(old).items()}
    target = {name: tuple(variable.shape) for name, variable in _variables(new).items()}
    mean = source.get("moving_mean")
    if mean is not None and mean.ndim == 2 and mean.shape != target.get("moving_mean"):
        # Modes become one, as even gates see them.
        source["moving_mean"] = mean.mean(0)
        source["moving_variance"] = source["moving_variance"].mean(0) + mean.var(0)
    names = SHARED_WEIGHTS
    if _method(type(old)) is _method(type(new)):
        names = tuple(source)
    values = {}
    for name in names:
        if name in source and name in target:
            value = _fit(source[name], target[name])
            if value is not None:
                values[name] = value
    return values


def _fit(value, shape):
    """A weight in another shape with the same meaning, or None where there is no such thing."""
    if value.shape == shape:
        return value
    if value.ndim < len(shape) and value.shape[-1:] == shape[-1:]:
        return np.broadcast_to(value, shape)
    if value.ndim > len(shape) == 1 and value.shape[-1:] == shape:
        # Keras's LayerNormalization over several axes: a gamma per position.
        flat = value.reshape(-1, shape[0])
        return flat[0] if (flat == flat[:1]).all() else None
    return None


def _carried_arguments(old, new, rank, carry):
    """The arguments that both have, told where they are not what the new layer has by itself."""
    before, after = old.get_config(), new.get_config()
    for config in (before, after):
        if _plain_axis(config.get("axis")) == rank - 1:
            config["axis"] = -1
    usual = _defaults(type(new))
    keys = COMMON if carry else ()
    return [
        _word(key, after[key])
        for key in ("axis", *keys)
        if key in before
        and key in after
        and _plain_axis(before[key]) == _plain_axis(after[key])
        and _plain_axis(after[key]) != _plain_axis(usual.get(key))
    ]


def _lost_arguments(old, new, carry):
    """The arguments of the old layer, told where they are unusual, that the new one cannot take."""
    if not carry:
        return []
    before, after = old.get_config(), new.get_config()
    usual = _defaults(type(old))
    own = () if isinstance(new, keras.layers.Identity) else ("axis",)
    return [
        _word(key, value)
        for key, value in before.items()
        if key not in ("name", "dtype", "norm", *own)
        and key not in after
        and _plain_axis(usual.get(key)) != _plain_axis(value)
        # Counted as a choice of its own where the old layer is the plain norm of the new.
        and not (key in AUTO_ARGUMENTS and key in after)
    ]


def _defaults(layer_class):
    """The default arguments of a class, as its configuration gives them."""
    try:
        return layer_class().get_config()
    except TypeError:
        return {}


def _plain_axis(value):
    """An axis, which Keras's layers turn into a list when built."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _word(key, value):
    """An argument as the report names it."""
    return f"{key}={value}" if isinstance(value, (bool, int, float, str, list)) else key


def _numpy(variable):
    return np.array(ops.convert_to_numpy(variable))


# Keeping the function.


def adjust(old, new, shape):
    """Set the own weights of `new` so that it computes what `old` did, as nearly as it can.

    Args:
        old: a built normalization layer, whose gamma, beta and moving statistics `new` has.
        new: a built layer of this package.
        shape: of the inputs.

    Returns:
        Whether gamma and beta were changed.
    """
    if isinstance(new, Association):
        decoders: Any = (new.mean_decoder, new.variance_decoder)
        for decoder in decoders:
            assign(decoder, np.zeros(tuple(decoder.shape)))
        gamma, beta = _rescaling(old, new.channels)
        at_zero = _decoded_zero(new)
        for variable, wanted, start in zip(
            (new.gamma, new.beta), (gamma, beta), at_zero, strict=True
        ):
            if variable is not None:
                assign(variable, _bias_for(new, wanted, *start))
        return True
    if isinstance(new, ConvNorm):
        for logits in new.spatial_logits:
            assign(logits, np.zeros(tuple(logits.shape)))
    if isinstance(new, ModeGroupNorm):
        assign(new.gate_kernel, EVEN_GATE * _numpy(new.gate_kernel))
    if (
        isinstance(new, LearnedStatsNorm)
        and standardization(old, shape) == ("batch",)
        and new.gamma is not None
        and new.beta is not None
    ):
        _predict_constants(new)
        slope, shift = _affine_at_inference(old, new.channels)
        assign(new.gamma, slope)
        assign(new.beta, shift)
        return True
    return False


def _needed_weights(new, old, shape):
    """Whether `adjust` has to have a gamma and a beta: those of "scale" and "center" it needs."""
    if isinstance(new, LearnedStatsNorm):
        return ["scale", "center"] if standardization(old, shape) == ("batch",) else []
    if not isinstance(new, Association):
        return []
    neutral = {"after": 0.0, "before": 0.0, "multiply": 1.0, "none": None}
    mode = getattr(new, "bias_mode", "after")
    channels = shape[new.axis]
    wanted = _rescaling(old, channels)
    needed = []
    for key, target, (activation, start) in zip(
        ("scale", "center"), wanted, _decoded_zero(new, channels), strict=True
    ):
        bare = _combine(mode, activation, start, 1.0 if key == "scale" else 0.0)
        if neutral[mode] is not None and not np.allclose(bare, target, atol=1e-7):
            needed.append(key)
    return needed


def _decoded_zero(new, channels=None):
    """For gamma, then beta: the activation and its value for a decoder that gives zeros."""
    channels = channels or new.channels
    scale, shift = new.variance_activation, new.mean_activation
    if isinstance(new, AssociatedRescaling):
        scale, shift = shift, scale
    keys = new.key_groups_of(channels)

    def value(activation):
        result = _numpy(activation(ops.zeros((1, keys), "float32")))
        return np.repeat(result[0], channels // keys)

    return (scale, value(scale)), (shift, value(shift))


def _combine(mode, activation, start, bias):
    """Gamma or beta where the decoder gives zeros: the bias modes of `AssociateNorm`."""
    if mode == "after":
        return start + bias
    if mode == "multiply":
        return start * bias
    if mode == "none":
        return start
    bias = np.broadcast_to(np.asarray(bias, "float32"), start.shape)
    return _numpy(activation(ops.convert_to_tensor(bias[None].copy())))[0]


def _bias_for(new, wanted, activation, start):
    """The bias with which the rescaling is `wanted`, or as near as a bias gets it."""
    mode = getattr(new, "bias_mode", "after")
    if mode == "after":
        return wanted - start
    if mode == "multiply":
        return np.where(start == 0, wanted, wanted / np.where(start == 0, 1, start))
    if activation is keras.activations.sigmoid:
        inside = np.clip(wanted, 1e-3, 1 - 1e-3)
        return np.log(inside / (1 - inside))
    if activation is keras.activations.tanh:
        return np.arctanh(np.clip(wanted, -1 + 1e-3, 1 - 1e-3))
    return wanted


def _predict_constants(new):
    """Let a `LearnedStatsNorm` predict the mean 0 and the deviation 1."""
    unit = np.log(np.expm1(1 - new.epsilon))
    for stack, value in ((new.mean_stack, 0.0), (new.std_stack, unit)):
        kernel, bias = stack[-1]
        assign(kernel, np.zeros(tuple(kernel.shape)))
        assign(bias, np.full(tuple(bias.shape), value))


def _rescaling(layer, channels):
    """Gamma and beta of a layer, per channel; 1 and 0 where it has none or more than one each."""
    variables = _variables(layer)
    values = []
    for name, constant in (("gamma", 1.0), ("beta", 0.0)):
        value = None
        if name in variables:
            value = _fit(_numpy(variables[name]), (channels,))
        values.append(np.full((channels,), constant) if value is None else value)
    return tuple(np.asarray(value, "float64") for value in values)


def _affine_at_inference(layer, channels):
    """Slope and shift of a batch norm at inference, `y = slope*x + shift`."""
    gamma, beta = _rescaling(layer, channels)
    variables = _variables(layer)
    mean, variance = (
        _numpy(variables[n]).astype("float64").reshape(-1, channels)[0]
        for n in ("moving_mean", "moving_variance")
    )
    slope = gamma / np.sqrt(variance + layer.epsilon)
    return slope, beta - mean * slope


# Comparing.


def standardization(layer, shape):
    """What a layer standardizes by; None where it is a method of its own.

    Two layers with the same answer, channel axis, epsilon, gamma, beta and moving statistics are
    the same function.
    """
    layer = plain(layer)
    rank = len(shape)
    channels = shape[channel_axis_of(layer, rank)]
    if isinstance(layer, keras.layers.RMSNormalization):
        return ("root mean square", _axes(layer, rank))
    if isinstance(layer, keras.layers.LayerNormalization):
        if getattr(layer, "rms_scaling", False):
            return ("variance", _axes(layer, rank))
        if _axes(layer, rank) == tuple(range(1, rank)):
            return ("groups", 1)
        return ("positions", _axes(layer, rank))
    if isinstance(layer, (keras.layers.BatchNormalization, BatchNorm)):
        return ("renormalized batch",) if getattr(layer, "renorm", False) else ("batch",)
    if isinstance(layer, Association):
        return None
    if isinstance(layer, (keras.layers.GroupNormalization, GroupStandardization)):
        return ("groups", _group_count(layer, channels))
    return None


def _axes(layer, rank):
    """The axes of Keras's LayerNormalization, ascending."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return tuple(sorted(axis % rank for axis in axes))


def compare(old, new, shape):
    """How the outputs of `new` relate to those of `old`: one of the constants above."""
    old, new = plain(old), plain(new)
    if isinstance(new, keras.layers.Identity):
        return OTHER
    if type(old) is type(new) and _same_layer(old, new):
        return SAME
    before = standardization(old, shape)
    axes = [channel_axis_of(layer, len(shape)) % len(shape) for layer in (old, new)]
    if before is None or axes[0] != axes[1] or not _same_weights(old, new, shape):
        return OTHER
    after = standardization(new, shape)
    if before == after:
        return SAME
    if before == ("batch",):
        if isinstance(new, LearnedStatsNorm):
            return SAME_AT_INFERENCE
        if isinstance(new, ModeNorm):
            return SAME_AT_INFERENCE
        if isinstance(new, ConvNorm):
            even = all((_numpy(logits) == 0).all() for logits in new.spatial_logits)
            return SAME if even else SAME_AT_INFERENCE
    if before == ("renormalized batch",) and after == ("batch",):
        return SAME_AT_INFERENCE
    if before[0] == "groups":
        if isinstance(new, Association):
            return SAME if before[1] == new.groups_of(new.channels) else OTHER
        if isinstance(new, ModeGroupNorm) and before[1] == 1:
            if new.modes == 1:
                return SAME
            return NEAR if abs(_numpy(new.gate_kernel)).max() < 10 * EVEN_GATE else OTHER
    return OTHER


def remark(old, new, shape, outputs, preserve):
    """Why the outputs are others than a reader may expect; empty where there is nothing to say."""
    old, new = plain(old), plain(new)
    before, after = (standardization(layer, shape) for layer in (old, new))
    kind = before[0] if before else None
    if isinstance(new, keras.layers.Identity):
        return ""
    if kind == "renormalized batch":
        return "batch renormalization ends here"
    if kind == "positions" and before != after:
        return "the old norm took each position by itself"
    if kind in ("root mean square", "variance") and before != after:
        return "the old norm subtracted no mean"
    if not preserve or outputs in (SAME, SAME_AT_INFERENCE):
        return ""
    if outputs == NEAR:
        return f"gates are even but for weights of width {EVEN_GATE}"
    if kind == "batch":
        return "statistics of the batch have no counterpart in those of one example"
    if isinstance(new, Association) and kind == "groups":
        groups = new.groups_of(new.channels)
        if before[1] != groups:
            return f"{before[1]} groups were standardized, not {groups}"
        return "no bias brings the activations to the old gamma and beta"
    return "the two norms have no common case"


def _same_layer(old, new):
    """Whether two layers of a class have the same configuration and weights."""
    configs = [
        {k: _plain_axis(v) for k, v in layer.get_config().items() if k not in ("name", "trainable")}
        for layer in (old, new)
    ]
    weights = [_variables(layer) for layer in (old, new)]
    return configs[0] == configs[1] and all(
        np.array_equal(_numpy(weights[0][name]), _numpy(weights[1][name])) for name in weights[0]
    )


def _same_weights(old, new, shape):
    """Whether gamma, beta, epsilon and moving statistics of two layers come to the same."""
    channels = shape[channel_axis_of(old, len(shape))]
    for layer in (old, new):
        variables = _variables(layer)
        for name in ("gamma", "beta"):
            if name in variables and _fit(_numpy(variables[name]), (channels,)) is None:
                return False
    if isinstance(new, LearnedStatsNorm):
        return standardization(old, shape) == ("batch",) and _predicts_constants(old, new)
    if getattr(old, "epsilon", None) != getattr(new, "epsilon", None):
        return False
    wanted = _rescaling(old, channels)
    if isinstance(new, Association):
        decoders = (new.mean_decoder, new.variance_decoder)
        if any(_numpy(decoder).any() for decoder in decoders):
            return False
        mode = getattr(new, "bias_mode", "after")
        got: Any = [
            _combine(mode, activation, start, np.asarray(bias, "float32"))
            for (activation, start), bias in zip(
                _decoded_zero(new), _rescaling(new, channels), strict=True
            )
        ]
    else:
        got = _rescaling(new, channels)
    if not all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(wanted, got, strict=True)):
        return False
    moving = [_variables(layer) for layer in (old, new)]
    for name in ("moving_mean", "moving_variance"):
        if name in moving[0] and name in moving[1]:
            one, other = (_numpy(variables[name]).reshape(-1, channels) for variables in moving)
            if not (one[:1] == other).all() or not (one[:1] == one).all():
                return False
    return True


def _predicts_constants(old, new):
    """Whether a `LearnedStatsNorm` does what a batch norm does at inference."""
    if new.gamma is None or new.beta is None:
        return False
    if any(_numpy(stack[-1][0]).any() for stack in (new.mean_stack, new.std_stack)):
        return False
    wanted = _affine_at_inference(old, new.channels)
    got = _rescaling(new, new.channels)
    return all(np.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(wanted, got, strict=True))
