"""Build the wheel and the sdist, check them, and try each in a clean environment.

    python tests/distributions.py [--backend jax] [--out dist]

It needs a Python with pip and the network. Each distribution is installed with one backend, then
the smoke tests of some files run on what was installed, from a folder without the sources. torch
comes along, because the tests compute what they expect with it.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
BACKENDS = ("tensorflow", "jax", "torch")
TOOLS = ("build==1.6.1", "twine==7.0.0")
# What the tests of these files import is pytest and NumPy.
FILES = ("test_registry.py", "test_references.py", "test_lifecycle.py", "test_surgery.py")
OWN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "KERAS_BACKEND")


def main() -> None:
    """Do all of it; the first thing that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", choices=BACKENDS, default="jax", help="default: jax")
    parser.add_argument("--out", type=pathlib.Path, help="where they are kept; default: nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kerasnorm-dist-") as name:
        folder = pathlib.Path(name)
        made = built(folder)
        for path in made:
            tried(path, options.backend, folder / f"with {path.suffix}")
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            for path in made:
                shutil.copy2(path, options.out)
                print(f"Written to {options.out / path.name}.")


def built(folder: pathlib.Path) -> list[pathlib.Path]:
    """The wheel and the sdist, checked."""
    python = environment(folder / "tools")
    pip(python, "install", "--quiet", *TOOLS)
    out = folder / "dist"
    run(python, "-m", "build", "--outdir", out, ROOT)
    made = sorted(out.iterdir())
    run(python, "-m", "twine", "check", "--strict", *made)
    return made


def tried(path: pathlib.Path, backend: str, folder: pathlib.Path) -> None:
    """Install a distribution with one backend, and test what was installed."""
    print(f"{path.name} with {backend}", flush=True)
    python = environment(folder / "venv")
    # Alone and pinned, as in the Makefile: PyTorch has builds with and without CUDA.
    pip(python, "install", "--quiet", "-c", ROOT / "constraints.txt", "torch")
    pip(python, "install", "--quiet", f"{path}[{backend},convert]", "pytest")
    pip(python, "check")
    tests = folder / "tests"
    shutil.copytree(ROOT / "tests", tests)
    shutil.copy2(ROOT / "pyproject.toml", folder)
    run(
        *(python, "-m", "pytest", *(tests / name for name in FILES)),
        *("-m", "smoke and not slow", "-q", "-o", "pythonpath=tests", "-W", "default"),
        *("-p", "no:cacheprovider", "--rootdir", folder),
        folder=folder,
        KERAS_BACKEND=backend,
    )


def environment(folder: pathlib.Path) -> pathlib.Path:
    """A new virtual environment, without pip; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip(python: pathlib.Path, *arguments: object) -> None:
    """Run this Python's pip for an environment."""
    run(sys.executable, "-m", "pip", "--python", python, *arguments)


def run(*command: object, folder: pathlib.Path = ROOT, **variables: str) -> None:
    """Run a command without what a user has set for other ones."""
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**kept, **variables}, check=False
    )
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    main()
