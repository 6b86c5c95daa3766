"""What is packaged, what it needs, and who imports whom."""

import ast
import importlib.metadata
import inspect
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import numpy as np
import pytest

import hatch_build
import kerasnorm

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "jaxlib": "jax"}

# Imports point down: a unit may import itself and units of a lower rank.
RANKS = {
    "kerasnorm.core": 0,
    "kerasnorm.private": 0,
    "kerasnorm.batches": 1,
    "kerasnorm.layers": 1,
    "kerasnorm.norms": 1.5,
    "kerasnorm.registry": 2,
    "kerasnorm.consistent": 3,
    "kerasnorm.moving_statistics": 3,
    "kerasnorm.transforms": 4,
    "kerasnorm.sites": 4,
    "kerasnorm.surgery": 6,
    "kerasnorm.conversion": 7,
    "kerasnorm.models": 7,
    "kerasnorm.consistent.model": 7,
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


def test_surgery_knows_no_method():
    """What a method's layers carry and start as stands with the method."""
    for path in (path for path in SOURCES if path.is_relative_to("kerasnorm/surgery")):
        modules = imported_modules(path)
        assert not [name for name in modules if name.startswith("kerasnorm.layers")], path


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


# Packages that are imported under another name, and what has an extra of its own.
IMPORTED_AS = {"keras-tuner": "keras_tuner", "pillow": "PIL", "scikit-learn": "sklearn"}
WITH_AN_EXTRA_OF_ITS_OWN = {"ray", "tensorflow_datasets"}


def test_the_search_declares_what_it_imports():
    declared = {
        IMPORTED_AS.get(name, name)
        for text in PROJECT["optional-dependencies"]["search"]
        for name in re.findall(r"^[\w-]+", text)
    }
    imported = set()
    for path in SOURCES:
        if path.parts[0] == "search":
            imported |= {name.partition(".")[0] for name in imported_modules(path)}
    imported -= sys.stdlib_module_names | {"kerasnorm", "search", "keras", "numpy"}
    # keras-tuner imports six and does not ask for it.
    assert imported - WITH_AN_EXTRA_OF_ITS_OWN | {"six"} == declared


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
    extras = {"tensorflow", "jax", "torch", "search", "convert", "datasets", "ray", "docs", "test"}
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


SMALL_NETWORK = """
import keras
import kerasnorm


def build(norm):
    layers = [keras.layers.Conv2D(8, 3, strides=2), kerasnorm.get(norm)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])
"""
SMALL_SEARCH = (
    "--norms batch,layer --placements all --epochs 1 --seeds 2 --candidates 1 --ablation 0"
)


@pytest.mark.parametrize(
    "backend",
    [
        "jax",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("tensorflow", marks=pytest.mark.slow),
    ],
)
def test_a_clean_installation_can_search(backend, wheel, tmp_path):
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment["KERAS_HOME"] = str(tmp_path / "keras-home")
    environment["MPLCONFIGDIR"] = str(tmp_path / "matplotlib")

    def run(*command, folder=tmp_path):
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    def pip(*arguments):
        done = run(sys.executable, "-m", "pip", "--python", str(venv), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    # Nothing but what the wheel asks for. PyTorch has builds with and without CUDA; as in the
    # Makefile, the pinned version chooses the one that is meant here.
    if backend == "torch":
        pip("install", "--quiet", "--no-compile", f"torch=={pinned()['torch']}")
    pip("install", "--quiet", "--no-compile", f"{wheel}[{backend},search]")
    pip("check")

    (tmp_path / "small.py").write_text(SMALL_NETWORK)
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)) + labels[:, None, None, None]
    np.savez(tmp_path / "small.npz", x=images, y=np.array(["no", "yes"])[labels])
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [
        str(venv / "bin" / "kerasnorm-search"),
        "--trials",
        "2",
        "--ablation",
        "0",
        *SMALL_SEARCH.split(),
    ]
    command += ["--model", f"{tmp_path / 'small.py'}:build", "--data", str(tmp_path / "small.npz")]
    done = run(*command, folder=empty)
    assert done.returncode == 0, done.stderr
    told = f"kerasnorm-search: Keras runs on {backend}, the backend that is installed.\n"
    assert done.stderr == told
    assert (empty / "search-results" / "report.html").exists()
    other = "torch" if backend == "jax" else "jax"
    done = run(*command, "--backend", other, folder=empty)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{other} is not installed. Needed: --backend {backend}" in done.stderr


