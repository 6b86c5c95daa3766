"""Standardization by groups of an example's channels."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import initializers, ops

from kerasnorm.core import backends
from kerasnorm.core.arguments import ActivationLike, Divisor, InitializerLike
from kerasnorm.core.layer import Normalization, divisors, in_dtype_of, with_own_seed
from kerasnorm.core.pooling import pool_channels, repeat_channels
from kerasnorm.core.standardization import assign, groups, numpy_of


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

    def standardization(self):
        """A norm of so many groups."""
        family = groups(self.groups_of(self.channels))
        return dataclasses.replace(super().standardization(), family=family)

    def _divisor_of_channels(self, argument, value, channels, auto):
        """A count or size that divides the channels; "auto" is the largest not above `auto`."""
        if value == "auto":
            return divisors(channels, min(auto, channels))[-1]
        if channels % value:
            legal = divisors(channels)
            nearest = [d for d in legal if d < value][-1:] + [d for d in legal if d > value][:1]
            raise self._error(
                f"{argument}={value} does not divide the {channels} channels",
                f"{' or '.join(map(str, nearest))} (the nearest), another of "
                f'{", ".join(map(str, legal))}, or "auto"',
            )
        return value

    def _checked_size(self, argument, value, *others):
        """A positive integer, or one of a few other values."""
        if value in others:
            return value
        try:
            return self._checked_integer(argument, value, least=1)
        except ValueError as error:
            listed = ", ".join(map(repr, others))
            raise self._error(
                f"{argument}={value!r}", f"an integer of at least 1, or one of {listed}"
            ) from error


class Grouped(GroupStandardization):
    """A `GroupStandardization` with the argument `groups`; mixed into those that predict, too.

    Args:
        groups: of the standardization; it must divide the channels. -1 is one per channel,
            "auto" the largest legal number up to 32.
    """

    def __init__(self, groups: Divisor = 32, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = self._checked_size("groups", groups, -1, "auto")

    def groups_of(self, channels):
        """The number of groups."""
        if self.groups == -1:
            return channels
        return self._divisor_of_channels("groups", self.groups, channels, auto=32)

    @classmethod
    def fit_choices(cls, channels):
        """Every legal number of groups up to the default."""
        further = super().fit_choices(channels)
        counts = divisors(channels, min(32, channels))
        return [{"groups": count, **more} for count in counts for more in further]

    def _check_build(self, channels, input_shape):
        """Check the number of groups."""
        super()._check_build(channels, input_shape)
        self.groups_of(channels)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "groups": self.groups}


class Association(GroupStandardization):
    """Predicts from moments of key groups of channels, by a small auto-encoder.

    `key_moments @ encoder`, relu, `@ decoder`, activation: the encoder is shared by means and
    variances, the decoders are not.
    """

    def __init__(
        self,
        *,
        reduction: int,
        mean_activation: ActivationLike,
        variance_activation: ActivationLike,
        association_initializer: InitializerLike | None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.reduction = self._checked_integer("reduction", reduction, least=1)
        self.mean_activation = self._checked_activation("mean_activation", mean_activation)
        self.variance_activation = self._checked_activation(
            "variance_activation", variance_activation
        )
        if association_initializer is None:
            association_initializer = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.association_initializer = initializers.get(association_initializer)
        self.encoder: Any = None
        self.mean_decoder: Any = None
        self.variance_decoder: Any = None

    def key_groups_of(self, channels):
        """The number of key groups, Nk."""
        raise NotImplementedError(f"{type(self).__name__} has no `key_groups_of`")

    def _check_build(self, channels, input_shape):
        """Check the key groups."""
        super()._check_build(channels, input_shape)
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
                initializer=with_own_seed(self.association_initializer, index),
                autocast=False,
            )
            setattr(self, name, weight)

    def _keys(self, moments):
        """What is encoded: `Moments` of the key groups."""
        return pool_channels(moments, self.key_groups_of(self.channels))

    def _decode(self, moments):
        """The decoders' outputs, `(N, Nk)`, for the means and for the variances."""
        keys = self._keys(moments)
        encoder, *decoders = (
            in_dtype_of(weight, keys.mean)
            for weight in (self.encoder, self.mean_decoder, self.variance_decoder)
        )
        return tuple(
            backends.dot(ops.relu(backends.dot(key, encoder)), decoder)
            for key, decoder in zip(keys[:2], decoders, strict=True)
        )

    def rescaling(self, moments):
        """What is predicted, with gamma and beta."""
        return self._rescaled(*self._decode(moments), *super().rescaling(moments))

    def _rescaled(self, decoded_mean, decoded_variance, gamma, beta):
        """Gamma and beta, `(N, C)`, from the decoders' outputs, `(N, Nk)`, and from the weights."""
        raise NotImplementedError(f"{type(self).__name__} has no `_rescaled`")

    def _rescaled_at_zero(self, gamma, beta):
        """The same where the decoders give zeros, as NumPy arrays with an entry per channel."""
        keys = ops.zeros((1, self.key_groups_of(len(gamma))), "float32")
        weights = (ops.convert_to_tensor(value[None].astype("float32")) for value in (gamma, beta))
        return tuple(numpy_of(v)[0].astype("float64") for v in self._rescaled(keys, keys, *weights))

    def _biases_for(self, gamma, beta):
        """The weights gamma and beta with which `_rescaled_at_zero` gives these, if any do."""
        start = self._rescaled_at_zero(np.zeros_like(gamma), np.zeros_like(beta))
        return gamma - start[0], beta - start[1]

    def standardization(self):
        """A plain norm while both decoders are zero."""
        plain = super().standardization()
        if any(numpy_of(weight).any() for weight in (self.mean_decoder, self.variance_decoder)):
            return dataclasses.replace(plain, family=None)
        gamma, beta = self._rescaled_at_zero(plain.gamma, plain.beta)
        return dataclasses.replace(plain, gamma=gamma, beta=beta)

    def needed_weights(self, target):
        """Those without which zero decoders give another gamma or beta."""
        ones, zeros = np.ones_like(target.gamma), np.zeros_like(target.beta)
        bare = self._rescaled_at_zero(ones, zeros)
        wanted = (target.gamma, target.beta)
        return [
            name
            for name, one, other in zip(("scale", "center"), bare, wanted, strict=True)
            if not np.allclose(one, other, atol=1e-7)
        ]

    def start_as(self, target):
        """Zero decoders; gamma and beta make up for what the activations give there."""
        for decoder in (self.mean_decoder, self.variance_decoder):
            assign(decoder, np.zeros(tuple(decoder.shape)))
        biases = self._biases_for(target.gamma, target.beta)
        for weight, bias in zip((self.gamma, self.beta), biases, strict=True):
            if weight is not None:
                assign(weight, bias)
        return "no bias brings the activations to the old gamma and beta"

    def start_fit(self, moments, scale, shift):
        """Zero decoders, and an encoder whose first numbers hold the mean of the keys of a group.

        Each mean is there twice, the second time with the other sign, so that what is linear in it
        can be decoded exactly. Where the code has no room for all groups, it is the mean of all
        keys. The other numbers start as random projections.
        """
        keys = self._keys(moments)
        count, code = tuple(self.encoder.shape)
        encoder = np.random.default_rng(0).normal(size=(count, code)) / np.sqrt(count)
        groups = self._groups_in_code()
        member = np.kron(np.eye(groups), np.full((count // groups, 1), groups / count))
        encoder[:, : 2 * groups] = np.kron(member, [1.0, -1.0])
        assign(self.encoder, encoder)
        widths = {}
        decoders = (self.mean_decoder, self.variance_decoder)
        for decoder, key in zip(decoders, keys[:2], strict=True):
            assign(decoder, np.zeros(tuple(decoder.shape)))
            widths[id(decoder)] = 1.0 / max(float(np.abs(numpy_of(key)).mean()), 1e-12)
        return widths

    def _groups_in_code(self):
        """Of how many groups a fit starts with the means in the code: all, or all as one."""
        count, code = tuple(self.encoder.shape)
        groups = self.groups_of(self.channels)
        return groups if 2 * groups <= code and count % groups == 0 else 1

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
