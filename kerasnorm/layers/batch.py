"""Batch normalization."""

import keras

from kerasnorm.core.arguments import documented
from kerasnorm.core.layer import PACKAGE
from kerasnorm.core.moving import BatchStatistics


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class BatchNorm(BatchStatistics):
    """Batch normalization: each channel by its mean and variance over the batch.

    In training `y = gamma*(x - mean)/sqrt(variance + epsilon) + beta` with the batch's moments,
    at inference with moving averages of them. `ModeNorm` with one mode is the same layer, and so
    is `ConvNorm` with even weights.

    Args:
        {MovingNormalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.BatchNorm()
        >>> y = layer(np.random.normal(5.0, 3.0, (16, 8, 8, 4)).astype("float32"), training=True)
        >>> y = keras.ops.convert_to_numpy(y)
        >>> bool(abs(y.mean()) < 1e-4), bool(abs(y.std() - 1) < 1e-3)
        (True, True)

    Reference:
        Ioffe and Szegedy, 2015: https://arxiv.org/abs/1502.03167
    """

    def coefficients(self, moments, training):
        """Standardize by the batch."""
        return self._standardize(moments, self._batch_moments(moments, training))
