"""The two full-size steps in `keras.ops`, with nothing tuned and the backend's own gradients.

Backends without kernels of their own run these, and they say what the tuned ones compute.
"""

from keras import ops

from kerasnorm.core.dtypes import cast_to_output, statistics_dtype


def moments(x, channel_axis, variance=True):
    """Mean and biased variance of each channel of each example, by two passes."""
    position_axis = 3 - channel_axis
    x = ops.cast(x, statistics_dtype(x.dtype))
    count = ops.cast(ops.maximum(ops.shape(x)[position_axis], 1), x.dtype)

    def average(values):
        return ops.sum(values, axis=position_axis, keepdims=True) / count

    # The rough mean is only an anchor: the mean of a constant then comes out exactly.
    rough = ops.stop_gradient(average(x))
    deviation = x - rough
    correction = average(deviation)
    mean = ops.squeeze(rough + correction, position_axis)
    if not variance:
        return x, mean, None
    return x, mean, ops.squeeze(average(ops.square(deviation - correction)), position_axis)


def affine(handle, mean, scale, shift, channel_axis, dtype):
    """`(x - mean)*scale + shift`."""
    position_axis = 3 - channel_axis
    mean, scale, shift = (ops.expand_dims(value, position_axis) for value in (mean, scale, shift))
    return cast_to_output((ops.cast(handle, mean.dtype) - mean) * scale + shift, dtype)


def dot(a, b):
    """Matrix product."""
    return ops.matmul(a, b)
