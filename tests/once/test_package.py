"""What is packaged, what it needs, and who imports whom."""

import ast
import importlib.metadata
import inspect
import pathlib
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

import kerasnorm

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "jaxlib": "jax"}

# Imports point down: a unit may import itself and units of a lower rank.
RANKS = {
    "kerasnorm.core": 0,
    "kerasnorm.layers": 1,
    "kerasnorm.registry": 2,
    "kerasnorm.consistent": 3,
    "kerasnorm.transforms": 3,
    "kerasnorm.sites": 4,
    "kerasnorm.carrying": 5,
    "kerasnorm.surgery": 6,
    "kerasnorm.models": 7,
    "kerasnorm.training": 7,
    "kerasnorm": 8,
    "search": 9,
}
SOURCES = sorted(
    path.relative_to(ROOT) for top in ("kerasnorm", "search") for path in (ROOT / top).rglob("*.py")
)


def module_name(path):
    """The dotted name of a source file."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in SOURCES}


def imported_modules(path):
    """The dotted names of the modules that a source file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(members & MODULES)
            if members - MODULES:
                names.add(node.module)
    return names


def unit_of(module):
    """The longest entry of RANKS that a module lies in."""
    return max((unit for unit in RANKS if f"{module}.".startswith(f"{unit}.")), key=len)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_one_way(path):
    module = module_name(path)
    unit = unit_of(module)
    assert unit != "kerasnorm" or module == "kerasnorm", f"{module} has no place in RANKS"
    for imported in imported_modules(path):
        if imported.partition(".")[0] in ("kerasnorm", "search"):
            target = unit_of(imported)
            assert target == unit or RANKS[target] < RANKS[unit], f"{module} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_backends_are_imported_by_the_files_named_after_them(path):
    roots = {name.partition(".")[0] for name in imported_modules(path)}
    allowed = set()
    if path.is_relative_to("kerasnorm/core/backends"):
        allowed = {root for root, backend in BACKENDS.items() if path.stem.endswith(backend)}
    assert roots & set(BACKENDS) <= allowed


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] == "kerasnorm"], ids=str)
def test_kerasnorm_needs_keras_only(path):
    roots = {name.partition(".")[0] for name in imported_modules(path)}
    others = roots - sys.stdlib_module_names - set(BACKENDS)
    # Keras itself depends on NumPy.
    assert others <= {"kerasnorm", "keras", "numpy"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    """A folder with what an installation of the wheel holds."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel, unpacked):
    assert wheel.name == f"kerasnorm-{kerasnorm.__version__}-py3-none-any.whl"
    metadata_folder = f"kerasnorm-{kerasnorm.__version__}.dist-info"
    assert {path.name for path in unpacked.iterdir()} == {"kerasnorm", "search", metadata_folder}
    packaged = {
        path.relative_to(unpacked)
        for top in ("kerasnorm", "search")
        for path in (unpacked / top).rglob("*")
        if path.is_file()
    }
    typed = {pathlib.Path("kerasnorm/py.typed"), pathlib.Path("search/py.typed")}
    page = {pathlib.Path("search/report") / f"page.{suffix}" for suffix in ("html", "css", "js")}
    assert packaged == set(SOURCES) | typed | page


def test_the_wheel_says_what_it_needs(unpacked):
    (folder,) = unpacked.glob("*.dist-info")
    metadata = importlib.metadata.PathDistribution(folder).metadata
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (folder / "licenses" / "LICENSE").read_text()
    assert metadata["Requires-Python"] == ">=3.11"
    base = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    assert base == PROJECT["dependencies"]
    assert [re.match(r"[\w-]+", text)[0] for text in base] == ["keras"]
    extras = {"tensorflow", "jax", "torch", "search", "ray", "datasets", "test"}
    assert set(metadata.get_all("Provides-Extra")) == extras


WITH_ONE_BACKEND = """
import pathlib, sys

backend, folder, *hidden = sys.argv[1:]


class Hiding:
    '''A finder that knows nothing of the hidden packages, as if they were not installed.'''

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
for name in hidden:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} could be imported")

import kerasnorm

assert pathlib.Path(kerasnorm.__file__).is_relative_to(folder), kerasnorm.__file__

import keras
import numpy as np

assert keras.backend.backend() == backend
images = np.random.default_rng(0).normal(size=(8, 4, 4, 32)).astype("float32")
norms = [kerasnorm.BatchNorm(), kerasnorm.ILMGroupNorm(), kerasnorm.ModeNorm()]
model = keras.Sequential([keras.Input((4, 4, 32)), *norms, keras.layers.GlobalMaxPooling2D()])
model.compile("sgd", "mse")
history = model.fit(images, np.zeros((8, 32)), verbose=0)
assert np.isfinite(history.history["loss"]).all()
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_any_single_backend_is_enough(backend, unpacked, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setenv("PYTHONPATH", str(unpacked))
    hidden = [package for package, of in BACKENDS.items() if of != backend]
    command = [sys.executable, "-c", WITH_ONE_BACKEND, backend, str(unpacked), *hidden]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", kerasnorm.__all__)
def test_public_names_are_documented(name):
    value = getattr(kerasnorm, name)
    # Not inspect.getdoc: what a class inherits does not speak of it.
    assert ">>>" in (value.__doc__ or ""), f"{name} has no docstring with an example"
    assert re.search(rf"`{name}\b", (ROOT / "README.md").read_text()), f"README lacks `{name}`"


def test_public_names_are_sorted_and_complete():
    assert kerasnorm.__all__ == sorted(kerasnorm.__all__)
    imported = {
        name
        for name, value in vars(kerasnorm).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    modules = {name for name in kerasnorm.__all__ if inspect.ismodule(getattr(kerasnorm, name))}
    assert imported | modules == set(kerasnorm.__all__)


def test_the_version_has_its_section_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(kerasnorm.__version__)}\]", changelog, re.MULTILINE)


def test_the_readme_states_the_lowest_keras():
    (dependency,) = PROJECT["dependencies"]
    lowest = dependency.removeprefix("keras>=")
    assert f"Keras {lowest} or later" in (ROOT / "README.md").read_text()


def test_whatever_is_installed_is_pinned():
    def canonical(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    installed = {
        canonical(distribution.metadata["Name"]): distribution.version.partition("+")[0]
        for distribution in importlib.metadata.distributions()
    }
    for own in ("kerasnorm", "pip"):
        installed.pop(own, None)
    assert {name: pinned.get(name) for name in installed} == installed
