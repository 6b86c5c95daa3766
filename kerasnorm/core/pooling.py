"""Pooling the moments of channels into those of groups, of the batch, and of modes.

The moments of a union follow from those of its parts: the mean is the weighted mean of the means,
the variance the weighted mean of the variances plus the weighted variance of the means. Means are
pooled as deviations from an anchor among them, so a constant pools to itself exactly and a large
common offset costs nothing.
"""

from typing import Any, NamedTuple

from keras import ops

from kerasnorm.core import backends


class Moments(NamedTuple):
    """Mean and biased variance, and over how many positions, where a mask makes that differ."""

    mean: Any
    variance: Any
    count: Any = None  # (N, 1), or None where every example has all of its positions


def masked_moments(x, mask, channel_axis, dtype, weights=None):
    """Moments over the unmasked positions of `x`, which holds zeros at the masked ones.

    Args:
        x: `(N, L, C)` or `(N, C, L)`.
        mask: booleans of the same rank, with one channel.
        channel_axis: 2 or 1.
        dtype: the statistics' dtype.
        weights: of positions and channels, `(1, L, C)` or `(1, C, L)`; None weighs all the same.

    Returns:
        `Moments` whose `count` is the sum of the weights.
    """
    position_axis = 3 - channel_axis
    x = ops.cast(x, dtype)
    inside = ops.cast(mask, dtype) if weights is None else ops.where(mask, weights, 0)
    count = ops.sum(inside, axis=position_axis, keepdims=True)
    divisor = ops.where(count > 0, count, 1)

    def average(values):
        values = values if weights is None else values * weights
        return ops.sum(ops.where(mask, values, 0), axis=position_axis, keepdims=True) / divisor

    rough = ops.stop_gradient(average(x))
    mean = rough + average(x - rough)
    variance = average(ops.square(x - mean))
    return Moments(*(ops.squeeze(value, position_axis) for value in (mean, variance, count)))


def mean_of(values, axis, keepdims=False):
    """The mean along an axis, float64 staying float64."""
    return ops.sum(values, axis=axis, keepdims=keepdims) / values.shape[axis]


def pool_channels(moments, groups):
    """Moments of each of `groups` equal groups of channels: `(N, C)` to `(N, groups)`."""
    if groups == moments.mean.shape[-1]:
        return moments
    mean, around = _around_groups(moments, groups)
    return Moments(ops.squeeze(mean, -1), mean_of(around, -1), moments.count)


def variances_around(moments, groups):
    """What each channel adds to the variance of its group: `(N, C)`.

    That is its variance around the group's mean. The mean of these over the channels of a group is
    the group's variance.
    """
    _, around = _around_groups(moments, groups)
    return ops.reshape(around, (-1, moments.mean.shape[-1]))


def _around_groups(moments, groups):
    """Means of groups, `(N, groups, 1)`, and variances of their channels around these."""
    mean, variance = (
        ops.reshape(value, (-1, groups, value.shape[-1] // groups)) for value in moments[:2]
    )
    anchor = ops.stop_gradient(mean[:, :, :1])
    deviation = mean - anchor
    correction = mean_of(deviation, -1, keepdims=True)
    return anchor + correction, variance + ops.square(deviation - correction)


def repeat_channels(values, channels):
    """A value per group to a value per channel: `(N, groups)` to `(N, channels)`."""
    groups = values.shape[-1]
    if groups == channels:
        return values
    shape = (-1, groups, channels // groups)
    expanded = ops.broadcast_to(values[:, :, None], (ops.shape(values)[0], *shape[1:]))
    return ops.reshape(expanded, (-1, channels))


def softmax(logits):
    """Softmax over the examples `(N, K)`, of which there may be none."""
    return ops.exp(ops.log_softmax(_with_row(logits, -1e38), axis=0))[1:]


def _with_row(logits, value):
    """A row that counts for nothing, before logits of which there may be none."""
    row = ops.full((1, logits.shape[-1]), value, logits.dtype)
    return ops.concatenate([row, logits], axis=0)


def log_count(moments):
    """Logarithm of each example's count of positions `(N, 1)`; None if all are the same."""
    if moments.count is None:
        return None
    return ops.where(
        moments.count > 0, ops.log(ops.where(moments.count > 0, moments.count, 1)), -1e30
    )


def pool_examples(moments, logits=None, synchronized=False):
    """Moments of the batch, once for each mode.

    Args:
        moments: of each example, `(N, C)`.
        logits: `(N, K)`, the logarithm of each example's weight in each of K modes; None is one
            mode in which all examples weigh the same. Counts of positions come on top.
        synchronized: pool over the replicas of a data-parallel run as well.

    Returns:
        `Moments` of shape `(K, C)`.
    """
    mean, variance, _ = moments
    logits = _with_counts(moments, logits)
    weights = ops.transpose(softmax(logits))
    anchor = ops.stop_gradient(backends.dot(mean_of(weights, 0, keepdims=True), mean))
    deviation = mean - anchor
    correction = backends.dot(weights, deviation)
    # Differences of each mode, not of sums of squares: modes may lie far apart. One mode at a time,
    # as the (K, N, C) array of them all takes longer.
    spread = [
        backends.dot(weights[k : k + 1], ops.square(deviation - correction[k : k + 1]))
        for k in range(weights.shape[0])
    ]
    spread = backends.dot(weights, variance) + ops.concatenate(spread, axis=0)
    pooled = Moments(anchor + correction, spread)
    return pool_replicas(pooled, _log_total(logits)) if synchronized else pooled


def total_weight(moments, logits=None):
    """The weight of what `pool_examples` pools, `(K, 1)`: examples, or positions under a mask."""
    return ops.exp(_log_total(_with_counts(moments, logits)))


def _with_counts(moments, logits):
    """The logarithm of each example's weight, `(N, K)`, with its count of positions in it."""
    if logits is None:
        logits = ops.zeros_like(moments.mean[:, :1])
    counts = log_count(moments)
    return logits if counts is None else ops.where(moments.count > 0, logits + counts, -1e30)


def _log_total(logits):
    """Logarithm of the total weight of each mode, `(K, 1)`."""
    return ops.transpose(ops.logsumexp(_with_row(logits, -1e30), axis=0, keepdims=True))


def pool_replicas(moments, log_weight):
    """Moments `(K, C)` of all replicas' data, from each one's own and the log of its weight."""
    weight = ops.exp(log_weight - backends.replica_max(log_weight))
    weight = weight / backends.replica_sum(weight)
    anchor = ops.stop_gradient(backends.replica_sum(weight * moments.mean))
    deviation = moments.mean - anchor
    correction = backends.replica_sum(weight * deviation)
    spread = moments.variance + ops.square(deviation - correction)
    return Moments(anchor + correction, backends.replica_sum(weight * spread))


def has_positions(moments, synchronized=False):
    """Whether there is anything in the batch that counts; True where that is known beforehand."""
    if moments.count is not None:
        total = ops.sum(moments.count)
    else:
        examples = ops.shape(moments.mean)[0]
        if isinstance(examples, int) and not synchronized and examples > 0:
            return True
        total = ops.cast(examples, moments.mean.dtype)
    return (backends.replica_max(total) if synchronized else total) > 0
