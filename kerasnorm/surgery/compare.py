"""How the outputs of a new norm relate to those of the old one.

Layers of this package say themselves which plain norm they are (`Normalization.standardization`);
for Keras's own there is a table here.
"""

from typing import Any

import keras
import numpy as np

from kerasnorm.core.layer import Normalization
from kerasnorm.core.standardization import (
    BATCH,
    OTHER,
    RENORMALIZED,
    SAME,
    SAME_AT_INFERENCE,
    Standardization,
    groups,
    numpy_of,
    renormalized,
)
from kerasnorm.registry import auto_groups, takes

# What Keras's layers do that none of this package does.
POSITIONS = "positions"
ROOT_MEAN_SQUARE = "root mean square"
VARIANCE = "variance"


def _group_family(layer, rank, channels):
    return groups(group_count(layer, channels))


def _layer_family(layer, rank, channels):
    axes = _axes(layer, rank)
    if getattr(layer, "rms_scaling", False):
        return (VARIANCE, axes)
    return groups(1) if axes == tuple(range(1, rank)) else (POSITIONS, axes)


# Keras's layers, and what each standardizes by.
FAMILIES = {
    keras.layers.BatchNormalization: lambda layer, rank, channels: BATCH,
    keras.layers.GroupNormalization: _group_family,
    keras.layers.LayerNormalization: _layer_family,
    keras.layers.RMSNormalization: lambda layer, rank, channels: (
        ROOT_MEAN_SQUARE,
        _axes(layer, rank),
    ),
}


def standardization_of(layer, shape):
    """A built layer as a plain norm, a `Standardization`; `shape` is that of its inputs."""
    if isinstance(layer, Normalization):
        return layer.standardization()
    rank = len(shape)
    channels = shape[channel_axis_of(layer, rank)]
    weights = weights_of(layer)
    values: dict[str, Any] = {}
    for name, constant in (("gamma", 1.0), ("beta", 0.0)):
        value = fit(numpy_of(weights[name]), (channels,)) if name in weights else None
        values[name] = np.full((channels,), constant) if value is None else value.astype("float64")
    for name in ("moving_mean", "moving_variance"):
        if name in weights:
            values[name] = numpy_of(weights[name]).astype("float64")
    family = next((f for kind, f in FAMILIES.items() if isinstance(layer, kind)), None)
    return Standardization(
        **values,
        epsilon=getattr(layer, "epsilon", 0.0),
        family=family and family(layer, rank, channels),
        in_training=_renormalized(layer) if getattr(layer, "renorm", False) else None,
        per_channel=all(
            fit(numpy_of(weights[name]), (channels,)) is not None
            for name in ("gamma", "beta")
            if name in weights
        ),
    )


def relation(old, new, shape):
    """How the outputs of `new` relate to those of `old`, both built: `SAME`, ..., `OTHER`."""
    if isinstance(new, keras.layers.Identity):
        return OTHER
    if type(old) is type(new) and _is_same_layer(old, new):
        return SAME
    if len({channel_axis_of(layer, len(shape)) % len(shape) for layer in (old, new)}) > 1:
        return OTHER
    return standardization_of(old, shape).relation_to(standardization_of(new, shape))


def remark(old, new, outputs, limit):
    """Why the outputs are others than a reader may expect; empty where there is nothing to say.

    Args:
        old, new: the `Standardization` of each layer.
        outputs: their relation.
        limit: what kept the new layer from being the old norm, where it was to start as that; else
            None.
    """
    kind = old.family[0] if old.family else None
    if _is_renormalized(old) and not _is_renormalized(new):
        return "batch renormalization ends here"
    if kind == POSITIONS and old.family != new.family:
        return "the old norm took each position by itself"
    if kind in (ROOT_MEAN_SQUARE, VARIANCE) and old.family != new.family:
        return "the old norm subtracted no mean"
    if limit is None or outputs in (SAME, SAME_AT_INFERENCE):
        return ""
    if old.family == new.family and limit:
        return limit
    if old.family == BATCH:
        return "statistics of the batch have no counterpart in those of one example"
    if kind == "groups" and new.family and new.family[0] == kind and old.family != new.family:
        return f"{old.family[1]} groups were standardized, not {new.family[1]}"
    return "the two norms have no common case"


def _renormalized(layer):
    """What BatchNormalization with `renorm` uses in training."""
    limits = renorm_limits(layer.renorm_clipping)
    averages = (layer.renorm_mean, layer.renorm_stddev)
    return renormalized(tuple(limits.values()), layer.renorm_momentum, averages)


def renorm_limits(clipping):
    """BatchNormalization's `renorm_clipping` as the arguments of `BatchRenorm`."""
    r_min = clipping.get("rmin")
    return {
        "r_max": clipping.get("rmax"),
        "d_max": clipping.get("dmax"),
        "r_min": 0.0 if r_min is None else r_min,
    }


def _is_renormalized(norm):
    """Whether a `Standardization` is of batch renormalization."""
    return bool(norm.in_training) and norm.in_training[0] == RENORMALIZED


def in_use(layer):
    """The layer; of one with copies of a norm, the copy that inference uses."""
    return layer.banks[0] if getattr(layer, "copies_a_norm", False) else layer


def channel_axis_of(layer, rank):
    """The axis along which gamma and beta lie, as the layer gives it where it gives one."""
    axis = getattr(in_use(layer), "axis", -1)
    if isinstance(axis, (list, tuple)):
        if len(axis) == 1:
            return axis[0]
        return -1 if rank - 1 in [a % rank for a in axis] else max(axis)
    return axis


def group_count(layer, channels):
    """The number of groups of a layer that has the argument."""
    if isinstance(layer, Normalization):
        return layer.groups_of(channels)
    if layer.groups == "auto":
        return auto_groups(channels)
    return channels if layer.groups == -1 else layer.groups


def weights_of(layer):
    """The weights of a layer by name; RMSNormalization's `scale` is a gamma."""
    renamed = {"scale": "gamma"} if isinstance(layer, keras.layers.RMSNormalization) else {}
    return {renamed.get(variable.name, variable.name): variable for variable in layer.variables}


def fit(value, shape):
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


def comparable(config):
    """A configuration, with an axis that Keras's layers turn into a list when built as a number."""
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        return {**config, "axis": axis[0]}
    return dict(config)


def config_for(layer, layer_class):
    """A layer's configuration, in the words of the class whose layer takes its place."""
    config = comparable(layer.get_config())
    if config.get("renorm") and takes(layer_class, "r_max"):
        del config["renorm"]
        config.update(renorm_limits(config.pop("renorm_clipping")))
    return config


def _axes(layer, rank):
    """The axes of Keras's LayerNormalization, ascending."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return tuple(sorted(axis % rank for axis in axes))


def _is_same_layer(old, new):
    """Whether two layers of a class have the same configuration and weights."""
    configs = [
        {k: v for k, v in comparable(layer.get_config()).items() if k not in ("name", "trainable")}
        for layer in (old, new)
    ]
    weights = [weights_of(layer) for layer in (old, new)]
    return configs[0] == configs[1] and all(
        np.array_equal(numpy_of(weights[0][name]), numpy_of(weights[1][name]))
        for name in weights[0]
    )
