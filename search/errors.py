"""What a search refuses, as exceptions that say what was received and what is legal."""

import difflib


class SearchError(Exception):
    """The base class: the message is one sentence or two, fit for a user."""


class BadInput(SearchError, ValueError):
    """An argument that cannot be: an unknown word, labels that do not fit, an empty space."""


class OtherSearch(SearchError):
    """The folder holds another search, or something else."""


class BrokenJournal(SearchError):
    """The journal cannot be read."""


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
    near = difflib.get_close_matches(str(word), known, n=3)
    hint = f" Near it: {', '.join(near)}." if near else ""
    return BadInput(f"{what} {word!r} is unknown.{hint} Needed: one of {', '.join(known)}.")
