"""Layers that keep moving statistics for inference."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Unpack

from keras import initializers, ops

from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.dtypes import statistics_dtype
from kerasnorm.core.layer import Normalization, with_own_seed
from kerasnorm.core.pooling import Moments, has_positions, pool_examples, total_weight
from kerasnorm.core.standardization import BATCH, numpy_of

# The lists of the open `noting_statistics`, the innermost last. A plain list of the process: what
# `torch.compile` makes of a layer cannot read a context variable, and would not see that a
# thread's own value has changed.
_notes: list[list] = []


@contextlib.contextmanager
def noting_statistics(notes):
    """A context in which layers use the statistics of the batch, and note them in a list.

    The moving statistics do not change. A note has the layer, the `Moments` whose mean is the
    batch's, and those whose variance around their own mean is the batch's; counts are weights.
    Layers that are not trainable work as at inference, and note nothing. The context holds for the
    whole process, so no other thread should train in the meantime.
    """
    _notes.append(notes)
    try:
        yield
    finally:
        _notes.pop()


def is_noting():
    """Whether a `noting_statistics` is open."""
    return bool(_notes)


@documented
class MovingNormalization(Normalization):
    """A layer that trains with statistics of the batch and infers with moving ones.

    With `trainable=False` it works as at inference, like `keras.layers.BatchNormalization`: it uses
    the moving statistics and does not change them. A batch without any (unmasked) position does not
    change them either.

    Args:
        momentum: the part of the moving statistics that a training step keeps.
        synchronized: whether statistics are pooled over all replicas of a data-parallel run.
        moving_mean_initializer: how the moving mean starts.
        moving_variance_initializer: how the moving variance starts.
        {Normalization}
    """

    def __init__(
        self,
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
        self.momentum = self._checked_number("momentum", momentum, least=0.0, most=1.0)
        self.synchronized = bool(synchronized)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.moving_mean: Any = None
        self.moving_variance: Any = None

    def _moving_shape(self, channels):
        """The shape of a moving statistic."""
        return (channels,)

    def build_weights(self, channels, input_shape):
        """Add the moving statistics."""
        for index, name in enumerate(("moving_mean", "moving_variance")):
            weight = self.add_weight(
                name=name,
                shape=self._moving_shape(channels),
                initializer=with_own_seed(getattr(self, f"{name}_initializer"), index),
                # Not in float16, where the variance of large inputs would be infinite.
                dtype=statistics_dtype(self.variable_dtype),
                trainable=False,
                autocast=False,
            )
            setattr(self, name, weight)

    def _moving_moments(self, dtype):
        """The moving statistics, `(K, C)`, K = 1 where there are no modes."""
        mean, variance = (
            ops.reshape(ops.cast(weight, dtype), (-1, self.channels))
            for weight in (self.moving_mean, self.moving_variance)
        )
        return Moments(mean, variance)

    def _batch_moments(self, moments, training, logits=None):
        """The moments to use, `(K, C)`: the batch's, which move the moving ones, or the latter."""
        if not training:
            return self._moving_moments(moments.mean.dtype)
        batch = pool_examples(moments, logits, self.synchronized)
        self._update_moving(batch, moments, logits)
        return batch

    def _moved(self, batch):
        """What a step leaves in the weights that it moves: pairs of a weight and its value."""
        old = self._moving_moments(batch.mean.dtype)
        mean = self.momentum * old.mean + (1 - self.momentum) * batch.mean
        return [
            (self.moving_mean, mean),
            (self.moving_variance, self._moved_variance(old, batch, self.momentum)),
        ]

    def _moved_variance(self, old, new, momentum):
        """The moving variance after a step: Keras's rule."""
        return momentum * old.variance + (1 - momentum) * new.variance

    def _noted(self, batch, moments, logits):
        """The moments of a batch with their weights: one for the mean, one for the variance."""
        weighted = Moments(batch.mean, batch.variance, total_weight(moments, logits))
        return weighted, weighted

    def _update_moving(self, batch, moments, logits=None):
        """Move the statistics towards the batch's, if there was anything in it."""
        if _notes:
            _notes[-1].append((self, *self._noted(batch, moments, logits)))
            return
        present = has_positions(moments, self.synchronized)
        batch = Moments(*(ops.stop_gradient(value) for value in batch[:2]))
        for weight, value in self._moved(batch):
            value = ops.cast(ops.reshape(value, weight.shape), weight.dtype)
            if present is not True:
                value = ops.where(present, value, ops.convert_to_tensor(weight))
            weight.assign(value)

    # What the statistics are in training; None: the batch's own mean and variance.
    _in_training: tuple | None = None

    def standardization(self):
        """A batch norm with the moving statistics; several rows are pooled as even gates see them.

        Rows that differ are no plain norm.
        """
        rows = (self.moving_mean, self.moving_variance)
        mean, variance = (
            numpy_of(row).astype("float64").reshape(-1, self.channels) for row in rows
        )
        alike = all((row == row[:1]).all() for row in (mean, variance))
        return dataclasses.replace(
            super().standardization(),
            family=BATCH if alike else None,
            in_training=self._in_training,
            moving_mean=mean.mean(0),
            moving_variance=variance.mean(0) + mean.var(0),
        )

    def call(self, inputs, training=None, mask=None):
        """Normalize."""
        return super().call(inputs, training or is_noting(), mask)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "synchronized": self.synchronized,
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
        }


class BatchStatistics(MovingNormalization):
    """A moving layer with one mean and variance: at inference nothing is measured."""

    def _measure(self, x, channel_axis, mask, training):
        """Moments in training; at inference the moving mean is what the affine step centers on."""
        if training:
            return super()._measure(x, channel_axis, mask, training)
        return x, Moments(self._moving_moments(self._statistics_dtype_of(x)).mean, None)

    def _standardize(self, moments, batch):
        """Scale and shift that make the batch's mean and variance beta and gamma squared."""
        gamma, beta = self.rescaling(moments)
        scale = gamma * ops.rsqrt(batch.variance + self.epsilon)
        return scale, (moments.mean - batch.mean) * scale + beta
