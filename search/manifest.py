"""What `manifest.json` says, from what the journal has; no Keras is needed to read a folder."""

from typing import Any

from search.jsonable import jsonable


def answer_seeds(settings: dict[str, Any]) -> list[int]:
    """The seeds of the trainings for the answer: the ones after that of the trials.

    >>> from search.manifest import answer_seeds
    >>> answer_seeds({"seed": 7, "seeds": 3})
    [8, 9, 10]
    """
    count = settings.get("seeds") or 0
    if count == "auto":
        count = settings["most_seeds"]
    return [settings.get("seed", 0) + 1 + n for n in range(count)]


def manifest_of(settings: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """What `manifest.json` says of a search.

    Args:
        settings: from the first line of the journal.
        made: what `search.description.Search.made_with` says, from the same line.
    """
    return jsonable({**settings, **made, "seeds": answer_seeds(settings)})
