"""The store: a folder with the journal of a search, the one state that everything resumes from.

The journal, `journal.jsonl`, has one JSON object per line and is only ever appended to; each line
reaches the disk before the search goes on. Its events are, in the order in which they happened:

    {"event": "search", "format": 1, "settings": {...}}             first, once
    {"event": "asked", "trial": 0, "values": {...}, "task": {...}}  the oracle proposed a point
    {"event": "told", "row": {...}}                                 its trial ended
    {"event": "run", "row": {...}}                                  a training for the answer ended
    {"event": "session", "started": ..., ...}                       somebody started or resumed it

A line that was torn by a crash can only be the last one; it is dropped when the journal is opened.
A trial that was asked for and not told yet was under way, and is run again with the same values
and seed.
"""

import contextlib
import json
import math
import os
import pathlib
from typing import Any

from search.errors import BadInput, BrokenJournal, OtherSearch

FORMAT = 1
JOURNAL = "journal.jsonl"
WEIGHTS = "weights"
# Settings that may differ when a search is resumed: they say how far and where, not what.
MAY_CHANGE = ("trials", "budget", "executor", "seeds", "candidates", "ablation")


class Store:
    """A folder that holds one search.

    Args:
        folder: where; it is made if need be.
        settings: what defines the search, as plain JSON. A folder with other settings is refused.
        resume: whether to go on with a search that the folder holds already.

    Attributes:
        events: the events so far, without the first.

    Example:
        >>> import tempfile
        >>> from search.store import Store
        >>> folder = tempfile.mkdtemp()
        >>> with Store(folder, {"epochs": 3}) as store:
        ...     store.append({"event": "asked", "trial": 0, "values": {}})
        >>> with Store(folder, {"epochs": 3}, resume=True) as store:
        ...     len(store.events)
        1
    """

    def __init__(self, folder, settings, resume=False):
        self.folder = pathlib.Path(folder)
        self.settings = plain(settings)
        self.path = self.folder / JOURNAL
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"out={str(folder)!r} is a file. Needed: a folder, which may be new.")
        if not self.path.exists():
            self._refuse_other_files()
            self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        try:
            self._lock()
            # Read only now: what another process is writing would look torn.
            self.events = self._opened(resume)
        except BaseException:
            self._file.close()
            raise
        if self.events is None:
            self.events = []
            self._write({"event": "search", "format": FORMAT, "settings": self.settings})

    def append(self, event):
        """Write an event; it is on the disk when this returns."""
        event = plain(event)
        self._write(event)
        self.events.append(event)

    def rows(self, event="told"):
        """The rows of the trials that ended, or with `"run"` those of the answer's trainings."""
        return [e["row"] for e in self.events if e["event"] == event]

    # Weights.

    def weights(self, trial):
        """Where a trial's weights lie, or would."""
        return self.folder / WEIGHTS / f"trial_{trial:05d}.weights.h5"

    def keep_weights(self, trials):
        """Delete the weights of all trials but these, and what a crash left half written."""
        kept = {self.weights(trial).name for trial in trials}
        for path in self.folder.glob(f"{WEIGHTS}/*"):
            if path.name.removeprefix("part_") not in kept:
                path.unlink(missing_ok=True)

    # The file.

    def close(self):
        """Let go of the folder."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _write(self, event):
        line = json.dumps(event, allow_nan=False, separators=(",", ":")) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _lock(self):
        """One process at a time, where the system has such locks; they end with the process."""
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OtherSearch(
                    f"{self.folder} is in use by another process. Needed: another folder, or to "
                    "wait until that one has ended."
                ) from None

    def _refuse_other_files(self):
        if self.folder.exists() and any(self.folder.iterdir()):
            raise OtherSearch(
                f"{self.folder} holds files and no search. Needed: a new or an empty folder."
            )

    def _opened(self, resume):
        """The events of the journal that is there, if it is this search's."""
        events = read(self.path)
        if not events:
            # Not even its first line was written.
            return None
        found = events[0]["settings"]
        differences = [
            f"{key}: {_short(found.get(key))} there, {_short(self.settings.get(key))} here"
            for key in sorted({*found, *self.settings})
            if found.get(key) != self.settings.get(key) and key not in MAY_CHANGE
        ]
        if differences:
            raise OtherSearch(
                f"{self.folder} holds another search ({'; '.join(differences)}). Needed: another "
                "folder, or the settings of that search."
            )
        if not resume:
            raise OtherSearch(
                f"{self.folder} holds this search already, with {len(_told(events))} trials. "
                "Needed: --resume (resume=True) to go on with it, or another folder."
            )
        return events[1:]


def _told(events):
    return [e for e in events if e["event"] == "told"]


def _short(value, most=60):
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def read(path, repair=True):
    """The events of a journal, its first line included.

    Args:
        path: of the journal.
        repair: cut off a last line that was torn; else it is only left out.

    Returns:
        A list of dictionaries; empty if there is not a single whole line.
    """
    data = pathlib.Path(path).read_bytes()
    whole = data.rfind(b"\n") + 1
    events = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            event = json.loads(line)
            if number == 1 and (event["event"] != "search" or event["format"] != FORMAT):
                raise ValueError(f"format {event.get('format')!r}, this version reads {FORMAT}")
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenJournal(
                f"{path}, line {number}: {error}. Needed: a journal as the search wrote it; only "
                "its last line may be torn."
            ) from error
        events.append(event)
    if repair and whole < len(data):
        with open(path, "r+b") as file:
            file.truncate(whole)
    return events


def plain(value: Any) -> Any:
    """A value as JSON has it: tuples as lists, NumPy's numbers as Python's, NaN and inf as None.

    >>> from search.store import plain
    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return str(value)
    return value
