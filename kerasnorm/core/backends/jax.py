"""The full-size steps on JAX, under jit and op by op, for every device.

Each step is a `jax.custom_vjp`, so that only the input and (N, C) arrays are kept for the backward
pass. The backward rules are ordinary operations and can be differentiated again in reverse;
forward mode (`jax.jvp`, `jax.hessian`) is what `custom_vjp` does not support.

A GPU or a TPU gets plain sums. On one CPU XLA is helped in two ways, see `_loop` and `_barrier`.
"""

import functools
import math
from typing import NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from kerasnorm.core.dtypes import cast_to_output, statistics_dtype

# Floats added in one step of a loop over blocks. Both sums of the backward pass, in milliseconds,
# at 32, 64, 128 and 256 thousand: 1.50, 1.24, 1.27, 1.37 at (64, 1024, 64), 1.13, 1.03, 1.91, 2.75
# at (1, 64, 65536).
_BLOCK = 64 * 1024
# Channels from which on the last axis is left as it is.
_WIDTH = 64


def moments(x, channel_axis, variance=True):
    """Mean and biased variance of each channel of each example over its positions.

    Args:
        x: (N, L, C) with `channel_axis` 2, (N, C, L) with `channel_axis` 1.
        channel_axis: 1 or 2.
        variance: whether the variance is wanted.

    Returns:
        `(handle, mean, variance)`: what `affine` takes, and two (N, C) arrays, the second None if
        it is not wanted.
    """
    wide, mean, *rest = _moments(x, channel_axis, variance)
    return _Handle(x, wide), mean, (rest[0] if variance else None)


def affine(handle, mean, scale, shift, channel_axis, dtype):
    """`(x - mean)*scale + shift`, each of the three being (N, C) or (1, C)."""
    x, wide = handle if isinstance(handle, _Handle) else (handle, handle)
    return _affine(x, wide, mean, scale, shift, channel_axis, dtype)


