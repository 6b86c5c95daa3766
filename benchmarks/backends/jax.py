"""Steps on JAX."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks.kept import kept_by_content
from benchmarks.machine import version

NAME = "jax"
MODES = ("jit", "eager")
# On a CPU, steps that are dispatched without waiting run at the same time.
WAIT_EVERY_STEP = jax.default_backend() == "cpu"
# Compiling is the most of the time until a step runs, and each compilation takes one core.
COMPILES = True
wait = jax.block_until_ready


def versions():
    """Of what computes."""
    numbers = {name: version(name) for name in ("jax", "jaxlib")}
    client = jax.devices()[0].client
    if client.platform != "cpu":
        numbers["platform"] = " ".join(client.platform_version.split())
    return numbers


def threads():
    """How many threads compute; JAX does not tell."""
    return None


def device():
    """Kind and name."""
    first = jax.devices()[0]
    return ("cpu" if first.platform == "cpu" else "gpu"), first.device_kind


def _compiled(function, mode):
    return jax.jit(function) if mode == "jit" else function


def _state(layer):
    return (
        [variable.value for variable in layer.trainable_variables],
        [variable.value for variable in layer.non_trainable_variables],
    )


def _call(layer, trainable, others, x, training):
    """The output and the other variables' new values, as inside a model's `stateless_call`."""
    variables = [*layer.trainable_variables, *layer.non_trainable_variables]
    mapping = list(zip(variables, [*trainable, *others], strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        y = layer(x, training=training)
    return y, [scope.get_current_value(variable) for variable in layer.non_trainable_variables]


def train_step(layer, x, dy, mode):
    trainable, others = _state(layer)

    def step(x, trainable, others, dy):
        def forward(x, trainable):
            return _call(layer, trainable, others, x, training=True)

        y, backward, updated = jax.vjp(forward, x, trainable, has_aux=True)
        return y, backward(dy), updated

    step = _compiled(step, mode)

    def run():
        y, (dx, gradients), _ = step(x, trainable, others, dy)
        return y, [dx, *gradients]

    return run


def native_steps(x, dy):
    """Batch and group normalization as one would write them in `jax.numpy`."""
    channels = x.shape[-1]

    def standardized(x, axes):
        wide = x.astype(jnp.promote_types(x.dtype, "float32"))
        mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
        return (wide - mean) * jax.lax.rsqrt(variance + 1e-5)

    def batch_norm(x, gamma, beta):
        return (standardized(x, (0, 1, 2)) * gamma + beta).astype(x.dtype)

    def group_norm(x, gamma, beta):
        grouped = x.reshape(*x.shape[:-1], 32, channels // 32)
        return (standardized(grouped, (1, 2, 4)).reshape(x.shape) * gamma + beta).astype(x.dtype)

    def maker(function):
        def make_step():
            @jax.jit
            def step(dy, *arguments):
                y, backward = jax.vjp(function, *arguments)
                return y, backward(dy)

            weights = jnp.ones(channels), jnp.zeros(channels)
            return lambda: step(dy, x, *weights)

        return make_step

    return {
        "jax.numpy batch norm": maker(batch_norm),
        "jax.numpy group norm(32)": maker(group_norm),
    }


def inference_step(layer, x, mode):
    trainable, others = _state(layer)

    def step(x, trainable, others):
        return _call(layer, trainable, others, x, training=False)[0]

    step = _compiled(step, mode)
    return lambda: step(x, trainable, others)


def plain_step(kind, x, dy, mode):
    def train(x, dy):
        y = x * _near_one(x, jnp.max(x))
        y, x, dy = jax.lax.optimization_barrier((y, x, dy))
        return y, x + dy, _total(x), _total(dy)

    steps = {
        "train": train,
        "measured": lambda x, dy: x * _near_one(x, _total(x)),
        "moving": lambda x, dy: x * 1.5,
    }
    step = _compiled(steps[kind], mode)
    return lambda: step(x, dy)


def _total(x):
    return jnp.sum(x, dtype=jnp.promote_types(x.dtype, "float32"))


def _near_one(x, total):
    return (1 + 1e-9 * total).astype(x.dtype)


def kept(layer, x):
    trainable, others = _state(layer)

    def backward_of(x, trainable):
        def forward(x, trainable):
            return _call(layer, trainable, others, x, training=True)

        return jax.vjp(forward, x, trainable, has_aux=True)[1]

    leaves = jax.tree.leaves(jax.jit(backward_of)(x, trainable))
    return kept_by_content(map(np.asarray, leaves), np.asarray(x))
