"""What a new norm takes over from the one whose place it takes: arguments and weights."""

import inspect
from typing import NamedTuple

import keras
import numpy as np

from kerasnorm.core.layer import Normalization
from kerasnorm.core.standardization import OTHER, assign, numpy_of
from kerasnorm.registry import AUTO_ARGUMENTS, get, make
from kerasnorm.surgery.compare import (
    channel_axis_of,
    comparable,
    config_for,
    fit,
    group_count,
    in_use,
    relation,
    remark,
    standardization_of,
    weights_of,
)
from kerasnorm.surgery.rebuild import takes_argument
from kerasnorm.surgery.report import Replacement

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
    "r_max",
    "d_max",
    "r_min",
    "renorm_momentum",
)
# Those that every Keras layer takes as `**kwargs`.
BASE = ("name", "dtype", "trainable", "activity_regularizer")
SHARED_WEIGHTS = (
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
    "moving_stddev",
    "renorm_mean",
    "renorm_stddev",
)


class Handed(NamedTuple):
    """What went from one layer to another.

    Attributes:
        replacement: the line of the report.
        pairs: `(old variable, new variable)` with the same values.
    """

    replacement: Replacement
    pairs: tuple


# The new layer.


def successor(site, carry=True, preserve=False):
    """The unbuilt layer that takes the place of a site's old norm.

    Args:
        site: with the old norm, which is built, and the spec of the new one.
        carry: whether arguments beyond name, dtype policy and axis come from `old`.
        preserve: give it a gamma and a beta where it needs them to start as the old one.
    """
    return _successor(site.old, site.norm, site.shape, carry, preserve)


def _successor(old, norm, shape, carry, preserve):
    """`successor`, of layers that may also be those inside of a `ConsistentNorm`."""
    if norm is None:
        return get(None, name=old.name, dtype=_policy(old))
    if norm.inner is not None:
        inner = _successor(in_use(old), norm.inner, shape, carry, preserve)
        outer = _inherited(old, norm.layer_class, None, carry)
        return norm.layer_class(**{**outer, **norm.given, "norm": inner})
    old, outer = in_use(old), old
    channel_axis = channel_axis_of(old, len(shape))
    arguments = {
        **norm.open_arguments(shape[channel_axis]),
        **_inherited(old, norm.layer_class, channel_axis, carry),
        **{key: outer.get_config()[key] for key in ("name", "trainable") if outer is not old},
        **norm.given,
    }
    layer = make(norm.layer_class, arguments)
    if preserve and isinstance(layer, Normalization):
        needed = layer.needed_weights(standardization_of(old, shape))
        missing = [key for key in needed if key not in norm.given]
        if missing:
            layer = make(norm.layer_class, {**arguments, **dict.fromkeys(missing, True)})
    return layer


def _inherited(old, layer_class, channel_axis, carry):
    """The constructor arguments that come from the old layer."""
    config = {**config_for(old, layer_class), "dtype": _policy(old)}
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
    return getattr(layer_class, "_method", layer_class)


# Weights.


def hand_on(site, new, carry=True, preserve=False):
    """Give a new layer what it shares with the one whose place it takes.

    Args:
        site: the place, with the old layer and the spec of the new one.
        new: the layer from `successor`, built.
        carry: whether to copy weights.
        preserve: whether the new layer starts as the old one.

    Returns:
        A `Handed`.
    """
    old, shape = site.old, site.shape
    sources, targets = (
        layer.banks if getattr(layer, "copies_a_norm", False) else [layer] for layer in (old, new)
    )
    pairs, said = [], []
    for index, target in enumerate(targets):
        source = sources[min(index, len(sources) - 1) if len(targets) > 1 else 0]
        taken = _taken_over(source, target, shape) if carry else {}
        if isinstance(target, Normalization):
            target.complete(taken)
        limit = None
        if preserve and isinstance(target, Normalization):
            limit = target.start_as(standardization_of(source, shape))
        pairs += [pair for pair in taken.values() if _is_equal(*pair)]
        said.append((source, list(taken), limit))
    # What the report says is of the copy that inference uses.
    source, taken, limit = said[0]
    target = targets[0]
    left_out = [name for name in weights_of(source) if name not in taken] if carry else []
    outputs = relation(source, target, shape)
    remarks = [chosen(target, site.norm, shape)]
    if not isinstance(target, keras.layers.Identity):
        before, after = (standardization_of(layer, shape) for layer in (source, target))
        remarks.append(remark(before, after, outputs, (limit or "") if preserve else None))
    if site.masked and takes_argument(new, "mask") != takes_argument(old, "mask"):
        outputs = OTHER
        remarks.append("the mask counts" if takes_argument(new, "mask") else "the mask is not used")
    outer = old if len(sources) > 1 else source
    replacement = Replacement(
        layer=site.path,
        stage=site.stage,
        old=type(old).__name__,
        new="none" if isinstance(new, keras.layers.Identity) else type(new).__name__,
        carried=(*taken, *_carried_arguments(source, target, len(shape), carry)),
        left_out=(*_lost_arguments(outer, target, carry), *left_out),
        chosen=", ".join(filter(None, remarks)),
        outputs=outputs,
    )
    return Handed(replacement, tuple(pairs))


