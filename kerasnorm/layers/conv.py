"""Convolutional Normalization: batch norm around a learned spatial mean."""

import math
from typing import Any, NamedTuple

import keras
from keras import initializers, ops

from kerasnorm.core.layer import PACKAGE
from kerasnorm.core.moving import BatchStatistics
from kerasnorm.core.pooling import (
    Moments,
    has_positions,
    log_count,
    mean_of,
    pool_examples,
    pool_replicas,
)


class _WeightedMoments(NamedTuple):
    """Moments of each example of a masked batch, with its weighted ones."""

    mean: Any
    variance: Any
    count: Any
    weighted_mean: Any
    weighted_variance: Any


@keras.saving.register_keras_serializable(PACKAGE)
class ConvNorm(BatchStatistics):
    """Convolutional Normalization: batch norm whose mean weighs the positions of the image.

        mean = 1/N sum_n sum_ij p_ij x_nij
        y = gamma*(x - mean)/sqrt(variance + epsilon) + beta

    The weights p of a channel are non-negative with sum 1. They are those of a stack of depthwise
    kernels with stride = size, that is, the Kronecker product of the kernels; each is a softmax
    over its positions. `variance` is the plain one, around the plain mean (the paper found the
    weighted one unstable; here it is not). At inference moving averages are used. With even
    weights it is `BatchNorm`.

    This is the method of Esposito and Ganaba; another paper of the same name (arXiv 2103.00673)
    normalizes convolution kernels and has nothing to do with it.

    Args:
        kernel_sizes: the stack, finest kernel first: integers or pairs. Their products must divide
            the image; what they leave over is averaged evenly. None factors height and width: 32
            is 4, 2, 2, 2 as in the paper's table, a prime stays whole.
        weighted_variance: weigh the variance like the mean (equation 8).
        momentum: the part of the moving statistics that a training step keeps.
        synchronized: pool the statistics over all replicas of a data-parallel run.
        moving_mean_initializer, moving_variance_initializer: `"zeros"` and `"ones"`.
        *common: `axis`, `epsilon`, ..., as in `kerasnorm.core.layer.Normalization`.
        **kwargs: the same by name, and `name`, `dtype`, `trainable`.

    Input and output shape: `(batch, height, width, channels)` with fixed height and width; with a
    mask the weights are renormalized over each example's unmasked positions.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ConvNorm()
        >>> _ = layer(np.zeros((2, 12, 16, 8), "float32"))
        >>> [tuple(weight.shape) for weight in layer.weights if "logits" in weight.name]
        [(3, 4, 8), (2, 2, 8), (2, 2, 8)]

    Reference:
        Esposito and Ganaba, 2021, "Convolutional Normalization", section 3 and appendix B.
    """

    # In training a row is a position.
    row_per_example = False

    def __init__(
        self,
        kernel_sizes=None,
        weighted_variance=False,
        momentum=0.9,
        synchronized=False,
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        *common,
        **kwargs,
    ):
        super().__init__(
            momentum,
            synchronized,
            moving_mean_initializer,
            moving_variance_initializer,
            *common,
            **kwargs,
        )
        self.kernel_sizes = None if kernel_sizes is None else self._checked_sizes(kernel_sizes)
        self.weighted_variance = bool(weighted_variance)
        self.spatial_logits = []
        self.image = None

    def _checked_sizes(self, sizes):
        """Pairs of positive integers, as lists, which JSON keeps."""
        try:
            pairs = [[s, s] if hasattr(s, "__index__") else list(s) for s in sizes]
            if all(len(pair) == 2 for pair in pairs):
                return [[self.checked_integer("", s, least=1) for s in pair] for pair in pairs]
        except (TypeError, ValueError):
            pass
        raise self.error(
            f"kernel_sizes={sizes!r}", "positive integers or pairs of them, such as [4, (2, 2)]"
        )

    def check_build(self, channels, input_shape):
        """Check that the kernels divide the image."""
        super().check_build(channels, input_shape)
        image = self._image_of(input_shape)
        sizes = self._sizes_for(image)
        for axis, (side, length) in enumerate(zip(("height", "width"), image, strict=True)):
            product = math.prod(pair[axis] for pair in sizes)
            if length % product:
                raise self.error(
                    f"kernel_sizes={sizes} reduce the {side} by {product}, which does not divide "
                    f"the {side} of {length}",
                    f"sizes whose product divides {length}, or None for {default_factors(length)}",
                )

    def build_weights(self, channels, input_shape):
        """Add the kernels, then the moving statistics."""
        self.image = self._image_of(input_shape)
        for index, (height, width) in enumerate(self._sizes_for(self.image)):
            logits = self.add_weight(
                name=f"spatial_logits_{index}",
                shape=(height, width, channels),
                initializer=initializers.RandomUniform(-0.05, 0.05),
                autocast=False,
            )
            self.spatial_logits.append(logits)
        super().build_weights(channels, input_shape)

    def _sizes_for(self, image):
        """The stack's sizes for an image."""
        return default_kernel_sizes(*image) if self.kernel_sizes is None else self.kernel_sizes

    def _sides_of(self, shape):
        """Height and width."""
        if len(shape) != 4:
            raise self.error(f"the inputs have shape {tuple(shape)}", "rank 4 (images)")
        return tuple(size for index, size in enumerate(shape) if index not in (0, self.axis % 4))

    def _image_of(self, input_shape):
        """Height and width, which must be known."""
        image = self._sides_of(input_shape)
        if None in image:
            raise self.error(
                f"the inputs have shape {tuple(input_shape)}",
                "a fixed height and width, since every position has a weight of its own",
            )
        return image

    def check_inputs(self, inputs):
        """Refuse another image size than the weights are for."""
        image = self._sides_of(inputs.shape)
        super().check_inputs(inputs)
        if any(s not in (None, built) for s, built in zip(image, self.image, strict=True)):
            raise self.error(
                f"the inputs have height and width {image}",
                f"{self.image}, for which the layer was built",
            )

    def spatial_weights(self, dtype="float32"):
        """The weights p of all positions, `(height, width, channels)`, with sum 1 per channel."""
        weights = ops.ones((1, 1, self.channels), dtype)
        for logits in reversed(self.spatial_logits):
            height, width, channels = logits.shape
            flat = ops.reshape(ops.cast(logits, dtype), (-1, channels))
            # Not `ops.softmax`, which warns of a kernel with one entry.
            kernel = ops.exp(ops.log_softmax(flat, axis=0))
            kernel = ops.reshape(kernel, (1, height, 1, width, channels))
            weights = weights[:, None, :, None, :] * kernel
            weights = ops.reshape(
                weights, (weights.shape[0] * height, weights.shape[2] * width, channels)
            )
        rest = [s // part for s, part in zip(self.image, weights.shape[:2], strict=True)]
        return ops.tile(weights / (rest[0] * rest[1]), (*rest, 1))

    def view(self, shape, channels_first, training):
        """In training, one example whose positions are the batch's and channels the image's."""
        if not training:
            return super().view(shape, channels_first, training)
        return (1, shape[0], shape[1] * shape[2] * shape[3]), 2

    def measure(self, x, channel_axis, mask, training):
        """Moments of each position over the batch; of each example where there is a mask."""
        handle, moments = super().measure(x, channel_axis, mask, training)
        if not training:
            return handle, moments
        if mask is None:
            examples = ops.shape(x)[1]
            if isinstance(examples, int) and examples > 0 and not self.synchronized:
                return handle, moments
            count = ops.reshape(ops.cast(examples, moments.mean.dtype), (1, 1))
            return handle, moments._replace(count=count)
        return handle, _WeightedMoments(*moments, *self._weighted(x, channel_axis, mask, moments))

    def _weighted(self, x, channel_axis, mask, moments):
        """Weighted mean and variance of each example's unmasked positions."""
        position_axis = 3 - channel_axis
        x = ops.cast(x, moments.mean.dtype)
        weights = ops.reshape(self.spatial_weights(x.dtype), (1, -1, self.channels))
        if channel_axis == 1:
            weights = ops.transpose(weights, (0, 2, 1))
        weights = ops.where(mask, weights, 0)
        total = ops.sum(weights, axis=position_axis, keepdims=True)
        weights = weights / ops.where(total > 0, total, 1)

        def average(values):
            return ops.sum(ops.where(mask, weights * values, 0), axis=position_axis, keepdims=True)

        anchor = ops.stop_gradient(ops.expand_dims(moments.mean, position_axis))
        mean = anchor + average(x - anchor)
        variance = average(ops.square(x - mean))
        return ops.squeeze(mean, position_axis), ops.squeeze(variance, position_axis)

    def coefficients(self, moments, training):
        """Equation 9 around the mean of equation 7."""
        if not training:
            return self.standardize(moments, self.moving_moments(moments.mean.dtype))
        masked = isinstance(moments, _WeightedMoments)
        batch = self._pool_masked(moments) if masked else self._pool_positions(moments)
        self.update_moving(batch, has_positions(moments, self.synchronized))
        if masked:
            return self.standardize(moments, batch)
        scale, shift = (
            self._spread(value) for value in self.standardize(Moments(batch.mean, None), batch)
        )
        return scale, (moments.mean - self._spread(batch.mean)) * scale + shift

    def _pool_masked(self, moments):
        """Weighted means of the examples that have any position, averaged."""
        absent = ops.where(moments.count > 0, 0.0, -1e30)
        weighted = pool_examples(
            Moments(moments.weighted_mean, moments.weighted_variance),
            ops.cast(absent, moments.mean.dtype),
            self.synchronized,
        )
        if self.weighted_variance:
            return weighted
        plain = pool_examples(Moments(*moments[:3]), synchronized=self.synchronized)
        return Moments(weighted.mean, plain.variance)

    def _pool_positions(self, moments):
        """Equations 4, 5, 7 and 8 from the moments of each position over the batch."""
        mean, variance = (self._positions(value) for value in moments[:2])
        weights = ops.reshape(self.spatial_weights(mean.dtype), mean.shape)
        anchor = ops.stop_gradient(mean[:1])
        distance = mean - anchor

        def moments_with(average):
            center = average(distance)
            spread = average(variance + ops.square(distance - center))
            pooled = Moments(anchor + center, spread)
            return pool_replicas(pooled, log_count(moments)) if self.synchronized else pooled

        weighted = moments_with(lambda v: ops.sum(weights * v, axis=0, keepdims=True))
        if self.weighted_variance:
            return weighted
        plain = moments_with(lambda v: mean_of(v, 0, keepdims=True))
        return Moments(weighted.mean, plain.variance)

    def _positions(self, values):
        """Values of the image's channels, `(1, H*W*C)`, as `(positions, C)`."""
        if self.axis % 4 == 1:
            return ops.transpose(ops.reshape(values, (self.channels, -1)))
        return ops.reshape(values, (-1, self.channels))

    def _spread(self, values):
        """A value per channel, `(1, C)`, at every position, `(1, H*W*C)`."""
        positions = math.prod(self.image)
        if self.axis % 4 == 1:
            spread = ops.broadcast_to(ops.transpose(values), (self.channels, positions))
        else:
            spread = ops.broadcast_to(values, (positions, self.channels))
        return ops.reshape(spread, (1, -1))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_sizes": self.kernel_sizes,
            "weighted_variance": self.weighted_variance,
        }


def default_kernel_sizes(height, width):
    """The stack for an image: its sides' factors, side by side."""
    factors = default_factors(height), default_factors(width)
    depth = max(map(len, factors))
    padded = (side + [1] * (depth - len(side)) for side in factors)
    return [list(pair) for pair in zip(*padded, strict=True)]


def default_factors(length):
    """Primes, the largest first; of four twos or more, two become a 4 before the others.

    >>> default_factors(32), default_factors(48), default_factors(8), default_factors(7)
    ([4, 2, 2, 2], [3, 4, 2, 2], [2, 2, 2], [7])
    """
    factors = []
    divisor = 2
    while length > 1:
        while length % divisor == 0:
            factors.insert(0, divisor)
            length //= divisor
        divisor += 1
    if factors.count(2) >= 4:
        first = factors.index(2)
        factors[first : first + 2] = [4]
    return factors
