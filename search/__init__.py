"""Which normalization should this network on this data use, and how sure are we?

`run` is the whole search; `NormSpace`, `NormHyperModel` and `NormTuner` are its parts for use with
plain KerasTuner code; `python -m search` and `kerasnorm-search` are the command.
"""

import importlib

# Loaded when they are first asked for: the command chooses a backend before Keras is imported.
_PLACES = {
    "NormHyperModel": "search.hypermodel",
    "NormSpace": "search.space",
    "NormTuner": "search.tuner",
    "run": "search.running",
}

__all__ = sorted(_PLACES)


def __getattr__(name):
    """A public name, from the module that defines it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__():
    return [*globals(), *_PLACES]
