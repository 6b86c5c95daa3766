"""What every test run shares, on whichever backend KERAS_BACKEND names."""

import importlib.metadata
import os

import hypothesis
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

hypothesis.settings.register_profile("developer", deadline=None)
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")


def keras_backend():
    """The name of Keras's backend, which is imported no earlier than tests need it."""
    import keras

    return keras.backend.backend()


def pytest_report_header(config):
    """Say what is under test, without importing it where workers will."""
    backend = os.environ.get("KERAS_BACKEND", "Keras's own choice of backend")
    x64 = ", x64" if os.environ.get("JAX_ENABLE_X64") else ""
    return f"keras {importlib.metadata.version('keras')} on {backend}{x64}"


def pytest_collection_modifyitems(config, items):
    """Leave the float64 tests of JAX to the run that has 64 bits switched on."""
    if keras_backend() != "jax" or os.environ.get("JAX_ENABLE_X64"):
        return
    left_out = [item for item in items if item.get_closest_marker("float64")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("float64")]


@pytest.fixture(scope="module")
def quick_compilation():
    """Of many networks that take one step each: nothing is gained by making them fast."""
    if keras_backend() != "jax":
        yield
        return
    import jax

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """JAX keeps all that it compiled, gigabytes in the end; no file needs another's programs."""
    yield
    if keras_backend() == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
