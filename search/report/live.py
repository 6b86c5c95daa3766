"""The report while a search runs, when it ends in whatever way, and from its folder alone."""

import contextlib
import datetime
import pathlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search import answer as answers
from search import formats, report, store
from search.answer import planning
from search.data.splits import split_of
from search.errors import BadInput
from search.manifest import manifest_of
from search.progress import Observer
from search.report.json_files import read_json

Row = Mapping[str, Any]

# A page is written at most twice a minute, and takes at most a twentieth of the time.
SECONDS = 30.0
SHARE = 0.05


class Reporter(Observer):
    """Writes the report of a search: now and then while it runs, and whole when it ends.

    A thread writes the pages of a search that runs, so that no trial waits for them. One that
    cannot be written is left out; the last one says why.

    Args:
        folder: of the search.
        rows: gives the rows of the trials, or with `"run"` those of the answer's trainings.
        manifest: what is searched; with "arms" once it is known what to train for the answer.
        every: seconds between two pages.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        rows: Callable[..., Sequence[Row]],
        manifest: dict[str, Any],
        every: float = SECONDS,
    ):
        self.folder = folder
        self.rows = rows
        self.manifest = manifest
        self.every = every
        self._next = 0.0
        self._thread: threading.Thread | None = None

    # What the driver tells.

    def trial_started(self, task):
        """A trial begins."""
        self._now_and_then()

    def epoch_ended(self, task, epoch, value):
        """An epoch of anything ended."""
        self._now_and_then()

    def trial_ended(self, task, row):
        """A trial ended, one way or another."""
        self._now_and_then()

    def run_started(self, task, total):
        """A training for the answer begins."""
        self._now_and_then()

    def run_ended(self, task, row):
        """A training for the answer ended."""
        self._now_and_then()

    def _now_and_then(self):
        if time.monotonic() < self._next or (self._thread and self._thread.is_alive()):
            return
        rows, runs = list(self.rows()), list(self.rows("run"))
        if rows:
            # What changes in the manifest is replaced as a whole, never changed in place.
            details = (rows, runs, dict(self.manifest))
            self._next = time.monotonic() + self.every
            self._thread = threading.Thread(target=self._write, args=details, daemon=True)
            self._thread.start()

    def _write(self, rows, runs, manifest):
        begun = time.monotonic()
        # The search is worth more than a page of it: the last one is written in the open.
        with contextlib.suppress(OSError):
            write(self.folder, rows, runs, manifest, running=True)
        took = time.monotonic() - begun
        self._next = max(self._next, begun + took / SHARE)

    def close(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self) -> answers.Answer:
        """Write the whole report, and give the answer in it."""
        self.close()
        return write(self.folder, self.rows(), self.rows("run"), self.manifest)


def write(
    folder: pathlib.Path,
    trial_rows: Sequence[Row],
    run_rows: Sequence[Row],
    manifest: Mapping[str, Any],
    running: bool = False,
) -> answers.Answer:
    """Write the report of what there is.

    Args:
        folder: where to.
        trial_rows: the trials that ended.
        run_rows: the trainings for the answer that ended, also those for earlier answers.
        manifest: as `Reporter` has it.
        running: whether the search goes on; then the page reloads itself, and pictures and what
            takes long are left out.

    Returns:
        The answer.
    """
    runs, complete = planned(run_rows, manifest)
    answer = answers.conclude(trial_rows, runs, manifest, complete, explain=not running)
    progress = None
    if running:
        done = _done(trial_rows, runs, manifest)
        progress = report.Running(done, datetime.datetime.now().astimezone().strftime("%H:%M:%S"))
    elif not complete:
        answer.notes.insert(
            0,
            f"The search did not come to its end: {_done(trial_rows, runs, manifest)}. "
            f"`kerasnorm-search --resume --out {folder}` goes on with it.",
        )
    report.write(folder, trial_rows, runs, manifest, answer, progress)
    return answer


def rebuild(folder: str | pathlib.Path) -> answers.Answer:
    """Write the report anew from the journal in a folder, without training anything.

    Args:
        folder: of a search, which may be over, interrupted or running.

    Returns:
        The answer.
    """
    return write(pathlib.Path(folder), *read(folder))


def read(folder: str | pathlib.Path) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """What the journal in a folder holds: rows of the trials, of the runs, and the manifest."""
    folder = pathlib.Path(folder)
    if not (folder / store.JOURNAL).is_file():
        raise BadInput(f"{folder} has no {store.JOURNAL}. Needed: the folder of a search.")
    history = store.read(folder)
    manifest = manifest_of(history.settings, history.call.get("made", {}))
    # It may tell of a later session, made with other versions.
    found = read_json(folder / "manifest.json")
    manifest |= found if isinstance(found, dict) else {}
    if history.arms is not None or history.format > 2:
        # Journals of format 2 do not have the arms.
        manifest["arms"] = history.arms
    manifest["overhead"] = history.overhead()
    return list(history.rows.values()), list(history.runs.values()), manifest


def plan(folder: str | pathlib.Path, difference: float) -> planning.Plan:
    """What it would take to show a difference, from the answer in a folder.

    Args:
        folder: of a search that has its answer.
        difference: in points where errors are shares of the examples, else in the errors' unit.
    """
    rows, runs, manifest = read(folder)
    if manifest.get("splits", 1) > 1:
        raise BadInput(f"{folder} has several splits of the data. Needed: a search with one.")
    own, complete = planned(runs, manifest)
    answer = answers.conclude(rows, own, manifest, complete, explain=False)
    if answer.reference is None:
        raise BadInput(
            f"{folder} has no plain norm that finished its trainings. Needed: a search with an "
            "answer."
        )
    share = difference / 100 if answer.percent else difference
    return planning.plan(answer.arms, answer.arm(answer.reference), share, answer.percent)


def planned(run_rows: Sequence[Row], manifest: Row) -> tuple[Sequence[Row], bool]:
    """The rows that belong to the answer, under its own names, and whether they are all there.

    The journal also has those for earlier answers, made before the search went on.
    """
    if manifest.get("arms") is None:
        return [], False
    rows, missing = [], 0
    count = manifest.get("splits", 1)
    split = {seed: split_of(place, count) for place, seed in enumerate(manifest["seeds"])}
    for arm in manifest["arms"]:
        own = {
            row["seed"]: {**row, **arm}
            for row in run_rows
            if all(row[key] == arm[key] for key in ("role", "spec", "values"))
            and row.get("split", 0) == split.get(row["seed"])
        }
        rows += [own[seed] for seed in manifest["seeds"] if seed in own]
        missing += sum(seed not in own for seed in manifest["seeds"])
    if manifest.get("most_seeds") is not None:
        return rows, answers.wanted(manifest["arms"], rows, manifest)[1]
    return rows, missing == 0


def _done(trial_rows: Sequence[Row], runs: Sequence[Row], manifest: Row) -> str:
    """How far a search is."""
    if manifest.get("arms") and manifest.get("most_seeds") is not None:
        counts, _ = answers.wanted(manifest["arms"], runs, manifest)
        return f"{len(runs)} of at least {sum(counts.values())} trainings for the answer are done"
    if manifest.get("arms"):
        of = len(manifest["arms"]) * len(manifest["seeds"])
        return f"{len(runs)} of {of} trainings for the answer are done"
    return f"{len(trial_rows)} of at most {formats.count(manifest['trials'], 'trial')} are done"
