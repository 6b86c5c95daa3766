"""The history of a search: what its events are, in which order they can come, what they add up to.

The events, each a plain dictionary, are:

    {"event": "search", "format": 4, "settings": {...}, "call": {...}}    first, once
    {"event": "session", "started": "2026-11-26T12:00:00+00:00"}          a process goes to work
    {"event": "asked", "trial": 0, "values": {...}}                       the oracle proposed it
    {"event": "started", "trial": 0}                                      its training begins
    {"event": "lost", "trial": 0, "reason": "...", "wall_seconds": 1.5}   its worker ended before it
    {"event": "told", "row": {...}, "wall_seconds": 1.5}                  its training ended
    {"event": "arms", "arms": [{...}, ...]}                               what the answer compares
    {"event": "started", "run": {...}}                                    a training for the answer
    {"event": "run", "row": {...}, "wall_seconds": 1.5}                   that training ended
    {"event": "ended", "wall_seconds": 0.1}                               the process stops in order

A training for the answer is named by "run" in place of "trial". A training that was started
"apart" runs in a process of its own, and others run in the driver's. A session without "ended" is
one whose process died. What it had started in that process and not brought to an end may have been
the cause. Together with what was lost, it is counted by `History.deaths`.
"""

import json
from typing import Any

from search.rows import (
    AnswerRow,
    Status,
    TrialRow,
    check_shape,
    is_any,
    is_count,
    is_dict,
    is_text,
    is_time,
    shortened,
)

FORMAT = 4
# Format 3 has no "lost" and no "apart". Format 2 has no "arms" either, and calls the number of a
# training for the answer "trial".
READ_FORMATS = (2, 3, FORMAT)
# Why a training was lost that ran in the driver's process.
PROCESS_DIED = "the process died"


