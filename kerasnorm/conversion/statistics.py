"""What the fit of a norm needs to know: a few numbers per example and channel.

A layer of this package is `scale*(x - mean) + shift`, with a scale and a shift for each channel of
each example. How far that is from wanted outputs, averaged over the positions, follows from the
moments of both, so no full-size tensor has to be kept. They are measured on the device, in float32
or better around each channel's own mean; all that follows is float64.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kerasnorm.core import backends
from kerasnorm.core.dtypes import statistics_dtype


class Statistics(NamedTuple):
    """Moments of a norm's inputs x and of its wanted outputs y, each `(N, C)`, over positions.

    Attributes:
        mean, variance: of x.
        wanted, spread: mean and variance of y.
        covariance: of x and y.
        positions: `(N, 1)`, how many of each example count.
    """

    mean: np.ndarray
    variance: np.ndarray
    wanted: np.ndarray
    spread: np.ndarray
    covariance: np.ndarray
    positions: np.ndarray

    @property
    def total(self):
        """What there is to explain: the variance of y in each channel, summed."""
        weight = self.positions / self.positions.sum()
        centre = (weight * self.wanted).sum(0)
        return float((weight * (self.spread + np.square(self.wanted - centre))).sum())

    @property
    def coefficients(self):
        """The scale and the shift, `(N, C)`, with which the outputs are nearest to those wanted.

        Where a channel is the same at all positions, its scale is that of all examples together.
        """
        weight = self.positions / self.positions.sum()
        x, y = (part - (weight * part).sum(0) for part in (self.mean, self.wanted))
        variance = (weight * (self.variance + x * x)).sum(0)
        together = (weight * (self.covariance + x * y)).sum(0) / np.maximum(variance, 1e-30)
        varies = self.variance > 1e-9 * variance
        scale = np.where(varies, self.covariance / np.where(varies, self.variance, 1.0), together)
        return scale, self.wanted

    def error(self, scale, shift):
        """The mean squared distance of the outputs from those wanted, summed over channels."""
        weight = self.positions / self.positions.sum()
        around = np.square(scale) * self.variance - 2.0 * scale * self.covariance + self.spread
        return float((weight * (around + np.square(shift - self.wanted))).sum())

    def explained(self, scale, shift):
        """The share of the variance of y that the outputs explain: 1 is all of it."""
        total = self.total
        return 1.0 - self.error(scale, shift) / total if total > 0 else 1.0


def measure(x, y, channel_axis, mask=None):
    """The statistics of a batch.

    Args:
        x, y: inputs and wanted outputs, tensors of a shape.
        channel_axis: of the channels.
        mask: booleans of the shape without the channels, or of a leading part of it; None is all.
    """
    with backends.without_gradients():
        return Statistics(
            *(np.asarray(part, "float64") for part in _measured(x, y, channel_axis, mask))
        )


def _measured(x, y, channel_axis, mask):
    dtype = statistics_dtype(keras.backend.standardize_dtype(x.dtype))
    x, y = (ops.moveaxis(ops.cast(part, dtype), channel_axis, -1) for part in (x, y))
    examples, *sides, channels = x.shape
    positions = math.prod(sides)
    x, y = (ops.reshape(part, (examples, positions, channels)) for part in (x, y))
    count = np.full((examples, 1), float(positions))
    inside = None
    if mask is not None:
        inside = np.asarray(ops.convert_to_numpy(mask), bool)
        inside = inside.reshape(inside.shape + (1,) * (len(sides) + 1 - inside.ndim))
        inside = np.broadcast_to(inside, (examples, *sides)).reshape(examples, positions, 1)
        count = inside.sum(1, dtype="float64")
        inside = ops.convert_to_tensor(inside)
        divisor = ops.convert_to_tensor(np.maximum(count, 1.0), dtype)

    def average(values):
        if inside is None:
            return ops.sum(values, 1) / positions
        return ops.sum(ops.where(inside, values, ops.zeros_like(values)), 1) / divisor

    def centred(values):
        """The mean, once more where its rounding left a part of it, and the distances."""
        mean = average(values)
        rest = average(values - mean[:, None])
        mean = mean + rest
        return mean, values - mean[:, None]

    (mean, x), (wanted, y) = centred(x), centred(y)
    parts = (mean, average(x * x), wanted, average(y * y), average(x * y))
    return (*map(ops.convert_to_numpy, parts), count)


def joined(parts):
    """The statistics of several batches."""
    return Statistics(*(np.concatenate(part) for part in zip(*parts, strict=True)))
