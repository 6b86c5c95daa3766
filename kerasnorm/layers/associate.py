"""Associate Normalization."""

from __future__ import annotations

from typing import Literal, Unpack

import keras
import numpy as np

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

# How the learned bias B meets the decoded D (Table 5 of the paper): a is the activation.
_BIAS_MODES = {
    "after": lambda a, decoded, bias, up: up(activate(a, decoded)) + bias,
    "before": lambda a, decoded, bias, up: activate(a, up(decoded) + bias),
    "multiply": lambda a, decoded, bias, up: up(activate(a, decoded)) * bias,
    "none": lambda a, decoded, bias, up: up(activate(a, decoded)),
}


def _logit(values):
    inside = np.clip(values, 1e-3, 1 - 1e-3)
    return np.log(inside / (1 - inside))


def _arctanh(values):
    return np.arctanh(np.clip(values, -1 + 1e-3, 1 - 1e-3))


# With decoders that give zeros: the bias B for a wanted result, or the one that comes nearest.
# `start` is the activation's value at zero.
_INVERSES = {keras.activations.sigmoid: _logit, keras.activations.tanh: _arctanh}
_BIASES = {
    "after": lambda a, start, wanted: wanted - start,
    "before": lambda a, start, wanted: _INVERSES.get(a, np.asarray)(wanted),
    "multiply": lambda a, start, wanted: wanted / np.where(start == 0, 1, start),
    "none": lambda a, start, wanted: wanted,
}


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class AssociateNorm(Grouped, Association):
    """Associate Normalization (AssocNorm): group norm that predicts what rescales it.

    The moments mu, gamma of the standardization's own groups go through an auto-encoder with one
    encoder W1 and two decoders W2, W3; here the means predict the scale and the variances the
    shift:

        E_mu = relu(W1 mu)              E_gamma = relu(W1 gamma)
        D_mu = sigmoid(W2 E_mu)         D_gamma = tanh(W3 E_gamma)
        omega = D_mu + B_omega          beta = D_gamma + B_beta

    with D repeated over the channels of a group. With zero decoders and linear activations it is
    `GroupNorm`.

    Args:
        {Grouped}
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for the scale; what `keras.activations.get` takes.
        variance_activation: of the prediction for the shift.
        key_features: `"group"`, or `"instance"` for one key per channel.
        bias_mode: how the learned gamma and beta are combined with the prediction: `"after"` adds
            them after the activation, `"before"` adds them before it, `"multiply"` multiplies by
            them, and `"none"` leaves them out.
        association_initializer: of encoder and decoders; None is
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        {Normalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.AssociateNorm(groups=4)
        >>> layer(np.zeros((2, 8, 8, 16), "float32")).shape == (2, 8, 8, 16)
        True

    Reference:
        "Associate Normalization", equations 3 to 6 and Tables 4 and 5.
    """

    def __init__(
        self,
        groups: Divisor = 32,
        reduction: int = 16,
        mean_activation: ActivationLike = "sigmoid",
        variance_activation: ActivationLike = "tanh",
        key_features: Literal["group", "instance"] = "group",
        bias_mode: Literal["after", "before", "multiply", "none"] = "after",
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
        self.key_features = self._checked_choice(
            "key_features", key_features, ("group", "instance")
        )
        self.bias_mode = self._checked_choice("bias_mode", bias_mode, tuple(_BIAS_MODES))

    def _rescaling_weights(self):
        """Gamma and beta, unless there is no bias."""
        return [] if self.bias_mode == "none" else super()._rescaling_weights()

    @classmethod
    def fit_choices(cls, channels):
        """One group, a key per channel, no activations: what is wanted is nearly linear."""
        return [
            {
                "groups": 1,
                "key_features": "instance",
                "mean_activation": None,
                "variance_activation": None,
            }
        ]

    def key_groups_of(self, channels):
        """N groups of the standardization, or C."""
        return channels if self.key_features == "instance" else self.groups_of(channels)

    def _rescaled(self, decoded_mean, decoded_variance, gamma, beta):
        """Equation 6: omega = D_mu + B_omega and beta = D_gamma + B_beta."""
        combine = _BIAS_MODES[self.bias_mode]

        def up(values):
            return repeat_channels(values, gamma.shape[-1])

        return (
            combine(self.mean_activation, decoded_mean, gamma, up),
            combine(self.variance_activation, decoded_variance, beta, up),
        )

    def _biases_for(self, gamma, beta):
        """The inverse of the bias mode."""
        # What multiplies with 1 and adds 0 leaves the activations alone.
        one = 1.0 if self.bias_mode == "multiply" else 0.0
        start = self._rescaled_at_zero(np.full_like(gamma, one), np.full_like(beta, one))
        bias_for = _BIASES[self.bias_mode]
        return (
            bias_for(self.mean_activation, start[0], gamma),
            bias_for(self.variance_activation, start[1], beta),
        )

    def needed_weights(self, target):
        """None where there is no bias anyway."""
        return [] if self.bias_mode == "none" else super().needed_weights(target)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "key_features": self.key_features,
            "bias_mode": self.bias_mode,
        }
