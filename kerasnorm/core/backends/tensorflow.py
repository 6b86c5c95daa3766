"""The two full-size steps in TensorFlow.

Values are computed from constant copies and their gradients attached by `tf.custom_gradient`. The
gradients need `x` and `(N, C)` arrays only, and are made of plain operations, so they can be
differentiated again.

Milliseconds below: training steps and passes of 2 CPU cores at (64, 1024, 64) float32.
"""

from typing import NamedTuple

import tensorflow as tf

from kerasnorm.core.backends import internals_tensorflow
from kerasnorm.core.dtypes import cast_to_output, statistics_dtype

# Terms of a sum that XLA writes out without a loop: 16 takes 4.5 ms a step, 8 4.7, 32 8.0.
_UNROLLED = 16
# One in so many positions is read for the rough mean.
_STRIDE = 16


def moments(x, channel_axis, variance=True):
    """Mean and biased variance of each channel of each example.

    The deviations are taken from a rough mean, that of a sixteenth of the positions: one pass over
    `x` does the rest. That mean is off by at most 4 standard deviations, as those positions are
    part of the data, so E[d^2] - E[d]^2 loses no more than a factor of 16 in rounding.
    """
    axis = 3 - channel_axis
    tuned = _is_tuned()
    values = tf.cast(tf.stop_gradient(x), statistics_dtype(x.dtype))
    count = _count(x, axis, values.dtype)
    rough = _rough_mean(values, axis)
    if tuned:
        (rough,) = _barrier(rough)
    deviation = values - tf.expand_dims(rough, axis)
    if variance or tuned:  # unused, the square costs nothing in XLA
        total, squares = _two_sums(deviation, tf.square(deviation), axis, tuned)
    else:
        total = tf.reduce_sum(deviation, axis)
    correction = total / count
    wide, mean = _attach_mean(x, values, rough + correction, axis)
    results = [mean]
    if variance:
        spread = tf.maximum(squares / count - tf.square(correction), 0)
        wide, spread = _attach_variance(x, wide, mean, spread, axis)
        results.append(spread)
    if tuned:
        results = _barrier(*results)
    return _Handle(x, wide), results[0], results[1] if variance else None


def affine(handle, mean, scale, shift, channel_axis, dtype):
    """`(x - mean)*scale + shift`, cast to `dtype`; float16 saturates."""
    axis = 3 - channel_axis
    tuned = _is_tuned()
    x, wide = handle if isinstance(handle, _Handle) else (handle, handle)
    gradient_dtype = wide.dtype  # Taken here, as the gradient would keep all that it looks at.
    rows = [_one_row_each(value, x) for value in (mean, scale, shift)]
    if tuned:
        rows = _barrier(*rows)

    @tf.custom_gradient
    def step(x, wide, *rows):
        mean, scale, shift = (tf.expand_dims(row, axis) for row in rows)

        def gradient(upstream):
            upstream = tf.cast(upstream, mean.dtype)
            deviation = tf.cast(x, mean.dtype) - mean
            total, product = _two_sums(upstream, upstream * deviation, axis, tuned)
            dx = tf.cast(upstream * scale, gradient_dtype)
            return None, dx, -total * rows[1], product, total

        # Constant copies: an eager tape would keep the intermediate tensors of watched ones.
        constants = (tf.stop_gradient(value) for value in (x, mean, scale, shift))
        x_, mean_, scale_, shift_ = constants
        y = (tf.cast(x_, mean.dtype) - mean_) * scale_ + shift_
        return cast_to_output(y, dtype), gradient

    return step(x, wide, *rows)


def dot(a, b):
    """Matrix product, in float64 where float32 would be rounded to TF32 or bfloat16."""
    rounds = tf.config.experimental.tensor_float_32_execution_enabled()
    if a.dtype != tf.float32 or not rounds or _only_cpu():
        return tf.matmul(a, b)
    return tf.cast(tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64)), a.dtype)


class _Handle(NamedTuple):
    """x, and x in the statistics' dtype, of which only the gradient is used.

    Through `wide` the affine step hands its part of the gradient of x to those of the moments,
    which add theirs and cast once. Parts cast to half precision one by one would not cancel.
    """

    x: tf.Tensor
    wide: tf.Tensor


