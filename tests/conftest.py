"""What every test run shares, on whichever backend KERAS_BACKEND names."""

import gc
import importlib.metadata
import os

import numpy as np
import pytest

# Each worker of a parallel run gets one core. A backend reads these when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "NPROC",  # jaxlib's thread pools
    ):
        os.environ.setdefault(variable, "1")
    # Threads of OpenMP that wait for work leave the core to whoever has some.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # XLA parts a program for threads that a worker does not have.
    os.environ["XLA_FLAGS"] = " ".join(
        filter(None, [os.environ.get("XLA_FLAGS"), "--xla_cpu_parallel_codegen_split_count=1"])
    )

# Backends make many small objects while they trace, and few of them are garbage.
gc.set_threshold(20_000, 20, 20)

# TensorFlow's convolutions on a CPU take channels first with oneDNN alone, which it switches on by
# itself on some processors only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def keras_backend():
    """The name of Keras's backend, which is imported no earlier than tests need it."""
    import keras

    return keras.backend.backend()


# What every layer computes is compared with its formula on every backend, every day. What is in
# the folder "once" has no other backend to be tested on.
EVERY_LAYER = ("test_references.py",)
# These files run first. Their tests share a long preparation, which one worker makes then: a worker
# that has nothing left to do takes the last tests of the other, not the first.
FIRST = ("test_two_devices.py", "test_site.py")


def waits(parameter):
    """Whether a test of this layer waits on this backend: see daily.py."""
    from daily import ON_TORCH
    from layer_table import KINDS, ROWS

    name = getattr(parameter, "name", parameter)
    return not ON_TORCH and isinstance(name, str) and name in ROWS and name not in KINDS


def pytest_report_header(config):
    """Say what is under test, without importing it where workers will."""
    backend = os.environ.get("KERAS_BACKEND", "Keras's own choice of backend")
    x64 = ", x64" if os.environ.get("JAX_ENABLE_X64") else ""
    return f"keras {importlib.metadata.version('keras')} on {backend}{x64}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Order tests; mark what waits for `make test-full`; leave float64 on JAX to its own run."""
    items.sort(key=lambda item: item.path.name not in FIRST)
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        daily = item.path.name in EVERY_LAYER or item.path.parent.name == "once"
        if not daily and any(map(waits, parameters.values())):
            item.add_marker(pytest.mark.slow)
    if keras_backend() != "jax" or os.environ.get("JAX_ENABLE_X64"):
        return
    left_out = [item for item in items if item.get_closest_marker("float64")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("float64")]


@pytest.fixture(autouse=True, scope="session")
def no_xla_unasked():
    """Keras has XLA compile on TensorFlow where `compile` says nothing; tests that need it say so.

    It takes many times as long as tracing.
    """
    if keras_backend() != "tensorflow":
        yield
        return
    import keras

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda self: False)
        yield


@pytest.fixture(autouse=True)
def named_modules(monkeypatch):
    """What a test named is not sent to the workers of the tests after it, which would import it."""
    from search import modules

    monkeypatch.setattr(modules, "_named", dict(modules._named))


@pytest.fixture(autouse=True)
def quick_compilation(request, monkeypatch):
    """Small programs that run once or twice on JAX: on a CPU nothing is gained by making them fast.

    A test of what XLA makes of a program says so with `@pytest.mark.optimized`.
    """
    if keras_backend() != "jax":
        yield
        return
    import jax
    from jax._src import compiler

    quick = jax.default_backend() == "cpu" and not request.node.get_closest_marker("optimized")
    if quick:
        as_always = compiler.get_compile_options
        monkeypatch.setattr(
            compiler,
            "get_compile_options",
            lambda **said: as_always(**said | without_emitters(said)),
        )
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def without_emitters(said):
    """XLA's newer way to write code for a fusion takes twice as long as its older one."""
    overrides = said.get("env_options_overrides") or {}
    return {"env_options_overrides": overrides | {"xla_cpu_use_fusion_emitters": False}}


def _truncated(generator, shape, mean=0.0, stddev=1.0):
    values = generator.normal(size=shape)
    while (far := np.abs(values) > 2).any():
        values = np.where(far, generator.normal(size=shape), values)
    return mean + stddev * values


DRAWS = {
    "normal": lambda generator, shape, mean=0.0, stddev=1.0: generator.normal(mean, stddev, shape),
    "uniform": lambda generator, shape, minval=0.0, maxval=1.0: generator.uniform(
        minval, maxval, shape
    ),
    "truncated_normal": _truncated,
}


class NumpyRandom:
    """What initializers ask of Keras's random numbers, without a program for every shape."""

    def __init__(self, keras_random):
        self._keras = keras_random

    def __getattr__(self, name):
        original = getattr(self._keras, name)

        def drawn(shape, *limits, dtype=None, seed=None, **named):
            import keras

            # A generator of seeds counts what it has given.
            if not isinstance(seed, int):
                return original(shape, *limits, dtype=dtype, seed=seed, **named)
            values = DRAWS[name](np.random.default_rng(seed), shape, *limits, **named)
            return keras.ops.convert_to_tensor(values, dtype or keras.config.floatx())

        return drawn if name in DRAWS else original


@pytest.fixture(autouse=True, scope="session")
def initial_weights_of_numpy():
    """JAX compiles a program for every shape that an initializer draws numbers for."""
    if keras_backend() != "jax":
        yield
        return
    from keras.src.initializers import random_initializers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_initializers, "random", NumpyRandom(random_initializers.random))
        yield


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """Backends keep all that they compiled, gigabytes in the end; no file needs another's."""
    yield
    clear_caches()


def clear_caches():
    """Forget what JAX and TensorFlow have compiled."""
    if keras_backend() == "jax":
        import jax

        jax.clear_caches()
    if keras_backend() == "tensorflow":
        import keras

        keras.utils.clear_session()


@pytest.fixture
def traced_anew():
    """What is compiled in a test serves no other test, nor the other way round."""
    clear_caches()
    yield
    clear_caches()


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def restored():
    """Registrations of a test end with it."""
    from kerasnorm import registry

    rows, names = dict(registry._rows), dict(registry._names)
    yield
    for held, before in ((registry._rows, rows), (registry._names, names)):
        held.clear()
        held.update(before)
