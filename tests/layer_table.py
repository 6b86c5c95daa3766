"""The one declarative table of layers.

Every shared test, the benchmark and the documentation are driven by `LAYERS`: a new layer is one
file of its own plus one row here. Rows name the class and hold no layer code, so that reading the
table imports nothing.
"""

import dataclasses
import math

# The arguments that change a formula, with their documented defaults.
COMMON_DEFAULTS = {"axis": -1, "epsilon": 1e-5, "center": True, "scale": True}
ASSOCIATION_DEFAULTS = {
    "key_group_size": 16,
    "reduction": 16,
    "mean_activation": "tanh",
    "variance_activation": "sigmoid",
}
OWN_DEFAULTS = {
    "BatchNorm": {"momentum": 0.9},
    "GroupNorm": {"groups": 32},
    "InstanceNorm": {},
    "LayerNorm": {},
    "ILMGroupNorm": {"groups": 32, **ASSOCIATION_DEFAULTS},
    "ILMInstanceNorm": ASSOCIATION_DEFAULTS,
    "ILMLayerNorm": ASSOCIATION_DEFAULTS,
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


def full_config(name, arguments):
    """The arguments given, over the defaults of the layer `name`."""
    return {**COMMON_DEFAULTS, **OWN_DEFAULTS[name], **arguments}


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
        aliases: other public names.
    """

    name: str
    variants: dict
    scope: str
    statistics: str = "data"
    ranks: tuple = (2, 3, 4, 5)
    channels: int = 8
    aliases: tuple = ()

    def __str__(self):
        return self.name

    @property
    def moving_statistics(self):
        """Whether training updates statistics that inference uses."""
        return self.scope == "batch"

    @property
    def accepts_mask(self):
        """Whether `call` takes a mask: every layer does."""
        return True

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


ILM_VARIANTS = {
    "small": {"key_group_size": 2},
    "wide": {"key_group_size": 1, "reduction": 2},
    "one_key": {"key_group_size": 8},
    "auto": {"key_group_size": "auto"},
    "linear": {"key_group_size": 2, "mean_activation": None, "variance_activation": "linear"},
    "relu": {"key_group_size": 4, "reduction": 1, "mean_activation": "relu"},
    "bare": {"key_group_size": 2, "center": False, "scale": False},
}

LAYERS = (
    Row(
        "BatchNorm",
        {
            "default": {},
            "momentum": {"momentum": 0.7, "epsilon": 1e-3},
            "no_center": {"center": False},
            "no_scale": {"scale": False},
        },
        scope="batch",
    ),
    Row(
        "GroupNorm",
        {
            "groups4": {"groups": 4},
            "groups1": {"groups": 1},
            "per_channel": {"groups": -1},
            "auto": {"groups": "auto"},
            "no_center": {"groups": 2, "center": False},
            "no_scale": {"groups": 2, "scale": False},
        },
        scope="example",
    ),
    Row(
        "InstanceNorm", {"default": {}, "bare": {"center": False, "scale": False}}, scope="example"
    ),
    Row("LayerNorm", {"default": {}, "bare": {"center": False, "scale": False}}, scope="example"),
    Row(
        "ILMGroupNorm",
        {key: {"groups": 4, **arguments} for key, arguments in ILM_VARIANTS.items()}
        | {"coarse_groups": {"groups": 2, "key_group_size": 1}},
        scope="example",
    ),
    Row("ILMInstanceNorm", ILM_VARIANTS, scope="example"),
    Row("ILMLayerNorm", ILM_VARIANTS, scope="example"),
    Row(
        "AssociateNorm",
        {
            f"{features}_{mode}": {"groups": 4, "key_features": features, "bias_mode": mode}
            for features in ("group", "instance")
            for mode in ("after", "before", "multiply", "none")
        }
        | {
            f"bare_{mode}": {"groups": 4, "bias_mode": mode, "center": False, "scale": False}
            for mode in ("after", "before", "multiply")
        }
        | {
            "per_channel": {"groups": -1, "reduction": 2},
            "auto": {"groups": "auto"},
            "activations": {"groups": 2, "mean_activation": "tanh", "variance_activation": None},
        },
        scope="example",
        aliases=("AssocNorm",),
    ),
    Row(
        "ModeNorm",
        {
            "modes2": {"modes": 2},
            "modes1": {"modes": 1},
            "modes5": {"modes": 5, "momentum": 0.6},
            "bare": {"modes": 3, "center": False, "scale": False},
        },
        scope="batch",
    ),
    Row(
        "ModeGroupNorm",
        {
            "modes2": {"modes": 2},
            "modes1": {"modes": 1},
            "modes5": {"modes": 5},
            "bare": {"modes": 3, "center": False, "scale": False},
        },
        scope="example",
    ),
    Row(
        "ConvNorm",
        {
            "default": {},
            "weighted": {"weighted_variance": True},
            "incomplete": {"kernel_sizes": ((2, 3),)},
            "incomplete_weighted": {"kernel_sizes": ((2, 1),), "weighted_variance": True},
            "coarse_first": {"kernel_sizes": ((1, 3), (4, 2)), "momentum": 0.6},
            "bare": {"center": False, "scale": False},
        },
        scope="batch",
        ranks=(4,),
    ),
    Row(
        "LearnedStatsNorm",
        {
            "default": {},
            "deep": {"filters": (4, 4, 2, 1), "kernel_sizes": (4, 3, 2, 3)},
            "affine": {"center": True, "scale": True, "filters": (1,), "kernel_sizes": (2,)},
        },
        scope="example",
        statistics="learned",
    ),
)

ROWS = {row.name: row for row in LAYERS}


def cases(rows=LAYERS):
    """Every (row, variant identifier) of the table."""
    return [(row, variant) for row in rows for variant in row.variants]


def element_count(shape):
    """The number of elements of an array of this shape."""
    return math.prod(shape)
