"""Convolutional Normalization: batch norm around a learned spatial mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import keras
import numpy as np
from keras import initializers, ops

from kerasnorm.core.arguments import (
    ConstraintLike,
    InitializerLike,
    LayerArguments,
    RegularizerLike,
    documented,
)
from kerasnorm.core.layer import PACKAGE
from kerasnorm.core.moving import BatchStatistics
from kerasnorm.core.pooling import (
    Moments,
    log_count,
    masked_moments,
    mean_of,
    pool_examples,
    pool_replicas,
    total_weight,
)
from kerasnorm.core.standardization import assign, numpy_of


class _MaskedMoments(NamedTuple):
    """Moments of each example of a masked batch, with those by the weights of its positions."""

    mean: Any
    variance: Any
    count: Any
    weighted: Moments


@keras.saving.register_keras_serializable(PACKAGE)
@documented
class ConvNorm(BatchStatistics):
    """Convolutional Normalization: batch norm whose mean weighs the positions of the image.

        mean = 1/N sum_n sum_ij p_ij x_nij
        y = gamma*(x - mean)/sqrt(variance + epsilon) + beta

    The weights p of a channel are non-negative with sum 1. They are those of a stack of depthwise
    kernels with stride = size, that is, the Kronecker product of the kernels; each is a softmax
    over its positions. `variance` is the plain one, around the plain mean (the paper found the
    weighted one unstable; here it is not). At inference moving averages are used. With even
    weights it is `BatchNorm`.

    This is the method of Esposito and Ganaba; a different paper of the same name
    (arXiv 2103.00673) normalizes convolution kernels and is unrelated.

    Args:
        kernel_sizes: the stack, finest kernel first: integers or pairs. Their products must divide
            the image; what they leave over is averaged evenly. None factors height and width: 32
            becomes 4, 2, 2, 2 as in the paper's table, and a prime is not divided.
        weighted_variance: weigh the variance like the mean (equation 8).
        {MovingNormalization}

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
    _row_per_example = False

    def __init__(
        self,
        kernel_sizes: Sequence[int | Sequence[int]] | None = None,
        weighted_variance: bool = False,
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
        self.kernel_sizes = None if kernel_sizes is None else self._checked_sizes(kernel_sizes)
        self.weighted_variance = bool(weighted_variance)
        self.spatial_logits: list[Any] = []
        self.image: Any = None

    def _checked_sizes(self, sizes):
        """Pairs of positive integers, as lists, which JSON keeps."""
        try:
            pairs = [[s, s] if hasattr(s, "__index__") else list(s) for s in sizes]
            if all(len(pair) == 2 for pair in pairs):
                return [[self._checked_integer("", s, least=1) for s in pair] for pair in pairs]
        except (TypeError, ValueError):
            pass
        raise self._error(
            f"kernel_sizes={sizes!r}", "positive integers or pairs of them, such as [4, (2, 2)]"
        )

    def _check_build(self, channels, input_shape):
        """Check that the kernels divide the image."""
        super()._check_build(channels, input_shape)
        image = self._image_of(input_shape)
        sizes = self._sizes_for(image)
        for axis, (side, length) in enumerate(zip(("height", "width"), image, strict=True)):
            product = math.prod(pair[axis] for pair in sizes)
            if length % product:
                raise self._error(
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
            raise self._error(f"the inputs have shape {tuple(shape)}", "rank 4 (images)")
        return self._positions_of(shape)

    def _image_of(self, input_shape):
        """Height and width, which must be known."""
        image = self._sides_of(input_shape)
        if None in image:
            raise self._error(
                f"the inputs have shape {tuple(input_shape)}",
                "a fixed height and width, because every position has its own weight",
            )
        return image

    def _check_inputs(self, inputs):
        """Refuse another image size than the weights are for."""
        image = self._sides_of(inputs.shape)
        super()._check_inputs(inputs)
        if any(s not in (None, built) for s, built in zip(image, self.image, strict=True)):
            raise self._error(
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

    def _view(self, shape, channels_first, training):
        """In training, one example whose positions are the batch's and channels the image's."""
        if not training:
            return super()._view(shape, channels_first, training)
        return (1, shape[0], math.prod(shape[1:])), 2

    def _measure(self, x, channel_axis, mask, training):
        """Moments of each position over the batch; of each example where there is a mask."""
        handle, moments = super()._measure(x, channel_axis, mask, training)
        if not training:
            return handle, moments
        dtype = moments.mean.dtype
        if mask is None:
            count = ops.reshape(ops.cast(ops.shape(x)[1], dtype), (1, 1))
            return handle, moments._replace(count=count)
        weights = ops.reshape(self.spatial_weights(dtype), (1, -1, self.channels))
        if channel_axis == 1:
            weights = ops.transpose(weights, (0, 2, 1))
        mean, variance, _ = masked_moments(x, mask, channel_axis, dtype, weights)
        # The mean of a batch is that of its examples, however much of each is masked.
        weighted = Moments(mean, variance, ops.cast(moments.count > 0, dtype))
        plain = moments.mean, moments.variance, moments.count
        return handle, _MaskedMoments(*plain, weighted)

    def coefficients(self, moments, training):
        """Equation 9 around the mean of equation 7."""
        if not training:
            return self._standardize(moments, self._moving_moments(moments.mean.dtype))
        batch = self._pool(moments, weighted=True)
        if not self.weighted_variance:
            batch = Moments(batch.mean, self._pool(moments, weighted=False).variance)
        self._update_moving(batch, moments)
        if isinstance(moments, _MaskedMoments):
            return self._standardize(moments, batch)
        positions = Moments(self._positions(moments.mean), None)
        return tuple(map(self._spread, self._standardize(positions, batch)))

    def _pool(self, moments, weighted):
        """Moments of the batch, `(1, C)`: equations 7 and 8, or 4 and 5 where not weighted."""
        if isinstance(moments, _MaskedMoments):
            examples = moments.weighted if weighted else Moments(*moments[:3])
            return pool_examples(examples, synchronized=self.synchronized)
        mean, variance = (self._positions(value) for value in moments[:2])
        weights = ops.reshape(self.spatial_weights(mean.dtype), mean.shape) if weighted else None

        def average(values):
            if weights is None:
                return mean_of(values, 0, keepdims=True)
            return ops.sum(weights * values, axis=0, keepdims=True)

        anchor = ops.stop_gradient(mean[:1])
        distance = mean - anchor
        center = average(distance)
        pooled = Moments(anchor + center, average(variance + ops.square(distance - center)))
        return pool_replicas(pooled, log_count(moments)) if self.synchronized else pooled

    def _noted(self, batch, moments, logits):
        """The variance is around the plain mean, which weighs each position the same."""
        positions = total_weight(Moments(*moments[:3]))
        masked = isinstance(moments, _MaskedMoments)
        examples = total_weight(moments.weighted) if masked else positions
        mean = Moments(batch.mean, batch.variance, examples)
        if self.weighted_variance:
            return mean, mean
        plain = self._pool(moments, weighted=False)
        return mean, Moments(plain.mean, batch.variance, positions)

    def _positions(self, values):
        """Values of the image's channels, `(1, H*W*C)`, as `(positions, C)`."""
        if self.axis % 4 == 1:
            return ops.transpose(ops.reshape(values, (self.channels, -1)))
        return ops.reshape(values, (-1, self.channels))

    def _spread(self, values):
        """The inverse of `_positions`, of values that may be the same everywhere, `(1, C)`."""
        values = ops.broadcast_to(values, (math.prod(self.image), self.channels))
        values = ops.transpose(values) if self.axis % 4 == 1 else values
        return ops.reshape(values, (1, -1))

    def standardization(self):
        """A batch norm at inference; in training too while all weights are even."""
        even = not any(numpy_of(logits).any() for logits in self.spatial_logits)
        in_training = None if even else ("weighted batch",)
        return dataclasses.replace(super().standardization(), in_training=in_training)

    def start_as(self, target):
        """Even weights."""
        for logits in self.spatial_logits:
            assign(logits, np.zeros(tuple(logits.shape)))
        return ""

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
