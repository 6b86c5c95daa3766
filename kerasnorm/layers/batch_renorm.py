"""Batch Renormalization."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    ScheduleLike,
    documented,
)
from kerasnorm.core.dtypes import statistics_dtype
from kerasnorm.core.layer import PACKAGE, in_dtype_of
from kerasnorm.core.moving import BatchStatistics
from kerasnorm.core.pooling import pool_examples
from kerasnorm.core.standardization import assign, numpy_of, renormalized


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class BatchRenorm(BatchStatistics):
    """Batch Renormalization: batch norm that trains with nearly what it infers with.

    With the batch's mean mu_B and deviation sigma_B = sqrt(variance_B + epsilon), and moving
    averages mu and sigma of both,

        r = clip(sigma_B/sigma, r_min, r_max)      d = clip((mu_B - mu)/sigma, -d_max, d_max)
        y = gamma * ((x - mu_B)/sigma_B * r + d) + beta

    No gradient passes through r and d. Unclipped, this is x standardized by mu and sigma, as at
    inference, which small batches or those of dependent examples need. With `r_max=1, d_max=0` it
    is `BatchNorm`.

    Weights and outputs are those of `keras.layers.BatchNormalization` with `renorm=True`, whose
    `renorm_clipping` is `r_max`, `r_min` and `d_max` here. As there, the averages in r and d are
    not those of inference and have a momentum of their own; the paper has one pair of averages.

    Args:
        r_max: the largest r, at least 1. A number; a schedule of the layer's training steps, such
            as a `keras.optimizers.schedules.LearningRateSchedule` or another function that Keras
            can save; or None, no limit. In the paper it grows from 1 to 3, and d_max from 0 to 5.
        d_max: the largest absolute d, likewise.
        r_min: the least r, at most 1, likewise. None is `1/r_max`, as in the paper.
        renorm_momentum: the part of the averages in r and d that a training step keeps.
        {MovingNormalization}

    Input and output shape: `(batch, ..., channels)`; a mask leaves positions out of the moments.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.BatchRenorm(
        ...     r_max=keras.optimizers.schedules.PolynomialDecay(1.0, 40_000, 3.0),
        ...     d_max=keras.optimizers.schedules.PolynomialDecay(0.0, 25_000, 5.0),
        ... )
        >>> _ = layer(np.ones((4, 8, 8, 16), "float32"), training=True)
        >>> int(layer.step)
        1

    Reference:
        Ioffe, 2017, "Batch Renormalization: Towards Reducing Minibatch Dependence in
        Batch-Normalized Models", Algorithm 1: https://arxiv.org/abs/1702.03275
    """

    def __init__(
        self,
        r_max: ScheduleLike = 3.0,
        d_max: ScheduleLike = 5.0,
        r_min: ScheduleLike = None,
        renorm_momentum: float = 0.99,
        momentum: float = 0.9,
        synchronized: bool = False,
        moving_mean_initializer: InitializerLike = "zeros",
        moving_variance_initializer: InitializerLike = "ones",
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
            momentum=momentum,
            synchronized=synchronized,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
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
        self.r_max = self._checked_limit("r_max", r_max, least=1.0)
        self.d_max = self._checked_limit("d_max", d_max, least=0.0)
        self.r_min = self._checked_limit("r_min", r_min, least=0.0, most=1.0)
        self.renorm_momentum = self._checked_number(
            "renorm_momentum", renorm_momentum, least=0.0, most=1.0
        )
        self.moving_stddev: Any = None
        self.renorm_mean: Any = None
        self.renorm_stddev: Any = None
        self.step: Any = None

    def _checked_limit(self, argument, value, **bounds):
        """A number, a schedule, or None."""
        if isinstance(value, dict):
            value = keras.saving.deserialize_keras_object(value)
        if value is None or callable(value):
            return value
        return self._checked_number(argument, value, **bounds)

    @property
    def _limits(self):
        """The limits as the configuration has them."""
        return {"r_max": self.r_max, "d_max": self.d_max, "r_min": self.r_min}

    def build_weights(self, channels, input_shape):
        """Add the moving statistics, those in r and d, and where there is a schedule the step."""
        super().build_weights(channels, input_shape)

        def deviation_initializer(shape, dtype=None):
            return ops.sqrt(self.moving_variance_initializer(shape, dtype=dtype))

        for name, initializer in (
            ("moving_stddev", deviation_initializer),
            ("renorm_mean", self.moving_mean_initializer),
            ("renorm_stddev", deviation_initializer),
        ):
            weight = self.add_weight(
                name=name,
                shape=(channels,),
                initializer=initializer,
                dtype=statistics_dtype(self.variable_dtype),
                trainable=False,
                autocast=False,
            )
            setattr(self, name, weight)
        if any(map(callable, self._limits.values())):
            # As the step of Keras's optimizers.
            self.step = self.add_weight(
                name="step", shape=(), initializer="zeros", dtype="int", trainable=False
            )

    def _limit(self, value, dtype):
        """A limit as a tensor; None where there is none."""
        if value is None:
            return None
        if callable(value):
            value = value(ops.convert_to_tensor(self.step))
        return ops.cast(value, dtype)

    def _corrections(self, batch):
        """The factor r and the offset d, before the averages in them have moved."""
        dtype = batch.mean.dtype
        r_max, d_max, r_min = (self._limit(value, dtype) for value in self._limits.values())
        if r_min is None and r_max is not None:
            r_min = 1 / r_max
        least = math.sqrt(self.epsilon)
        stddev = in_dtype_of(self.renorm_stddev, batch.mean)[None]
        stddev = ops.where(stddev > least, stddev, ops.cast(least, dtype))
        r = ops.sqrt(batch.variance + self.epsilon) / stddev
        d = (batch.mean - in_dtype_of(self.renorm_mean, batch.mean)[None]) / stddev
        r = _clipped(r, r_min, r_max)
        d = d if d_max is None else _clipped(d, -d_max, d_max)
        return ops.stop_gradient(r), ops.stop_gradient(d)

    def coefficients(self, moments, training):
        """Algorithm 1."""
        if not training:
            return self._standardize(moments, self._moving_moments(moments.mean.dtype))
        batch = pool_examples(moments, synchronized=self.synchronized)
        r, d = self._corrections(batch)
        self._update_moving(batch, moments)
        gamma, beta = self.rescaling(moments)
        scale = gamma * r * ops.rsqrt(batch.variance + self.epsilon)
        return scale, (moments.mean - batch.mean) * scale + gamma * d + beta

    def _moved(self, batch):
        """Deviations move, not variances; the moving variance follows from its deviation."""
        stddev = ops.sqrt(batch.variance + self.epsilon)

        def moved(weight, value, momentum):
            return momentum * in_dtype_of(weight, value)[None] + (1 - momentum) * value

        moving_stddev = moved(self.moving_stddev, stddev, self.momentum)
        variance = ops.square(moving_stddev) - self.epsilon
        pairs = [
            (self.moving_mean, moved(self.moving_mean, batch.mean, self.momentum)),
            (self.moving_variance, ops.where(variance > 0, variance, ops.zeros_like(variance))),
            (self.moving_stddev, moving_stddev),
            (self.renorm_mean, moved(self.renorm_mean, batch.mean, self.renorm_momentum)),
            (self.renorm_stddev, moved(self.renorm_stddev, stddev, self.renorm_momentum)),
        ]
        return pairs if self.step is None else [*pairs, (self.step, self.step + 1)]

    def standardization(self):
        """A batch norm at inference."""
        # Schedules are told apart by how they are saved.
        r_max, d_max, r_min = (
            str(_saved(value)) if callable(value) else value for value in self._limits.values()
        )
        if r_min is None and r_max is not None:
            r_min = 1 / self.r_max if isinstance(self.r_max, float) else f"1/{r_max}"
        return dataclasses.replace(
            super().standardization(),
            in_training=renormalized(
                (r_max, d_max, r_min or 0.0),
                self.renorm_momentum,
                (self.renorm_mean, self.renorm_stddev),
            ),
        )

    def complete(self, taken):
        """Where the old layer has no averages for r and d, the moving ones."""
        if "moving_variance" not in taken:
            return
        stddev = np.sqrt(numpy_of(self.moving_variance).astype("float64") + self.epsilon)
        for name, value in (
            ("moving_stddev", stddev),
            ("renorm_mean", numpy_of(self.moving_mean)),
            ("renorm_stddev", stddev),
        ):
            if name not in taken:
                assign(getattr(self, name), value)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **{name: _saved(value) for name, value in self._limits.items()},
            "renorm_momentum": self.renorm_momentum,
        }


def _saved(value):
    """A limit as a configuration has it."""
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _clipped(values, least, most):
    """Values in an interval, whose ends may be None; `ops.clip` would not keep float64."""
    if least is not None:
        values = ops.where(values < least, least, values)
    return values if most is None else ops.where(values > most, most, values)
