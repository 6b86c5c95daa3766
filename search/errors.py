"""What a search refuses, as exceptions that say what was received and what is legal."""

import difflib
import importlib.util
import pathlib
import sysconfig
import traceback


class SearchError(Exception):
    """The base class: the message is one sentence or two, fit for a user."""


class BadInput(SearchError, ValueError):
    """An argument that cannot be: an unknown word, labels that do not fit, an empty space."""


class OtherSearch(SearchError):
    """The folder holds another search, or something else."""


class BrokenJournal(SearchError):
    """The journal cannot be read."""


class CannotWrite(SearchError, OSError):
    """A file of the search cannot be written; what was written before is whole."""

    @classmethod
    def of(cls, path, error):
        """The exception for a path and what the system said."""
        if isinstance(error, cls):
            return error
        return cls(
            f"{path} cannot be written: {error.strerror or error}. Everything written before is "
            "kept. Needed: room on the disk and the right to write there; then --resume "
            "(resume=True) goes on."
        )


class NothingCompleted(SearchError):
    """No trial completed, so there is nothing to answer from."""


class Interrupted(SearchError):
    """Ctrl-C; the journal holds all that was done, and the search can be resumed."""


def unknown(what, word, known):
    """A `BadInput` for a word that is none of a few, with the near ones first.

    >>> from search.errors import unknown
    >>> print(unknown("oracle", "tpo", ["tpe", "random"]))
    oracle 'tpo' is unknown. Near it: tpe. Needed: one of tpe, random.
    """
    known = [str(one) for one in known]
    lower = {one.lower(): one for one in known}
    near = [lower[one] for one in difflib.get_close_matches(str(word).lower(), lower, n=3)]
    hint = f" Near it: {', '.join(near)}." if near else ""
    return BadInput(f"{what} {word!r} is unknown.{hint} Needed: one of {', '.join(known)}.")


def one_line(error):
    """An exception that somebody else's code raised, as part of a sentence.

    >>> from search.errors import one_line
    >>> one_line(KeyError("x"))
    "KeyError: 'x'"
    """
    first = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    place = _place(error)
    return f"{said} ({place})" if place else said


def _place(error):
    """The innermost line of the user's own code that an exception came through."""
    # Of packages, not of the user.
    ours = [
        sysconfig.get_path("stdlib"),
        *(
            str(pathlib.Path(importlib.util.find_spec(name).origin).parent)
            for name in ("search", "kerasnorm")
        ),
    ]
    foreign = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *ours)) and "site-packages" not in frame.filename
    ]
    return f"{foreign[-1].filename}, line {foreign[-1].lineno}" if foreign else ""
