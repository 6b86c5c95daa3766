"""Running a layer, and differentiating it, on whichever backend Keras uses; numpy in, numpy out."""

import dataclasses
import inspect
import zlib

import keras
import numpy as np

import kerasnorm
from references import reference_with_gradients

BACKEND = keras.backend.backend()


@dataclasses.dataclass
class Result:
    """What one call gave.

    Attributes:
        outputs: the layer's output.
        input_gradient: the gradient of sum(outputs * output_weights) for the input.
        weight_gradients: the same for every trainable weight, by name.
        statistics: the moving statistics after the call, by name.
    """

    outputs: np.ndarray
    input_gradient: np.ndarray
    weight_gradients: dict
    statistics: dict

    def finite(self):
        """Whether everything is finite."""
        arrays = [self.outputs, self.input_gradient]
        arrays += [*self.weight_gradients.values(), *self.statistics.values()]
        return all(np.isfinite(float64(array)).all() for array in arrays)


def float64(array):
    """A numpy array, bfloat16 and tensors included, as float64."""
    if not isinstance(array, np.ndarray):
        array = keras.ops.convert_to_numpy(array)
    return array.astype("float64")


def random_weight(name, shape, seed):
    """A value as a trained layer might have it: every weight matters."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    normal = generator.normal(size=shape)
    kind = name.rstrip("_0123456789")
    if kind == "gamma":
        return 1 + 0.3 * normal
    if kind.endswith(("variance", "stddev")):
        return 0.5 + generator.uniform(size=shape)
    if kind == "encoder":
        # One embedding unit is on for any variance, so that its decoder always learns.
        normal[:, 0] = np.abs(normal[:, 0]) + 0.1
        return normal / np.sqrt(shape[0])
    if kind.endswith("decoder"):
        return normal / np.sqrt(shape[0])
    if kind in ("mean_kernel", "std_kernel"):
        return normal / np.sqrt(shape[0] * shape[1])
    if kind == "spatial_logits":
        return normal
    return 0.3 * normal


def make_layer(name, arguments, input_shape, *, seed=0, initial=False, **common):
    """A built layer with known weights.

    Args:
        name: the class name in `kerasnorm`.
        arguments: its own arguments.
        input_shape: what to build it for.
        seed: of the random weights.
        initial: keep the layer's own initial weights instead.
        **common: further arguments, such as `dtype` and `axis`.

    Returns:
        The layer.
    """
    keras.utils.set_random_seed(seed)
    layer = getattr(kerasnorm, name)(**{**arguments, **common})
    layer.build(input_shape)
    if not initial:
        for weight in layer.weights:
            value = random_weight(weight.name, tuple(weight.shape), seed)
            weight.assign(keras.ops.convert_to_tensor(value, dtype=weight.dtype))
    return layer


def weights_of(layer):
    """The weights of a layer by name, as float64 numpy arrays."""
    return {weight.name: float64(weight.value) for weight in layer.weights}


def data(shape, *, seed=0, mean=0.0, offset=0.5):
    """Standard-normal float32 data, channels last; means of channels and examples differ."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=shape)
    sides = (shape[0], *(1 for _ in shape[1:-1]), shape[-1])
    return (values + offset * generator.normal(size=sides) + mean).astype("float32")


def random_mask(shape, *, seed=0, fully_masked=()):
    """A mask for channels-last inputs; every example keeps a position unless told otherwise."""
    mask = np.random.default_rng([seed, 7]).uniform(size=shape[:-1]) < 0.6
    if len(shape) > 2:
        mask[(slice(None), *(-1 for _ in shape[1:-1]))] = True
    elif shape[0]:
        mask[-1] = True
    for example in fully_masked:
        mask[example] = False
    return mask


def output_weights_for(shape, *, seed=0, mask=None):
    """The weights of the objective; masked positions, of unspecified output, weigh nothing."""
    values = np.random.default_rng([seed, 11]).normal(size=shape).astype("float32")
    if mask is not None:
        mask = mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))
        values = np.where(mask, values, 0).astype("float32")
    return values


