"""What a search was called with, as a journal can hold it and another process can call it again."""

import functools
import importlib.util
import inspect
import os
import pathlib
import sys

import keras
import keras_tuner

from search import store
from search.data import places
from search.errors import BadInput
from search.modules import module_of_file, module_of_name
from search.names import EXECUTOR_OPTIONS

# Where a search lies, and how it shows itself, is the new caller's.
_NOT_KEPT = ("out", "resume", "console", "command", "options")


def kept(arguments):
    """The arguments of a call, for `search.store.Store`.

    Args:
        arguments: by their names.

    Returns:
        A dictionary with the "arguments" as plain values, and the "unnamed" ones, such as arrays,
        lambdas and what is defined in `__main__`.
    """
    named, unnamed = {}, []
    for name, value in arguments.items():
        if name not in _NOT_KEPT:
            try:
                named[name] = _described(value, name)
            except ValueError:
                unnamed.append(name)
    return {"arguments": named, "unnamed": unnamed}


def goes_on(function):
    """Let a function of `out` and `resume` take what it is not given from the journal in `out`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def going_on(*args, **kwargs):
        given = signature.bind_partial(*args, **kwargs).arguments
        if given.get("resume"):
            out = given.get("out", signature.parameters["out"].default)
            call = store.read(out).call
            missing = [name for name in call.get("unnamed", ()) if name not in given]
            if missing:
                names = " and ".join(missing)
                raise BadInput(
                    f"the journal in {out} does not hold {names}: it cannot be named there. "
                    f"Needed: the same {names} as the search was begun with."
                )
            found = call.get("arguments", {})
            if "executor" in given:
                # The options of another one.
                found = {n: v for n, v in found.items() if n not in EXECUTOR_OPTIONS}
            given = {
                **{n: _again(v) for n, v in found.items() if n not in given},
                **given,
            }
        return function(**given)

    return going_on


def _described(value, name=""):
    """A value as JSON has it; a ValueError if it has no name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        if name == "data" and isinstance(value, str):
            return places.absolute(value)
        return value
    if isinstance(value, pathlib.Path):
        return str(value.absolute())
    if isinstance(value, (list, tuple)):
        return [_described(one) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _described(one) for key, one in value.items()}
    if isinstance(value, keras_tuner.Objective):
        return f"{value.name}:{value.direction}"
    if isinstance(value, keras.layers.Layer) and not isinstance(value, keras.Model):
        return {"$layer": keras.saving.serialize_keras_object(value)}
    return {"$import": _place(value)}


def _place(value):
    """Where a function is defined, if it can be found there again."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    name = getattr(value, "__qualname__", "")
    if module is None or module.__name__ == "__main__" or getattr(module, name, None) is not value:
        raise ValueError(f"{value!r} has no name")
    file = getattr(module, "__file__", None)
    return {"module": module.__name__, "name": name, "file": file and os.path.abspath(file)}


def _again(value):
    """What `_described` described."""
    if isinstance(value, list):
        return [_again(one) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$layer"}:
        return keras.saving.deserialize_keras_object(value["$layer"])
    if set(value) == {"$import"}:
        return _imported(**value["$import"])
    return {key: _again(one) for key, one in value.items()}


def _imported(module, name, file):
    """A function, from the module of that name or else from the file that it was in."""
    try:
        if importlib.util.find_spec(module) is None:
            loaded = module_of_file(file)
        else:
            loaded = module_of_name(module)
        return getattr(loaded, name)
    except (ImportError, OSError, AttributeError, ValueError, TypeError) as error:
        raise BadInput(
            f"{module}:{name} of {file}, which the search was begun with, cannot be imported: "
            f"{error}. Needed: the function itself, as an argument."
        ) from error
