"""The loop: what it journals, what a crash can do, which executor it stands, what it saves."""

import dataclasses
import itertools
import os

import pytest

from benchmarks.stopping import FAMILIES, measured
from planted_runs import error_of, planted, row_of
from search.driver import rule_for
from search.errors import BadInput, Interrupted
from search.jsonable import jsonable
from search.oracle import make
from search.rows import failed_row
from search.stopping import WORDS, CarefulRule, MedianRule, named
from search.task import Task
from small_search import EPOCHS, OBJECTIVE, FakeConcurrent, driver_of, searched, told


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)


def test_a_search_runs_and_can_be_repeated(tmp_path):
    rows = [told(searched(driver_of(tmp_path / name))) for name in "ab"]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 12


@pytest.mark.parametrize("oracle", ["tpe", "random", "bayesian", "hyperband", "grid"])
def test_interrupted_anywhere_it_goes_on_to_the_same_trials(tmp_path, oracle):
    rule = (lambda: MedianRule("min", EPOCHS)) if oracle == "tpe" else (lambda: None)
    expected = searched(driver_of(tmp_path / "whole", oracle=oracle, rule=rule()))
    for after in (0, 1, 7, 12):
        epochs = itertools.count()

        def interrupting(task, epoch, epochs=epochs, after=after):
            if next(epochs) == after:
                raise KeyboardInterrupt
            return error_of(task, epoch)

        folder = tmp_path / f"after_{after}"
        with pytest.raises(Interrupted, match="--resume"):
            searched(driver_of(folder, planted(interrupting), oracle=oracle, rule=rule()))
        rows = searched(driver_of(folder, oracle=oracle, rule=rule()))
        assert told(rows) == told(expected)