def unreleased():
    """What the changelog says of changes since the last version."""
    text = (ROOT / "CHANGELOG.md").read_text()
    return re.search(r"^## \[Unreleased\]\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]


# A process in which a package is not installed.
WITHOUT = """
import sys


class Nowhere:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "{}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Nowhere())
import kerasnorm
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_backend_that_is_missing_is_named(backend):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(backend)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    *_, note = done.stderr.strip().splitlines()
    assert note.startswith("Keras's backend is not installed. Set KERAS_BACKEND")
    assert note.endswith(f"pip install {backend}")


def test_the_readme_has_the_rows_of_the_norms():
    """It is written by `make readme`; norms that no version has yet may still be missing."""
    table = (ROOT / "README.md").read_text().partition("<!-- norms -->\n")[2]
    written = table.partition("\n<!-- /norms -->")[0].splitlines()
    wanted = kerasnorm.norms.markdown().splitlines()
    assert [line for line in written if line not in wanted] == []
    missing = [line.split("`")[1] for line in wanted if line not in written]
    assert [name for name in missing if f"`{name}`" not in unreleased()] == []


def test_every_norm_of_the_table_is_public():
    for row in kerasnorm.norms.ROWS:
        if str(row.layer).startswith("kerasnorm."):
            assert getattr(kerasnorm, row.class_name) is row.layer_class
            assert row.class_name in kerasnorm.__all__


@pytest.mark.parametrize("name", kerasnorm.__all__)
def test_public_names_are_documented(name):
    value = getattr(kerasnorm, name)
    # Not inspect.getdoc: what a class inherits does not speak of it.
    assert ">>>" in (value.__doc__ or ""), f"{name} has no docstring with an example"
    places = (ROOT / "README.md").read_text() + unreleased()
    assert re.search(rf"`{name}\b", places), f"README lacks `{name}`"


def test_public_names_are_sorted_and_complete():
    assert kerasnorm.__all__ == sorted(kerasnorm.__all__)
    imported = {
        name
        for name, value in vars(kerasnorm).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    modules = {name for name in kerasnorm.__all__ if inspect.ismodule(getattr(kerasnorm, name))}
    assert imported | modules == set(kerasnorm.__all__)


def released():
    """The day of the version in the changelog, whose newest version it must be."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version, day = re.findall(r"^## \[(\d.*)\](?: - (\S+))?$", changelog, re.MULTILINE)[0]
    assert version == kerasnorm.__version__
    return day


def test_the_citations_name_the_version_and_its_day():
    version, day = kerasnorm.__version__, released()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f'\nversion: {version}\ndate-released: "{day}"\n' in citation
    readme = (ROOT / "README.md").read_text()
    assert f"  version = {{{version}}},\n  year = {{{day[:4]}}},\n" in readme


def test_the_readme_states_the_lowest_keras():
    (dependency,) = PROJECT["dependencies"]
    lowest = dependency.removeprefix("keras>=")
    assert f"Keras {lowest} or later" in (ROOT / "README.md").read_text()


def pinned():
    """The version of each package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_whatever_is_installed_is_pinned():
    def canonical(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    # Not all of sys.path: Ray adds a folder with packages of its own.
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    installed = {
        canonical(distribution.metadata["Name"]): distribution.version.partition("+")[0]
        for distribution in importlib.metadata.distributions(path=folders)
    }
    for own in ("kerasnorm", "pip"):
        installed.pop(own, None)
    versions = pinned()
    assert {name: versions.get(name) for name in installed} == installed


@pytest.mark.parametrize("address", ["", "https://example.org/o/k", "https://example.org/o/k/"])
def test_the_address_of_the_repository_is_filled_in(address, monkeypatch):
    """No file has it: the release workflow knows it."""
    monkeypatch.setenv("SOURCE_URL", address)
    metadata = {"version": "9.8.7"}
    hatch_build.Address(str(ROOT), {}).update(metadata)
    text = metadata["readme"]["text"]
    if not address:
        assert metadata["urls"] == {}
        assert text == (ROOT / "README.md").read_text()
        return
    files = "https://example.org/o/k/blob/v9.8.7"
    assert metadata["urls"]["Repository"] == "https://example.org/o/k"
    assert metadata["urls"]["Changelog"] == f"{files}/CHANGELOG.md"
    assert f"]({files}/docs/convert_short.png?raw=true)" in text
    assert f"]({files}/docs/convert.md)" in text
    assert set(re.findall(r"\]\((\w*:?/?/?)", text)) == {"https://"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_what_the_workflows_run_exists(path):
    text = path.read_text()
    targets = re.findall(r"^\s*- run: make (\w[\w -]*)$", text, re.MULTILINE)
    for block in re.findall(r"target:\n((?: +- .*\n)+)", text):
        targets += re.findall(r"- (.*)", block)
    files = re.findall(r"python ([\w/]+\.py)", text)
    assert targets or files
    wanted = [target for line in targets for target in line.split()]
    if wanted:
        asked = ["make", "--dry-run", *wanted]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert all((ROOT / name).is_file() for name in files)
