"""The layers that the shared tests run with: those of the table in `kerasnorm.norms`.

For the layers of the first version it also says what the papers' descriptions promise, defaults
and weights, in words of its own. Of later ones the tests take both from the layer, whose float64
reference in `references.py` names its weights.
"""

import dataclasses
import functools
import inspect

import keras
import pytest

import kerasnorm
from daily import daily
from kerasnorm import norms

# The arguments that change a formula, with their documented defaults.
COMMON_DEFAULTS = {"axis": -1, "epsilon": 1e-5, "center": True, "scale": True}
ILM_DEFAULTS = {
    "key_group_size": 16,
    "reduction": 16,
    "mean_activation": "tanh",
    "variance_activation": "sigmoid",
    "variance_around": "key",
}
OWN_DEFAULTS = {
    "BatchNorm": {"momentum": 0.9},
    "GroupNorm": {"groups": 32},
    "InstanceNorm": {},
    "LayerNorm": {},
    "ILMGroupNorm": {"groups": 32, **ILM_DEFAULTS},
    "ILMInstanceNorm": ILM_DEFAULTS,
    "ILMLayerNorm": ILM_DEFAULTS,
    "AssociateNorm": {
        "groups": 32,
        "reduction": 16,
        "mean_activation": "sigmoid",
        "variance_activation": "tanh",
        "key_features": "group",
        "bias_mode": "after",
    },
    "ModeNorm": {"modes": 2, "momentum": 0.9},
    "ModeGroupNorm": {"modes": 2},
    "ConvNorm": {"kernel_sizes": None, "weighted_variance": False, "momentum": 0.9},
    "LearnedStatsNorm": {
        "filters": (4, 4, 1),
        "kernel_sizes": (4, 3, 3),
        "center": False,
        "scale": False,
    },
}


@functools.cache
def own_defaults(name):
    """The defaults of a layer's own arguments, and of those that differ from the common ones."""
    if name in OWN_DEFAULTS:
        return OWN_DEFAULTS[name]
    parameters = inspect.signature(getattr(kerasnorm, name)).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.default is not p.empty
        and not p.name.endswith(("_initializer", "_regularizer", "_constraint"))
        and COMMON_DEFAULTS.get(p.name, ...) != p.default
    }


def full_config(name, arguments):
    """The arguments given, over the defaults of the layer `name`."""
    return {**COMMON_DEFAULTS, **own_defaults(name), **arguments}


def is_statistic(weight_name):
    """Whether a weight is one that training moves and no gradient reaches."""
    return weight_name.startswith(("moving_", "renorm_"))


def channels_of(config, input_shape):
    """The size of the channel axis."""
    return input_shape[config["axis"]]


def largest_divisor(number, limit):
    """What "auto" takes: the largest legal value that is not above the default."""
    return max(d for d in range(1, min(number, limit) + 1) if number % d == 0)


def group_count(groups, channels):
    """`groups` as a number: -1 is one group per channel, "auto" the largest legal one up to 32."""
    if groups == "auto":
        return largest_divisor(channels, 32)
    return channels if groups == -1 else groups


def key_group_count(name, config, channels):
    """Nk, the number of key groups of the association."""
    if name == "AssociateNorm":
        per_channel = config["key_features"] == "instance"
        return channels if per_channel else group_count(config["groups"], channels)
    size = config["key_group_size"]
    return channels // (largest_divisor(channels, 16) if size == "auto" else size)


def factors(size):
    """Default kernel sizes along one axis: primes, the largest first; four twos make a 4."""
    primes = []
    candidate = 2
    while size > 1:
        while size % candidate == 0:
            primes.append(candidate)
            size //= candidate
        candidate += 1
    odd = sorted((prime for prime in primes if prime > 2), reverse=True)
    twos = [2] * primes.count(2)
    return odd + ([4, *twos[2:]] if len(twos) >= 4 else twos)


def kernel_sizes(config, height, width):
    """ConvNorm's stack as pairs (height, width), the finest first."""
    if config["kernel_sizes"] is not None:
        return [tuple(pair) for pair in config["kernel_sizes"]]
    rows, columns = factors(height), factors(width)
    count = max(len(rows), len(columns))
    rows += [1] * (count - len(rows))
    columns += [1] * (count - len(columns))
    return list(zip(rows, columns, strict=True))