def test_killed_at_any_line_it_goes_on_to_the_same_trials(tmp_path):
    expected = told(searched(driver_of(tmp_path / "whole", trials=8)))
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines)):
        folder = tmp_path / str(count)
        folder.mkdir()
        torn = b"".join(lines[:count]) + lines[count][: len(lines[count]) // 2]
        (folder / "journal.jsonl").write_bytes(torn)
        assert told(searched(driver_of(folder, trials=8))) == expected


def test_more_trials_later(tmp_path):
    expected = told(searched(driver_of(tmp_path / "a", trials=14)))
    searched(driver_of(tmp_path / "b", trials=6))
    assert told(searched(driver_of(tmp_path / "b", trials=14))) == expected


@pytest.mark.parametrize("oracle", ["tpe", "hyperband", "grid"])
def test_a_concurrent_executor_that_answers_out_of_order_and_crashes(tmp_path, oracle):
    executor = FakeConcurrent(capacity=3, crashes=(2, 5))
    rows = searched(driver_of(tmp_path, executor=executor, oracle=oracle, trials=16))
    numbers = [row["trial"] for row in rows]
    assert sorted(numbers) == list(range(16))
    assert numbers != sorted(numbers)
    assert executor.most > 1
    assert {r["trial"] for r in rows if r["status"] == "failed"} >= {2, 5}
    fresh = [jsonable(r["spec"]) for r in rows if "continues" not in r]
    assert all(fresh.count(spec) == 1 for spec in fresh)


def test_a_concurrent_search_resumes(tmp_path):
    def run(task, report):
        if task.number == 7:
            raise KeyboardInterrupt
        return planted(error_of)(task, report)

    with pytest.raises(Interrupted):
        searched(driver_of(tmp_path, run, FakeConcurrent()))
    rows = searched(driver_of(tmp_path, executor=FakeConcurrent()))
    assert sorted(row["trial"] for row in rows) == list(range(12))


def test_the_budget_stops_what_runs_and_begins_nothing(tmp_path):
    clock = itertools.count()
    driver = driver_of(tmp_path, budget=40, clock=lambda: next(clock))
    rows = searched(driver)
    assert 1 < len(rows) < 12
    assert rows[-1]["reason"] == "the time budget is spent"
    assert rows[-1]["status"] == "stopped"


def test_only_the_best_weights_stay(tmp_path):
    driver = driver_of(tmp_path, keep=3)

    def run(task, report):
        driver.store.weights(0).parent.mkdir(exist_ok=True)
        driver.store.weights(task.number).write_bytes(b"w")
        left = list(driver.store.weights(0).parent.iterdir())
        assert len(left) <= 4
        return planted(error_of)(task, report)

    driver.run = run
    rows = searched(driver)
    best = sorted(rows, key=lambda row: row["score"])[:3]
    left = {path.name for path in driver.store.weights(0).parent.iterdir()}
    assert left == {driver.store.weights(row["trial"]).name for row in best}


def test_hyperband_has_the_weights_it_goes_on_from(tmp_path):
    driver = driver_of(tmp_path, oracle="hyperband", trials=30)
    continued = []

    def run(task, report):
        driver.store.weights(0).parent.mkdir(exist_ok=True)
        if task.parent is not None:
            continued.append(task.number)
            with open(task.parent.save) as file:
                assert int(file.read()) == task.initial_epoch
        driver.store.weights(task.number).write_text(str(task.epochs))
        return planted(error_of)(task, report)

    driver.run = run
    rows = searched(driver)
    assert continued
    assert not [row for row in rows if row["status"] == "failed"]
    assert rule_for(driver.asker.oracle, OBJECTIVE, EPOCHS) is None
    assert len(list(driver.store.weights(0).parent.iterdir())) < len(rows)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_careful_rule_keeps_the_best_of_planted_searches(family):
    kept, saved = measured(lambda epochs: CarefulRule("min", epochs), family, 20, 10, 20)
    assert kept >= 0.95
    assert saved >= {"same pace": 0.25, "pace differs by three": 0.22}.get(family.name, 0.02)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_careful_rule_waits_for_four_trials_and_never_stops_the_best(direction):
    rule = CarefulRule(direction, 8)
    stopped = []
    for trial, error in enumerate((0.5, 0.6, 0.4, 0.1, 0.9, 0.2, 0.05)):
        for epoch in range(1, 9):
            if rule.reason(trial, epoch, error if direction == "min" else 1 - error):
                stopped.append((trial, epoch))
                break
    assert stopped == [(4, 2), (5, 2)]


def test_ways_of_stopping_early_have_names():
    oracle = make("tpe", OBJECTIVE, 3)
    rules = {word: rule_for(oracle, OBJECTIVE, 9, word) for word in (*WORDS, True, False)}
    assert type(rules["careful"]) is type(rules[True]) is CarefulRule
    assert type(rules["bold"]) is MedianRule
    assert rules["off"] is rules[False] is None
    assert rule_for(oracle, OBJECTIVE, 9, rules["bold"]) is rules["bold"]
    with pytest.raises(BadInput, match=r"early_stopping 'careless' is unknown\. Near it: careful"):
        named("careless")
    with pytest.raises(BadInput, match="Needed: off, careful, bold, or a rule"):
        named(3)


def test_the_bold_rule_saves_more_where_curves_do_not_cross():
    kept, saved = measured(lambda epochs: MedianRule("min", epochs), FAMILIES[0], 20, 10, 20)
    assert (kept, saved > 0.3) == (1, True)


def test_stopped_trials_are_stopped_and_told(tmp_path):
    driver = driver_of(tmp_path, rule=MedianRule("min", EPOCHS), trials=16)
    rows = searched(driver)
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert stopped
    assert all(
        row["epochs"] < EPOCHS and "worse than the median" in row["reason"] for row in stopped
    )
    assert len(driver.asker.oracle.stopped) == len(stopped)


def killed(folder, run, **options):
    """A search that is killed where `run` raises KeyboardInterrupt: no event says that it ended."""
    with pytest.raises(Interrupted):
        searched(driver_of(folder, run, **options))
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert b'"event":"ended"' in lines[-1]
    path.write_bytes(b"".join(lines[:-1]))


def fatal(task, report):
    if task.number == 3:
        raise KeyboardInterrupt
    return planted(error_of)(task, report)


def test_a_trial_that_kills_the_process_twice_has_failed(tmp_path):
    expected = told(searched(driver_of(tmp_path / "whole", trials=6)))
    killed(tmp_path / "a", fatal, trials=6)
    # Ctrl-C is nobody's fault, and what was under way once is run again.
    with pytest.raises(Interrupted):
        searched(driver_of(tmp_path / "a", fatal, trials=6))
    assert told(searched(driver_of(tmp_path / "a", trials=6))) == expected
    for _ in range(2):
        killed(tmp_path / "b", fatal, trials=6)
    rows = searched(driver_of(tmp_path / "b", fatal, trials=6))
    assert [row["status"] for row in rows].count("failed") == 1
    assert rows[3]["reason"] == "the process died 2 times during this training"
    assert len(rows) == 6
    assert told(searched(driver_of(tmp_path / "b", fatal, trials=6))) == told(rows)


def answer_tasks(around="the best"):
    """Two arms on two seeds."""
    return [
        Task(n, {"name": name}, name, {}, seed, 2, arm={"arm": name, "role": role} | more)
        for n, (name, role, seed, more) in enumerate(
            (name, role, seed, more)
            for name, role, more in (
                ("mode", "ablation", {"around": around}),
                ("batch", "baseline", {}),
            )
            for seed in (1, 2)
        )
    ]


def retrained(folder, run, tasks=None):
    driver = driver_of(folder, run)
    with driver.store:
        return driver.retrain(tasks or answer_tasks())


def test_a_training_for_the_answer_that_failed_is_run_again_later(tmp_path):
    ran = []

    def run(task, report, broken=True):
        ran.append(task.number)
        if broken and task.number == 1:
            return failed_row(task, "MemoryError", "Traceback ...")
        if task.number == 2:
            return row_of(task, [], "failed", "loss became nan in epoch 1")
        return row_of(task, [{"epoch": 1, "val_error": 0.5}])

    def mended(task, report):
        return run(task, report, broken=False)

    statuses = [row["status"] for row in retrained(tmp_path, run)]
    assert statuses == ["completed", "failed", "failed", "completed"]
    assert {row["test_error"] for row in retrained(tmp_path, mended)} == {None}
    # A loss that is no number comes again: that one is not tried again.
    assert ran == [0, 1, 2, 3, 1]
    rows = retrained(tmp_path, mended)
    assert [row["status"] for row in rows] == ["completed", "completed", "failed", "completed"]
    assert ran == [0, 1, 2, 3, 1]


def test_a_training_for_the_answer_that_kills_the_process_twice_has_failed(tmp_path):
    def dies(task, report):
        if task.number == 1:
            raise KeyboardInterrupt
        return row_of(task, [{"epoch": 1, "val_error": 0.5}])

    for _ in range(2):
        with pytest.raises(Interrupted):
            retrained(tmp_path, dies)
        path = tmp_path / "journal.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    for _ in range(2):
        rows = retrained(tmp_path, dies)
        assert [row["status"] for row in rows] == ["completed", "failed", "completed", "completed"]
        assert "died 2 times" in rows[1]["reason"]


def test_rows_of_earlier_trainings_get_the_labels_of_today(tmp_path):
    def run(task, report):
        return row_of(task, [{"epoch": 1, "val_error": 0.5}])

    retrained(tmp_path, run)
    tasks = answer_tasks("another")[2:] + answer_tasks("another")[:2]
    tasks = [dataclasses.replace(task, number=number) for number, task in enumerate(tasks)]
    rows = retrained(tmp_path, None, tasks)
    assert [row.get("around") for row in rows] == [None, None, "another", "another"]
    assert [row["number"] for row in rows] == [0, 1, 2, 3]


def test_trainings_for_the_answer_are_not_run_twice(tmp_path):
    ran = []

    def run(task, report, stop=None):
        if len(ran) == stop:
            raise KeyboardInterrupt
        ran.append(task.number)
        return row_of(task, [{"epoch": 1, "val_error": 0.5}])

    driver = driver_of(tmp_path, lambda task, report: run(task, report, 2))
    with driver.store, pytest.raises(Interrupted, match="2 trainings"):
        driver.retrain(answer_tasks())
    driver = driver_of(tmp_path, run)
    with driver.store:
        rows = driver.retrain(answer_tasks())
    assert ran == [0, 1, 2, 3]
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("mode", 1),
        ("mode", 2),
        ("batch", 1),
        ("batch", 2),
    ]
