"""Standardization by groups of an example's channels."""

import keras
from keras import initializers, ops

from kerasnorm.core import backends
from kerasnorm.core.layer import Normalization, distinct, divisors, like
from kerasnorm.core.pooling import pool_channels, repeat_channels


class GroupStandardization(Normalization):
    """Standardizes each example by the moments of groups of its channels.

    A subclass says how many groups there are (`groups_of`) and may predict gamma and beta
    (`rescaling`).
    """

    def groups_of(self, channels):
        """The number of groups."""
        raise NotImplementedError(f"{type(self).__name__} has no `groups_of`")

    def coefficients(self, moments, training):
        """`scale = gamma/sqrt(group variance + epsilon)`; at a channel's mean, its distance."""
        group = pool_channels(moments, self.groups_of(self.channels))
        mean, variance = (repeat_channels(value, self.channels) for value in group[:2])
        gamma, beta = self.rescaling(moments)
        scale = gamma * ops.rsqrt(variance + self.epsilon)
        return scale, (moments.mean - mean) * scale + beta

    def divisor_of_channels(self, argument, value, channels, auto):
        """A count or size that divides the channels; "auto" is the largest not above `auto`."""
        if value == "auto":
            return divisors(channels, min(auto, channels))[-1]
        if channels % value:
            legal = ", ".join(map(str, divisors(channels)))
            raise self.error(
                f"{argument}={value} does not divide the {channels} channels",
                f'one of {legal}, or "auto"',
            )
        return value

    def checked_size(self, argument, value, *others):
        """A positive integer, or one of a few other values."""
        if value in others:
            return value
        try:
            return self.checked_integer(argument, value, least=1)
        except ValueError as error:
            listed = ", ".join(map(repr, others))
            raise self.error(
                f"{argument}={value!r}", f"an integer of at least 1, or one of {listed}"
            ) from error


class Grouped(GroupStandardization):
    """A `GroupStandardization` with the argument `groups`; mixed into those that predict, too.

    Args:
        groups: how many; -1 is one per channel, "auto" the largest legal number up to 32.
        *common: what the next class in line takes.
        **kwargs: the same by name.
    """

    def __init__(self, groups=32, *common, **kwargs):
        super().__init__(*common, **kwargs)
        self.groups = self.checked_size("groups", groups, -1, "auto")

    def groups_of(self, channels):
        """The number of groups."""
        if self.groups == -1:
            return channels
        return self.divisor_of_channels("groups", self.groups, channels, auto=32)

    def check_build(self, channels, input_shape):
        """Check the number of groups."""
        super().check_build(channels, input_shape)
        self.groups_of(channels)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "groups": self.groups}


class Association(GroupStandardization):
    """Predicts from moments of key groups of channels, by a small auto-encoder.

    `key_moments @ encoder`, relu, `@ decoder`, activation: the encoder is shared by means and
    variances, the decoders are not.

    Args:
        reduction: the encoder has `max(key groups // reduction, 2)` outputs.
        mean_activation, variance_activation: what follows the decoder of means and of variances.
        association_initializer: of the encoder and the decoders; None is
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        *common: the arguments of `Normalization`.
        **kwargs: the same by name.
    """

    def __init__(
        self,
        reduction=16,
        mean_activation=None,
        variance_activation=None,
        association_initializer=None,
        *common,
        **kwargs,
    ):
        super().__init__(*common, **kwargs)
        self.reduction = self.checked_integer("reduction", reduction, least=1)
        self.mean_activation = self.checked_activation("mean_activation", mean_activation)
        self.variance_activation = self.checked_activation(
            "variance_activation", variance_activation
        )
        if association_initializer is None:
            association_initializer = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.association_initializer = initializers.get(association_initializer)
        self.encoder = None
        self.mean_decoder = None
        self.variance_decoder = None

    def key_groups_of(self, channels):
        """The number of key groups, Nk."""
        raise NotImplementedError(f"{type(self).__name__} has no `key_groups_of`")

    def check_build(self, channels, input_shape):
        """Check the key groups."""
        super().check_build(channels, input_shape)
        self.key_groups_of(channels)

    def build_weights(self, channels, input_shape):
        """Add the auto-encoder."""
        super().build_weights(channels, input_shape)
        key_groups = self.key_groups_of(channels)
        code = max(key_groups // self.reduction, 2)
        shapes = {
            "encoder": (key_groups, code),
            "mean_decoder": (code, key_groups),
            "variance_decoder": (code, key_groups),
        }
        for index, (name, shape) in enumerate(shapes.items()):
            weight = self.add_weight(
                name=name,
                shape=shape,
                initializer=distinct(self.association_initializer, index),
                autocast=False,
            )
            setattr(self, name, weight)

    def decode(self, moments):
        """The decoders' outputs, `(N, Nk)`, for the means and for the variances."""
        keys = pool_channels(moments, self.key_groups_of(self.channels))
        encoder, *decoders = (
            like(weight, keys.mean)
            for weight in (self.encoder, self.mean_decoder, self.variance_decoder)
        )
        return tuple(
            backends.dot(ops.relu(backends.dot(key, encoder)), decoder)
            for key, decoder in zip(keys[:2], decoders, strict=True)
        )

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "mean_activation": keras.activations.serialize(self.mean_activation),
            "variance_activation": keras.activations.serialize(self.variance_activation),
            "association_initializer": initializers.serialize(self.association_initializer),
        }


def activate(activation, values):
    """An activation; `keras.ops.tanh` on JAX would compute that of float64 in float32."""
    if activation is keras.activations.tanh and "float64" in str(values.dtype):
        return 2 * ops.sigmoid(2 * values) - 1
    return activation(values)
