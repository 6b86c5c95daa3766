"""Switchable Normalization."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasnorm.core.arguments import documented
from kerasnorm.core.layer import PACKAGE, in_dtype_of
from kerasnorm.core.moving import MovingNormalization
from kerasnorm.core.pooling import pool_channels
from kerasnorm.core.standardization import BATCH, assign, groups, numpy_of

# The weight by which one statistic leads where the layer starts as the norm that uses it alone: a
# share of all but 1e-4. A larger one would hold the others at zero for good.
LEAD = 10.0


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class SwitchableNorm(MovingNormalization):
    """Switchable Normalization (SN): learns how much of instance, layer and batch norm it is.

    With the mean and variance of each channel of an example (instance), of the whole example
    (layer) and of each channel over the batch,

        mu = sum_k w_k mu_k               w = softmax(mean_weight)
        sigma^2 = sum_k w'_k sigma_k^2    w' = softmax(variance_weight)
        y = gamma * (x - mu)/sqrt(sigma^2 + epsilon) + beta

    The three are in the order instance, layer, batch, and start with equal shares. At inference
    the batch's moments are moving averages, as in `BatchNorm`.

    Args:
        {MovingNormalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.SwitchableNorm()
        >>> _ = layer(np.zeros((2, 8, 8, 16), "float32"))
        >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights[2:4]]
        [('mean_weight', (3,)), ('variance_weight', (3,))]

    Reference:
        Luo et al., 2018, "Differentiable Learning-to-Normalize via Switchable Normalization":
        https://arxiv.org/abs/1806.10779
    """

    mean_weight: Any = None
    variance_weight: Any = None

    def build_weights(self, channels, input_shape):
        """Add the weights of the three statistics, then the moving ones."""
        for name in ("mean_weight", "variance_weight"):
            weight = self.add_weight(name=name, shape=(3,), initializer="ones", autocast=False)
            setattr(self, name, weight)
        super().build_weights(channels, input_shape)

    def coefficients(self, moments, training):
        """Equation 3; means enter as distances from the channel's own."""
        layer = pool_channels(moments, 1)
        batch = self._batch_moments(moments, training)
        mean_share, variance_share = (
            ops.exp(ops.log_softmax(in_dtype_of(weight, moments.mean)))
            for weight in (self.mean_weight, self.variance_weight)
        )
        variance = (
            variance_share[0] * moments.variance
            + variance_share[1] * layer.variance
            + variance_share[2] * batch.variance
        )
        # The shares have the sum 1, and the instance's mean is the channel's.
        distance = mean_share[1] * (moments.mean - layer.mean)
        distance = distance + mean_share[2] * (moments.mean - batch.mean)
        gamma, beta = self.rescaling(moments)
        scale = gamma * ops.rsqrt(variance + self.epsilon)
        return scale, distance * scale + beta

    def _families(self):
        """The plain norms of the three statistics."""
        return (groups(self.channels), groups(1), BATCH)

    def standardization(self):
        """Nearly a plain norm where one statistic has nearly all of both weights."""
        leads = []
        for weight in (self.mean_weight, self.variance_weight):
            value = numpy_of(weight).astype("float64")
            *_, second, first = np.sort(value)
            leads.append(int(value.argmax()) if first - second >= LEAD else None)
        leader = leads[0] if leads[0] == leads[1] else None
        family = None if leader is None else self._families()[leader]
        return dataclasses.replace(super().standardization(), family=family, near=True)

    def start_fit(self, moments, scale, shift):
        """Equal shares: from where one statistic leads, the others come back slowly."""
        for weight in (self.mean_weight, self.variance_weight):
            assign(weight, np.ones(3))
        return {}

    def start_as(self, target):
        """Nearly all of the weight for the statistics of the target."""
        if target.family not in self._families():
            return ""
        weights = np.zeros(3)
        weights[self._families().index(target.family)] = LEAD
        for weight in (self.mean_weight, self.variance_weight):
            assign(weight, weights)
        return f"the other two statistics have shares of {np.exp(-LEAD):.1g}"
