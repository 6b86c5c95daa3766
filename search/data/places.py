"""Where data lie: what a word names that is a file, several files or a function in a file."""

import os
import pathlib

from search.data.arrays import arrays_of_file, named
from search.errors import BadInput, SearchError, one_line
from search.modules import module_of_file

FORMS = ("FILE.npz", "X.npy,Y.npy", "FILE.py:FUNCTION", "a folder of images")


def is_file(word):
    """Whether a word names files of arrays, which can be read without Keras.

    >>> from search.data.places import is_file
    >>> is_file("x.npy,y.npy"), is_file("my_data.py:load"), is_file("digits")
    (True, False, False)
    """
    return word.endswith((".npz", ".npy"))


def is_function(word):
    """Whether a word names a function in a file of Python."""
    return word.rpartition(":")[0].endswith(".py")


def is_folder(word):
    """Whether a word names a folder."""
    return os.path.isdir(word)


def absolute(word):
    """The same place, whatever folder one is in.

    >>> from search.data.places import absolute
    >>> absolute("/a/x.npy,/a/y.npy"), absolute("digits")
    ('/a/x.npy,/a/y.npy', 'digits')
    """
    if is_file(word):
        return ",".join(map(os.path.abspath, _files(word)))
    if is_function(word):
        path, _, name = word.rpartition(":")
        return f"{os.path.abspath(path)}:{name}"
    return os.path.abspath(word) if is_folder(word) else word


def read(word):
    """The arrays in the files that a word names, by their names, and what to call them."""
    paths = [pathlib.Path(file) for file in _files(word)]
    for path in paths:
        if not path.exists():
            raise BadInput(f"data={str(path)!r}: there is no such file.")
    if word.endswith(".npz"):
        return arrays_of_file(paths[0]), paths[0].name
    if len(paths) == 1:
        raise BadInput(
            f"data={word!r} is one array. Needed: examples and labels, such as x.npy,y.npy."
        )
    return named([arrays_of_file(path) for path in paths]), ",".join(path.name for path in paths)


def call(word):
    """What the function that a word names returns.

    Args:
        word: `FILE.py:FUNCTION`; the function takes no argument.
    """
    path, _, name = word.rpartition(":")
    if not pathlib.Path(path).is_file():
        raise BadInput(f"data={word!r}: there is no file {path}.")
    try:
        function = getattr(module_of_file(path), name, None)
        if not callable(function):
            raise BadInput(f"data={word!r}: {path} has no function {name!r}.")
        found = function()
    except SearchError:
        raise
    except (Exception, SystemExit) as error:
        raise BadInput(f"data={word!r}: {one_line(error)}.") from error
    if found is None or isinstance(found, (str, pathlib.Path)):
        raise BadInput(f"data={word!r} returned {found!r}. Needed: arrays, or a Data.")
    return found


def _files(word):
    """The paths in a word. Several are all .npy files; a path of an .npz file may have commas."""
    return [word] if word.endswith(".npz") else [file.strip() for file in word.split(",")]
