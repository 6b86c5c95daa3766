"""The user's callbacks: new ones for each training, which write into a folder of their own."""

import copy
import os

import keras

from search import fingerprint
from search.errors import BadInput, SearchError, one_line
from search.jsonable import jsonable

# Attributes of Keras's callbacks that say where they write: folders, then files.
FOLDERS = ("log_dir", "backup_dir")
FILES = ("filepath", "filename")
NEEDED = "Needed: a list of Keras's callbacks, or a function without arguments that returns one."


class Callbacks:
    """Makes the callbacks of a training.

    Args:
        given: a list of callbacks, of which each training gets copies; or a function without
            arguments that returns a new list. None is none.

    Example:
        >>> import keras
        >>> from search.callbacks import Callbacks
        >>> list(Callbacks([keras.callbacks.TerminateOnNaN()]).described())
        ['TerminateOnNaN']
    """

    def __init__(self, given=None):
        self.given = given

    def __bool__(self):
        return self.given is not None

    def fresh(self, task):
        """The callbacks of a training.

        Args:
            task: a `search.task.Task`; what is written lies in a folder named after it.
        """
        kind = "trial" if task.arm is None else "answer"
        callbacks = self._new()
        for callback in callbacks:
            _place(callback, f"{kind}_{task.number:05d}")
        return callbacks

    def described(self):
        """What they are, as `search.fingerprint` tells a training; None where there are none."""
        if self.given is None:
            return None
        try:
            callbacks = self._new()
        except SearchError:
            raise
        except (Exception, SystemExit) as error:
            raise BadInput(f"callbacks raised {one_line(error)}. {NEEDED}") from error
        found = {}
        if callable(self.given) and (code := fingerprint.of_code(self.given)):
            found["code"] = code
        for callback in callbacks:
            name = type(callback).__name__
            same = sum(one.partition(" ")[0] == name for one in found)
            found[f"{name} {same + 1}" if same else name] = _described(callback)
        return found

    def _new(self):
        made = self.given() if callable(self.given) else copy.deepcopy(self.given)
        made = [] if made is None else made
        if not isinstance(made, (list, tuple)):
            raise BadInput(f"callbacks={made!r}. {NEEDED}")
        for callback in made:
            if not isinstance(callback, keras.callbacks.Callback):
                raise BadInput(f"callbacks: {callback!r} is none of Keras's. {NEEDED}")
        return list(made)


def _described(callback):
    """The code and the arguments of a callback; where it writes does not count."""
    code = fingerprint.of_code(type(callback))
    found = {"code": code} if code else {}
    places = _places(callback)
    for name, value in sorted(vars(callback).items()):
        written = isinstance(value, (str, os.PathLike)) and any(
            _rest(os.fspath(value), place) is not None for place, _ in places
        )
        if not (name.startswith("_") or name in ("params", "model") or written):
            found[name] = _plain(value)
    return found


def _plain(value):
    if callable(value) and not isinstance(value, type):
        return fingerprint.of_code(value) or getattr(value, "__name__", type(value).__name__)
    if isinstance(value, float):
        return jsonable(value) if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return fingerprint.of_argument(value)


def _place(callback, name):
    """Let a callback write into a folder of this name, in the one that it was to write into."""
    for place, is_folder in _places(callback):
        folder, file = (place, "") if is_folder else os.path.split(place)
        own = os.path.join(folder, name, file) if file else os.path.join(folder, name)
        for attribute, value in list(vars(callback).items()):
            if isinstance(value, (str, os.PathLike)):
                rest = _rest(os.fspath(value), place)
                if rest is not None:
                    setattr(callback, attribute, own + rest)
        if getattr(callback, "filename", None) == own and "://" not in own:
            # CSVLogger makes no folder.
            os.makedirs(os.path.dirname(own), exist_ok=True)


def _places(callback):
    """Where a callback writes, and whether that is a folder."""
    found = [(getattr(callback, name, None), name in FOLDERS) for name in (*FOLDERS, *FILES)]
    return [(os.fspath(p), kind) for p, kind in found if isinstance(p, (str, os.PathLike)) and p]


def _rest(value, place):
    """What a path has behind a place; None where it begins otherwise."""
    rest = value.removeprefix(place)
    if not value.startswith(place) or (rest and rest[0] not in "/\\."):
        return None
    return rest
