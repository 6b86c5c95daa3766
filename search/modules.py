"""Modules of the user's: imported here, and again in the processes where trainings run."""

import atexit
import dataclasses
import importlib
import importlib.util
import os
import pathlib
import shutil
import sys
import sysconfig
import tempfile

from search.errors import BadInput, SearchError, one_line

# The modules that the user named, with the paths of their files.
_named: dict[str, str | None] = {}
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")})


def module_of_name(name):
    """The module of a name."""
    module = importlib.import_module(name)
    _named[name] = getattr(module, "__file__", None)
    return module


def imported_from(path):
    """The module that the user named before by the same file; None where there is none."""
    wanted = os.path.abspath(path)
    return next((sys.modules.get(name) for name, file in _named.items() if file == wanted), None)


def importable(folder):
    """Let modules of a folder of the user's be imported, where no installed one has their name.

    Workers start with the same path. A `search.py` of the user's must not be their `search`.
    """
    if folder not in sys.path:
        sys.path.append(folder)


def module_of_file(path, name=None):
    """The module of a file.

    Args:
        path: of the file.
        name: of the module; None makes one that hides no other module.
    """
    stem = pathlib.Path(path).stem
    if name is None:
        name = f"kerasnorm_search_model_{stem}" if importlib.util.find_spec(stem) else stem
    importable(str(pathlib.Path(path).resolve().parent))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # Half a module is none.
        del sys.modules[name]
        raise
    _named[name] = os.path.abspath(path)
    return module


def module_of(module, said):
    """The module that an option of the user's names, by its name or by the path of its file.

    Args:
        module: the name or the path.
        said: the option and what was given for it, for errors.
    """
    importable(os.getcwd())
    try:
        return (module_of_file if module.endswith(".py") else module_of_name)(module)
    except SearchError:
        raise
    except (Exception, SystemExit) as error:
        raise BadInput(f"{said}: {one_line(error)}.") from error


def function_of(place, what):
    """The function that `MODULE:FUNCTION` or `FILE.py:FUNCTION` names.

    Args:
        place: as the user gave it.
        what: the user gave it for, for errors.
    """
    module, _, name = place.rpartition(":")
    # The model may come from the same file.
    found = imported_from(module) or module_of(module, f"{what} {place!r}")
    function = getattr(found, name, None)
    if not callable(function):
        raise BadInput(f"{what} {place!r}: there is no function {name}. Needed: one.")
    return function


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of the user's code, for a machine that may not have it.

    Attributes:
        root: the folder that it is imported from, on the machine that it comes from.
        place: where it lies in that folder.
        text: what is in it.
        module: the name of the module to import, where the user named that one.
    """

    root: str
    place: str
    text: bytes
    module: str | None = None


def sources(pickled=b""):
    """The user's code that another process needs: named modules, and what lies beside modules.

    Args:
        pickled: what the process is sent; it may name modules.

    Returns:
        A `Source` for every file in the folders of those modules that was imported here.
    """
    own = {name: file for name in list(sys.modules) if (file := _own_file(name)) is not None}
    wanted = {name for name in own if name in _named or name.encode() in pickled}
    roots = {_root(name, own[name]) for name in wanted}
    found = []
    for name, path in own.items():
        root = _root(name, path)
        if root in roots:
            place = path.relative_to(root).as_posix()
            named = name if name in _named else None
            found.append(Source(str(root), place, path.read_bytes(), named))
    # In the order in which the user named them.
    order = {name: number for number, name in enumerate(_named)}
    return sorted(found, key=lambda source: order.get(source.module, -1))


def install(found):
    """Import the modules that were named, from their own files or, without those, from copies.

    Args:
        found: as `sources` gives it.
    """
    roots = list(dict.fromkeys(source.root for source in found))
    if not all(_holds(source) for source in found):
        folder = tempfile.mkdtemp(prefix="kerasnorm-search-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for source in found:
            copy = pathlib.Path(folder, source.place)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.text)
        roots = [folder]
    for root in roots:
        importable(root)
    for source in found:
        if source.module is not None and source.module not in sys.modules:
            folder = source.root if source.root in roots else roots[0]
            module_of_file(os.path.join(folder, source.place), source.module)


def _holds(source):
    try:
        return pathlib.Path(source.root, source.place).read_bytes() == source.text
    except OSError:
        return False


def _own_file(name):
    """The file of a module, if that is the user's own."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    root = name.partition(".")[0]
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    if root in ("__main__", "search", "kerasnorm") or file.startswith(_LIBRARIES):
        return None
    path = pathlib.Path(file).absolute()
    return path if path.is_file() else None


def _root(name, path):
    """The folder from which a module is imported by its name."""
    parts = name.count(".") + (path.name == "__init__.py")
    return path.parents[parts]
