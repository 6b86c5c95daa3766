"""Statistics predicted by small convolutional networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import initializers, ops

from kerasnorm.core import backends
from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.layer import PACKAGE, Normalization, in_dtype_of
from kerasnorm.core.pooling import mean_of
from kerasnorm.core.standardization import BATCH, CONSTANTS, assign, numpy_of

# softplus of it is 1.
_UNIT_SOFTPLUS = math.log(math.e - 1)


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class LearnedStatsNorm(Normalization):
    """Normalization by a mean and a deviation that two small networks read off the channel means.

        m = average(stack(channel means))
        std = softplus(average(stack(channel means))) + epsilon
        y = gamma*(x - m)/std + beta

    A stack is 1-D convolutions along the channels ("same" padding, for even kernels the extra zero
    is on the right), relu between them; each stack ends in one number per example. By default there
    is no gamma and no beta: the point is to have fewer parameters than batch norm.

    Args:
        filters: of each convolution; the last is 1.
        kernel_sizes: of each convolution. The paper has `(4, 4, 1)` and `(4, 3, 3)` for a network's
            first layer, `(4, 4, 2, 1)` and `(4, 3, 2, 3)` for the others.
        {Normalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the means.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.LearnedStatsNorm()
        >>> _ = layer(np.zeros((2, 8, 8, 96), "float32"))
        >>> layer.count_params()
        170

    Reference:
        Esposito and Ganaba, 2021, "Convolutional Normalization", section 5.
    """

    def __init__(
        self,
        filters: Sequence[int] = (4, 4, 1),
        kernel_sizes: Sequence[int] = (4, 3, 3),
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = False,
        scale: bool = False,
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
        self.filters = self._checked_list("filters", filters)
        self.kernel_sizes = self._checked_list("kernel_sizes", kernel_sizes)
        if len(self.filters) != len(self.kernel_sizes) or self.filters[-1:] != [1]:
            raise self._error(
                f"filters={self.filters} and kernel_sizes={self.kernel_sizes}",
                "two lists of the same length, and 1 as the last of the filters",
            )
        self.mean_stack: list[Any] = []
        self.std_stack: list[Any] = []

    def _checked_list(self, argument, values):
        """Positive integers, as a list, which JSON keeps."""
        try:
            return [self._checked_integer(argument, value, least=1) for value in values]
        except TypeError as error:
            raise self._error(f"{argument}={values!r}", "a list of positive integers") from error

    def build_weights(self, channels, input_shape):
        """Add the two stacks."""
        last = len(self.filters) - 1
        for name, stack in (("mean", self.mean_stack), ("std", self.std_stack)):
            depth = 1
            for index, (filters, size) in enumerate(
                zip(self.filters, self.kernel_sizes, strict=True)
            ):
                # The deviation starts near 1, whatever the means are.
                unit = name == "std" and index == last
                kernel = self.add_weight(
                    name=f"{name}_kernel_{index}",
                    shape=(size, depth, filters),
                    initializer=initializers.RandomUniform(-0.01, 0.01)
                    if unit
                    else "glorot_uniform",
                    autocast=False,
                )
                start = _UNIT_SOFTPLUS if unit else 0.0
                bias = self.add_weight(
                    name=f"{name}_bias_{index}",
                    shape=(filters,),
                    initializer=initializers.Constant(start),
                    autocast=False,
                )
                stack.append((kernel, bias))
                depth = filters

    def _uses_variance(self, training):
        """Means are all that the networks read."""
        return False

    def coefficients(self, moments, training):
        """Section 5."""
        mean = self._read(self.mean_stack, moments.mean)
        std = ops.softplus(self._read(self.std_stack, moments.mean)) + self.epsilon
        gamma, beta = self.rescaling(moments)
        scale = gamma / std
        return scale, (moments.mean - mean) * scale + beta

    def _read(self, stack, means):
        """One number per example, `(N, 1)`; features are `(N, depth, C)`."""
        features = means[:, None, :]
        for index, (kernel, bias) in enumerate(stack):
            size, depth, filters = kernel.shape
            kernel = ops.reshape(in_dtype_of(kernel, means), (size * depth, filters))
            windows = _windows(features, size)
            if index == len(stack) - 1:
                # The last convolution and the average over channels commute.
                return backends.dot(mean_of(windows, -1), kernel) + in_dtype_of(bias, means)
            kernel = ops.broadcast_to(
                ops.transpose(kernel), (ops.shape(means)[0], filters, size * depth)
            )
            features = ops.relu(backends.dot(kernel, windows) + in_dtype_of(bias, means)[:, None])

    def standardization(self):
        """What a batch norm is at inference, while both networks predict constants."""
        plain = super().standardization()
        if any(numpy_of(stack[-1][0]).any() for stack in (self.mean_stack, self.std_stack)):
            return plain
        mean, unit = (
            numpy_of(stack[-1][1]).astype("float64") for stack in (self.mean_stack, self.std_stack)
        )
        std = np.log1p(np.exp(unit)) + self.epsilon
        return dataclasses.replace(
            plain,
            family=BATCH,
            in_training=CONSTANTS,
            epsilon=0.0,
            moving_mean=np.full(self.channels, mean),
            moving_variance=np.full(self.channels, std**2),
        )

    def needed_weights(self, target):
        """Both, which hold the moving statistics."""
        return ["scale", "center"] if target.family == BATCH else []

    def start_as(self, target):
        """The mean 0 and the deviation 1; gamma and beta contain the moving statistics."""
        if target.family == BATCH and self.gamma is not None and self.beta is not None:
            unit = math.log(math.expm1(1 - self.epsilon))
            for stack, value in ((self.mean_stack, 0.0), (self.std_stack, unit)):
                for weight, start in zip(stack[-1], (0.0, value), strict=True):
                    assign(weight, np.full(tuple(weight.shape), start))
            for weight, value in zip((self.gamma, self.beta), target.slope_and_shift, strict=True):
                assign(weight, value)
        return ""

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "kernel_sizes": list(self.kernel_sizes),
        }


def _windows(features, size):
    """The neighbourhood of every channel: `(N, depth, C)` to `(N, size*depth, C)`."""
    channels = features.shape[-1]
    left = (size - 1) // 2
    padded = ops.pad(features, ((0, 0), (0, 0), (left, size - 1 - left)))
    return ops.concatenate([padded[:, :, i : i + channels] for i in range(size)], axis=1)