class History:
    """What the events of a journal add up to.

    Attributes:
        settings: what defines the search.
        call: what it was started with.
        events: all of them after the first.
        format: of the journal.
        values: of the trials that were asked for, by their number.
        rows: of the trials that ended, by their number, in the order in which they ended.
        arms: what the trainings for the answer compare; None until that is known, and again once
            another trial was asked for.
        runs: of the trainings for the answer, the last row of each, by `key_of_run`.
        wall_seconds: of all sessions.
        fit_seconds: of these, those inside of `fit`.

    Example:
        >>> from search.history import History
        >>> history = History()
        >>> history.add({"event": "search", "format": 4, "settings": {}, "call": {}})
        >>> history.add({"event": "session", "started": "2026-11-26T12:00:00+00:00"})
        >>> history.add({"event": "asked", "trial": 0, "values": {"norm": "batch"}})
        >>> history.under_way()
        [0]
    """

    def __init__(self):
        self.settings: dict = {}
        self.call: dict = {}
        self.format = FORMAT
        self.arms: list[dict] | None = None
        self.events: list[dict] = []
        self.values: dict[int, dict] = {}
        self.rows: dict[int, TrialRow] = {}
        self.runs: dict[str, AnswerRow] = {}
        self.wall_seconds = 0.0
        self.fit_seconds = 0.0
        self._begun = False
        self._in_session = False
        # Why each training was lost, and what is under way: whether apart from the driver.
        self._losses: dict[Any, list[str]] = {}
        self._now: dict[Any, bool] = {}

    def add(self, event):
        """Take an event.

        Raises:
            ValueError: it has another shape, or cannot come now. The history is as it was.
        """
        self.check(event)
        getattr(self, f"_add_{event['event']}")(event)
        if event["event"] != "search":
            self.events.append(event)

    def check(self, event):
        """Refuse, with a ValueError, an event of another shape or one that cannot come now."""
        if not isinstance(event, dict):
            raise ValueError(f"{shortened(event)} is not an event")
        kind = event.get("event")
        if not isinstance(kind, str) or kind not in _SHAPES:
            raise ValueError(f"the event is {shortened(kind)}, not one of {', '.join(_SHAPES)}")
        check_shape(event, _SHAPES[kind], kind)
        if (kind == "search") == self._begun:
            raise ValueError(f"{kind!r} {'comes again' if self._begun else 'is the first line'}")
        if kind not in ("search", "session") and not self._in_session:
            raise ValueError(f"{kind!r} comes outside of a session")
        getattr(self, f"_check_{kind}", lambda event: None)(event)

    # What was started.

    def under_way(self):
        """The numbers of the trials that were asked for and have not ended."""
        return [number for number in self.values if number not in self.rows]

    def deaths(self, key):
        """How often a training ended with the process that it ran in.

        Args:
            key: the number of a trial, or `key_of_run` of a training for the answer.
        """
        return len(self.losses(key))

    def losses(self, key):
        """Why it did, each time."""
        return list(self._losses.get(key, ()))

    def overhead(self):
        """The seconds of all sessions, those of them in `fit`, and the others."""
        outside = max(0.0, self.wall_seconds - self.fit_seconds)
        return {
            "wall_seconds": self.wall_seconds,
            "fit_seconds": self.fit_seconds,
            "outside_seconds": outside,
            "share": outside / max(self.wall_seconds, 1e-9),
        }

    # Each event.

    def _add_search(self, event):
        self._begun = True
        self.settings, self.call = event["settings"], event["call"]
        self.format = event["format"]

    def _add_session(self, event):
        self._in_session = True
        # An earlier session that has not ended died.
        for key, apart in self._now.items():
            if not apart:
                self._lose(key, PROCESS_DIED)
        self._now = {}

    def _check_asked(self, event):
        if event["trial"] != len(self.values):
            raise ValueError(f"trial {event['trial']} is asked for, and {len(self.values)} is next")

    def _add_asked(self, event):
        self.values[event["trial"]] = event["values"]
        self.arms = None

    def _check_started(self, event):
        self._check_which(event)

    def _add_started(self, event):
        self._now[key_of(event)] = bool(event.get("apart"))

    def _check_lost(self, event):
        self._check_which(event)
        if key_of(event) not in self._now:
            raise ValueError("a training is lost that was not under way")

    def _add_lost(self, event):
        self._now.pop(key_of(event))
        self._lose(key_of(event), event["reason"])
        self.wall_seconds += event["wall_seconds"]

    def _lose(self, key, reason):
        self._losses.setdefault(key, []).append(reason)

    def _check_told(self, event):
        row = event["row"]
        self._check_open(row["trial"], "told")
        if row["trial"] not in self._now:
            raise ValueError(f"trial {row['trial']} is told and was not started")

    def _add_told(self, event):
        row = TrialRow.of(event["row"])
        self.rows[row.trial] = row
        self._ended(row.trial, row, event)

    def _check_arms(self, event):
        for arm in event["arms"]:
            check_shape(arm, _ARM, "an arm")

    def _add_arms(self, event):
        self.arms = event["arms"]

    def _check_run(self, event):
        row = AnswerRow.of(event["row"])
        if key_of_run(row) not in self._now:
            on = f"seed {row.seed}, split {row.split}" if row.split else f"seed {row.seed}"
            raise ValueError(f"the run of {row.arm}, {on}, was not started")

    def _add_run(self, event):
        row = AnswerRow.of(event["row"])
        key = key_of_run(row)
        # In the order of their last row.
        self.runs.pop(key, None)
        self.runs[key] = row
        self._ended(key, row, event)

    def _add_ended(self, event):
        self._now = {}
        self._in_session = False
        self.wall_seconds += event["wall_seconds"]

    def _check_which(self, event):
        kind = event["event"]
        if ("trial" in event) == ("run" in event):
            raise ValueError(f"{kind!r} needs one of 'trial' and 'run'")
        if "trial" in event:
            check_shape(event, {"trial": is_count}, kind)
            self._check_open(event["trial"], kind)
        else:
            check_shape(event, {"run": is_dict}, kind)
            check_shape(event["run"], _RUN, "the run")

    def _check_open(self, number, kind):
        if number not in self.values:
            raise ValueError(f"trial {number} is {kind} and was not asked for")
        if number in self.rows:
            raise ValueError(f"trial {number} is {kind} and had ended")

    def _ended(self, key, row, event):
        self._now.pop(key)
        # A row clears a training of all but the deaths that it is the row of.
        if row.status is not Status.FAILED:
            self._losses.pop(key, None)
        self.wall_seconds += event["wall_seconds"]
        self.fit_seconds += row.fit_seconds


def key_of_run(run):
    """What two trainings for the answer have in common if they are the same.

    Args:
        run: a row, or another dictionary with "role", "spec", "values", "seed" and "split". Early
            versions wrote no split.
    """
    return json.dumps([*(run[name] for name in _RUN), run.get("split", 0)], sort_keys=True)


def key_of(event):
    """What the history knows the training by that an event is about.

    >>> from search.history import key_of
    >>> key_of({"event": "started", "trial": 3})
    3
    """
    return event["trial"] if "trial" in event else key_of_run(event["run"])


# Shapes: for each key that must be there, what its value must be.

_RUN = {"role": is_text, "spec": is_any, "values": is_dict, "seed": is_count}
_ARM = {"arm": is_text, "role": is_text, "spec": is_any, "values": is_dict}

_SHAPES: dict[str, dict[str, Any]] = {
    "search": {"format": is_count, "settings": is_dict, "call": is_dict},
    "session": {"started": is_text},
    "asked": {"trial": is_count, "values": is_dict},
    "started": {},
    "lost": {"reason": is_text, "wall_seconds": is_time},
    "told": {"row": TrialRow.check, "wall_seconds": is_time},
    "arms": {"arms": lambda value: isinstance(value, list)},
    "run": {"row": AnswerRow.check, "wall_seconds": is_time},
    "ended": {"wall_seconds": is_time},
}
