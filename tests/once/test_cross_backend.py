"""A saved model means the same on every backend, and in every later version."""

import contextlib
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np

import kerasnorm
import saved_models
import xla_flags
from golden_files import GOLDEN, folder_of

TESTS = pathlib.Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")


def start(backend, errors, *arguments):
    """Start tests/saved_models.py on a backend; what it complains of goes into a file."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        # Programs that run once.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        **({"XLA_FLAGS": xla_flags.QUICK} if backend == "jax" else {}),
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    return subprocess.Popen(
        [sys.executable, str(TESTS / "saved_models.py"), *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def test_each_layer_is_saved_and_the_version_has_its_files():
    public = [getattr(kerasnorm, name) for name in kerasnorm.__all__]
    layers = [one for one in public if isinstance(one, type) and issubclass(one, keras.Layer)]
    assert len(layers) > len(saved_models.LAYERS)
    assert {layer.__name__ for layer in layers} <= set(saved_models.MODELS)
    # Written by tests/golden_files.py when a version is released.
    assert folder_of(kerasnorm.__version__).is_dir()


def test_saved_models_predict_the_same_everywhere(tmp_path):
    folders = [*sorted(GOLDEN.iterdir()), *(tmp_path / backend for backend in BACKENDS)]
    processes = {}
    with contextlib.ExitStack() as stack:
        for backend in BACKENDS:
            errors = stack.enter_context(open(tmp_path / f"{backend}.txt", "w"))
            found = tmp_path / f"{backend}.npz"
            process = start(backend, errors, tmp_path / backend, found, *folders)
            processes[backend] = stack.enter_context(process)
            stack.callback(process.kill)
        saved = [process.stdout.readline() for process in processes.values()]
        for process in processes.values():
            process.communicate("predict\n")
    for backend, process in processes.items():
        assert process.returncode == 0, (tmp_path / f"{backend}.txt").read_text()
    assert saved == ["saved\n"] * len(BACKENDS)
    for backend in BACKENDS:
        with np.load(tmp_path / f"{backend}.npz") as found:
            for folder in folders:
                compare(folder, found, backend)


def compare(folder, found, backend):
    """What a backend found is what the folder's models are expected to predict."""
    with np.load(folder / "expected.npz") as expected:
        names = set(expected) - {"inputs"}
        models = [path.stem for path in folder.glob("*.keras")]
        assert names == {f"{name}/{way}" for name in models for way in ("inference", "training")}
        assert names == {key.split("/", 1)[1] for key in found if key.startswith(f"{folder.name}/")}
        for name in names:
            limit = 1e-5 * max(1, np.abs(expected[name]).max())
            difference = np.abs(found[f"{folder.name}/{name}"] - expected[name]).max()
            assert difference <= limit, f"{folder.name}/{name} on {backend}: {difference:.2g}"
