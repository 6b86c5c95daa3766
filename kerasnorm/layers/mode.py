"""Mode Normalization and Mode Group Normalization."""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

import keras
from keras import initializers, ops

from kerasnorm.core import backends
from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.layer import PACKAGE, Normalization, in_dtype_of, with_own_seed
from kerasnorm.core.moving import MovingNormalization
from kerasnorm.core.pooling import mean_of
from kerasnorm.core.standardization import assign, groups, numpy_of

# With weights of this width the modes of a gate are nearly alike.
EVEN_GATE = 0.01


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class ModeNorm(MovingNormalization):
    """Mode Normalization (MN): a gate assigns each example to modes with their own moments.

    With the gate g_nk = softmax_k(mean_n @ gate_kernel + gate_bias) of each example, and the
    moments of the batch as each mode sees it,

        mu_k = sum_n g_nk <x_n> / sum_n g_nk      sigma_k^2 likewise, around mu_k
        y_n = gamma * sum_k g_nk (x_n - mu_k)/sqrt(sigma_k^2 + epsilon) + beta

    In training the moments are the batch's (the paper's text; line 13 of its Algorithm 1 would
    use the moving ones), at inference moving ones: those of <x> and <x^2>, kept as mean and
    variance, with the momentum 0.9 that is the paper's lambda = 0.1. One mode is `BatchNorm`. All
    modes together take as many passes over x as one does.

    Args:
        modes: K.
        gate_initializer: of `gate_kernel`; None is a normal distribution of width 0.01, near
            which all modes are alike. The bias starts at 0.
        {MovingNormalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments,
    and examples weigh by what it leaves of them.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ModeNorm(modes=4)
        >>> _ = layer(np.zeros((2, 8, 8, 16), "float32"))
        >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights[2:]]
        [('gate_kernel', (16, 4)), ('gate_bias', (4,)), ('moving_mean', (4, 16)), \
('moving_variance', (4, 16))]

    Reference:
        Deecke, Murray and Bilen, 2019, "Mode Normalization", Algorithms 1 and 2:
        https://arxiv.org/abs/1810.05466
    """

    def __init__(
        self,
        modes: int = 2,
        momentum: float = 0.9,
        synchronized: bool = False,
        gate_initializer: InitializerLike | None = None,
        moving_mean_initializer: InitializerLike = "zeros",
        moving_variance_initializer: InitializerLike = "ones",
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
        super().__init__(
            momentum=momentum,
            synchronized=synchronized,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            axis=axis,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.modes = self._checked_integer("modes", modes, least=1)
        self.gate_initializer = initializers.get(
            initializers.RandomNormal(stddev=EVEN_GATE)
            if gate_initializer is None
            else gate_initializer
        )
        self.gate_kernel: Any = None
        self.gate_bias: Any = None

    # Examples are in several modes; with one, the moving variance moves by a rule of its own.
    _in_training = ("modes",)

    def _moving_shape(self, channels):
        """A row per mode."""
        return (self.modes, channels)

    def build_weights(self, channels, input_shape):
        """Add the gate, then the moving statistics."""
        self.gate_kernel = self.add_weight(
            name="gate_kernel",
            shape=(channels, self.modes),
            initializer=with_own_seed(self.gate_initializer, 0),
            autocast=False,
        )
        self.gate_bias = self.add_weight(
            name="gate_bias", shape=(self.modes,), initializer="zeros", autocast=False
        )
        super().build_weights(channels, input_shape)

    def _uses_variance(self, training):
        """At inference the gate needs the means alone."""
        return training

    def coefficients(self, moments, training):
        """Equation 2, expanded around each channel's mean."""
        kernel, bias = (in_dtype_of(w, moments.mean) for w in (self.gate_kernel, self.gate_bias))
        log_gate = ops.log_softmax(backends.dot(moments.mean, kernel) + bias, axis=-1)
        modes = self._batch_moments(moments, training, log_gate)
        gate = ops.exp(log_gate)
        inverse = ops.rsqrt(modes.variance + self.epsilon)
        # Means enter as distances from their middle: large ones would cancel badly.
        middle = ops.stop_gradient(mean_of(modes.mean, 0, keepdims=True))
        gamma, beta = self.rescaling(moments)
        slope = backends.dot(gate, inverse)
        offset = backends.dot(gate, (modes.mean - middle) * inverse)
        return gamma * slope, gamma * ((moments.mean - middle) * slope - offset) + beta

    def _moved_variance(self, old, new, momentum):
        """The variance of the moving averages of <x> and <x^2>, without their difference."""
        apart = momentum * (1 - momentum) * ops.square(new.mean - old.mean)
        return super()._moved_variance(old, new, momentum) + apart

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "modes": self.modes,
            "gate_initializer": initializers.serialize(self.gate_initializer),
        }


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class ModeGroupNorm(Normalization):
    """Mode Group Normalization (MGN): a gate assigns the channels of an example to modes.

    With the gate g_ck = softmax_k(mean_c * gate_kernel_k + gate_bias_k) of each channel of an
    example, and moments of the example as each mode sees it,

        mu_k = sum_c g_ck mean_c / sum_c g_ck      sigma_k^2 likewise, over channels and positions
        y = gamma/K * sum_k (x - mu_k)/sqrt(sigma_k^2 + epsilon) + beta

    It is the same in training and inference; one mode is `LayerNorm`. (Algorithm 3 read literally
    takes the variance of the pooled means alone, which vanishes for one channel.)

    Args:
        modes: K.
        gate_initializer: of `gate_kernel`; None is a normal distribution of width 1: with zeros
            all modes would be and stay the same. The bias starts at 0.
        {Normalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ModeGroupNorm(modes=3)
        >>> layer(np.zeros((2, 8, 8, 16), "float32")).shape == (2, 8, 8, 16)
        True

    Reference:
        Deecke, Murray and Bilen, 2019, "Mode Normalization", Algorithm 3 and equation 5:
        https://arxiv.org/abs/1810.05466
    """

    def __init__(
        self,
        modes: int = 2,
        gate_initializer: InitializerLike | None = None,
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
        super().__init__(
            axis=axis,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.modes = self._checked_integer("modes", modes, least=1)
        self.gate_initializer = initializers.get(
            initializers.RandomNormal(stddev=1.0) if gate_initializer is None else gate_initializer
        )
        self.gate_kernel: Any = None
        self.gate_bias: Any = None

    def build_weights(self, channels, input_shape):
        """Add the gate."""
        self.gate_kernel = self.add_weight(
            name="gate_kernel",
            shape=(self.modes,),
            initializer=with_own_seed(self.gate_initializer, 0),
            autocast=False,
        )
        self.gate_bias = self.add_weight(
            name="gate_bias", shape=(self.modes,), initializer="zeros", autocast=False
        )

    def coefficients(self, moments, training):
        """Equation 5, with moments pooled over channels; arrays are `(N, K, C)`."""
        mean, variance = (value[:, None, :] for value in moments[:2])
        kernel, bias = (
            in_dtype_of(w, moments.mean)[None, :, None] for w in (self.gate_kernel, self.gate_bias)
        )
        log_gate = ops.log_softmax(mean * kernel + bias, axis=1)
        # Keras warns of a softmax over one entry, which one channel is.
        share = ops.exp(ops.log_softmax(log_gate, axis=-1))
        anchor = ops.stop_gradient(mean[:, :, :1])
        distance = ops.sum(share * (mean - anchor), axis=-1, keepdims=True)
        spread = variance + ops.square(mean - anchor - distance)
        inverse = ops.rsqrt(ops.sum(share * spread, axis=-1, keepdims=True) + self.epsilon)
        slope = mean_of(inverse, 1)
        offset = mean_of(distance * inverse, 1)
        gamma, beta = self.rescaling(moments)
        return gamma * slope, gamma * ((moments.mean - anchor[:, 0]) * slope - offset) + beta

    def standardization(self):
        """Layer norm with one mode; nearly that while the gates are nearly even."""
        width = abs(numpy_of(self.gate_kernel)).max()
        even = self.modes == 1 or width < 10 * EVEN_GATE
        return dataclasses.replace(
            super().standardization(), family=groups(1) if even else None, near=self.modes > 1
        )

    def start_as(self, target):
        """Nearly even gates; even ones would be and stay the same."""
        assign(self.gate_kernel, EVEN_GATE * numpy_of(self.gate_kernel))
        return f"gates are even but for weights of width {EVEN_GATE}"

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "modes": self.modes,
            "gate_initializer": initializers.serialize(self.gate_initializer),
        }