def _taken_over(old, new, shape):
    """Copy the weights that both have; pairs of variables by name."""
    source, target = weights_of(old), weights_of(new)
    values = {name: numpy_of(variable) for name, variable in source.items()}
    rows = values.get("moving_mean")
    wanted = target.get("moving_mean")
    if rows is not None and rows.ndim > 1 and (wanted is None or rows.shape != wanted.shape):
        # Several rows become one, as the layer itself pools them.
        pooled = standardization_of(old, shape)
        values["moving_mean"] = pooled.moving_mean
        values["moving_variance"] = pooled.moving_variance
    shared = values if _method(type(old)) is _method(type(new)) else SHARED_WEIGHTS
    taken = {}
    for name, value in values.items():
        if name in shared and name in target:
            fitting = fit(value, tuple(target[name].shape))
            if fitting is not None:
                assign(target[name], fitting)
                taken[name] = (source[name], target[name])
    return taken


def _is_equal(one, other):
    """Whether two variables have the same shape and values."""
    return np.array_equal(numpy_of(one), numpy_of(other))


# Words for the report.


def chosen(layer, norm, shape):
    """What "auto" came to, for a reader; empty where nothing was left open."""
    if norm is None:
        return ""
    channels = shape[channel_axis_of(layer, len(shape))]
    given = (norm.inner or norm).given
    words = []
    if getattr(layer, "groups", None) is not None and "groups" not in given:
        count = group_count(layer, channels)
        words.append(f"groups={count}")
        if count == channels:
            words.append("one group per channel: instance norm")
    if getattr(layer, "key_group_size", None) == "auto":
        size = channels // layer.key_groups_of(channels)
        words.append(f"key_group_size={size}" + (" (a key per channel)" if size == 1 else ""))
    return ", ".join(words)


def _carried_arguments(old, new, rank, carry):
    """The arguments that both have, told where they are not what the new layer has by itself."""
    before, after = config_for(old, type(new)), comparable(new.get_config())
    for config in (before, after):
        if config.get("axis") == rank - 1:
            config["axis"] = -1
    usual = _defaults(type(new))
    return [
        _word(key, after[key])
        for key in ("axis", *(COMMON if carry else ()))
        if key in before
        and key in after
        and before[key] == after[key]
        and after[key] != usual.get(key)
    ]


def _lost_arguments(old, new, carry):
    """The arguments of the old layer, told where they are unusual, that the new one cannot take."""
    if not carry:
        return []
    before, after = config_for(old, type(new)), new.get_config()
    usual = _defaults(type(old))
    own = () if isinstance(new, keras.layers.Identity) else ("axis",)
    return [
        _word(key, value)
        for key, value in before.items()
        if key not in ("name", "dtype", "norm", *own)
        and key not in after
        and usual.get(key) != value
        # Counted as a choice of its own where the old layer is the plain norm of the new.
        and not (key in AUTO_ARGUMENTS and key in after)
    ]


def _defaults(layer_class):
    """The default arguments of a class, as its configuration gives them."""
    try:
        return comparable(layer_class().get_config())
    except TypeError:
        return {}


def _word(key, value):
    """An argument as the report names it."""
    return f"{key}={value}" if isinstance(value, (bool, int, float, str, list)) else key
