"""Filter Response Normalization, and the activation that goes with it."""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

import keras
import numpy as np
from keras import constraints, initializers, ops, regularizers

from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.dtypes import cast_to_output, statistics_dtype
from kerasnorm.core.layer import PACKAGE, Normalization, in_dtype_of
from kerasnorm.core.standardization import assign, numpy_of

# Where a learned epsilon starts, as in the paper.
LEARNED_EPSILON = 1e-4


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class FilterResponseNorm(Normalization):
    """Filter Response Normalization (FRN): each channel by its root mean square; no mean is taken.

        nu^2 = mean of x^2 over the positions of a channel of an example
        y = gamma * x/sqrt(nu^2 + |epsilon|) + beta

    It is the same in training and inference. As its outputs are not centered, the paper has
    `ThresholdedLinearUnit` follow it in place of relu.

    Where a channel has few positions, epsilon decides how much of x is left but its sign; for
    that the paper learns it. The learned part is one number for the layer, starts at 1e-4, and its
    absolute value comes on top of the argument `epsilon`, as in the paper (whose constant is 1e-6,
    not the 1e-5 of the layers here).

    Args:
        learned_epsilon: whether to add the absolute value of a weight `epsilon`.
        {Normalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the mean.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import kerasnorm
        >>> y = kerasnorm.FilterResponseNorm()(np.full((2, 8, 8, 16), 5.0, "float32"))
        >>> bool(abs(keras.ops.convert_to_numpy(y) - 1).max() < 1e-5)
        True

    Reference:
        Singh and Krishnan, 2020, "Filter Response Normalization Layer: Eliminating Batch
        Dependence in the Training of Deep Neural Networks": https://arxiv.org/abs/1911.09737
    """

    def __init__(
        self,
        learned_epsilon: bool = False,
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
        self.learned_epsilon = bool(learned_epsilon)
        self.epsilon_weight: Any = None

    def build_weights(self, channels, input_shape):
        """Add the learned part of epsilon."""
        if self.learned_epsilon:
            self.epsilon_weight = self.add_weight(
                name="epsilon",
                shape=(),
                initializer=initializers.Constant(LEARNED_EPSILON),
                autocast=False,
            )

    def coefficients(self, moments, training):
        """Equation 2; the mean of x^2 is the variance and the squared mean."""
        power = moments.variance + ops.square(moments.mean)
        if self.epsilon_weight is not None:
            power = power + ops.absolute(in_dtype_of(self.epsilon_weight, power))
        gamma, beta = self.rescaling(moments)
        scale = gamma * ops.rsqrt(power + self.epsilon)
        return scale, moments.mean * scale + beta

    def standardization(self):
        """A family of its own, as no other norm leaves the mean in."""
        plain = super().standardization()
        learned = 0.0 if self.epsilon_weight is None else abs(float(numpy_of(self.epsilon_weight)))
        return dataclasses.replace(
            plain, family=("filter responses",), epsilon=plain.epsilon + learned
        )

    @classmethod
    def fit_choices(cls, channels):
        """A learned epsilon: a large one leaves differences between examples as they are."""
        return [{"learned_epsilon": True}]

    def start_fit(self, moments, scale, shift):
        """An epsilon as large as what it is added to."""
        if self.epsilon_weight is None:
            return {}
        power = numpy_of(moments.variance + ops.square(moments.mean))
        epsilon = max(float(power.mean()), LEARNED_EPSILON)
        assign(self.epsilon_weight, np.array(epsilon))
        return {id(self.epsilon_weight): epsilon}

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "learned_epsilon": self.learned_epsilon}


@keras.saving.register_keras_serializable(PACKAGE)
class ThresholdedLinearUnit(keras.layers.Layer):
    """Thresholded linear unit (TLU): `max(y, tau)` with a learned threshold for each channel.

    It follows `FilterResponseNorm` in place of relu, which it is while tau is 0.

    Args:
        axis: the axis of the channels; -1 is channels last, 1 channels first.
        tau_initializer: how `tau` starts.
        tau_regularizer: a penalty on `tau`.
        tau_constraint: what `tau` is held to after each step.
        **kwargs: the arguments of every Keras layer: `name`, `dtype`, `trainable` and
            `activity_regularizer`.

    Input and output shape: `(batch, ..., channels)`. A mask is passed on.

    Gradients of half-precision inputs are added in float32. Where an input equals tau, the
    gradient is tau's, as relu's is 0 at 0.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ThresholdedLinearUnit(tau_initializer="ones")
        >>> y = layer(np.array([[-2.0, 0.5, 3.0]], "float32"))
        >>> keras.ops.convert_to_numpy(y).tolist()
        [[1.0, 1.0, 3.0]]

    Reference:
        Singh and Krishnan, 2020, "Filter Response Normalization Layer: Eliminating Batch
        Dependence in the Training of Deep Neural Networks": https://arxiv.org/abs/1911.09737
    """

    def __init__(
        self,
        axis: int = -1,
        tau_initializer: InitializerLike = "zeros",
        tau_regularizer: RegularizerLike = None,
        tau_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerArguments],
    ):
        super().__init__(autocast=False, **kwargs)
        if isinstance(axis, bool) or not hasattr(axis, "__index__") or int(axis) == 0:
            raise ValueError(
                f"ThresholdedLinearUnit '{self.name}': axis={axis!r}. Needed: the axis of the "
                "channels, 1 (channels first), or -1 (channels last)."
            )
        self.axis = int(axis)
        self.tau_initializer = initializers.get(tau_initializer)
        self.tau_regularizer = regularizers.get(tau_regularizer)
        self.tau_constraint = constraints.get(tau_constraint)
        self.tau: Any = None
        self.supports_masking = True

    def build(self, input_shape):
        """Add the thresholds."""
        rank = len(input_shape)
        if rank < 2 or not -rank < self.axis < rank or input_shape[self.axis] is None:
            raise ValueError(
                f"ThresholdedLinearUnit '{self.name}': axis={self.axis} with inputs of shape "
                f"{tuple(input_shape)}. Needed: rank 2 or more, and a fixed number of channels on "
                "that axis."
            )
        self.tau = self.add_weight(
            name="tau",
            shape=(input_shape[self.axis],),
            initializer=self.tau_initializer,
            regularizer=self.tau_regularizer,
            constraint=self.tau_constraint,
            autocast=False,
        )

    def call(self, inputs):
        """The larger of the two."""
        x = ops.cast(inputs, statistics_dtype(inputs.dtype, self.compute_dtype))
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        tau = ops.reshape(in_dtype_of(self.tau, x), shape)
        # Not `ops.maximum`: backends share the gradient of equals in different ways.
        return cast_to_output(ops.where(x <= tau, tau, x), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The input shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "tau_initializer": initializers.serialize(self.tau_initializer),
            "tau_regularizer": regularizers.serialize(self.tau_regularizer),
            "tau_constraint": constraints.serialize(self.tau_constraint),
        }
