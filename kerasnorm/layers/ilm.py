"""Instance-Level Meta Normalization over group, instance and layer normalization."""

from __future__ import annotations

from typing import Unpack

import keras
from keras import ops

from kerasnorm.core.arguments import (
    ActivationLike,
    ConstraintLike,
    Divisor,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.groups import Association, Grouped, activate
from kerasnorm.core.layer import PACKAGE
from kerasnorm.core.pooling import repeat_channels


@keras.saving.register_keras_serializable(PACKAGE)
def signed_root(x):
    """`x / sqrt(0.3 + |x|)`: the root of |x| with the sign of x, but for a linear part around 0.

    `convert` gives it to predictions of gamma, which is a deviation, from variances.

    Example:
        >>> from keras import ops
        >>> from kerasnorm.layers.ilm import signed_root
        >>> x = ops.convert_to_tensor([-100.0, 0.0, 100.0])
        >>> [round(float(value), 2) for value in signed_root(x)]
        [-9.99, 0.0, 9.99]
    """
    return x / ops.sqrt(0.3 + ops.abs(x))


@documented
class InstanceLevelMeta(Association):
    """Gamma and beta that an example's own moments add to.

    Args:
        key_group_size: channels in a key group; it must divide the channels. "auto" is the
            largest legal size up to 16, 1 gives every channel its own key.
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for beta; anything that `keras.activations.get` takes.
        variance_activation: of the prediction for gamma.
        association_initializer: of encoder and decoders; None is the one of the authors' code,
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        {Normalization}
    """

    # Over whichever norm: arguments and weights mean the same, and surgery carries them all.
    _method = "instance-level meta"

    def __init__(
        self,
        key_group_size: Divisor = 16,
        reduction: int = 16,
        mean_activation: ActivationLike = "tanh",
        variance_activation: ActivationLike = "sigmoid",
        association_initializer: InitializerLike | None = None,
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
            reduction=reduction,
            mean_activation=mean_activation,
            variance_activation=variance_activation,
            association_initializer=association_initializer,
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
        self.key_group_size = self._checked_size("key_group_size", key_group_size, "auto")

    @classmethod
    def fit_choices(cls, channels):
        """A key per channel; a shift that is linear in means, a slope that is a root of variances.

        Those are what an affine function of the channel is, seen from the standardized example.
        Where variances leave the range of the fit, a linear slope would grow with their square,
        anew in each norm of a deep network.
        """
        return [{"key_group_size": 1, "mean_activation": None, "variance_activation": signed_root}]

    def key_groups_of(self, channels):
        """Nk = C / key_group_size."""
        return channels // self._divisor_of_channels(
            "key_group_size", self.key_group_size, channels, auto=16
        )

    def _rescaled(self, decoded_mean, decoded_variance, gamma, beta):
        """Equation 6: omega = D_gamma + B_omega and beta = D_mu + B_beta, D repeated over keys."""
        channels = gamma.shape[-1]
        return (
            repeat_channels(activate(self.variance_activation, decoded_variance), channels) + gamma,
            repeat_channels(activate(self.mean_activation, decoded_mean), channels) + beta,
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "key_group_size": self.key_group_size}


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class ILMGroupNorm(Grouped, InstanceLevelMeta):
    """Instance-Level Meta Normalization over group normalization.

    The example is standardized by groups; what rescales it is predicted from moments mu, gamma of
    key groups of its channels, by an auto-encoder with one encoder W1 and two decoders W2, W3:

        E_mu = relu(W1 mu)            E_gamma = relu(W1 gamma)
        D_mu = tanh(W2 E_mu)          D_gamma = sigmoid(W3 E_gamma)
        omega = D_gamma + gamma       beta = D_mu + beta

    with D repeated over the channels of a key group. With zero decoders and linear activations it
    is `GroupNorm`.

    Args:
        {Grouped}
        {InstanceLevelMeta}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ILMGroupNorm(groups=8, key_group_size=4)
        >>> _ = layer(np.zeros((2, 8, 8, 64), "float32"))
        >>> [(weight.name, tuple(weight.shape)) for weight in layer.weights[2:]]
        [('encoder', (16, 2)), ('mean_decoder', (2, 16)), ('variance_decoder', (2, 16))]

    Reference:
        Jia, Chen and Chen, 2019, "Instance-Level Meta Normalization", equations 3 to 6:
        https://arxiv.org/abs/1904.03516
    """

    def __init__(
        self,
        groups: Divisor = 32,
        key_group_size: Divisor = 16,
        reduction: int = 16,
        mean_activation: ActivationLike = "tanh",
        variance_activation: ActivationLike = "sigmoid",
        association_initializer: InitializerLike | None = None,
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
            key_group_size=key_group_size,
            reduction=reduction,
            mean_activation=mean_activation,
            variance_activation=variance_activation,
            association_initializer=association_initializer,
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
class ILMInstanceNorm(InstanceLevelMeta):
    """Instance-Level Meta Normalization over instance normalization.

    As `ILMGroupNorm`, with a standardization group for each channel.

    Args:
        {InstanceLevelMeta}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> kerasnorm.ILMInstanceNorm()(np.zeros((2, 8, 8, 32), "float32")).shape == (2, 8, 8, 32)
        True

    Reference:
        Jia, Chen and Chen, 2019: https://arxiv.org/abs/1904.03516
    """

    def groups_of(self, channels):
        """One per channel."""
        return channels


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class ILMLayerNorm(InstanceLevelMeta):
    """Instance-Level Meta Normalization over layer normalization.

    As `ILMGroupNorm`, with one standardization group.

    Args:
        {InstanceLevelMeta}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> kerasnorm.ILMLayerNorm()(np.zeros((2, 8, 8, 32), "float32")).shape == (2, 8, 8, 32)
        True

    Reference:
        Jia, Chen and Chen, 2019: https://arxiv.org/abs/1904.03516
    """

    def groups_of(self, channels):
        """One."""
        return 1
