"""What the papers say, in float64 and at length.

Each function below is a transcription of its paper's formula for one layer, in the order in which
the paper writes it: loops over examples, groups and modes, expectations over positions, nothing
pooled and nothing clever. They are differentiable by torch's autograd and share no code with the
package.

A mask is taken literally: the unmasked positions of every example are gathered, and the formula
sees only those.
"""

import math

import numpy as np
import torch

from layer_table import (
    channels_of,
    full_config,
    group_count,
    is_statistic,
    kernel_sizes,
    key_group_count,
    weight_shapes,
)

__all__ = ["reference", "reference_with_gradients", "weight_shapes"]

ACTIVATIONS = {
    None: lambda x: x,
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def reference(name, inputs, weights, arguments, training=False, mask=None):
    """The output of the layer `name` by its paper's formula.

    Args:
        name: the layer's class name.
        inputs: array or tensor (N, ..., C), channels last.
        weights: dict from weight name to array or tensor, as in `weight_shapes`.
        arguments: the layer's constructor arguments (`axis` is ignored).
        training: whether batch statistics are the batch's.
        mask: booleans, the shape of `inputs` without its channels, or a leading part of it.

    Returns:
        (outputs, updates): float64 tensor like `inputs`, zero at masked positions, and a dict of
        the new values of moving_mean and its like, empty for a layer that has none.
    """
    inputs = as_tensor(inputs)
    weights = {key: as_tensor(value) for key, value in weights.items()}
    config = full_config(name, {**arguments, "axis": -1})
    count, channels = inputs.shape[0], channels_of(config, inputs.shape)
    weights.setdefault("gamma", torch.ones(channels, dtype=torch.float64))
    weights.setdefault("beta", torch.zeros(channels, dtype=torch.float64))
    kept = unmasked(mask, inputs.shape)
    updates = {key: value for key, value in weights.items() if is_statistic(key)}
    flat = inputs.reshape(count, math.prod(inputs.shape[1:-1]), channels)
    flat_kept = kept.reshape(flat.shape[:2])
    examples = [flat[n][flat_kept[n]] for n in range(count)]
    arguments_of_formula = {"config": config, "weights": weights}
    if name in BATCH_FORMULAS:
        if training and sum(len(example) for example in examples):
            if name == "ConvNorm":
                grid = (inputs, kept)
                results, updates = conv_norm(examples, grid, **arguments_of_formula)
            else:
                results, updates = BATCH_FORMULAS[name](examples, **arguments_of_formula)
        else:
            results = INFERENCE_FORMULAS[name](examples, **arguments_of_formula)
    else:
        results = [
            EXAMPLE_FORMULAS[name](example, **arguments_of_formula) if len(example) else example
            for example in examples
        ]
    outputs = torch.zeros_like(flat)
    for n, result in enumerate(results):
        outputs = outputs.index_put((torch.tensor(n), flat_kept[n].nonzero()[:, 0]), result)
    return outputs.reshape(inputs.shape), updates


def reference_with_gradients(
    name, inputs, weights, arguments, output_weights, training=False, mask=None
):
    """Outputs, new statistics, gradients of sum(outputs * output_weights), as numpy arrays.

    Returns:
        (outputs, updates, input gradient, dict of weight gradients); the moving statistics have
        no gradient.
    """
    inputs = as_tensor(inputs).clone().requires_grad_()
    weights = {key: as_tensor(value).clone() for key, value in weights.items()}
    trainable = {key: value for key, value in weights.items() if not is_statistic(key)}
    for value in trainable.values():
        value.requires_grad_()
    outputs, updates = reference(name, inputs, weights, arguments, training, mask)
    objective = (outputs * as_tensor(output_weights)).sum()
    gradients = torch.autograd.grad(objective, [inputs, *trainable.values()], allow_unused=True)
    gradients = [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, [inputs, *trainable.values()], strict=True)
    ]
    arrays = [gradient.numpy() for gradient in gradients]
    updates = {key: value.detach().numpy() for key, value in updates.items()}
    return (
        outputs.detach().numpy(),
        updates,
        arrays[0],
        dict(zip(trainable, arrays[1:], strict=True)),
    )


def as_tensor(value):
    """`value` as a float64 tensor; a tensor keeps its graph."""
    if isinstance(value, torch.Tensor):
        return value.double()
    return torch.from_numpy(np.array(value, dtype="float64"))