def call(layer, inputs, training=False, mask=None, dtype=None, *, quick=False):
    """The output as a numpy array; an eager call, which updates moving statistics.

    With `quick` the call is compiled on JAX, where meeting a new shape is faster like that.
    """
    inputs = keras.ops.convert_to_tensor(inputs, dtype=dtype)
    arguments = call_arguments(layer, training, mask)
    if not quick or BACKEND != "jax":
        return keras.ops.convert_to_numpy(layer(inputs, **arguments))
    import jax

    state = [
        [variable.value for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    ]
    step = jax.jit(lambda *state_and_inputs: layer.stateless_call(*state_and_inputs, **arguments))
    outputs, statistics = step(*state, inputs)
    for variable, value in zip(layer.non_trainable_variables, statistics, strict=True):
        variable.assign(value)
    return keras.ops.convert_to_numpy(outputs)


def call_arguments(layer, training, mask):
    """Keyword arguments of a layer's `call`, as far as it takes them; a mask if there is one."""
    takes = inspect.signature(layer.call).parameters
    arguments = {"training": training} if "training" in takes else {}
    if mask is not None:
        arguments["mask"] = keras.ops.convert_to_tensor(mask, dtype="bool")
    return arguments


def value_and_gradients(
    layer, inputs, output_weights, training=False, mask=None, *, dtype=None, compiled=False
):
    """The outputs of a layer and the gradients of sum(outputs * output_weights), on any backend.

    Args:
        layer: a built layer. Its variables are left as they were.
        inputs: array; converted to `dtype` if that is given.
        output_weights: array of the outputs' shape.
        training: passed to the layer.
        mask: passed to the layer unless None.
        dtype: of the input tensor.
        compiled: by XLA, as in `fit`; by `torch.compile` on torch.

    Returns:
        A `Result`.
    """
    run = differentiator(layer, training, dtype=dtype, compiled=compiled)
    return run(inputs, output_weights, mask)


def differentiator(layer, training=False, *, dtype=None, compiled=False):
    """What `value_and_gradients` does with many inputs of one shape, compiled once.

    Returns:
        A function of inputs, output weights and a mask or None.
    """
    steps = {"tensorflow": tensorflow_gradients, "jax": jax_gradients, "torch": torch_gradients}
    step = steps[BACKEND](layer, training, compiled)

    def run(inputs, output_weights, mask=None):
        inputs = keras.ops.convert_to_tensor(inputs, dtype=dtype)
        weights = keras.ops.convert_to_tensor(output_weights)
        mask = None if mask is None else keras.ops.convert_to_tensor(mask, dtype="bool")
        before = [keras.ops.copy(variable.value) for variable in layer.non_trainable_variables]
        outputs, gradients, statistics = step(inputs, weights, mask)
        # Copies: torch's arrays would follow the variables.
        statistics = [np.array(keras.ops.convert_to_numpy(value)) for value in statistics]
        for variable, value in zip(layer.non_trainable_variables, before, strict=True):
            variable.assign(value)
        gradients = [keras.ops.convert_to_numpy(gradient) for gradient in gradients]
        names = [variable.name for variable in layer.trainable_variables]
        statistic_names = [variable.name for variable in layer.non_trainable_variables]
        return Result(
            keras.ops.convert_to_numpy(outputs),
            gradients[0],
            dict(zip(names, gradients[1:], strict=True)),
            dict(zip(statistic_names, statistics, strict=True)),
        )

    return run


def objective_of(outputs, output_weights):
    """sum(outputs * output_weights), in float32 or better."""
    dtype = "float64" if keras.backend.standardize_dtype(outputs.dtype) == "float64" else "float32"
    weights = keras.ops.convert_to_tensor(output_weights, dtype=dtype)
    return keras.ops.sum(keras.ops.cast(outputs, dtype) * weights)


def tensorflow_gradients(layer, training, compiled):
    import tensorflow as tf

    trainable = [variable.value for variable in layer.trainable_variables]

    def step(inputs, output_weights, mask):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, **call_arguments(layer, training, mask))
            objective = objective_of(outputs, output_weights)
        gradients = tape.gradient(
            objective, [inputs, *trainable], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return outputs, gradients

    if compiled:
        step = tf.function(step, jit_compile=True, autograph=False)

    def run(inputs, output_weights, mask):
        outputs, gradients = step(inputs, output_weights, mask)
        return outputs, gradients, [variable.value for variable in layer.non_trainable_variables]

    return run


def jax_gradients(layer, training, compiled):
    import jax

    def objective(inputs, trainable, non_trainable, output_weights, mask):
        outputs, statistics = layer.stateless_call(
            trainable, non_trainable, inputs, **call_arguments(layer, training, mask)
        )
        return objective_of(outputs, output_weights), (outputs, statistics)

    step = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    if compiled:
        step = jax.jit(step)

    def run(inputs, output_weights, mask):
        trainable = [variable.value for variable in layer.trainable_variables]
        others = [variable.value for variable in layer.non_trainable_variables]
        (_, (outputs, statistics)), gradients = step(
            inputs, trainable, others, output_weights, mask
        )
        return outputs, [gradients[0], *gradients[1]], statistics

    return run


def torch_gradients(layer, training, compiled):
    import torch

    def forward(inputs, mask):
        return layer(inputs, **call_arguments(layer, training, mask))

    if compiled:
        # What Dynamo and AOTAutograd make of a layer; what Inductor does is not the layer's affair.
        torch.compiler.reset()
        forward = torch.compile(forward, fullgraph=True, backend="aot_eager")

    def run(inputs, output_weights, mask):
        inputs = inputs.detach().requires_grad_()
        trainable = [variable.value for variable in layer.trainable_variables]
        outputs = forward(inputs, mask)
        objective = objective_of(outputs, output_weights)
        gradients = torch.autograd.grad(objective, [inputs, *trainable], allow_unused=True)
        gradients = [
            torch.zeros_like(value) if gradient is None else gradient
            for gradient, value in zip(gradients, [inputs, *trainable], strict=True)
        ]
        return outputs, gradients, [variable.value for variable in layer.non_trainable_variables]

    return run


def channels_first(array):
    """Channels from the last axis to the second; a copy with its own memory order."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def channels_last(array):
    """Channels from the second axis to the last."""
    return np.moveaxis(array, 1, -1)


def assert_near(actual, expected, tolerance, what="", floor=1.0, where=None):
    """max|actual - expected| <= tolerance * max(max|expected|, floor), at the positions `where`."""
    actual, expected = float64(actual), float64(expected)
    assert actual.shape == expected.shape, what
    if where is not None:
        where = where.reshape(where.shape + (1,) * (actual.ndim - where.ndim))
        where = np.broadcast_to(where, actual.shape)
        actual, expected = actual[where], expected[where]
    if not actual.size:
        return
    error = np.abs(actual - expected).max()
    limit = tolerance * max(np.abs(expected).max(), floor)
    assert error <= limit, f"{what}: max|difference| {error:.3g}, at most {limit:.3g} allowed"


def compare_with_reference(
    layer,
    arguments,
    inputs,
    training=False,
    mask=None,
    *,
    output_tolerance=1e-5,
    gradient_tolerance=1e-4,
    gradient_floor=0.1,
    **options,
):
    """Outputs, gradients and new moving statistics of a layer against its paper's formula.

    Args:
        layer: a built layer of `kerasnorm`.
        arguments: its own arguments.
        inputs: channels last, whatever the layer's `axis`.
        training: passed to the layer.
        mask: passed to the layer.
        output_tolerance: of outputs and statistics, relative to their maximum, or to 1 if that is
            less.
        gradient_tolerance: relative to the maximum of each tensor's gradient.
        gradient_floor: gradients that are smaller everywhere count as this large; that of two
            gate biases is a sum that can vanish by chance.
        **options: of `value_and_gradients`.

    Returns:
        The layer's `Result`, channels as the layer has them.
    """
    name = type(layer).__name__
    first = layer.axis not in (-1, inputs.ndim - 1)
    output_weights = output_weights_for(inputs.shape, mask=mask)
    expected = reference_with_gradients(
        name, inputs, weights_of(layer), arguments, output_weights, training, mask
    )
    outputs, statistics, input_gradient, weight_gradients = expected
    arrange = channels_first if first else np.asarray
    restore = channels_last if first else np.asarray
    result = value_and_gradients(
        layer, arrange(inputs), arrange(output_weights), training, mask, **options
    )
    assert result.finite(), f"{name}: not finite"
    assert_near(restore(result.outputs), outputs, output_tolerance, "outputs", where=mask)
    assert result.statistics.keys() == statistics.keys()
    for key, value in statistics.items():
        assert_near(result.statistics[key], value, output_tolerance, key)
    limits = {"tolerance": gradient_tolerance, "floor": gradient_floor}
    assert_near(restore(result.input_gradient), input_gradient, what="gradient of inputs", **limits)
    assert result.weight_gradients.keys() == weight_gradients.keys()
    for key, value in weight_gradients.items():
        assert_near(result.weight_gradients[key], value, what=f"gradient of {key}", **limits)
    return result