def _attach_mean(x, wide, value, axis):
    """`wide` as x in another dtype, and `value` as its mean."""

    @tf.custom_gradient
    def attach(x, wide, value):
        def gradient(upstream, mean_upstream):
            share = mean_upstream / _count(x, axis, mean_upstream.dtype)
            return tf.cast(upstream + tf.expand_dims(share, axis), x.dtype), None, None

        return (tf.identity(wide), tf.identity(value)), gradient

    return attach(x, wide, value)


def _attach_variance(x, wide, mean, value, axis):
    """`value` as the variance of `wide` around `mean`; moving the mean does not change it."""

    @tf.custom_gradient
    def attach(x, wide, mean, value):
        def gradient(upstream, variance_upstream):
            slope = 2 * variance_upstream / _count(x, axis, variance_upstream.dtype)
            deviation = tf.cast(x, mean.dtype) - tf.expand_dims(mean, axis)
            return None, upstream + deviation * tf.expand_dims(slope, axis), None, None

        return (tf.identity(wide), tf.identity(value)), gradient

    return attach(x, wide, mean, value)


def _count(x, axis, dtype):
    """The number of positions, or 1 where there is none."""
    return tf.cast(tf.maximum(tf.shape(x)[axis], 1), dtype)


def _rough_mean(values, axis):
    """The mean of some positions, as distances from the first: exact for a constant."""
    sample = _part(values, axis, None, None, _STRIDE)
    first = _part(values, axis, None, 1)
    distance = tf.reduce_sum(sample - first, axis) / _count(sample, axis, values.dtype)
    return tf.reduce_sum(first, axis) + distance


def _part(values, axis, *bounds):
    """A slice along an axis."""
    return values[:, slice(*bounds)] if axis == 1 else values[:, :, slice(*bounds)]


def _one_row_each(value, x):
    """`(1, C)` or `(N, C)` to `(N, C)`."""
    if value.shape[0] is not None and value.shape[0] == x.shape[0]:
        return value
    return tf.broadcast_to(value, (tf.shape(x)[0], tf.shape(value)[1]))


def _only_cpu():
    """Whether this machine has no accelerator."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def _is_tuned():
    """Whether what is being traced will be compiled by XLA for a CPU."""
    return not tf.executing_eagerly() and internals_tensorflow.is_in_xla() and _only_cpu()


def _two_sums(first, second, axis, tuned):
    """The sums of two arrays along an axis.

    XLA's CPU compiler makes a pass of each, and a slow one when terms are computed on the way
    (3.0 ms for the two). As parts of complex numbers they share one; sixteen terms a time, from
    equal stretches of the axis, it runs without a loop and in vectors (1.1 ms; a copy takes 1.0).
    """
    if not tuned:
        return tf.reduce_sum(first, axis), tf.reduce_sum(second, axis)
    both = tf.complex(first, second)
    shape = [size or tf.shape(both)[i] for i, size in enumerate(both.shape)]
    stretch = shape[axis] // _UNROLLED
    end = stretch * _UNROLLED
    stretches = [*shape[:axis], _UNROLLED, stretch, *shape[axis + 1 :]]
    main = tf.reduce_sum(tf.reshape(_part(both, axis, 0, end), stretches), axis)
    rest = _part(both, axis, end, None)
    # The parts are summed apart, as XLA would merge two sums in succession into one again.
    return tuple(
        tf.reduce_sum(part(main), axis) + tf.reduce_sum(part(rest), axis)
        for part in (tf.math.real, tf.math.imag)
    )


def _barrier(*values):
    """The values, and later their gradients, as memory that XLA does not recompute.

    Its CPU compiler would draw the arithmetic on `(N, C)` arrays into the loops over `x`, once for
    each element (17 instead of 9 ms). It ignores optimization barriers, not a conditional.
    """

    @tf.custom_gradient
    def hold(*values):
        probe = tf.reduce_sum(values[0][:1, :1])
        held = tf.cond(
            probe + 1 < probe,  # never, but XLA sees through simpler ones (a square below 0)
            lambda: [tf.zeros_like(value) for value in values],
            lambda: [tf.identity(value) for value in values],
        )
        return held, lambda *upstream: _barrier(*upstream)

    return hold(*values)