def dot(a, b):
    """Matrix product at full float32 precision, which is not the default of every device."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


class _Handle(NamedTuple):
    """x, and x in the statistics' dtype, of which only the gradient is used.

    Through `wide` the affine step hands its part of the gradient of x to `_moments`, which adds its
    own and casts once. Two parts cast to half precision would not cancel.
    """

    x: jax.Array
    wide: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
@functools.partial(jax.jit, static_argnums=(1, 2))
def _moments(x, channel_axis, variance):
    mean = _mean(x, channel_axis)
    wide = x.astype(mean.dtype)
    if not variance:
        return wide, mean
    (total,) = _sums(lambda x, mean: (lax.square(x - mean),), [x], [mean], channel_axis)
    return wide, mean, total / _length(x, channel_axis)


def _mean(x, channel_axis):
    axis = 3 - channel_axis
    dtype = statistics_dtype(x.dtype)
    length = x.shape[axis]
    if not isinstance(length, int):
        (total,) = _sums(lambda x: (x,), [x], [], channel_axis)
        anchor = total / length
    elif length:
        anchor = lax.index_in_dim(x, 0, axis, keepdims=False).astype(dtype)
    else:
        return jnp.zeros((x.shape[0], x.shape[channel_axis]), dtype)
    # What is summed is the distance from a value near the data: nothing for a constant.
    (total,) = _sums(lambda x, anchor: (x - anchor,), [x], [anchor], channel_axis)
    return anchor + total / length


def _moments_forward(x, channel_axis, variance):
    results = _moments(x, channel_axis, variance)
    return results, (x, results[1])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moments_backward(channel_axis, variance, saved, gradients):
    x, mean = saved
    length = _length(x, channel_axis)
    full, small = [gradients[0]], [gradients[1] / length]
    if variance:
        full, small = [*full, x], [*small, gradients[2] * (2 / length)]
    small = _barrier(*small)
    if variance:
        small = [*small, mean]

    def total(affine, *values):
        if not variance:
            return affine + values[0]
        x, constant, slope, mean = values
        return affine + slope * (x - mean) + constant

    return (_everywhere(total, full, small, channel_axis).astype(x.dtype),)


_moments.defvjp(_moments_forward, _moments_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
@functools.partial(jax.jit, static_argnums=(5, 6))
def _affine(x, wide, mean, scale, shift, channel_axis, dtype):
    scale, shift = _barrier(scale, shift)
    y = _everywhere(
        lambda x, mean, scale, shift: (x - mean) * scale + shift,
        [x],
        [mean, scale, shift],
        channel_axis,
    )
    return cast_to_output(y, dtype)


def _affine_forward(x, wide, mean, scale, shift, channel_axis, dtype):
    y = _affine(x, wide, mean, scale, shift, channel_axis, dtype)
    # Of `wide`, which must not be kept, the dtype is enough.
    return y, (x, jnp.zeros((), wide.dtype), mean, scale, shift)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _affine_backward(channel_axis, dtype, saved, gradient):
    x, like_wide, mean, scale, shift = saved
    full_mean = jnp.broadcast_to(mean, (x.shape[0], mean.shape[1]))
    total, moment = _sums(
        lambda x, gradient, mean: (gradient, gradient * (x - mean)),
        [x, gradient],
        [full_mean],
        channel_axis,
    )
    gradient_x = _everywhere(
        lambda gradient, scale: gradient * scale, [gradient], [scale], channel_axis
    )
    return (
        None,
        gradient_x.astype(like_wide.dtype),
        _like(-total * scale, mean),
        _like(moment, scale),
        _like(total, shift),
    )


_affine.defvjp(_affine_forward, _affine_backward)


def _length(x, channel_axis):
    """The number of positions to divide by; a length unknown while tracing is at least 1."""
    length = x.shape[3 - channel_axis]
    return max(length, 1) if isinstance(length, int) else length


def _over(values, channel_axis):
    return jnp.expand_dims(values, 3 - channel_axis)


def _like(gradient, values):
    """The gradient of (N, C) or (1, C) values."""
    return gradient if gradient.shape == values.shape else gradient.sum(0, keepdims=True)


def _everywhere(function, full, small, channel_axis):
    """An elementwise function of full-size arrays and of coefficients.

    Args:
        function: of all the arrays, as floats of the coefficients' type.
        full: arrays of the input's shape.
        small: (N, C) or (1, C) arrays.
        channel_axis: 1 or 2.

    Returns:
        An array of the input's shape.
    """
    shape = full[0].shape
    full, small = _widened(full, small, channel_axis)
    full = [part.astype(small[0].dtype) for part in full]
    return function(*full, *[_over(values, channel_axis) for values in small]).reshape(shape)


def _sums(function, full, small, channel_axis):
    """Sums over the positions of what an elementwise function returns.

    Args:
        function: of all the arrays, as floats of the statistics' type; it returns a tuple.
        full: arrays of the input's shape, the input first.
        small: (N, C) arrays.
        channel_axis: 1 or 2.

    Returns:
        A tuple of (N, C) arrays.
    """
    axis = 3 - channel_axis
    helped = _helped(*full) and full[0].size >= 2 * _BLOCK
    if helped and channel_axis == 1 and small:
        # A copy of their own: XLA fuses arithmetic with the reduction of it, at the memory's speed
        # along the last axis, but only where nothing else uses the same arithmetic.
        small = _barrier(*small)
    channels = full[0].shape[channel_axis]
    full, small = _widened(full, small, channel_axis)
    small = [_over(values, channel_axis) for values in small]

    def values(full):
        return function(*[part.astype(statistics_dtype(full[0].dtype)) for part in full], *small)

    if helped and channel_axis == 2:
        sums = _loop(values, full)
    else:
        sums = tuple(value.sum(axis) for value in values(full))
    if full[0].shape[channel_axis] == channels:
        return sums
    return tuple(value.reshape(len(value), -1, channels).sum(1) for value in sums)


def _widened(full, small, channel_axis):
    """Few channels as more: positions side by side, each with the coefficients of the channels.

    XLA's loops over the last axis are slow on a CPU where it is short. In `python -m benchmarks
    layers --shapes 128x32x32x32` a training step of BatchNorm took 1.11 and 1.10 of Keras's without
    this, and 0.86 and 0.79 with it.
    """
    channels = full[0].shape[channel_axis]
    if channel_axis == 1 or not _helped(*full):
        return full, small
    length = full[0].shape[1]
    factor = 1
    while channels * factor * 2 <= _WIDTH and length % (2 * factor) == 0:
        factor *= 2
    if factor == 1:
        return full, small
    full = [part.reshape(len(part), length // factor, channels * factor) for part in full]
    return full, [jnp.tile(values, (1, factor)) for values in small]


def _loop(values, full):
    """The sums over axis 1, block by block: one pass for all of them, at the memory's speed.

    XLA's own reduction on a CPU makes a pass for each sum, writes out what two of them share, and
    is slow where it is fed by arithmetic: 1.2 ms at (64, 1024, 64) for what takes 0.5 here, and for
    few positions of many channels 14 ms.
    """
    size, length = full[0].size, full[0].shape[1]
    block = max(1, min(length, _BLOCK * length // size))
    steps = length // block

    def step(index, sums):
        parts = [lax.dynamic_slice_in_dim(a, index * block, block, 1) for a in full]
        return tuple(a + b for a, b in zip(sums, values(parts), strict=True))

    first = values([lax.slice_in_dim(a, 0, block, axis=1) for a in full])
    sums = lax.fori_loop(1, steps, step, first)
    sums = tuple(value.sum(1) for value in sums)
    if steps * block == length:
        return sums
    rest = values([lax.slice_in_dim(a, steps * block, length, axis=1) for a in full])
    return tuple(a + b.sum(1) for a, b in zip(sums, rest, strict=True))


def _barrier(*arrays):
    """The arrays, each computed once: XLA would repeat their arithmetic in the full-size loops.

    On a CPU `lax.optimization_barrier` does not prevent that, a conditional does.
    """
    if not _helped(*arrays):
        return arrays
    never = arrays[0][0, 0] > math.inf
    return lax.cond(never, lambda *a: tuple(-v for v in a), lambda *a: a, *arrays)


def _helped(*arrays):
    """Whether these are arrays of known sizes, not spread over devices, on a CPU."""
    return (
        all(isinstance(size, int) and size for a in arrays for size in a.shape)
        and jax.default_backend() == "cpu"
        and jax.device_count() == 1
    )
