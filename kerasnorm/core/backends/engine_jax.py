"""JAX beside arithmetic."""

import jax


def replica_sum(x):
    """Arrays are global under `keras.distribution`: a sum over examples is over all devices."""
    return x


def replica_max(x):
    """Arrays are global under `keras.distribution`: a maximum over examples is over all devices."""
    return x


def is_tracing():
    """Whether the operations of this moment are being recorded for a compiled function."""
    return isinstance(jax.numpy.zeros(()), jax.core.Tracer)


def run_eagerly():
    """A context in which compiled functions run operation by operation, their caches unused."""
    return jax.disable_jit()


def refuse_dtype(dtype):
    """Without x64, JAX would compute in float32 what is called float64."""
    if dtype == "float64" and not jax.config.jax_enable_x64:
        return (
            "JAX computes float64 only after `jax.config.update('jax_enable_x64', True)` "
            "(or with JAX_ENABLE_X64=1), and would silently use float32"
        )
    return None


def be_deterministic():
    """They do on the CPU; for a GPU `XLA_FLAGS` must hold --xla_gpu_deterministic_ops=true."""


def devices():
    """Those of the default platform."""
    return [f"{device.platform} {device.device_kind}" for device in jax.devices()]


def differentiated(function):
    """A number and its gradient for the first argument, a vector; compiled."""
    return jax.jit(jax.value_and_grad(function))
