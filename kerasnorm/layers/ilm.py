"""Instance-Level Meta Normalization over group, instance and layer normalization."""

import keras

from kerasnorm.core.groups import Association, Grouped, activate
from kerasnorm.core.layer import PACKAGE
from kerasnorm.core.pooling import repeat_channels


class InstanceLevelMeta(Association):
    """Gamma and beta that an example's own moments add to.

    Args:
        key_group_size: channels in a key group; it must divide the channels. "auto" is the
            largest legal size up to 16, 1 gives every channel a key of its own.
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for beta.
        variance_activation: of the prediction for gamma.
        association_initializer: of encoder and decoders.
        *common: the arguments of `Normalization`.
        **kwargs: the same by name.
    """

    def __init__(
        self,
        key_group_size=16,
        reduction=16,
        mean_activation="tanh",
        variance_activation="sigmoid",
        association_initializer=None,
        *common,
        **kwargs,
    ):
        super().__init__(
            reduction,
            mean_activation,
            variance_activation,
            association_initializer,
            *common,
            **kwargs,
        )
        self.key_group_size = self.checked_size("key_group_size", key_group_size, "auto")

    def key_groups_of(self, channels):
        """Nk = C / key_group_size."""
        return channels // self.divisor_of_channels(
            "key_group_size", self.key_group_size, channels, auto=16
        )

    def rescaling(self, moments):
        """Equation 6: omega = D_gamma + B_omega and beta = D_mu + B_beta, D repeated over keys."""
        gamma, beta = super().rescaling(moments)
        decoded_mean, decoded_variance = self.decode(moments)
        return (
            repeat_channels(activate(self.variance_activation, decoded_variance), self.channels)
            + gamma,
            repeat_channels(activate(self.mean_activation, decoded_mean), self.channels) + beta,
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "key_group_size": self.key_group_size}


@keras.saving.register_keras_serializable(PACKAGE)
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
        groups: of the standardization; it must divide the channels. -1 is one per channel,
            "auto" the largest legal number up to 32.
        key_group_size: channels in a key group; it must divide the channels. "auto" is the
            largest legal size up to 16, 1 gives every channel a key of its own.
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for beta; anything that `keras.activations.get` takes.
        variance_activation: of the prediction for gamma.
        association_initializer: of encoder and decoders; None is the one of the authors' code,
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

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


@keras.saving.register_keras_serializable(PACKAGE)
class ILMInstanceNorm(InstanceLevelMeta):
    """Instance-Level Meta Normalization over instance normalization.

    As `ILMGroupNorm`, with a standardization group for each channel.

    Args:
        key_group_size: channels in a key group; it must divide the channels. "auto" is the
            largest legal size up to 16, 1 gives every channel a key of its own.
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for beta; anything that `keras.activations.get` takes.
        variance_activation: of the prediction for gamma.
        association_initializer: of encoder and decoders; None is the one of the authors' code,
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

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
class ILMLayerNorm(InstanceLevelMeta):
    """Instance-Level Meta Normalization over layer normalization.

    As `ILMGroupNorm`, with one standardization group.

    Args:
        key_group_size: channels in a key group; it must divide the channels. "auto" is the
            largest legal size up to 16, 1 gives every channel a key of its own.
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for beta; anything that `keras.activations.get` takes.
        variance_activation: of the prediction for gamma.
        association_initializer: of encoder and decoders; None is the one of the authors' code,
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

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
