"""The journal survives whatever happens to the process, the disk and the file."""

import errno
import json
import os
import random
import re

import pytest

from planted_runs import planted
from search import files
from search.driver import Driver
from search.errors import BadInput, BrokenJournal, CannotWrite, OtherSearch, SearchError
from search.history import History
from search.jsonable import jsonable
from search.oracle import Asker, make
from search.rows import AnswerRow, TrialRow, begun
from search.space import NormSpace
from search.store import JOURNAL, Store, _signed, read
from search.task import Task
from search.tasks import task_for
from small_search import OBJECTIVE, Quick

SETTINGS = {"epochs": 5, "objective": "val_error", "trials": 3}
SESSION = {"event": "session", "started": "2026-11-26T12:00:00+00:00"}
# So that neither Optuna nor many points make a search of a test slow.
SPACE = NormSpace([8], norms="batch,mode,group")


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)


def filled(folder, count=3):
    with Store(folder, SETTINGS) as store:
        store.append(SESSION)
        for number in range(count):
            store.append({"event": "asked", "trial": number, "values": {"norm": "batch"}})
    return folder / JOURNAL


def searched(folder, error_of=lambda task, epoch: task.number / 10, trials=6):
    """The rows of a search of planted trials, and of two trainings for its answer."""
    arm = {"arm": "batch norm", "role": "baseline"}
    tasks = [Task(n, {"name": "batch"}, "batch", {}, 1 + n, 1, arm=arm) for n in range(2)]
    with Store(folder, SETTINGS, resume=None) as store:
        driver = Driver(
            Asker(make("random", OBJECTIVE, trials, 0, 2), SPACE, (), trials),
            Quick(),
            store,
            planted(error_of),
            lambda number, values_of: task_for(number, values_of, SPACE, 0, 2, store),
            OBJECTIVE,
        )
        return without_times(driver.search()), without_times(driver.retrain(tasks))


def without_times(rows):
    left_out = ("started", "lost")
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows]


def test_a_journal_torn_anywhere_is_readable(tmp_path):
    path = filled(tmp_path / "a")
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        whole = data[:length].count(b"\n")
        with Store(path.parent, SETTINGS, resume=True) as store:
            assert len(store.history.events) == max(0, whole - 1)
            store.append(SESSION)
        assert len(read(path.parent).events) == max(1, whole)


# Changes to a journal: each takes its lines and a source of random numbers.


def flipped(lines, draw):
    line = draw.randrange(len(lines))
    changed = bytearray(lines[line])
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    lines[line] = bytes(changed)


def deleted(lines, draw):
    del lines[draw.randrange(len(lines))]


def doubled(lines, draw):
    lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))


def swapped(lines, draw):
    a, b = draw.sample(range(len(lines)), 2)
    lines[a], lines[b] = lines[b], lines[a]


def truncated(lines, draw):
    line = draw.randrange(len(lines))
    lines[line] = lines[line][: draw.randrange(len(lines[line]))]
    if draw.random() < 0.5:
        del lines[line + 1 :]


def inserted(lines, draw):
    strange = (b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b"NaN\n", b'{"event":"told"}\n')
    lines.insert(draw.randrange(len(lines) + 1), draw.choice(strange))


@pytest.mark.parametrize("change", [flipped, deleted, doubled, swapped, truncated, inserted])
def test_a_changed_journal_gives_the_same_result_or_is_refused(tmp_path, change):
    expected = searched(tmp_path)
    path = tmp_path / JOURNAL
    whole = path.read_bytes().splitlines(keepends=True)
    refused = 0
    for seed in range(100):
        lines, draw = list(whole), random.Random(seed)
        change(lines, draw)
        path.write_bytes(b"".join(lines))
        found, message = result_or_message(tmp_path)
        assert found in (None, expected)
        if found is not None:
            continue
        refused += 1
        assert "journal.jsonl, line " in message
        # What it says to do helps.
        told = re.search(r"head -n (\d+)", message)
        if told and seed % 10 == 0:
            left = path.read_bytes().split(b"\n")[: int(told[1])]
            path.write_bytes(b"".join(line + b"\n" for line in left))
            assert searched(tmp_path) == expected
    assert refused > 50 or change is truncated


def result_or_message(folder):
    """What a search gives that goes on in a folder: a result, or one line that refuses it."""
    try:
        return searched(folder), None
    except SearchError as error:
        message = str(error)
    assert "\n" not in message
    return None, message


SHAPES = (None, True, -1, 10**30, 0.5, "", "x", [], {}, [1], {"x": 1}, "NaN")


def test_events_of_another_shape_or_order_are_refused(tmp_path):
    """Signed anew, so that only the shape and the order of the events can be what is wrong."""
    searched(tmp_path)
    path = tmp_path / JOURNAL
    whole = [json.loads(line) for line in path.read_bytes().splitlines()]
    for event in whole:
        del event["check"]
    refused = 0
    for seed in range(300):
        events, draw = json.loads(json.dumps(whole)), random.Random(seed)
        change = draw.choice((deleted, doubled, swapped, reshaped))
        change(events, draw)
        check, lines = "", []
        for event in events:
            line, check = _signed(event, check) if isinstance(event, dict) else (b"[]\n", check)
            lines.append(line)
        path.write_bytes(b"".join(lines))
        refused += result_or_message(tmp_path)[0] is None
    assert refused > 200


