"""Group, instance and layer normalization."""

from __future__ import annotations

from typing import Unpack

import keras

from kerasnorm.core.arguments import (
    ConstraintLike,
    Divisor,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.groups import Grouped, GroupStandardization
from kerasnorm.core.layer import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class GroupNorm(Grouped):
    """Group normalization: each example by the moments of groups of its channels.

    `y = gamma*(x - mean_g)/sqrt(variance_g + epsilon) + beta`, with the moments of the channel's
    group over positions and channels. One group is `LayerNorm`, one per channel `InstanceNorm`.

    Args:
        {Grouped}
        {Normalization}

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

    def __init__(
        self,
        groups: Divisor = 32,
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
            groups=groups,
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


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class InstanceNorm(GroupStandardization):
    """Instance normalization: each channel of each example by its own moments.

    `y = gamma*(x - mean)/sqrt(variance + epsilon) + beta`: `GroupNorm` with a group per channel.

    Args:
        {Normalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import keras
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
@documented
class LayerNorm(GroupStandardization):
    """Layer normalization: each example by the moments of all of its channels and positions.

    `y = gamma*(x - mean)/sqrt(variance + epsilon) + beta`: `GroupNorm` with one group, as in
    convolutional networks. `keras.layers.LayerNormalization` over the last axis is something else
    (each position by itself), except at rank 2.

    Args:
        {Normalization}

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