def unmasked(mask, shape):
    """The mask, spread over the positions that it leaves out; all true without one."""
    if mask is None:
        return torch.ones(shape[:-1], dtype=torch.bool)
    mask = torch.as_tensor(mask).bool()
    mask = mask.reshape(mask.shape + (1,) * (len(shape) - 1 - mask.dim()))
    return mask.expand(shape[:-1])


def moments(values):
    """The mean and the biased variance of all of `values`: E x and E (x - E x)^2."""
    mean = values.mean()
    return mean, ((values - mean) ** 2).mean()


# -----------------------------------------------------------------------------
# One example (P, C) at a time.


def standardize(example, groups, epsilon):
    """Group norm's first stage: every group of channels by its own mean and variance."""
    size = example.shape[1] // groups
    standardized = []
    for group in range(groups):
        values = example[:, group * size : (group + 1) * size]
        mean, variance = moments(values)
        standardized.append((values - mean) / torch.sqrt(variance + epsilon))
    return torch.cat(standardized, dim=1)


def standardization_groups(name, config, channels):
    """The number of groups that share a mean and a variance."""
    if name.endswith("InstanceNorm"):
        return channels
    return 1 if name.endswith("LayerNorm") else group_count(config["groups"], channels)


def group_norm(name):
    """Group, instance and layer normalization."""

    def formula(example, config, weights):
        groups = standardization_groups(name, config, example.shape[1])
        standardized = standardize(example, groups, config["epsilon"])
        return weights["gamma"] * standardized + weights["beta"]

    return formula


