"""The journal survives whatever happens to the process that writes it."""

import json

import pytest

from search.errors import BadInput, BrokenJournal, OtherSearch
from search.store import Store, plain, read

SETTINGS = {"epochs": 5, "objective": "val_error", "trials": 3}


def filled(folder, count=3):
    with Store(folder, SETTINGS) as store:
        for number in range(count):
            store.append({"event": "asked", "trial": number, "values": {"norm": "batch"}})
    return folder / "journal.jsonl"


def test_a_journal_torn_anywhere_is_readable(tmp_path):
    path = filled(tmp_path / "a")
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        whole = data[:length].count(b"\n")
        with Store(path.parent, SETTINGS, resume=True) as store:
            assert len(store.events) == max(0, whole - 1)
            store.append({"event": "asked", "trial": 9, "values": {}})
        assert len(read(path)) == max(1, whole) + 1


def test_a_line_that_is_broken_in_the_middle_is_not_dropped_silently(tmp_path):
    path = filled(tmp_path / "a")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"{}}\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(BrokenJournal, match="line 2"):
        Store(path.parent, SETTINGS, resume=True)


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
        assert len(store.events) == 3


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OtherSearch, match="holds files and no search"):
        Store(tmp_path, SETTINGS)
    with pytest.raises(BadInput, match="is a file"):
        Store(tmp_path / "thesis.tex", SETTINGS)


def test_one_process_at_a_time(tmp_path):
    with (
        Store(tmp_path / "a", SETTINGS),
        pytest.raises(OtherSearch, match="in use by another process"),
    ):
        Store(tmp_path / "a", SETTINGS, resume=True)
    Store(tmp_path / "a", SETTINGS, resume=True).close()


def test_plain_rows_are_json():
    row = {"a": (1, float("inf")), "b": {2: float("nan")}}
    assert json.dumps(plain(row), allow_nan=False) == '{"a": [1, null], "b": {"2": null}}'


def test_weights_of_others_are_dropped(tmp_path):
    with Store(tmp_path / "a", SETTINGS) as store:
        for number in range(4):
            path = store.weights(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"w")
        path.with_name(f"part_{path.name}").write_bytes(b"torn")
        store.keep_weights([1])
        assert [path.name for path in path.parent.iterdir()] == [store.weights(1).name]