def weight_shapes(name, arguments, input_shape):
    """The names and shapes of a layer's weights, in the order of `layer.weights`.

    Args:
        name: the layer's class name.
        arguments: the constructor arguments given (defaults are filled in).
        input_shape: with the batch axis, channels where `axis` says.

    Returns:
        A dict from name to shape, in order.
    """
    if name not in OWN_DEFAULTS:
        with keras.device("cpu:0"):
            layer = getattr(kerasnorm, name)(**arguments)
            layer.build(input_shape)
        return {weight.name: tuple(weight.shape) for weight in layer.weights}
    config = full_config(name, arguments)
    channels = channels_of(config, input_shape)
    shapes = {}
    without_bias = name == "AssociateNorm" and config["bias_mode"] == "none"
    if config["scale"] and not without_bias:
        shapes["gamma"] = (channels,)
    if config["center"] and not without_bias:
        shapes["beta"] = (channels,)
    if name.startswith("ILM") or name == "AssociateNorm":
        keys = key_group_count(name, config, channels)
        embedding = max(keys // config["reduction"], 2)
        shapes["encoder"] = (keys, embedding)
        shapes["mean_decoder"] = (embedding, keys)
        shapes["variance_decoder"] = (embedding, keys)
    if name == "ModeNorm":
        shapes["gate_kernel"] = (channels, config["modes"])
        shapes["gate_bias"] = (config["modes"],)
    if name == "ModeGroupNorm":
        shapes["gate_kernel"] = (config["modes"],)
        shapes["gate_bias"] = (config["modes"],)
    if name == "ConvNorm":
        channels_last = config["axis"] in (-1, len(input_shape) - 1)
        height, width = input_shape[1:3] if channels_last else input_shape[2:4]
        for index, pair in enumerate(kernel_sizes(config, height, width)):
            shapes[f"spatial_logits_{index}"] = (*pair, channels)
    if name == "LearnedStatsNorm":
        for statistic in ("mean", "std"):
            inputs = 1
            sizes = zip(config["filters"], config["kernel_sizes"], strict=True)
            for index, (outputs, size) in enumerate(sizes):
                shapes[f"{statistic}_kernel_{index}"] = (size, inputs, outputs)
                shapes[f"{statistic}_bias_{index}"] = (outputs,)
                inputs = outputs
    if "momentum" in config:
        shape = (config["modes"], channels) if name == "ModeNorm" else (channels,)
        shapes["moving_mean"] = shape
        shapes["moving_variance"] = shape
    return shapes


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name: the class name, `getattr(kerasnorm, name)`.
        variants: from a readable identifier to constructor arguments that are legal for
            `channels`. The first one is the plainest.
        scope: "batch" if the statistics are the batch's, "example" if they are one example's.
        statistics: "data" if they are moments of the input, "learned" if a network predicts them.
        ranks: the input ranks that the layer takes.
        channels: the small channel count that the variants fit.
    """

    name: str
    variants: dict
    scope: str
    statistics: str = "data"
    ranks: tuple = (2, 3, 4, 5)
    channels: int = 8

    def __str__(self):
        return self.name

    @property
    def moving_statistics(self):
        """Whether training updates statistics that inference uses."""
        return self.scope == "batch"

    @property
    def arguments(self):
        """The constructor arguments of the first variant."""
        return next(iter(self.variants.values()))

    def input_shape(self, rank=4, batch=4, channels=None, axis=-1):
        """A small input shape with sides of different sizes."""
        positions = (4, 6, 3)[: rank - 2]
        channels = channels or self.channels
        if axis == -1:
            return (batch, *positions, channels)
        return (batch, channels, *positions)

    def weight_shapes(self, arguments, input_shape):
        """The expected names and shapes of the weights, in order."""
        return weight_shapes(self.name, arguments, input_shape)


LAYERS = tuple(
    Row(
        row.class_name,
        dict(row.examples),
        scope=row.scope,
        statistics=row.statistics,
        ranks=row.ranks,
        channels=row.channels,
    )
    for row in norms.ROWS
    if row.searched
)

ROWS = {row.name: row for row in LAYERS}


# One layer of each kind of arithmetic: moments of the batch, of groups, of modes, by positions,
# with predictions, and around zero. What differs between backends is in their kernels and in
# Keras's operations, and these layers use all of them.
KINDS = ("BatchNorm", "GroupNorm", "ModeNorm", "ConvNorm", "ILMGroupNorm", "FilterResponseNorm")


def parameters(rows=LAYERS):
    """Each row with its plainest arguments."""
    return [pytest.param(row, row.arguments, id=row.name) for row in rows]


def cases(rows=LAYERS):
    """Every (row, variant identifier) of the table; every day the plainest."""
    return [
        pytest.param(
            row,
            variant,
            id=f"{row.name}-{variant}",
            marks=daily(variant == next(iter(row.variants))),
        )
        for row in rows
        for variant in row.variants
    ]
