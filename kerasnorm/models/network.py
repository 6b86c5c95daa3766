"""What the architectures are written in: a network noted down first, then checked, then built."""

import contextvars
import dataclasses
import functools
import json
import math
from typing import Any

import keras

from kerasnorm.sites import Site, Specs, at_each_site

_planning = contextvars.ContextVar("kerasnorm.models.planning", default=False)


def plan(architecture, *args, **kwargs):
    """What an architecture would be, without building it.

    Args:
        architecture: a function of `kerasnorm.models`.
        *args: its arguments.
        **kwargs: its arguments by name.

    Returns:
        The `Network`: its `sites` say where there are norms, with what shapes;
        `parameters()` counts, quickly, what would be trained.

    Example:
        >>> from kerasnorm import models
        >>> network = models.plan(models.ResNet50, (224, 224, 3), 1000)
        >>> network.parameters()
        25557032
        >>> len(network.sites), network.sites[0].path, network.sites[0].shape
        (53, 'stem_norm', (None, 112, 112, 64))
    """
    token = _planning.set(True)
    try:
        return architecture(*args, **kwargs)
    finally:
        _planning.reset(token)


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A tensor to be: the result of call number `index`, with its shape."""

    index: int
    shape: tuple


class Network:
    """A network as a list of calls.

    An architecture calls layers on `Value`s, which notes the calls and works out shapes; `model`
    then makes all norms, of which every illegal one is named in one error, and only after that the
    network.

    Args:
        name: of the model.
        norm: a norm spec, or several of them (`kerasnorm.sites.Specs`).
        stages: how many stages there are.
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's own setting.

    Attributes:
        sites: a `Site` for each place of a norm, in the order of the calls.
    """

    def __init__(self, name, norm, stages, data_format=None):
        self.name = name
        self.specs = Specs(norm, stages, of=name)
        formats = ("channels_last", "channels_first")
        if data_format not in (None, *formats):
            raise ValueError(
                f"{name}: data_format={data_format!r}. Needed: one of {', '.join(formats)}, or "
                "None for that of `keras.config.image_data_format()`."
            )
        self.data_format = data_format or keras.config.image_data_format()
        self.channel_axis = 1 if self.data_format == "channels_first" else -1
        self.sites = []
        self.inputs = []
        self.calls = []

    # What an architecture is written with.

    def input(self, shape, rank=3, dtype=None, least=1, known=False):
        """The input.

        Args:
            shape: as the user gave it, without the batch.
            rank: how long it must be.
            dtype: of the values.
            least: how large height and width, where they are known, must be.
            known: whether they must be known.
        """
        shape = self._checked_shape(shape, rank, least, known)
        self.inputs.append(keras.Input(shape, dtype=dtype, name="inputs"))
        return self._noted(None, (), (None, *shape))

    def __call__(self, layer, *inputs):
        """Note a call of a layer, or of a `Site`, and work out the shape of its result."""
        shapes = keras.tree.map_structure(lambda value: value.shape, inputs)
        shape = shapes[0] if isinstance(layer, Site) else layer.compute_output_shape(*shapes)
        return self._noted(layer, inputs, tuple(shape))

    def next_norm(self, stage):
        """The norm that comes next, as a `NormSpec`; None for none."""
        return self.specs.norm_at(len(self.sites), stage)

    def norm(self, x, stage, name, axis=None, defaults=None):
        """A norm; nothing where the spec is None."""
        axis = self.channel_axis if axis is None else axis
        norm = self.next_norm(stage)
        site = Site(name, (x.shape,), axis, stage, norm=norm, defaults=defaults or {})
        self.sites.append(site)
        return x if norm is None else self(site, x)

    def conv(self, x, filters, kernel_size, name, strides=1, layer=None, **kwargs):
        """A convolution, "same" and with He's initialization by default."""
        usual = {"padding": "same", "kernel_initializer": "he_normal"}
        return self(
            (layer or keras.layers.Conv2D)(
                filters,
                kernel_size,
                strides=strides,
                data_format=self.data_format,
                name=name,
                **{**usual, **kwargs},
            ),
            x,
        )

    def conv_norm(self, x, filters, kernel_size, stage, name, defaults=None, **kwargs):
        """A convolution and a norm.

        Args:
            x: a value.
            filters, kernel_size: of the convolution.
            stage: of the norm.
            name: of the layers, with `{}` where "conv" and "norm" go.
            defaults: of the norm.
            **kwargs: of the convolution. By default it has a bias if there is no norm.
        """
        kwargs.setdefault("use_bias", self.next_norm(stage) is None)
        x = self.conv(x, filters, kernel_size, name.format("conv"), **kwargs)
        return self.norm(x, stage, name.format("norm"), defaults=defaults)

    def activation(self, x, name, function="relu"):
        """An activation."""
        return self(keras.layers.Activation(function, name=name), x)

    def image_layer(self, layer_class, *args, **kwargs):
        """A layer that takes a `data_format`."""
        return layer_class(*args, data_format=self.data_format, **kwargs)

    def channels(self, x):
        """How many channels a value has."""
        return x.shape[self.channel_axis]

    def sides(self, x):
        """Height and width of a value."""
        return tuple(
            size
            for axis, size in enumerate(x.shape)
            if axis not in (0, self.channel_axis % len(x.shape))
        )

    def classifier(self, x, classes, activation, **kwargs):
        """A dense layer and its activation."""
        x = self(
            keras.layers.Dense(self.checked_count("classes", classes), name="classifier", **kwargs),
            x,
        )
        return self.predictions(x, activation)

    def predictions(self, x, activation):
        """The last activation, in float32 at least: a softmax of 16 bits loses the loss."""
        wide = keras.config.dtype_policy().compute_dtype == "float64"
        dtype = "float64" if wide else "float32"
        return self(keras.layers.Activation(activation, dtype=dtype, name="predictions"), x)

    def without_norms(self):
        """Whether no site so far has a norm."""
        return all(site.norm is None for site in self.sites)

    def checked_count(self, argument, value, least=1):
        """An integer argument, checked."""
        if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
            raise ValueError(
                f"{self.name}: {argument}={value!r}. Needed: an integer of at least {least}."
            )
        return int(value)

    def checked_choice(self, argument, value, choices):
        """One of a few words, checked."""
        if value not in choices:
            raise ValueError(
                f"{self.name}: {argument}={value!r}. Needed: one of "
                f"{', '.join(map(repr, choices))}."
            )
        return value

    # What becomes of it.

    def model(self, outputs):
        """The model; inside of `plan` this network instead."""
        if _planning.get():
            return self
        sites = [site for site in self.sites if site.norm is not None]
        norms = at_each_site(
            Site.built_layer, sites, self.name, "built", 'a spec per stage, {"stages": [...]}'
        )
        layers = {id(site): norm for site, norm in zip(sites, norms, strict=True)}
        inputs = iter(self.inputs)
        results: list[Any] = []
        for layer, arguments, _ in self.calls:
            if layer is None:
                results.append(next(inputs))
                continue
            tensors = keras.tree.map_structure(lambda value: results[value.index], arguments)
            results.append(layers.get(id(layer), layer)(*tensors))
        return keras.Model(self.inputs[0], results[outputs.index], name=self.name)

    def parameters(self):
        """How many numbers training would change."""
        count = 0
        for layer, _, shapes in self.calls:
            if layer is not None:
                made = layer.layer() if isinstance(layer, Site) else layer
                count += _trainable_size(made, shapes)
        return count

    def _noted(self, layer, inputs, shape):
        shapes = keras.tree.map_structure(lambda value: value.shape, inputs)
        self.calls.append((layer, inputs, shapes))
        return Value(len(self.calls) - 1, shape)

    def _checked_shape(self, shape, rank, least, known):
        """The input's shape, checked."""
        images = ("(height, width, channels)", "(channels, height, width)")
        alone = "(features,)" if known else "(length,)"
        form = (alone, "(length, features)", images[self.channel_axis == 1])[rank - 1]
        channels = {1: None, 2: 1, 3: 0 if self.channel_axis == 1 else 2}[rank]
        sizes = shape if isinstance(shape, (tuple, list)) else ()
        if len(sizes) != rank or not all(_is_size(s) for s in sizes if s is not None):
            raise ValueError(
                f"{self.name}: input_shape={shape!r}. Needed: {form}, without a batch."
            )
        for axis, size in enumerate(sizes):
            if size is None and (axis == channels or known):
                raise ValueError(
                    f"{self.name}: input_shape={shape!r} in {form}. Needed: "
                    f"{'numbers for all' if known else 'a number of channels'}."
                )
            if rank == 3 and axis != channels and size is not None and size < least:
                raise ValueError(
                    f"{self.name}: input_shape={shape!r} in {form}. Needed: a height and a width "
                    f"of at least {least}."
                )
        return tuple(None if size is None else int(size) for size in sizes)


def _is_size(value):
    return hasattr(value, "__index__") and not isinstance(value, bool) and int(value) > 0


def _trainable_size(layer, shapes):
    """How many numbers of a layer are trained, for inputs of these shapes."""
    config = {key: v for key, v in layer.get_config().items() if key != "name"}
    text = json.dumps(config, sort_keys=True, default=_serialized)
    # What a merging layer takes is a list; the cache needs what can be hashed.
    shapes = tuple(tuple(shape) if isinstance(shape, list) else shape for shape in shapes)
    layer_class: Any = type(layer)
    return _size_of(layer_class, text, shapes)


def _serialized(value):
    """What `get_config` leaves as an object."""
    return keras.saving.serialize_keras_object(value)


@functools.cache
def _size_of(layer_class, config, shapes):
    """The same, once for layers that are alike.

    A layer is built by itself, with zeros, and let go: the weights of a whole network, drawn at
    random, would take seconds.
    """
    layer = layer_class.from_config(
        {
            key: "zeros" if key.endswith("_initializer") and value is not None else value
            for key, value in json.loads(config).items()
        }
    )
    layer.build(*shapes)
    return sum(math.prod(weight.shape) for weight in layer.trainable_variables)