def reshaped(events, draw):
    """Give some value of some event another shape, or take it away."""
    place = draw.choice(events)
    while True:
        key = draw.choice(list(place))
        if not (isinstance(place[key], dict) and place[key] and draw.random() < 0.7):
            break
        place = place[key]
    if draw.random() < 0.3:
        del place[key]
    else:
        place[key] = draw.choice(SHAPES)


def test_a_row_has_what_the_history_asks_for():
    for arm, kind in ((None, TrialRow), ({"arm": "batch", "role": "baseline"}, AnswerRow)):
        row = begun(Task(0, None, "", {}, 0, 1, arm=arm))
        assert kind.check(jsonable(row))
        assert kind.of(json.loads(json.dumps(jsonable(row)))) == row
        # Early journals have no warnings and no splits.
        for key in set(row) - {"warning", "split"}:
            with pytest.raises(ValueError, match=f"the row has no '{key}'"):
                kind.check({k: v for k, v in row.items() if k != key})
    history = History()
    with pytest.raises(ValueError, match="first line"):
        history.add(SESSION)
    with pytest.raises(ValueError, match="not one of search, session"):
        history.add({"event": "chat"})


def test_another_format_is_named(tmp_path):
    path = tmp_path / JOURNAL
    path.write_text('{"event":"search","format":1,"settings":{}}\n')
    with pytest.raises(
        BrokenJournal, match=r"line 1: the format is 1, and this version .* reads 2"
    ):
        Store(tmp_path, SETTINGS, resume=True)


def test_another_search_is_refused_with_what_differs(tmp_path):
    path = filled(tmp_path / "a")
    before = path.read_bytes()
    with pytest.raises(OtherSearch, match="epochs: 5 there, 7 here"):
        Store(path.parent, {**SETTINGS, "epochs": 7}, resume=True)
    with pytest.raises(OtherSearch, match=r"holds this search already.*--resume"):
        Store(path.parent, SETTINGS)
    assert path.read_bytes() == before


def test_more_trials_may_be_asked_for(tmp_path):
    path = filled(tmp_path / "a")
    with Store(path.parent, {**SETTINGS, "trials": 9}, resume=True) as store:
        assert store.history.under_way() == [0, 1, 2]


def test_a_folder_with_other_files_or_without_a_search_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OtherSearch, match="holds files and no search"):
        Store(tmp_path, SETTINGS)
    with pytest.raises(BadInput, match="is a file"):
        Store(tmp_path / "thesis.tex", SETTINGS)
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(OtherSearch, match="holds no search to go on with"):
            Store(folder, SETTINGS, resume=True)
        with pytest.raises(OtherSearch, match="holds no search to go on with"):
            read(folder)
    assert not (tmp_path / "new").exists()


def test_one_process_at_a_time(tmp_path):
    with (
        Store(tmp_path / "a", SETTINGS),
        pytest.raises(OtherSearch, match="in use by another process"),
    ):
        Store(tmp_path / "a", SETTINGS, resume=True)
    Store(tmp_path / "a", SETTINGS, resume=True).close()


class Full:
    """A disk that takes so many more bytes; the last ones of a write that is too long, too."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_disk_that_is_full_costs_one_training_at_most(tmp_path):
    expected = searched(tmp_path / "whole")
    size = (tmp_path / "whole" / JOURNAL).stat().st_size
    for room in range(0, 4 * size // 5, size // 12):
        folder = tmp_path / str(room)
        with pytest.MonkeyPatch.context() as patch:
            opened = Store._lock

            def lock(store, room=room, opened=opened):
                opened(store)
                store._file = Full(store._file, room)

            patch.setattr(Store, "_lock", lock)
            with pytest.raises(CannotWrite, match=r"No space left on device. Everything written"):
                searched(folder)
        assert (folder / JOURNAL).read_bytes()[-1:] in (b"", b"\n")
        assert searched(folder) == expected


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "answer.json"
    files.write(path, "old")

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match=r"answer.json cannot be written: No space left"):
        files.write(path, "new")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


def test_plain_rows_are_json():
    row = {"a": (1, float("inf")), "b": {2: float("nan")}}
    assert json.dumps(jsonable(row), allow_nan=False) == '{"a": [1, null], "b": {"2": null}}'


def test_weights_of_others_are_dropped(tmp_path):
    with Store(tmp_path / "a", SETTINGS) as store:
        for number in range(4):
            path = store.weights(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"w")
        path.with_name(f"part_{path.name}").write_bytes(b"torn")
        store.keep_weights([1])
        assert [path.name for path in path.parent.iterdir()] == [store.weights(1).name]


def test_a_journal_of_format_2_is_read(tmp_path):
    """It has no arms, and calls the number of a training for the answer its trial."""
    trials, runs = searched(tmp_path / "new")
    old, check = [], ""
    for line in (tmp_path / "new" / JOURNAL).read_bytes().splitlines():
        event = {key: value for key, value in json.loads(line).items() if key != "check"}
        if event["event"] == "arms":
            continue
        if event["event"] == "search":
            event["format"] = 2
        if event["event"] == "run":
            event["row"]["trial"] = event["row"].pop("number")
        line, check = _signed(event, check)
        old.append(line)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / JOURNAL).write_bytes(b"".join(old))
    history = read(tmp_path / "old")
    assert without_times(history.rows.values()) == trials
    assert without_times(history.runs.values()) == runs
    assert history.arms is None
    assert searched(tmp_path / "old") == (trials, runs)
    assert [arm["role"] for arm in read(tmp_path / "old").arms] == ["baseline"]