def association(name, example, config, weights):
    """Equations 3 to 5 of ILM and AssocNorm, before the decoders' activations, per channel."""
    channels = example.shape[1]
    keys = key_group_count(name, config, channels)
    size = channels // keys
    key_moments = [moments(example[:, key * size : (key + 1) * size]) for key in range(keys)]
    key_mean = torch.stack([mean for mean, _ in key_moments])
    key_variance = torch.stack([variance for _, variance in key_moments])
    if config.get("variance_around") == "norm":
        groups = standardization_groups(name, config, channels)
        squares = [(part - part.mean()) ** 2 for part in example.split(channels // groups, dim=1)]
        distances = torch.cat(squares, dim=1)
        key_variance = torch.stack(
            [distances[:, key * size : (key + 1) * size].mean() for key in range(keys)]
        )
    mean_embedding = torch.relu(key_mean @ weights["encoder"])
    variance_embedding = torch.relu(key_variance @ weights["encoder"])
    mean_decoded = mean_embedding @ weights["mean_decoder"]
    variance_decoded = variance_embedding @ weights["variance_decoder"]
    return mean_decoded.repeat_interleave(size), variance_decoded.repeat_interleave(size)


def ilm_rescaling(name, example, config, weights):
    """Equations 5 and 6 of ILM: omega from the variance, beta from the mean."""
    mean_decoded, variance_decoded = association(name, example, config, weights)
    omega = ACTIVATIONS[config["variance_activation"]](variance_decoded) + weights["gamma"]
    beta = ACTIVATIONS[config["mean_activation"]](mean_decoded) + weights["beta"]
    return omega, beta


def associate_rescaling(name, example, config, weights):
    """Equations 5 and 6 of AssocNorm: omega from the mean, beta from the variance; Table 5."""
    mean_decoded, variance_decoded = association(name, example, config, weights)

    def combine(decoded, activation, bias):
        if config["bias_mode"] == "none":
            return activation(decoded)
        if config["bias_mode"] == "before":
            return activation(decoded + bias)
        if config["bias_mode"] == "multiply":
            return activation(decoded) * bias
        return activation(decoded) + bias

    omega = combine(mean_decoded, ACTIVATIONS[config["mean_activation"]], weights["gamma"])
    beta = combine(variance_decoded, ACTIVATIONS[config["variance_activation"]], weights["beta"])
    return omega, beta


def associated_norm(name, rescaling):
    """The norms whose scale and shift are predicted from the example."""

    def formula(example, config, weights):
        groups = standardization_groups(name, config, example.shape[1])
        omega, beta = rescaling(name, example, config, weights)
        return omega * standardize(example, groups, config["epsilon"]) + beta

    return formula


def mode_group_norm(example, config, weights):
    """Algorithm 3 and equation 5 of Mode Normalization, over channels and positions."""
    # (C, K); in logarithms, as the sum of the gates of a mode that no channel chooses underflows:
    # g_c / sum g = softmax of log g.
    log_gates = torch.log_softmax(
        example.mean(dim=0)[:, None] * weights["gate_kernel"] + weights["gate_bias"], dim=1
    )
    total = torch.zeros_like(example)
    for mode in range(config["modes"]):
        share = torch.softmax(log_gates[:, mode], dim=0)
        mean = (share * example.mean(dim=0)).sum()
        variance = (share * ((example - mean) ** 2).mean(dim=0)).sum()
        total = total + (example - mean) / torch.sqrt(variance + config["epsilon"])
    return weights["gamma"] / config["modes"] * total + weights["beta"]


def learned_stats_norm(example, config, weights):
    """Section 5 of Convolutional Normalization: two 1-D stacks read the channel means."""
    means = example.mean(dim=0)

    def stack(statistic):
        signal = means[:, None]  # (C, features)
        last = len(config["filters"]) - 1
        for index in range(last + 1):
            kernel = weights[f"{statistic}_kernel_{index}"]
            signal = convolve(signal, kernel) + weights[f"{statistic}_bias_{index}"]
            if index != last:
                signal = torch.relu(signal)
        return signal.mean()

    deviation = torch.nn.functional.softplus(stack("std")) + config["epsilon"]
    return weights["gamma"] * (example - stack("mean")) / deviation + weights["beta"]


def convolve(signal, kernel):
    """A 1-D convolution (C, in) * (size, in, out), "same"; the extra pad is on the right."""
    size = kernel.shape[0]
    left = (size - 1) // 2
    padded = torch.nn.functional.pad(signal, (0, 0, left, size - 1 - left))
    return torch.stack(
        [
            sum(padded[position + offset] @ kernel[offset] for offset in range(size))
            for position in range(signal.shape[0])
        ]
    )


# -----------------------------------------------------------------------------
# The batch, as a list of examples (P_n, C).


def batch_moments(examples):
    """The mean and biased variance of every channel over all positions of all examples."""
    values = torch.cat(examples)
    mean = values.mean(dim=0)
    return mean, ((values - mean) ** 2).mean(dim=0)


def keras_update(config, weights, mean, variance):
    """Keras's rule for moving statistics."""
    momentum = config["momentum"]
    return {
        "moving_mean": momentum * weights["moving_mean"] + (1 - momentum) * mean,
        "moving_variance": momentum * weights["moving_variance"] + (1 - momentum) * variance,
    }


def normalize(examples, mean, variance, config, weights):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta."""
    deviation = torch.sqrt(variance + config["epsilon"])
    return [weights["gamma"] * (x - mean) / deviation + weights["beta"] for x in examples]


def batch_norm(examples, config, weights):
    """Batch normalization in training."""
    mean, variance = batch_moments(examples)
    updates = keras_update(config, weights, mean, variance)
    return normalize(examples, mean, variance, config, weights), updates


def moving_norm(examples, config, weights):
    """Batch normalization in inference."""
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    return normalize(examples, mean, variance, config, weights)


def log_gates(example, weights):
    """log softmax Psi(x_n), Psi affine in the example's channel means."""
    logits = example.mean(dim=0) @ weights["gate_kernel"] + weights["gate_bias"]
    return torch.log_softmax(logits, dim=0)


def vote(examples, means, variances, config, weights):
    """Equation 2 of Mode Normalization: the modes' standardizations vote by the gates."""
    results = []
    for example in examples:
        total = torch.zeros_like(example)
        if len(example):
            gates = torch.exp(log_gates(example, weights))
            for mode in range(config["modes"]):
                deviation = torch.sqrt(variances[mode] + config["epsilon"])
                total = total + gates[mode] * (example - means[mode]) / deviation
        results.append(weights["gamma"] * total + weights["beta"])
    return results


def mode_norm(examples, config, weights):
    """Algorithm 1 and equation 3 of Mode Normalization, with the statistics of the batch."""
    present = [example for example in examples if len(example)]
    momentum = config["momentum"]
    means, variances, moving_means, moving_variances = [], [], [], []
    for mode in range(config["modes"]):
        # N_k <x>_k = sum_n g_nk x_n, where every position of x_n counts once; the sum of the
        # gates of a mode that nobody chooses underflows, so the shares g_nk / N_k are taken in
        # logarithms.
        log_weights = torch.stack(
            [log_gates(example, weights)[mode] + math.log(len(example)) for example in present]
        )
        shares = torch.softmax(log_weights, dim=0)
        mean = sum(
            share * example.mean(dim=0) for share, example in zip(shares, present, strict=True)
        )
        variance = sum(
            share * ((example - mean) ** 2).mean(dim=0)
            for share, example in zip(shares, present, strict=True)
        )
        means.append(mean)
        variances.append(variance)
        # The paper's moving averages are of <x> and of <x^2>.
        moving_mean = weights["moving_mean"][mode]
        moving_square = weights["moving_variance"][mode] + moving_mean**2
        moving_mean = momentum * moving_mean + (1 - momentum) * mean
        moving_square = momentum * moving_square + (1 - momentum) * (variance + mean**2)
        moving_means.append(moving_mean)
        moving_variances.append(moving_square - moving_mean**2)
    updates = {
        "moving_mean": torch.stack(moving_means),
        "moving_variance": torch.stack(moving_variances),
    }
    return vote(examples, means, variances, config, weights), updates


def mode_norm_inference(examples, config, weights):
    """Algorithm 2 of Mode Normalization."""
    return vote(examples, weights["moving_mean"], weights["moving_variance"], config, weights)


def weighted_mean(images, kernels):
    """Section 3.1 of Convolutional Normalization, (N, H, W, C) -> (N, C).

    A stack of depthwise kernels whose strides are their sizes, and an even average of what it
    leaves over.
    """
    for kernel in kernels:
        height, width = kernel.shape[:2]
        images = sum(
            kernel[row, column] * images[:, row::height, column::width]
            for row in range(height)
            for column in range(width)
        )
    return images.mean(dim=(1, 2))


def conv_norm(examples, grid, config, weights):
    """Equations 6 to 9 of Convolutional Normalization.

    A mask renormalizes the weights of every example over its unmasked positions; an example that
    has none is not in the batch.
    """
    images, kept = grid
    kept = kept[..., None]
    kernels = []
    for index, (height, width) in enumerate(kernel_sizes(config, *images.shape[1:3])):
        logits = weights[f"spatial_logits_{index}"]
        kernel = torch.softmax(logits.reshape(height * width, -1), dim=0)
        kernels.append(kernel.reshape(height, width, -1))

    def average(values):
        per_example = []
        for n, example in enumerate(examples):
            if len(example):
                value = torch.where(kept[n], values[n], torch.zeros_like(values[n]))
                ones = kept[n].expand(value.shape).double()
                total = weighted_mean(ones[None], kernels)[0]
                per_example.append(weighted_mean(value[None], kernels)[0] / total)
        return torch.stack(per_example).mean(dim=0)

    mean = average(images)
    if config["weighted_variance"]:
        variance = average((torch.where(kept, images, mean) - mean) ** 2)
    else:
        variance = batch_moments(examples)[1]
    updates = keras_update(config, weights, mean, variance)
    return normalize(examples, mean, variance, config, weights), updates


def switched(examples, batch_mean, batch_variance, config, weights):
    """Equation 3 of Switchable Normalization, with the batch's moments given."""
    mean_share = torch.softmax(weights["mean_weight"], dim=0)
    variance_share = torch.softmax(weights["variance_weight"], dim=0)
    results = []
    for example in examples:
        if len(example):
            instance_mean, instance_variance = batch_moments([example])
            layer_mean, layer_variance = moments(example)
            mean = (
                mean_share[0] * instance_mean
                + mean_share[1] * layer_mean
                + mean_share[2] * batch_mean
            )
            variance = (
                variance_share[0] * instance_variance
                + variance_share[1] * layer_variance
                + variance_share[2] * batch_variance
            )
            example = normalize([example], mean, variance, config, weights)[0]
        results.append(example)
    return results


def switchable_norm(examples, config, weights):
    """Switchable Normalization in training."""
    mean, variance = batch_moments(examples)
    updates = keras_update(config, weights, mean, variance)
    return switched(examples, mean, variance, config, weights), updates


def switchable_norm_inference(examples, config, weights):
    """Switchable Normalization in inference."""
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    return switched(examples, mean, variance, config, weights)


def gated(examples, batch_mean, batch_variance, config, weights):
    """Equation 3 of Batch-Instance Normalization, with the batch's moments given."""
    gate = weights["gate"]
    results = []
    for example in examples:
        if len(example):
            mean, variance = batch_moments([example])
            of_instance = (example - mean) / torch.sqrt(variance + config["epsilon"])
            of_batch = (example - batch_mean) / torch.sqrt(batch_variance + config["epsilon"])
            mixed = gate * of_batch + (1 - gate) * of_instance
            example = weights["gamma"] * mixed + weights["beta"]
        results.append(example)
    return results


def batch_instance_norm(examples, config, weights):
    """Batch-Instance Normalization in training."""
    mean, variance = batch_moments(examples)
    updates = keras_update(config, weights, mean, variance)
    return gated(examples, mean, variance, config, weights), updates


def batch_instance_norm_inference(examples, config, weights):
    """Batch-Instance Normalization in inference."""
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    return gated(examples, mean, variance, config, weights)


def batch_renorm(examples, config, weights):
    """Algorithm 1 of Batch Renormalization, with Keras's averages."""
    mean, variance = batch_moments(examples)
    deviation = torch.sqrt(variance + config["epsilon"])
    renorm_mean, renorm_deviation = weights["renorm_mean"], weights["renorm_stddev"]
    # As in Keras, which does not divide by what cannot be a deviation.
    divisor = torch.clamp(renorm_deviation, min=math.sqrt(config["epsilon"]))
    r = (deviation / divisor).detach()
    d = ((mean - renorm_mean) / divisor).detach()
    r_max, d_max, r_min = config["r_max"], config["d_max"], config["r_min"]
    if r_min is None:
        r_min = 0 if r_max is None else 1 / r_max
    r = torch.clamp(r, min=r_min, max=r_max)
    d = d if d_max is None else torch.clamp(d, min=-d_max, max=d_max)
    results = [
        weights["gamma"] * ((x - mean) / deviation * r + d) + weights["beta"] for x in examples
    ]

    def move(name, value, momentum):
        return momentum * weights[name] + (1 - momentum) * value

    moving_deviation = move("moving_stddev", deviation, config["momentum"])
    updates = {
        "moving_mean": move("moving_mean", mean, config["momentum"]),
        "moving_variance": torch.clamp(moving_deviation**2 - config["epsilon"], min=0),
        "moving_stddev": moving_deviation,
        "renorm_mean": move("renorm_mean", mean, config["renorm_momentum"]),
        "renorm_stddev": move("renorm_stddev", deviation, config["renorm_momentum"]),
    }
    return results, updates


def filter_response_norm(example, config, weights):
    """Equations 1 and 2 of Filter Response Normalization."""
    epsilon = abs(config["epsilon"])
    if config["learned_epsilon"]:
        epsilon = epsilon + torch.abs(weights["epsilon"])
    power = (example**2).mean(dim=0)
    return weights["gamma"] * example / torch.sqrt(power + epsilon) + weights["beta"]


EXAMPLE_FORMULAS = {
    **{name: group_norm(name) for name in ("GroupNorm", "InstanceNorm", "LayerNorm")},
    **{
        name: associated_norm(name, ilm_rescaling)
        for name in ("ILMGroupNorm", "ILMInstanceNorm", "ILMLayerNorm")
    },
    "AssociateNorm": associated_norm("AssociateNorm", associate_rescaling),
    "ModeGroupNorm": mode_group_norm,
    "LearnedStatsNorm": learned_stats_norm,
    "FilterResponseNorm": filter_response_norm,
}
BATCH_FORMULAS = {
    "BatchNorm": batch_norm,
    "ModeNorm": mode_norm,
    "ConvNorm": conv_norm,
    "BatchRenorm": batch_renorm,
    "BatchInstanceNorm": batch_instance_norm,
    "SwitchableNorm": switchable_norm,
}
INFERENCE_FORMULAS = {
    "BatchNorm": moving_norm,
    "ModeNorm": mode_norm_inference,
    "ConvNorm": moving_norm,
    "BatchRenorm": moving_norm,
    "BatchInstanceNorm": batch_instance_norm_inference,
    "SwitchableNorm": switchable_norm_inference,
}
