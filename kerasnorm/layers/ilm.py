"""Instance-Level Meta Normalization over group, instance and layer normalization."""

from __future__ import annotations

from typing import Literal, Unpack

import keras
import numpy as np
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
from kerasnorm.core.pooling import (
    Moments,
    mean_of,
    pool_channels,
    repeat_channels,
    variances_around,
)
from kerasnorm.core.standardization import assign, numpy_of

# Where `signed_root` goes over from a line to a root.
_KNEE = 1e-3
# Of layers that a conversion makes.
_SMALL_EPSILON = 1e-5


@keras.saving.register_keras_serializable(PACKAGE)
def signed_root(x):
    """`x / sqrt(0.001 + |x|)`: the root of |x| with the sign of x, but for a line around 0.

    `convert` gives it to predictions of gamma, which is a deviation, from variances.

    Example:
        >>> from keras import ops
        >>> from kerasnorm.layers.ilm import signed_root
        >>> x = ops.convert_to_tensor([-100.0, 0.0, 100.0])
        >>> [round(float(value), 2) for value in signed_root(x)]
        [-10.0, 0.0, 10.0]
    """
    return x / ops.sqrt(_KNEE + ops.abs(x))


def _squared(y):
    """What `signed_root` gives y for."""
    return np.sign(y) * (y**2 + np.abs(y) * np.sqrt(y**2 + 4 * _KNEE)) / 2


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
        variance_around: the mean around which the variance of a key group is taken. `"key"` is the
            key group's own, as in the paper. `"norm"` is the one that the norm subtracts. The
            mean of the keys of a group is then the variance by which the norm divides.
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
        variance_around: Literal["key", "norm"] = "key",
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
        self.variance_around = self._checked_choice(
            "variance_around", variance_around, ("key", "norm")
        )

    @classmethod
    def fit_choices(cls, channels):
        """A key per channel; a shift that is linear in means, a slope that is a root of variances.

        Those are what an affine function of the channel is, seen from the standardized example:
        such a prediction is exact, and needs a code of two numbers for each group of the norm. It
        sees variances without epsilon, so a large epsilon, such as that of Keras's norms, would
        make it inexact.
        """
        return [
            {
                "epsilon": _SMALL_EPSILON,
                "key_group_size": 1,
                "mean_activation": None,
                "variance_activation": signed_root,
                "variance_around": "norm",
            }
        ]

    def key_groups_of(self, channels):
        """Nk = C / key_group_size."""
        return channels // self._divisor_of_channels(
            "key_group_size", self.key_group_size, channels, auto=16
        )

    def _keys(self, moments):
        """Moments of the key groups, with variances around either mean."""
        keys = super()._keys(moments)
        if self.variance_around == "key":
            return keys
        around = variances_around(moments, self.groups_of(self.channels))
        key_groups = keys.mean.shape[-1]
        if key_groups < self.channels:
            size = self.channels // key_groups
            around = mean_of(ops.reshape(around, (-1, key_groups, size)), -1)
        return Moments(keys.mean, around, keys.count)

    def start_fit(self, moments, scale, shift):
        """Predictions that are exact where an affine function of each channel is wanted."""
        widths = super().start_fit(moments, scale, shift)
        linear = self.mean_activation is keras.activations.linear
        rooted = self.variance_activation is signed_root
        if self.key_groups_of(self.channels) < self.channels or not (linear and rooted):
            return widths
        groups = self.groups_of(self.channels)
        inside = self._groups_in_code()
        mean, variance = (
            np.repeat(numpy_of(part).astype("float64"), self.channels // groups, axis=-1)
            for part in pool_channels(moments, groups)[:2]
        )
        own_mean, own_variance = (numpy_of(part).astype("float64") for part in moments[:2])
        spread = variance + self.epsilon
        # The square of the slope, averaged over examples as far as they tell it.
        weight = (own_variance + np.square(own_mean - mean)) / spread
        squares = _squared(scale * np.sqrt(spread)) / spread
        slope = (weight * squares).sum(0) / np.maximum(weight.sum(0), 1e-30)
        # Of what is left for beta, the part that is linear in the group's mean.
        wanted = shift - (own_mean - mean) * scale
        centred = mean - mean.mean(0)
        line = (centred * wanted).sum(0) / np.maximum((centred**2).sum(0), 1e-30)
        number = np.arange(self.channels) * inside // self.channels
        columns = np.arange(self.channels)
        squares, lines = np.zeros((2, *self.mean_decoder.shape))
        squares[2 * number, columns] = slope
        lines[2 * number, columns] = line
        lines[2 * number + 1, columns] = -line
        assign(self.variance_decoder, squares)
        assign(self.mean_decoder, lines)
        return widths

    def _rescaled(self, decoded_mean, decoded_variance, gamma, beta):
        """Equation 6: omega = D_gamma + B_omega and beta = D_mu + B_beta, D repeated over keys."""
        channels = gamma.shape[-1]
        return (
            repeat_channels(activate(self.variance_activation, decoded_variance), channels) + gamma,
            repeat_channels(activate(self.mean_activation, decoded_mean), channels) + beta,
        )

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "key_group_size": self.key_group_size,
            "variance_around": self.variance_around,
        }


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
        variance_around: Literal["key", "norm"] = "key",
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
            variance_around=variance_around,
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
