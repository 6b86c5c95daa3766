"""The papers' formulas in the order in which they are written, to measure the layers against.

Each formula is the training step of a channels-last layer with its default options, in `keras.ops`
with the backend's own gradients: a pass over the full-size input for every statistic and every
mode, statistics taken from the input itself and not from one another.
"""

import keras
from keras import ops

IMAGE_AXES = (1, 2)
BATCH_AXES = (0, 1, 2)


def literal_of(layer_class: type[keras.layers.Layer]) -> type[keras.layers.Layer]:
    """A layer with the arguments and weights of another one that computes its paper's formula.

    Args:
        layer_class: a layer class of `kerasnorm`.
    """
    formula = FORMULAS[layer_class.__name__]

    def call(self, inputs, training=None):
        del training
        return ops.cast(formula(self, _wide(self, inputs)), self.compute_dtype)

    return type(f"Literal{layer_class.__name__}", (layer_class,), {"call": call})


def _wide(layer, x):
    """The input in the dtype of statistics."""
    return ops.cast(x, layer._statistics_dtype_of(x))


def _variance(x, mean, axes):
    return ops.mean(ops.square(x - mean), axis=axes, keepdims=True)


def _rescaled(layer, x, gamma=None, beta=None):
    gamma = layer.gamma if gamma is None else gamma
    beta = layer.beta if beta is None else beta
    x = x if gamma is None else x * gamma
    return x if beta is None else x + beta


