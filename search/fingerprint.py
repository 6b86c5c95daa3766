"""What a network and its training are, as plain values that can be compared.

The same network has the same fingerprint in every process and on every backend: names that Keras
makes up, seeds that it draws and modules that depend on the backend are left out.
"""

import ast
import hashlib
import inspect
import json
import sysconfig
import textwrap
import warnings

import keras
import numpy as np

from kerasnorm.core.keras_internals import compile_arguments_of, layers_in
from search.jsonable import jsonable

# Entries of a configuration that depend on the process, the backend or Keras's version.
_LEFT_OUT = ("module", "registered_name", "seed", "shared_object_id", "build_config")


def of_network(model, weights=False):
    """What a built model computes, whatever its weights.

    Args:
        model: a Keras model.
        weights: whether its weights count too.

    Returns:
        A dictionary of few entries, so that a reader sees what differs.

    Example:
        >>> import keras
        >>> from search.fingerprint import of_network
        >>> def build(units):
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
        >>> of_network(build(2)) == of_network(build(2)), of_network(build(3))["parameters"]
        (True, 15)
    """
    layers = layers_in(model)
    layers = [layer for layer in layers if isinstance(layer, keras.layers.Layer)]
    found = {
        "class": type(model).__name__,
        "parameters": int(sum(np.prod(w.shape) for w in model.trainable_weights)),
        "layers": len(layers),
        "configuration": _digest(_configuration(model, layers)),
    }
    # A user's layer is more than its configuration.
    code = [_code(part) for part in (*map(type, layers), *_functions(layers))]
    if any(code):
        found["code"] = _digest(code)
    if weights:
        digest = hashlib.sha256()
        for array in model.get_weights():
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        found["weights"] = digest.hexdigest()[:16]
    return found


def of_training(model):
    """How a model is trained: loss, optimizer, metrics, and whether it is compiled with XLA.

    Args:
        model: a Keras model.

    Returns:
        A dictionary; None of a model that is not compiled.
    """
    if not model.compiled:
        return None
    with warnings.catch_warnings():
        # Of a lambda that it cannot be loaded elsewhere: nobody does.
        warnings.simplefilter("ignore")
        found = _anonymous(_tidy(model.get_compile_config()))
    for name, part in compile_arguments_of(model).items():
        code = [_code(one) for one in _parts(part)]
        if any(code):
            found[f"{name}_code"] = _digest(code)
    return found


def of_code(thing):
    """A digest of the code of a user's function; None of what a library has."""
    code = _code(thing)
    return code and _digest(code)


def of_arguments(args, kwargs):
    """What `fit` is given, as far as it can be told from what another process gives it."""
    named = {str(number): value for number, value in enumerate(args)} | kwargs
    return {name: of_argument(value) for name, value in named.items()}


def of_argument(value):
    """A value as far as it can be told from another process's; of others their class."""
    if isinstance(value, (tuple, list)):
        return [of_argument(one) for one in value]
    if isinstance(value, dict):
        return {str(key): of_argument(one) for key, one in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return jsonable(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest = hashlib.sha256(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]
    return type(value).__name__


def _configuration(model, layers):
    """The configuration of a model; where it has none, those of its layers."""
    try:
        config = model.get_config()
        json.dumps(jsonable(config))
    except Exception:
        # Whatever a user's model says instead of giving one.
        config = [_own_configuration(layer) for layer in layers if layer is not model]
    return _anonymous(_tidy(config))


def _own_configuration(layer):
    try:
        return {"class_name": type(layer).__name__, "config": layer.get_config()}
    except Exception:
        return {"class_name": type(layer).__name__}


def _tidy(config):
    """A configuration without what depends on the process; what is None might as well not be."""
    if isinstance(config, dict):
        kept = {k: v for k, v in config.items() if k not in _LEFT_OUT and v is not None}
        if set(kept) == {"class_name", "config"}:
            inner = kept["config"]
            if kept["class_name"] == "__lambda__" or not isinstance(inner, dict):
                # Marshalled code has the path of its file in it; `_code` digests the code.
                return kept["class_name"] if kept["class_name"] == "__lambda__" else _tidy(inner)
        return {key: _tidy(value) for key, value in kept.items()}
    if isinstance(config, (list, tuple)):
        return [_tidy(value) for value in config]
    value = jsonable(config)
    return value if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__


def _anonymous(config):
    """A configuration in which each layer's name is the place where it comes first."""
    names: dict[str, str] = {}

    def note(value):
        if isinstance(value, dict):
            inner = value.get("config")
            named = isinstance(inner, dict) and isinstance(inner.get("name"), str)
            # The name of a dtype policy is what it is.
            if named and "Policy" not in str(value.get("class_name")):
                names.setdefault(inner["name"], f"#{len(names)}")
            value = list(value.values())
        for one in value:
            if isinstance(one, (dict, list)):
                note(one)

    def renamed(value):
        if isinstance(value, dict):
            return {key: renamed(one) for key, one in value.items()}
        if isinstance(value, list):
            return [renamed(one) for one in value]
        return names.get(value, value) if isinstance(value, str) else value

    note(config)
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key != "name"}
    return renamed(config)


def _functions(layers):
    """Functions that layers were given."""
    given = [getattr(layer, "function", None) for layer in layers]
    given += [getattr(layer, "activation", None) for layer in layers]
    return [function for function in given if function is not None]


def _parts(value):
    """The losses, metrics and the like in an argument of `compile`."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [part for one in value for part in _parts(one)]
    return [value if inspect.isroutine(value) else type(value), getattr(value, "fn", None)]


def _code(thing):
    """The code of a user's class or function, without comments and layout; None of a library's."""
    try:
        file = inspect.getsourcefile(thing)
        if file is None or file.startswith(_LIBRARIES) or _is_ours(thing):
            return None
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(thing))))
    except (TypeError, OSError, SyntaxError, ValueError):
        code = getattr(thing, "__code__", None)
        # A lambda within an expression is no statement of its own.
        return None if code is None else f"{code.co_code.hex()}{code.co_names}{_constants(code)}"


def _constants(code):
    return [c if not hasattr(c, "co_code") else c.co_code.hex() for c in code.co_consts]


def _is_ours(thing):
    root = (getattr(thing, "__module__", None) or "").partition(".")[0]
    return root in ("keras", "kerasnorm", "keras_tuner")


_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")})


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
