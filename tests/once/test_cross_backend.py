"""A saved model means the same on every backend, and in every later version."""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest

TESTS = pathlib.Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")
GOLDEN = sorted(path for path in (TESTS / "golden").iterdir() if path.is_dir())


def run(backend, *arguments):
    """Run tests/saved_models.py on a backend, in a fresh process."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    subprocess.run(
        [sys.executable, str(TESTS / "saved_models.py"), *map(str, arguments)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )


@functools.cache
def folders():
    """The golden files of every version, and what each backend saves now."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="kerasnorm-"))
    for backend in BACKENDS:
        run(backend, "save", root / backend)
    return [*GOLDEN, *(root / backend for backend in BACKENDS)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_models_predict_the_same_everywhere(backend, tmp_path):
    run(backend, "predict", tmp_path / "found.npz", *folders())
    with np.load(tmp_path / "found.npz") as found:
        for folder in folders():
            with np.load(folder / "expected.npz") as expected:
                names = set(expected) - {"inputs"}
                assert len(names) >= 26
                assert names == {
                    key.split("/", 1)[1] for key in found if key.startswith(f"{folder.name}/")
                }
                for name in names:
                    limit = 1e-5 * max(1, np.abs(expected[name]).max())
                    difference = np.abs(found[f"{folder.name}/{name}"] - expected[name]).max()
                    assert difference <= limit, f"{folder.name}/{name}: {difference:.2g}"