def _in_groups(x, groups):
    n, height, width, channels = x.shape
    return ops.reshape(x, (n, height, width, groups, channels // groups))


def _standardized(layer, x, groups):
    """By the moments of an example's groups of channels."""
    grouped = _in_groups(x, groups)
    mean = ops.mean(grouped, axis=(1, 2, 4), keepdims=True)
    variance = _variance(grouped, mean, (1, 2, 4))
    return ops.reshape((grouped - mean) / ops.sqrt(variance + layer.epsilon), x.shape)


def group_norm(layer, x):
    """Wu and He: group, instance and layer normalization."""
    return _rescaled(layer, _standardized(layer, x, layer.groups_of(x.shape[-1])))


def _decoded(layer, x):
    """Equations 3 to 5 of ILM and AssocNorm, up to the decoders' activations, `(N, Nk)` each."""
    keys = _in_groups(x, layer.key_groups_of(x.shape[-1]))
    key_mean = ops.mean(keys, axis=(1, 2, 4))
    key_variance = ops.mean(ops.square(keys - key_mean[:, None, None, :, None]), axis=(1, 2, 4))
    mean_code = ops.relu(ops.matmul(key_mean, layer.encoder))
    variance_code = ops.relu(ops.matmul(key_variance, layer.encoder))
    return (
        ops.matmul(mean_code, layer.mean_decoder),
        ops.matmul(variance_code, layer.variance_decoder),
    )


def _per_channel(values, x):
    """A value per key group to one per channel, `(N, 1, 1, C)`."""
    return ops.repeat(values, x.shape[-1] // values.shape[-1], axis=-1)[:, None, None]


def instance_level_meta_norm(layer, x):
    """Equation 6 of ILM: gamma from the variances, beta from the means."""
    mean, variance = _decoded(layer, x)
    omega = _per_channel(layer.variance_activation(variance), x) + layer.gamma
    beta = _per_channel(layer.mean_activation(mean), x) + layer.beta
    return _rescaled(layer, _standardized(layer, x, layer.groups_of(x.shape[-1])), omega, beta)


def associate_norm(layer, x):
    """Equation 6 of AssocNorm: gamma from the means, beta from the variances."""
    mean, variance = _decoded(layer, x)
    omega = _per_channel(layer.mean_activation(mean), x) + layer.gamma
    beta = _per_channel(layer.variance_activation(variance), x) + layer.beta
    return _rescaled(layer, _standardized(layer, x, layer.groups_of(x.shape[-1])), omega, beta)


def _move(variable, value, momentum):
    moved = momentum * variable + (1 - momentum) * ops.stop_gradient(value)
    variable.assign(ops.cast(moved, variable.dtype))


def _move_to(layer, mean, variance):
    for variable, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        _move(variable, ops.reshape(value, variable.shape), layer.momentum)


def _batch_standardized(layer, x, mean, variance):
    _move_to(layer, mean, variance)
    return _rescaled(layer, (x - mean) / ops.sqrt(variance + layer.epsilon))


def batch_norm(layer, x):
    """Ioffe and Szegedy."""
    mean = ops.mean(x, axis=BATCH_AXES, keepdims=True)
    return _batch_standardized(layer, x, mean, _variance(x, mean, BATCH_AXES))


def mode_norm(layer, x):
    """Algorithm 1 of Mode Normalization, with the statistics of the batch (equation 3)."""
    momentum = layer.momentum
    logits = ops.matmul(ops.mean(x, axis=IMAGE_AXES), layer.gate_kernel) + layer.gate_bias
    gates = ops.softmax(logits, axis=-1)
    total = ops.zeros_like(x)
    moving_means, moving_variances = [], []
    for mode in range(layer.modes):
        gate = ops.reshape(gates[:, mode], (-1, 1, 1, 1))
        size = ops.sum(gates[:, mode])
        # <x>_k and <x^2>_k; examples are averaged over their positions.
        mean = ops.sum(ops.mean(gate * x, axis=IMAGE_AXES), axis=0) / size
        square = ops.sum(ops.mean(gate * ops.square(x), axis=IMAGE_AXES), axis=0) / size
        old_mean = ops.cast(layer.moving_mean[mode], x.dtype)
        old_square = ops.cast(layer.moving_variance[mode], x.dtype) + ops.square(old_mean)
        new_mean = momentum * old_mean + (1 - momentum) * mean
        new_square = momentum * old_square + (1 - momentum) * square
        moving_means.append(ops.stop_gradient(new_mean))
        moving_variances.append(ops.stop_gradient(new_square - ops.square(new_mean)))
        deviation = ops.sqrt(square - ops.square(mean) + layer.epsilon)
        total = total + gate * ((x - mean) / deviation)
    layer.moving_mean.assign(ops.stack(moving_means))
    layer.moving_variance.assign(ops.stack(moving_variances))
    return _rescaled(layer, total)


def mode_group_norm(layer, x):
    """Algorithm 3 and equation 5 of Mode Normalization."""
    means = ops.mean(x, axis=IMAGE_AXES)
    gates = ops.softmax(means[:, :, None] * layer.gate_kernel + layer.gate_bias, axis=-1)
    positions = x.shape[1] * x.shape[2]
    total = ops.zeros_like(x)
    for mode in range(layer.modes):
        gate = gates[:, None, None, :, mode]
        size = ops.sum(gate, axis=(1, 2, 3), keepdims=True) * positions
        mean = ops.sum(gate * x, axis=(1, 2, 3), keepdims=True) / size
        variance = ops.sum(gate * ops.square(x - mean), axis=(1, 2, 3), keepdims=True) / size
        total = total + (x - mean) / ops.sqrt(variance + layer.epsilon)
    return _rescaled(layer, total / layer.modes)


def conv_norm(layer, x):
    """Section 3 of Convolutional Normalization: a stack of depthwise strided convolutions."""
    reduced = x
    for logits in layer.spatial_logits:
        height, width, channels = logits.shape
        kernel = ops.softmax(ops.reshape(logits, (height * width, channels)), axis=0)
        kernel = ops.cast(ops.reshape(kernel, (height, width, channels, 1)), x.dtype)
        reduced = ops.depthwise_conv(reduced, kernel, strides=(height, width), padding="valid")
    mean = ops.mean(reduced, axis=BATCH_AXES, keepdims=True)
    plain_mean = ops.mean(x, axis=BATCH_AXES, keepdims=True)
    return _batch_standardized(layer, x, mean, _variance(x, plain_mean, BATCH_AXES))


def learned_stats_norm(layer, x):
    """Section 5 of Convolutional Normalization: two stacks of 1-D convolutions."""
    means = ops.mean(x, axis=IMAGE_AXES)[:, :, None]

    def read(stack):
        features = means
        for index, (kernel, bias) in enumerate(stack):
            kernel = ops.cast(kernel, x.dtype)
            features = ops.conv(features, kernel, strides=1, padding="same") + bias
            if index < len(stack) - 1:
                features = ops.relu(features)
        return ops.mean(features, axis=(1, 2))[:, None, None, None]

    deviation = ops.softplus(read(layer.std_stack)) + layer.epsilon
    return _rescaled(layer, (x - read(layer.mean_stack)) / deviation)


def switchable_norm(layer, x):
    """Equation 3 of Switchable Normalization."""
    statistics = []
    for axes in (IMAGE_AXES, (1, 2, 3), BATCH_AXES):
        mean = ops.mean(x, axis=axes, keepdims=True)
        statistics.append((mean, _variance(x, mean, axes)))
    _move_to(layer, *statistics[-1])
    mean, variance = (
        sum(
            share * values
            for share, values in zip(ops.unstack(ops.softmax(weight)), of, strict=True)
        )
        for weight, of in zip(
            (layer.mean_weight, layer.variance_weight), zip(*statistics, strict=True), strict=True
        )
    )
    return _rescaled(layer, (x - mean) / ops.sqrt(variance + layer.epsilon))


def batch_instance_norm(layer, x):
    """Equation 3 of Batch-Instance Normalization."""
    standardized = []
    for axes in (BATCH_AXES, IMAGE_AXES):
        mean = ops.mean(x, axis=axes, keepdims=True)
        variance = _variance(x, mean, axes)
        standardized.append((x - mean) / ops.sqrt(variance + layer.epsilon))
        if axes == BATCH_AXES:
            _move_to(layer, mean, variance)
    of_batch, of_instance = standardized
    return _rescaled(layer, layer.gate * of_batch + (1 - layer.gate) * of_instance)


def batch_renorm(layer, x):
    """Algorithm 1 of Batch Renormalization, with Keras's least divisor."""
    mean = ops.mean(x, axis=BATCH_AXES)
    deviation = ops.sqrt(ops.mean(ops.square(x - mean), axis=BATCH_AXES) + layer.epsilon)
    divisor = ops.maximum(layer.renorm_stddev, layer.epsilon**0.5)
    r = ops.clip(deviation / divisor, 1 / layer.r_max, layer.r_max)
    d = ops.clip((mean - layer.renorm_mean) / divisor, -layer.d_max, layer.d_max)
    r, d = ops.stop_gradient(r), ops.stop_gradient(d)
    _move(layer.renorm_mean, mean, layer.renorm_momentum)
    _move(layer.renorm_stddev, deviation, layer.renorm_momentum)
    _move(layer.moving_mean, mean, layer.momentum)
    _move(layer.moving_stddev, deviation, layer.momentum)
    layer.moving_variance.assign(ops.square(layer.moving_stddev) - layer.epsilon)
    return _rescaled(layer, (x - mean) / deviation * r + d)


def filter_response_norm(layer, x):
    """Equations 1 and 2 of Filter Response Normalization."""
    power = ops.mean(ops.square(x), axis=IMAGE_AXES, keepdims=True)
    return _rescaled(layer, x / ops.sqrt(power + layer.epsilon))


FORMULAS = {
    "BatchNorm": batch_norm,
    "GroupNorm": group_norm,
    "InstanceNorm": group_norm,
    "LayerNorm": group_norm,
    "ILMGroupNorm": instance_level_meta_norm,
    "ILMInstanceNorm": instance_level_meta_norm,
    "ILMLayerNorm": instance_level_meta_norm,
    "AssociateNorm": associate_norm,
    "ModeNorm": mode_norm,
    "ModeGroupNorm": mode_group_norm,
    "ConvNorm": conv_norm,
    "LearnedStatsNorm": learned_stats_norm,
    "FilterResponseNorm": filter_response_norm,
    "BatchRenorm": batch_renorm,
    "BatchInstanceNorm": batch_instance_norm,
    "SwitchableNorm": switchable_norm,
}
