"""Associate Normalization."""

import keras

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


class AssociatedRescaling(Association):
    """Scale and shift predicted from the moments of the standardization's own groups.

    Args:
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for the scale.
        variance_activation: of the prediction for the shift.
        key_features: `"group"`, or `"instance"` for a key per channel.
        bias_mode: how the learned gamma and beta come in.
        association_initializer: of encoder and decoders.
        *common: the arguments of `Normalization`.
        **kwargs: the same by name.
    """

    def __init__(
        self,
        reduction=16,
        mean_activation="sigmoid",
        variance_activation="tanh",
        key_features="group",
        bias_mode="after",
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
        self.key_features = self.checked_choice("key_features", key_features, ("group", "instance"))
        self.bias_mode = self.checked_choice("bias_mode", bias_mode, tuple(_BIAS_MODES))

    def rescaling_weights(self):
        """Gamma and beta, unless there is no bias."""
        return [] if self.bias_mode == "none" else super().rescaling_weights()

    def key_groups_of(self, channels):
        """N groups of the standardization, or C."""
        return channels if self.key_features == "instance" else self.groups_of(channels)

    def rescaling(self, moments):
        """Equation 6: omega = D_mu + B_omega and beta = D_gamma + B_beta."""
        gamma, beta = super().rescaling(moments)
        decoded_mean, decoded_variance = self.decode(moments)
        combine = _BIAS_MODES[self.bias_mode]

        def up(values):
            return repeat_channels(values, self.channels)

        return (
            combine(self.mean_activation, decoded_mean, gamma, up),
            combine(self.variance_activation, decoded_variance, beta, up),
        )

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "key_features": self.key_features,
            "bias_mode": self.bias_mode,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class AssociateNorm(Grouped, AssociatedRescaling):
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
        groups: of the standardization; it must divide the channels. -1 is one per channel,
            "auto" the largest legal number up to 32.
        reduction: the code has `max(key groups // reduction, 2)` numbers.
        mean_activation: of the prediction for the scale; what `keras.activations.get` takes.
        variance_activation: of the prediction for the shift.
        key_features: `"group"`, or `"instance"` for a key per channel.
        bias_mode: how the learned gamma and beta come in: `"after"` the activation is added to
            them, `"before"` it acts on the sum, `"multiply"`, or `"none"` (no gamma, no beta).
        association_initializer: of encoder and decoders; None is
            `VarianceScaling(1/3, "fan_in", "uniform")`.
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

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
