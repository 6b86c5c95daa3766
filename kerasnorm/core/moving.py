"""Layers that keep moving statistics for inference."""

from keras import initializers, ops

from kerasnorm.core.dtypes import statistics_dtype
from kerasnorm.core.layer import Normalization, distinct
from kerasnorm.core.pooling import Moments, has_positions, pool_examples


class MovingNormalization(Normalization):
    """A layer that trains with statistics of the batch and infers with moving ones.

    With `trainable=False` it infers, as `keras.layers.BatchNormalization` does: moving statistics
    are used and left as they are. A batch without any (unmasked) position leaves them too.

    Args:
        momentum: the part of the moving statistics that a training step keeps.
        synchronized: whether statistics are pooled over all replicas of a data-parallel run.
        moving_mean_initializer, moving_variance_initializer: `"zeros"` and `"ones"`.
        *common: the arguments of `Normalization`.
        **kwargs: the same by name.
    """

    def __init__(
        self,
        momentum=0.9,
        synchronized=False,
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        *common,
        **kwargs,
    ):
        super().__init__(*common, **kwargs)
        self.momentum = self.checked_number("momentum", momentum, least=0.0, most=1.0)
        self.synchronized = bool(synchronized)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.moving_mean = None
        self.moving_variance = None

    def moving_shape(self, channels):
        """The shape of a moving statistic."""
        return (channels,)

    def build_weights(self, channels, input_shape):
        """Add the moving statistics."""
        for index, name in enumerate(("moving_mean", "moving_variance")):
            weight = self.add_weight(
                name=name,
                shape=self.moving_shape(channels),
                initializer=distinct(getattr(self, f"{name}_initializer"), index),
                # Not in float16, where the variance of large inputs would be infinite.
                dtype=statistics_dtype(self.variable_dtype),
                trainable=False,
                autocast=False,
            )
            setattr(self, name, weight)

    def moving_moments(self, dtype):
        """The moving statistics, `(K, C)`, K = 1 where there are no modes."""
        mean, variance = (
            ops.reshape(ops.cast(weight, dtype), (-1, self.channels))
            for weight in (self.moving_mean, self.moving_variance)
        )
        return Moments(mean, variance)

    def batch_moments(self, moments, training, logits=None):
        """Moments of the batch in training, `(K, C)`, and the moving ones in inference."""
        if not training:
            return self.moving_moments(moments.mean.dtype)
        batch = pool_examples(moments, logits, self.synchronized)
        self.update_moving(batch, has_positions(moments, self.synchronized))
        return batch

    def moved_variance(self, old, new, momentum):
        """The moving variance after a step: Keras's rule."""
        return momentum * old.variance + (1 - momentum) * new.variance

    def update_moving(self, batch, present):
        """Move the statistics towards the batch's, if there was anything in it."""
        old = self.moving_moments(batch.mean.dtype)
        new = Moments(*(ops.stop_gradient(value) for value in batch[:2]))
        values = (
            self.momentum * old.mean + (1 - self.momentum) * new.mean,
            self.moved_variance(old, new, self.momentum),
        )
        for weight, value, kept in zip(
            (self.moving_mean, self.moving_variance), values, old[:2], strict=True
        ):
            if present is not True:
                value = ops.where(present, value, kept)
            weight.assign(ops.cast(ops.reshape(value, weight.shape), weight.dtype))

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

    def measure(self, x, channel_axis, mask, training):
        """Moments in training; at inference the moving mean is what the affine step centers on."""
        if training:
            return super().measure(x, channel_axis, mask, training)
        return x, Moments(self.moving_moments(self.statistics_dtype_of(x)).mean, None)

    def standardize(self, moments, batch):
        """Scale and shift that make the batch's mean and variance beta and gamma squared."""
        gamma, beta = self.rescaling(moments)
        scale = gamma * ops.rsqrt(batch.variance + self.epsilon)
        return scale, (moments.mean - batch.mean) * scale + beta
