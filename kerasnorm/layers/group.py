"""Group, instance and layer normalization."""

import keras

from kerasnorm.core.groups import Grouped, GroupStandardization
from kerasnorm.core.layer import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class GroupNorm(Grouped):
    """Group normalization: each example by the moments of groups of its channels.

    `y = gamma*(x - mean_g)/sqrt(variance_g + epsilon) + beta`, with the moments of the channel's
    group over positions and channels. One group is `LayerNorm`, one per channel `InstanceNorm`.

    Args:
        groups: how many; it must divide the channels. -1 is one per channel, "auto" the largest
            legal number up to 32.
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.GroupNorm(groups=2)
        >>> layer(np.ones((1, 4, 4, 8), "float32")).shape == (1, 4, 4, 8)
        True

    Reference:
        Wu and He, 2018: https://arxiv.org/abs/1803.08494
    """


@keras.saving.register_keras_serializable(PACKAGE)
class InstanceNorm(GroupStandardization):
    """Instance normalization: each channel of each example by its own moments.

    `y = gamma*(x - mean)/sqrt(variance + epsilon) + beta`: `GroupNorm` with a group per channel.

    Args:
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> y = kerasnorm.InstanceNorm()(np.full((2, 8, 8, 3), 1e4, "float32"))
        >>> float(abs(keras.ops.convert_to_numpy(y)).max())
        0.0

    Reference:
        Ulyanov et al., 2016: https://arxiv.org/abs/1607.08022
    """

    def groups_of(self, channels):
        """One per channel."""
        return channels


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNorm(GroupStandardization):
    """Layer normalization: each example by the moments of all of its channels and positions.

    `y = gamma*(x - mean)/sqrt(variance + epsilon) + beta`: `GroupNorm` with one group, as in
    convolutional networks. `keras.layers.LayerNormalization` over the last axis is something else
    (each position by itself), except at rank 2.

    Args:
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.LayerNorm(name="norm")
        >>> _ = layer(np.zeros((2, 8, 8, 3), "float32"))
        >>> [weight.name for weight in layer.weights]
        ['gamma', 'beta']

    Reference:
        Ba et al., 2016: https://arxiv.org/abs/1607.06450
    """

    def groups_of(self, channels):
        """One."""
        return 1
