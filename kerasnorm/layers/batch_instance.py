"""Batch-Instance Normalization."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasnorm.core.arguments import documented
from kerasnorm.core.layer import PACKAGE, in_dtype_of
from kerasnorm.core.moving import MovingNormalization
from kerasnorm.core.standardization import BATCH, assign, groups, numpy_of


@keras.saving.register_keras_serializable(PACKAGE)
class UnitInterval(keras.constraints.Constraint):
    """Keeps a weight in [0, 1]."""

    def __call__(self, w):
        """Clip."""
        return ops.clip(w, 0.0, 1.0)


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class BatchInstanceNorm(MovingNormalization):
    """Batch-Instance Normalization (BIN): each channel learns how much of the style to remove.

    With x standardized by the moments of the batch, and by those of the example's channel,

        y = gamma * (rho * x_batch + (1 - rho) * x_instance) + beta

    The gate rho of each channel starts at 1, which is `BatchNorm`, and is held in [0, 1]; at 0 it
    is `InstanceNorm`. At inference the batch's moments are moving averages.

    Args:
        {MovingNormalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import kerasnorm
        >>> x = np.random.normal(size=(4, 8, 8, 16)).astype("float32")
        >>> y = kerasnorm.BatchInstanceNorm()(x, training=True)  # The gate is 1.
        >>> apart = y - kerasnorm.BatchNorm()(x, training=True)
        >>> bool(abs(keras.ops.convert_to_numpy(apart)).max() < 1e-5)
        True

    Reference:
        Nam and Kim, 2018, "Batch-Instance Normalization for Adaptively Style-Invariant Neural
        Networks": https://arxiv.org/abs/1805.07925
    """

    gate: Any = None

    def build_weights(self, channels, input_shape):
        """Add the gate, then the moving statistics."""
        self.gate = self.add_weight(
            name="gate",
            shape=(channels,),
            initializer="ones",
            constraint=UnitInterval(),
            autocast=False,
        )
        super().build_weights(channels, input_shape)

    def coefficients(self, moments, training):
        """Equation 3; at a channel's mean x_instance is 0."""
        batch = self._batch_moments(moments, training)
        gate = in_dtype_of(self.gate, moments.mean)
        gamma, beta = self.rescaling(moments)
        of_batch = gamma * gate * ops.rsqrt(batch.variance + self.epsilon)
        of_instance = gamma * (1 - gate) * ops.rsqrt(moments.variance + self.epsilon)
        return of_batch + of_instance, (moments.mean - batch.mean) * of_batch + beta

    def standardization(self):
        """Batch norm where all gates are 1, instance norm where all are 0."""
        gate = numpy_of(self.gate)
        family = None
        if (gate == gate[0]).all():
            family = {1.0: BATCH, 0.0: groups(self.channels)}.get(float(gate[0]))
        return dataclasses.replace(super().standardization(), family=family)

    def start_fit(self, moments, scale, shift):
        """Gates between the two, from where either is near."""
        assign(self.gate, np.full(self.channels, 0.5))
        return {}

    def fit_bounds(self):
        """Gates stay where their constraint holds them."""
        return {id(self.gate): (0.0, 1.0)}

    def start_as(self, target):
        """Gates of 1 for a batch norm, of 0 for an instance norm."""
        for family, value in ((BATCH, 1.0), (groups(self.channels), 0.0)):
            if target.family == family:
                assign(self.gate, np.full(self.channels, value))
        return ""
