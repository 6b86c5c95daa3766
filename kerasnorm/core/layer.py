"""The base class: everything a normalization layer is, except its formula."""

from __future__ import annotations

import difflib
import math
from typing import Any, Unpack

import keras
import numpy as np
from keras import backend, constraints, initializers, ops, regularizers

from kerasnorm.core import backends
from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
)
from kerasnorm.core.construction import Reconstructible
from kerasnorm.core.dtypes import statistics_dtype
from kerasnorm.core.pooling import Moments, masked_moments
from kerasnorm.core.standardization import Standardization, numpy_of

PACKAGE = "kerasnorm"


class Normalization(Reconstructible):
    """Moments, then coefficients, then an affine step.

    Each method is a subclass with `coefficients`. A subclass with weights other than gamma and beta
    also has `build_weights`, and one that predicts gamma and beta also has `rescaling`. Its own
    constructor arguments come first, then those below in this order.

    Methods that begin with an underscore are for authors of subclasses, not for users of a layer.
    `_check_build` refuses an input shape. `_uses_variance` tells whether the variance is needed.
    `_measure` and `_view` change what is measured. `_checked_integer` and similar methods check an
    argument. `_error` makes an error that names the layer.

    Args:
        axis: the axis of the channels; -1 is channels last, 1 channels first.
        epsilon: added to the variance.
        center: whether there is a `beta`; without it, beta is 0.
        scale: whether there is a `gamma`; without it, gamma is 1.
        beta_initializer: how `beta` starts.
        gamma_initializer: how `gamma` starts.
        beta_regularizer: a penalty on `beta`.
        gamma_regularizer: a penalty on `gamma`.
        beta_constraint: what `beta` is held to after each step.
        gamma_constraint: what `gamma` is held to after each step.
        **kwargs: the arguments of every Keras layer: `name`, `dtype`, `trainable` and
            `activity_regularizer`.

    Call arguments:
        inputs: a floating point tensor of rank 2 or more.
        training: as in every Keras layer.
        mask: booleans of the inputs' shape without the channel axis, or of a leading part of it,
            such as `(batch,)`; sizes may be 1, which broadcast. False positions do not contribute
            to any statistic. The result at True positions is as if no others existed. At False
            positions it is finite and has no meaning.

    Statistics are float32, or float64 if the inputs or the layer are. Inputs are not cast first,
    because a float32 of 1e5 would be infinite in float16. Outputs have the layer's compute dtype.
    float16 outputs saturate instead of overflowing.
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: InitializerLike = "zeros",
        gamma_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None,
        gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None,
        gamma_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerArguments],
    ):
        super().__init__(autocast=False, **kwargs)
        self.axis = self._checked_integer("axis", axis)
        if self.axis == 0:
            raise self._error("axis=0 is the batch", "1 (channels first), or -1 (channels last)")
        self.epsilon = self._checked_number("epsilon", epsilon, above=0.0)
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Any = None
        self.beta: Any = None
        self.channels: Any = None
        self.supports_masking = True
        check_dtype(self)

    # Whether moments and coefficients have a row per example, so that the rows of a batch may get
    # their coefficients from different layers.
    _row_per_example = True

    # What a method defines.

    def _check_build(self, channels, input_shape):
        """Refuse an input shape, before there is any weight."""

    def build_weights(self, channels, input_shape):
        """Add the method's own weights."""

    def _measure(self, x, channel_axis, mask, training):
        """What the coefficients are computed from.

        Returns:
            `handle, moments`: what `backends.affine` takes in place of `x`, and `Moments` with
            the mean around which it works.
        """
        if mask is not None:
            return x, masked_moments(x, mask, channel_axis, self._statistics_dtype_of(x))
        handle, mean, variance = backends.moments(x, channel_axis, self._uses_variance(training))
        return handle, Moments(mean, variance)

    def _uses_variance(self, training):
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

    def _rescaling_weights(self):
        """Which of the two there are."""
        return [name for name, used in (("gamma", self.scale), ("beta", self.center)) if used]

    # What surgery asks: how the layer stands in for another norm.

    def standardization(self):
        """The plain norm that the layer is with the weights that it has, a `Standardization`.

        By itself it is none: a method says here when it is one.
        """
        weights = ((self.gamma, np.ones), (self.beta, np.zeros))
        gamma, beta = (
            constant(self.channels) if weight is None else numpy_of(weight).astype("float64")
            for weight, constant in weights
        )
        return Standardization(gamma, beta, self.epsilon)

    def needed_weights(self, target):
        """Which of `"scale"` and `"center"` a layer needs to become `target`; it is not built."""
        return []

    def complete(self, taken):
        """Set the weights that follow from those that an old layer had, where it had not these.

        `taken` are the names of the weights that it had.
        """

    def start_as(self, target):
        """Set the layer's own weights so that it computes `target`, as nearly as it can.

        Gamma, beta and moving statistics are those of `target` beforehand, where there are any.

        Returns:
            What keeps the layer from being `target`, in words for the report; or `""`.
        """
        return ""

    # What a conversion asks.

    @classmethod
    def fit_choices(cls, channels):
        """Arguments among which a conversion chooses where a spec leaves them open: dictionaries.

        By itself a layer has nothing to choose.
        """
        return [{}]

    def start_fit(self, moments, scale, shift):
        """Set the weights beyond gamma and beta to where a fit of the layer's outputs begins.

        Args:
            moments: of the inputs that it is fitted on, `Moments` as `coefficients` takes them.
            scale, shift: what `coefficients` should give for these, float64 arrays `(N, C)`.

        Returns:
            From the id of a weight to the size of a typical change of it; 1 where there is none.
        """
        return {}

    def fit_bounds(self):
        """The least and the greatest value that a fit may give a weight, by the weight's id."""
        return {}

    def build(self, input_shape):
        """Check the input shape and create the weights."""
        check_dtype(self)  # Again: a policy may go by the path, which is known only now.
        channels = self._channels_of(input_shape)
        self._check_build(channels, tuple(input_shape))
        self.channels = channels
        for name in self._rescaling_weights():
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
        return self._normalized(inputs, training, mask, self.coefficients)

    def _normalized(self, inputs, training, mask, coefficients):
        """What `call` gives, with `coefficients` as the method's formula."""
        self._check_inputs(inputs)
        training = bool(training) and self.trainable
        rank = len(inputs.shape)
        axis = self.axis % rank
        between = axis not in (1, rank - 1)
        x = ops.moveaxis(inputs, axis, -1) if between else inputs
        channels_first = axis == 1 and rank > 2
        shape = ops.shape(x)
        if mask is not None:
            mask = self._spread_mask(mask, self._positions_of(ops.shape(inputs)), shape[0])
        target, channel_axis = self._view(shape, channels_first, training and mask is None)
        x = ops.reshape(ops.cast(x, self._input_dtype_of(x)), target)
        if mask is not None:
            mask = ops.expand_dims(mask, channel_axis)
            # Cleaned first, so that what is masked, be it infinite, reaches nothing. Cast even
            # before, so that the parts of a half-precision gradient are rounded only as a sum.
            x = ops.cast(x, self._statistics_dtype_of(x))
            x = ops.where(mask, x, ops.zeros_like(x))
        handle, moments = self._measure(x, channel_axis, mask, training)
        scale, shift = coefficients(moments, training)
        if mask is not None:
            present = ops.any(ops.squeeze(mask, channel_axis), axis=1, keepdims=True)
            scale = ops.where(present, scale, ops.zeros_like(scale))
        outputs = backends.affine(
            handle, moments.mean, scale, shift, channel_axis, self.compute_dtype
        )
        if mask is not None:
            # Nor do gradients come in at masked positions.
            outputs = ops.where(mask, outputs, ops.stop_gradient(outputs))
        outputs = ops.reshape(outputs, shape)
        return ops.moveaxis(outputs, -1, axis) if between else outputs

    def _positions_of(self, shape):
        """A shape without examples and channels."""
        channel_axis = self.axis % len(shape)
        return tuple(size for axis, size in enumerate(shape) if axis not in (0, channel_axis))

    def _view(self, shape, channels_first, training):
        """The rank 3 shape to work in, and its channel axis."""
        if channels_first:
            return (shape[0], shape[1], math.prod(shape[2:])), 1
        return (shape[0], math.prod(shape[1:-1]), shape[-1]), 2

    def _spread_mask(self, mask, positions, examples):
        """A mask that broadcasts, or is of a leading part of the positions, as `(N, L)`."""
        mask = ops.cast(mask, "bool")
        whole = (examples, *positions)
        missing = len(whole) - len(mask.shape)
        differs = any(
            isinstance(size, int) and isinstance(there, int) and size not in (1, there)
            for size, there in zip(mask.shape, whole, strict=False)
        )
        if missing < 0 or len(mask.shape) == 0 or differs:
            known = tuple(size if isinstance(size, int) else None for size in whole)
            raise self._error(
                f"the mask has shape {tuple(mask.shape)}",
                f"the inputs' shape without the channel axis, {known}, or a leading part of it; "
                "sizes may be 1, for the same at all",
            )
        mask = ops.reshape(mask, (*ops.shape(mask), *([1] * missing)))
        mask = ops.broadcast_to(mask, whole)
        return ops.reshape(mask, (examples, math.prod(positions)))

    def _statistics_dtype_of(self, x):
        """The dtype of statistics of `x`."""
        return statistics_dtype(x.dtype, self.compute_dtype)

    def _input_dtype_of(self, x):
        """float64 for a float64 layer; else what the inputs have, which the kernels upcast."""
        return "float64" if self._statistics_dtype_of(x) == "float64" else x.dtype

    # Shapes, configuration, errors.

    def compute_output_shape(self, input_shape):
        """The input shape."""
        self._channels_of(input_shape)
        return input_shape

    def compute_output_spec(self, inputs, training=None, mask=None):
        """The input shape, in the compute dtype."""
        self._check_inputs(inputs)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def _check_inputs(self, inputs):
        """Refuse what the layer cannot normalize."""
        dtype = backend.standardize_dtype(inputs.dtype)
        if not backend.is_float_dtype(dtype):
            raise TypeError(
                f"{self._described()}: the inputs have dtype {dtype}. Needed: floating point, for "
                "example `keras.ops.cast(inputs, 'float32')`."
            )
        channels = self._channels_of(inputs.shape)
        if channels != self.channels:
            raise self._error(
                f"the inputs have {channels} channels (shape {tuple(inputs.shape)}, "
                f"axis={self.axis})",
                f"the {self.channels} channels that the layer was built for",
            )

    def _channels_of(self, input_shape):
        """The number of channels, checked."""
        rank = len(input_shape)
        if rank < 2:
            raise self._error(f"the inputs have shape {tuple(input_shape)}", "rank 2 or more")
        if not -rank < self.axis < rank:
            raise self._error(
                f"axis={self.axis} with inputs of shape {tuple(input_shape)}",
                f"from 1 to {rank - 1}, or from {1 - rank} to -1",
            )
        channels = input_shape[self.axis]
        if channels is None:
            raise self._error(
                f"the channel axis {self.axis} of the input shape {tuple(input_shape)} is unknown",
                "a fixed number of channels, such as `keras.Input((None, None, 64))`",
            )
        if channels < 1:
            raise self._error(f"the inputs have {channels} channels", "at least one")
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

    def _described(self):
        """The layer as an error names it."""
        return f"{type(self).__name__} '{self.name}'"

    def _error(self, received, legal=None):
        """A `ValueError` with what was received and what is legal."""
        needed = f" Needed: {legal}." if legal else ""
        return ValueError(f"{self._described()}: {received}.{needed}")

    def _checked_integer(self, argument, value, least=None):
        """An integer argument, checked."""
        needed = "an integer" if least is None else f"an integer of at least {least}"
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise self._error(f"{argument}={value!r}", needed)
        value = int(value)
        if least is not None and value < least:
            raise self._error(f"{argument}={value}", needed)
        return value

    def _checked_number(self, argument, value, above=None, least=None, most=None):
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
            raise self._error(f"{argument}={value!r}", f"a number {' and '.join(bounds)}")
        return number

    def _checked_choice(self, argument, value, choices):
        """One of a few words, checked."""
        if value not in choices:
            raise self._error(f"{argument}={value!r}", f"one of {', '.join(map(repr, choices))}")
        return value

    def _checked_activation(self, argument, value):
        """An activation function, checked."""
        try:
            return keras.activations.get(value)
        except (TypeError, ValueError) as error:
            near = difflib.get_close_matches(str(value), dir(keras.activations), n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ValueError(
                f"{self._described()}: {argument}={value!r} is no activation. Needed: a name in "
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


def in_dtype_of(weight, values):
    """A weight in the dtype of statistics."""
    return ops.cast(weight, values.dtype)


def with_own_seed(initializer, index):
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
