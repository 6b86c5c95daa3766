"""The base class: everything a normalization layer is, except its formula."""

import difflib
import inspect
import math

import keras
from keras import backend, constraints, initializers, ops, regularizers

from kerasnorm.core import backends
from kerasnorm.core.dtypes import statistics_dtype
from kerasnorm.core.pooling import Moments, masked_moments

PACKAGE = "kerasnorm"


class Normalization(keras.layers.Layer):
    """Moments, then coefficients, then an affine step.

    A method is a subclass with `coefficients`; where it has weights beside gamma and beta, also
    `build_weights`. Its own constructor arguments come first, then those below, in this order.

    Args:
        axis: the axis of the channels; -1 is channels last, 1 channels first.
        epsilon: added to the variance.
        center: whether there is a `beta`; else it is 0.
        scale: whether there is a `gamma`; else it is 1.
        beta_initializer, gamma_initializer: of the weights, `"zeros"` and `"ones"`.
        beta_regularizer, gamma_regularizer: of the weights.
        beta_constraint, gamma_constraint: of the weights.
        **kwargs: those of every Keras layer: `name`, `dtype`, `trainable`, ...

    Call arguments:
        inputs: a floating point tensor of rank 2 or more.
        training: as in every Keras layer.
        mask: booleans of the inputs' shape without the channel axis, or of a leading part of it,
            such as `(batch,)`; False positions count in no statistic. The result at the others is
            as if they alone existed; at False positions it is finite and means nothing.

    Statistics are float32, or float64 where the inputs or the layer are; inputs are not cast
    beforehand (a float32 of 1e5 would be infinite in float16). Outputs come in the layer's compute
    dtype; float16 saturates instead of overflowing.
    """

    def __init_subclass__(cls, **kwargs):
        """Spell out in a subclass's signature what its `*common` stands for."""
        super().__init_subclass__(**kwargs)
        parameters = {}
        for ancestor in cls.__mro__:
            if "__init__" in vars(ancestor):
                own = inspect.signature(vars(ancestor)["__init__"]).parameters.values()
                for p in own:
                    if p.kind is not p.VAR_POSITIONAL and p.name != "self":
                        parameters.setdefault(p.name, p)
                if not any(p.kind is p.VAR_POSITIONAL for p in own):
                    break
        rest = parameters.pop("kwargs")
        cls.__signature__ = inspect.Signature([*parameters.values(), rest])

    def __init__(
        self,
        axis=-1,
        epsilon=1e-5,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.axis = self.checked_integer("axis", axis)
        if self.axis == 0:
            raise self.error("axis=0 is the batch", "1 (channels first), or -1 (channels last)")
        self.epsilon = self.checked_number("epsilon", epsilon, above=0.0)
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma = None
        self.beta = None
        self.channels = None
        self.supports_masking = True
        check_dtype(self)

    # Whether moments and coefficients have a row per example, so that the rows of a batch may get
    # their coefficients from different layers.
    row_per_example = True

    # What a method defines.

    def check_build(self, channels, input_shape):
        """Refuse an input shape, before there is any weight."""

    def build_weights(self, channels, input_shape):
        """Add the method's own weights."""

    def measure(self, x, channel_axis, mask, training):
        """What the coefficients are computed from.

        Returns:
            `handle, moments`: what `backends.affine` takes in place of `x`, and `Moments` with
            the mean around which it works.
        """
        if mask is not None:
            return x, masked_moments(x, mask, channel_axis, self.statistics_dtype_of(x))
        handle, mean, variance = backends.moments(x, channel_axis, self.uses_variance(training))
        return handle, Moments(mean, variance)

    def uses_variance(self, training):
        """Whether the coefficients need more than means."""
        return True

    def coefficients(self, moments, training):
        """The method's formula.

        Returns:
            `scale, shift`, each `(N, C)` or `(1, C)`: the output is
            `(x - moments.mean)*scale + shift`, so `shift` is the output at the channel's mean.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `coefficients`")

    # What every method shares.

    def rescaling(self, moments):
        """Gamma and beta, `(1, C)` in the statistics' dtype; 1 and 0 where there is no weight."""
        dtype = moments.mean.dtype
        constants = ops.ones((1, self.channels), dtype), ops.zeros((1, self.channels), dtype)
        return tuple(
            constant if weight is None else ops.cast(weight, dtype)[None]
            for weight, constant in zip((self.gamma, self.beta), constants, strict=True)
        )

    def rescaling_weights(self):
        """Which of the two there are."""
        return [name for name, used in (("gamma", self.scale), ("beta", self.center)) if used]

    def build(self, input_shape):
        """Check the input shape and create the weights."""
        check_dtype(self)  # Again: a policy may go by the path, which is known only now.
        channels = self.channels_of(input_shape)
        self.check_build(channels, tuple(input_shape))
        self.channels = channels
        for name in self.rescaling_weights():
            weight = self.add_weight(
                name=name,
                shape=(self.channels,),
                initializer=getattr(self, f"{name}_initializer"),
                regularizer=getattr(self, f"{name}_regularizer"),
                constraint=getattr(self, f"{name}_constraint"),
                autocast=False,
            )
            setattr(self, name, weight)
        self.build_weights(channels, tuple(input_shape))

    def call(self, inputs, training=None, mask=None):
        """Normalize."""
        return self.normalized(inputs, training, mask, self.coefficients)

    def normalized(self, inputs, training, mask, coefficients):
        """What `call` gives, with `coefficients` as the method's formula."""
        self.check_inputs(inputs)
        training = bool(training) and self.trainable
        rank = len(inputs.shape)
        axis = self.axis % rank
        between = axis not in (1, rank - 1)
        x = ops.moveaxis(inputs, axis, -1) if between else inputs
        channels_first = axis == 1 and rank > 2
        shape = ops.shape(x)
        if mask is not None:
            mask = self.spread_mask(mask, shape[2:] if channels_first else shape[1:-1], shape[0])
        target, channel_axis = self.view(shape, channels_first, training and mask is None)
        x = ops.reshape(ops.cast(x, self.input_dtype_of(x)), target)
        if mask is not None:
            mask = ops.expand_dims(mask, channel_axis)
            # Cleaned first, so that what is masked, be it infinite, reaches nothing.
            x = ops.where(mask, x, ops.zeros_like(x))
        handle, moments = self.measure(x, channel_axis, mask, training)
        scale, shift = coefficients(moments, training)
        if mask is not None:
            present = ops.any(ops.squeeze(mask, channel_axis), axis=1, keepdims=True)
            scale = ops.where(present, scale, ops.zeros_like(scale))
        outputs = backends.affine(
            handle, moments.mean, scale, shift, channel_axis, self.compute_dtype
        )
        outputs = ops.reshape(outputs, shape)
        return ops.moveaxis(outputs, -1, axis) if between else outputs

    def view(self, shape, channels_first, training):
        """The rank 3 shape to work in, and its channel axis."""
        if channels_first:
            return (shape[0], shape[1], math.prod(shape[2:])), 1
        return (shape[0], math.prod(shape[1:-1]), shape[-1]), 2

    def spread_mask(self, mask, positions, examples):
        """A mask of a leading part of the positions to one of all, `(N, L)`."""
        mask = ops.cast(mask, "bool")
        whole = (examples, *positions)
        missing = len(whole) - len(mask.shape)
        differs = any(
            isinstance(size, int) and isinstance(there, int) and size != there
            for size, there in zip(mask.shape, whole, strict=False)
        )
        if missing < 0 or len(mask.shape) == 0 or differs:
            known = tuple(size if isinstance(size, int) else None for size in whole)
            raise self.error(
                f"the mask has shape {tuple(mask.shape)}",
                f"the inputs' shape without the channel axis, {known}, or a leading part of it",
            )
        mask = ops.reshape(mask, (*ops.shape(mask), *([1] * missing)))
        mask = ops.broadcast_to(mask, whole)
        return ops.reshape(mask, (examples, math.prod(positions)))

    def statistics_dtype_of(self, x):
        """The dtype of statistics of `x`."""
        return statistics_dtype(x.dtype, self.compute_dtype)

    def input_dtype_of(self, x):
        """float64 for a float64 layer; else what the inputs have, which the kernels upcast."""
        return "float64" if self.statistics_dtype_of(x) == "float64" else x.dtype

    # Shapes, configuration, errors.

    def compute_output_shape(self, input_shape):
        """The input shape."""
        self.channels_of(input_shape)
        return input_shape

    def compute_output_spec(self, inputs, training=None, mask=None):
        """The input shape, in the compute dtype."""
        self.check_inputs(inputs)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def check_inputs(self, inputs):
        """Refuse what the layer cannot normalize."""
        dtype = backend.standardize_dtype(inputs.dtype)
        if not backend.is_float_dtype(dtype):
            raise TypeError(
                f"{self.described()}: the inputs have dtype {dtype}. Needed: floating point, for "
                "example `keras.ops.cast(inputs, 'float32')`."
            )
        channels = self.channels_of(inputs.shape)
        if channels != self.channels:
            raise self.error(
                f"the inputs have {channels} channels (shape {tuple(inputs.shape)}, "
                f"axis={self.axis})",
                f"the {self.channels} channels that the layer was built for",
            )

    def channels_of(self, input_shape):
        """The number of channels, checked."""
        rank = len(input_shape)
        if rank < 2:
            raise self.error(f"the inputs have shape {tuple(input_shape)}", "rank 2 or more")
        if not -rank < self.axis < rank:
            raise self.error(
                f"axis={self.axis} with inputs of shape {tuple(input_shape)}",
                f"from 1 to {rank - 1}, or from {1 - rank} to -1",
            )
        channels = input_shape[self.axis]
        if channels is None:
            raise self.error(
                f"the channel axis {self.axis} of the input shape {tuple(input_shape)} is unknown",
                "a fixed number of channels, such as `keras.Input((None, None, 64))`",
            )
        if channels < 1:
            raise self.error(f"the inputs have {channels} channels", "at least one")
        return int(channels)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
        }

    def described(self):
        """The layer as an error names it."""
        return f"{type(self).__name__} '{self.name}'"

    def error(self, received, legal=None):
        """A `ValueError` with what was received and what is legal."""
        needed = f" Needed: {legal}." if legal else ""
        return ValueError(f"{self.described()}: {received}.{needed}")

    def checked_integer(self, argument, value, least=None):
        """An integer argument, checked."""
        needed = "an integer" if least is None else f"an integer of at least {least}"
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise self.error(f"{argument}={value!r}", needed)
        value = int(value)
        if least is not None and value < least:
            raise self.error(f"{argument}={value}", needed)
        return value

    def checked_number(self, argument, value, above=None, least=None, most=None):
        """A real argument, checked."""
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("above", above), ("at least", least), ("at most", most))
            if bound is not None
        ]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if (
            not math.isfinite(number)
            or (above is not None and number <= above)
            or (least is not None and number < least)
            or (most is not None and number > most)
        ):
            raise self.error(f"{argument}={value!r}", f"a number {' and '.join(bounds)}")
        return number

    def checked_choice(self, argument, value, choices):
        """One of a few words, checked."""
        if value not in choices:
            raise self.error(f"{argument}={value!r}", f"one of {', '.join(map(repr, choices))}")
        return value

    def checked_activation(self, argument, value):
        """An activation function, checked."""
        try:
            return keras.activations.get(value)
        except (TypeError, ValueError) as error:
            near = difflib.get_close_matches(str(value), dir(keras.activations), n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ValueError(
                f"{self.described()}: {argument}={value!r} is no activation. Needed: a name in "
                f"`keras.activations`, a function, or None for linear.{hint}"
            ) from error


def check_dtype(layer):
    """Refuse a dtype policy that the backend would not keep."""
    for dtype in (layer.compute_dtype, layer.variable_dtype):
        reason = backends.refuse_dtype(dtype)
        if reason:
            raise ValueError(
                f"{type(layer).__name__} '{layer.name}': dtype={dtype!r} cannot be had: {reason}."
            )


def like(weight, values):
    """A weight in the dtype of statistics."""
    return ops.cast(weight, values.dtype)


def distinct(initializer, index):
    """The initializer, cloned so that weights which share it do not get the same values."""
    if not isinstance(initializer, initializers.Initializer):
        return initializer
    if isinstance(getattr(initializer, "seed", None), keras.random.SeedGenerator):
        return initializer  # Draws something new each time; a clone would start over.
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config = {**config, "seed": config["seed"] + index}
    return type(initializer).from_config(config)


def divisors(number, most=None):
    """The divisors of a number, ascending."""
    return [d for d in range(1, (most or number) + 1) if number % d == 0]
