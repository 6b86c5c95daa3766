"""The store: a folder with the journal of a search, the one state that everything resumes from.

The journal, `journal.jsonl`, has one JSON object per line and is only ever appended to; each line
reaches the disk before the search goes on. `search.history` says which events there are. Each
line ends in a `"check"`, a digest of the line and of all lines before it, so that a line that was
changed, deleted, doubled or moved is found when the journal is read.

A line that was torn by a crash can only be the last one; it is dropped when the journal is opened.
A trial that was asked for and not told yet was under way, and is run again with the same values
and seed.
"""

import contextlib
import hashlib
import json
import os
import pathlib

from search import formats
from search.errors import BadInput, BrokenJournal, CannotWrite, OtherSearch
from search.files import ASIDE
from search.history import FORMAT, READ_FORMATS, History
from search.jsonable import jsonable

JOURNAL = "journal.jsonl"
WEIGHTS = "weights"
# Settings that may differ when a search is resumed: they say how far and where, not what.
MAY_CHANGE = (
    "trials",
    "budget",
    "executor",
    "seeds",
    "splits",
    "candidates",
    "ablation",
    "baselines",
)
# How many differences a refusal names.
MOST_DIFFERENCES = 4


class Store:
    """A folder that holds one search.

    Args:
        folder: where; it is made if need be.
        settings: what defines the search, as plain JSON. A folder with other settings is refused.
        resume: True goes on with the search that the folder holds, False begins one in a folder
            that holds none, None does whichever fits.
        call: what the search is started with, for who wants to start it again.

    Attributes:
        history: a `search.history.History`.

    Example:
        >>> import tempfile
        >>> from search.store import Store
        >>> folder = tempfile.mkdtemp()
        >>> with Store(folder, {"epochs": 3}) as store:
        ...     store.append({"event": "session", "started": "2026-11-26T12:00:00+00:00"})
        ...     store.append({"event": "asked", "trial": 0, "values": {}})
        >>> with Store(folder, {"epochs": 3}, resume=True) as store:
        ...     store.history.under_way()
        [0]
    """

    def __init__(self, folder, settings, resume=False, call=None):
        self.folder = pathlib.Path(folder)
        self.settings = jsonable(settings)
        self.path = self.folder / JOURNAL
        self._check = ""
        self.history = History()
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"out={str(folder)!r} is a file. Needed: a folder, which may be new.")
        if resume and not self.path.exists():
            raise _nothing_there(self.folder)
        try:
            if not self.path.exists():
                self._refuse_other_files()
                self.folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a line that did not get onto the disk must not follow later.
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise CannotWrite.of(self.path, error) from error
        try:
            self._lock()
            # Read only now: what another process is writing would look torn.
            self._open(resume, jsonable(call or {}))
        except BaseException:
            self._file.close()
            raise

    def append(self, event):
        """Write an event; it is on the disk when this returns."""
        event = jsonable(event)
        self.history.check(event)
        self._write(event)
        self.history.add(event)

    def rows(self, event="told"):
        """The rows of the trials that ended, or with `"run"` those of the answer's trainings."""
        return list((self.history.runs if event == "run" else self.history.rows).values())

    # Weights.

    def weights(self, trial):
        """Where a trial's weights lie, or would."""
        return self.folder / WEIGHTS / f"trial_{trial:05d}.weights.h5"

    def keep_weights(self, trials):
        """Delete the weights of all trials but these, and what a crash left half written."""
        kept = {self.weights(trial).name for trial in trials}
        for path in self.folder.glob(f"{WEIGHTS}/*"):
            if path.name.removeprefix(ASIDE) not in kept:
                # What cannot be deleted takes up room, and does no other harm.
                with contextlib.suppress(OSError):
                    path.unlink()

    # The file.

    def close(self):
        """Let go of the folder."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _write(self, event):
        line, check = _signed(event, self._check)
        before = os.fstat(self._file.fileno()).st_size
        try:
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except BaseException as error:
            # Half a line may stand there; what is appended later must not follow it.
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            if isinstance(error, OSError):
                raise CannotWrite.of(self.path, error) from error
            raise
        self._check = check

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

    def _open(self, resume, call):
        """Read the journal that is there, or begin one."""
        events, check, whole = _read(self.path)
        if not events:
            # Not even its first line was written.
            self._file.truncate(0)
            first = {"event": "search", "format": FORMAT, "settings": self.settings, "call": call}
            self._write(first)
            self.history.add(first)
            return
        self.history, self._check = _understood(self.path, events), check
        found = _differences(self.history.settings, self.settings)
        if found:
            more = len(found) - MOST_DIFFERENCES
            shown = "; ".join(found[:MOST_DIFFERENCES]) + (f"; {more} more" if more > 0 else "")
            raise OtherSearch(
                f"{self.folder} holds another search ({shown}). Needed: another folder, or the "
                "settings of that search."
            )
        if resume is False:
            raise OtherSearch(
                f"{self.folder} holds this search already, with "
                f"{formats.count(len(self.rows()), 'trial')}. "
                "Needed: --resume (resume=True) to go on with it, or another folder."
            )
        try:
            self._file.truncate(whole)
        except OSError as error:
            raise CannotWrite.of(self.path, error) from error


def read(folder):
    """The history of the search in a folder, for who only reads.

    Args:
        folder: of the search; it may be at work.

    Returns:
        A `History`. A last line that is not whole is left out.
    """
    path = pathlib.Path(folder) / JOURNAL
    if not path.exists():
        raise _nothing_there(folder)
    events, _, _ = _read(path)
    if not events:
        raise OtherSearch(
            f"{path} has no whole line: that search ended before it began. Needed: to start it "
            "again without --resume (resume=True)."
        )
    return _understood(path, events)


def _nothing_there(folder):
    return OtherSearch(
        f"{folder} holds no search to go on with. Needed: the folder (--out) of one; or no "
        "--resume (resume=True), to begin one there."
    )


# Lines.


def _signed(event, before):
    """An event as a line of the journal, and its check.

    Args:
        event: as `jsonable` gives it.
        before: the check of the line before, empty for the first.
    """
    body = json.dumps(event, allow_nan=False, separators=(",", ":"))
    check = hashlib.sha256(f"{before}{body}".encode()).hexdigest()[:16]
    return f'{body[:-1]},"check":"{check}"}}\n'.encode(), check


def _read(path):
    """What is written in a journal.

    Returns:
        The events, the check of the last one, and the length of all whole lines.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BrokenJournal(f"{path} cannot be read: {error.strerror or error}.") from error
    whole = data.rfind(b"\n") + 1
    events, check = [], ""
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        try:
            event = json.loads(line, parse_constant=_refuse_constant)
            if number == 1 and event["event"] == "search" and event["format"] not in READ_FORMATS:
                raise BrokenJournal(
                    f"{path}, line 1: the format is {event['format']!r}, and this version of the "
                    f"search reads {', '.join(map(str, READ_FORMATS))}. Needed: another "
                    "folder, or the version that wrote it."
                )
            found = event.pop("check")
            again, check = _signed(event, check)
            if found != check or line + b"\n" != again:
                raise ValueError("it was changed, or a line before it was changed or is missing")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _broken(path, number, error) from error
        events.append(event)
    return events, check, whole


def _refuse_constant(word):
    raise ValueError(f"{word} is not a number")


def _understood(path, events):
    """The history of the events of a journal."""
    history = History()
    for number, event in enumerate(events, start=1):
        try:
            history.add(event)
        except ValueError as error:
            raise _broken(path, number, error) from error
    return history


def _broken(path, number, error):
    what = f"no {error}" if isinstance(error, KeyError) else error
    remedy = "a copy of the journal as the search wrote it"
    if number > 1:
        remedy += f"; or only the lines before this one (head -n {number - 1}), to go on from there"
    return BrokenJournal(f"{path}, line {number}: {what}. Needed: {remedy}.")


def _differences(there, here, name=""):
    """Where two settings differ, as words."""
    found = []
    for key in sorted({*there, *here}):
        ours, theirs = here.get(key), there.get(key)
        if not name and key in MAY_CHANGE:
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += _differences(theirs, ours, f"{name}{key}.")
        elif ours != theirs:
            found.append(f"{name}{key}: {_short(theirs)} there, {_short(ours)} here")
    return found


def _short(value, most=60):
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
