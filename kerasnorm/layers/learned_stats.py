"""Statistics predicted by small convolutional networks."""

import math

import keras
from keras import initializers, ops

from kerasnorm.core import backends
from kerasnorm.core.layer import PACKAGE, Normalization, like
from kerasnorm.core.pooling import mean_of

# softplus of it is 1.
_UNIT_SOFTPLUS = math.log(math.e - 1)


@keras.saving.register_keras_serializable(PACKAGE)
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
        axis, epsilon, center, scale: as in `kerasnorm.core.layer.Normalization`; center and scale
            are False.
        *common: the other arguments of `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

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
        filters=(4, 4, 1),
        kernel_sizes=(4, 3, 3),
        axis=-1,
        epsilon=1e-5,
        center=False,
        scale=False,
        *common,
        **kwargs,
    ):
        super().__init__(axis, epsilon, center, scale, *common, **kwargs)
        self.filters = self._checked_list("filters", filters)
        self.kernel_sizes = self._checked_list("kernel_sizes", kernel_sizes)
        if len(self.filters) != len(self.kernel_sizes) or self.filters[-1:] != [1]:
            raise self.error(
                f"filters={self.filters} and kernel_sizes={self.kernel_sizes}",
                "as many of the one as of the other, and 1 as the last of the filters",
            )
        self.mean_stack = []
        self.std_stack = []

    def _checked_list(self, argument, values):
        """Positive integers, as a list, which JSON keeps."""
        try:
            return [self.checked_integer(argument, value, least=1) for value in values]
        except TypeError as error:
            raise self.error(f"{argument}={values!r}", "a list of positive integers") from error

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

    def uses_variance(self, training):
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
            kernel = ops.reshape(like(kernel, means), (size * depth, filters))
            windows = _windows(features, size)
            if index == len(stack) - 1:
                # The last convolution and the average over channels commute.
                return backends.dot(mean_of(windows, -1), kernel) + like(bias, means)
            kernel = ops.broadcast_to(
                ops.transpose(kernel), (ops.shape(means)[0], filters, size * depth)
            )
            features = ops.relu(backends.dot(kernel, windows) + like(bias, means)[:, None])

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
