"""The two full-size steps in TensorFlow."""

import tensorflow as tf

from kerasnorm.core.dtypes import cast_to_output, statistics_dtype


def moments(x, channel_axis, variance=True):
    """Mean and biased variance of each channel of each example, by two passes.

    Both are computed from a constant copy of `x`; what they depend on is attached afterwards.
    Gradients then need nothing but `x` and the mean, and are written in one formula.
    """
    position_axis = 3 - channel_axis
    values = tf.cast(tf.stop_gradient(x), statistics_dtype(x.dtype))
    count = tf.cast(tf.maximum(tf.shape(x)[position_axis], 1), values.dtype)

    def average(numbers):
        return tf.reduce_sum(numbers, position_axis, keepdims=True) / count

    # The rough mean is only an anchor: the mean of a constant then comes out exactly.
    pivot = tf.reduce_sum(values[:, :1] if position_axis == 1 else values[:, :, :1], position_axis, keepdims=True)
    rough = pivot + average(values - pivot)
    deviation = values - rough
    mean = rough + average(deviation)
    mean = _mean(x, tf.squeeze(mean, position_axis), position_axis)
    if not variance:
        return x, mean, None
    center = tf.expand_dims(tf.stop_gradient(mean), position_axis)
    spread = tf.squeeze(average(tf.square(values - center)), position_axis)
    return x, mean, _variance(x, mean, spread, position_axis)


def _count(x, position_axis, dtype):
    return tf.cast(tf.maximum(tf.shape(x)[position_axis], 1), dtype)


def _mean(x, value, position_axis):
    """`value` as the mean of `x`."""

    @tf.custom_gradient
    def attach(x, value):
        def gradient(upstream):
            share = upstream / _count(x, position_axis, upstream.dtype)
            share = tf.broadcast_to(tf.expand_dims(share, position_axis), tf.shape(x))
            return tf.cast(share, x.dtype), None

        return tf.identity(value), gradient

    return attach(x, value)


def _variance(x, mean, value, position_axis):
    """`value` as the variance of `x` around its `mean`; by way of the mean it does not vary."""

    @tf.custom_gradient
    def attach(x, mean, value):
        def gradient(upstream):
            slope = 2 * upstream / _count(x, position_axis, upstream.dtype)
            deviation = tf.cast(x, mean.dtype) - tf.expand_dims(mean, position_axis)
            return tf.cast(deviation * tf.expand_dims(slope, position_axis), x.dtype), None, None

        return tf.identity(value), gradient

    return attach(x, mean, value)


def affine(handle, mean, scale, shift, channel_axis, dtype):
    """`(x - mean)*scale + shift`, of which the gradient needs nothing full-size beside `x`."""
    position_axis = 3 - channel_axis

    def spread(value):
        return tf.expand_dims(value, position_axis)

    @tf.custom_gradient
    def step(x, mean, scale, shift):
        def gradient(upstream):
            upstream = tf.cast(upstream, mean.dtype)
            deviation = tf.cast(x, mean.dtype) - spread(mean)
            total = tf.reduce_sum(upstream, position_axis)
            product = tf.reduce_sum(upstream * deviation, position_axis)
            return (
                tf.cast(upstream * spread(scale), x.dtype),
                _like(-total * scale, mean),
                _like(product, scale),
                _like(total, shift),
            )

        y = (tf.cast(x, mean.dtype) - spread(mean)) * spread(scale) + spread(shift)
        return cast_to_output(y, dtype), gradient

    return step(handle, mean, scale, shift)


def _like(value, reference):
    """`value` summed over examples where `reference` has one row for all."""
    if value.shape[0] is not None and value.shape[0] == reference.shape[0]:
        return value
    if reference.shape[0] == 1:
        return tf.reduce_sum(value, 0, keepdims=True)
    return tf.math.reduce_sum(value, 0, keepdims=True) if reference.shape[0] == 1 else value


def dot(a, b):
    """Matrix product."""
    return tf.matmul(a, b)
