"""The loop: what it journals, what a crash can do, which executor it stands, what it saves."""

import hashlib
import itertools
import random

import pytest

from search.driver import Driver, rule_for
from search.errors import Interrupted
from search.executors.inline import InlineExecutor
from search.oracle import Asker, make
from search.space import NormSpace
from search.stopping import MedianRule
from search.store import Store, plain
from search.trial import Task
from search.tuner import task_for
from small_search import OBJECTIVE, FakeConcurrent, planted, row_of

SPACE = NormSpace([16, 32, 64])
EPOCHS = 9


def error_of(task, epoch):
    """An error that falls to one that depends on the norm alone."""
    text = f"{task.words}".encode()
    final = int.from_bytes(hashlib.sha256(text).digest()[:2], "little") / 2**16
    return final + 1 / (1 + epoch)


def driver_of(folder, run=None, executor=None, oracle="tpe", trials=12, rule=None, **options):
    store = Store(folder, {"oracle": oracle}, resume=True)
    asker = Asker(make(oracle, OBJECTIVE, trials, 0, EPOCHS), SPACE, SPACE.paper_defaults(), trials)
    return Driver(
        asker,
        executor or InlineExecutor(),
        store,
        run or planted(error_of),
        lambda number, values: task_for(number, values, SPACE, 0, EPOCHS, store),
        OBJECTIVE,
        rule,
        **options,
    )


def searched(driver):
    with driver.store:
        return driver.search()


def told(rows):
    """What a row is, without times."""
    return [(r["trial"], r["spec"], r["status"], r["score"], r["epochs"]) for r in rows]


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
    fresh = [plain(r["spec"]) for r in rows if "continues" not in r]
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
        if task.load is not None:
            continued.append(task.number)
            with open(task.load) as file:
                assert int(file.read()) == task.initial_epoch
        driver.store.weights(task.number).write_text(str(task.epochs))
        return planted(error_of)(task, report)

    driver.run = run
    rows = searched(driver)
    assert continued
    assert not [row for row in rows if row["status"] == "failed"]
    assert rule_for(driver.asker.oracle, OBJECTIVE, EPOCHS) is None
    assert len(list(driver.store.weights(0).parent.iterdir())) < len(rows)


def curve(generator, final):
    """A planted learning curve: it falls from 0.9 towards its end, at its own pace, with noise."""
    pace = generator.uniform(0.1, 0.3)
    return [
        final + (0.9 - final) * (1 - pace) ** (epoch * 1.5) + generator.gauss(0, 0.01)
        for epoch in range(1, 31)
    ]


def test_planted_curves_save_epochs_and_keep_the_best():
    shares, kept = [], 0
    for seed in range(20):
        generator = random.Random(seed)
        finals = [generator.uniform(0.05, 0.4) for _ in range(30)]
        best = min(range(30), key=finals.__getitem__)
        # Clearly the best.
        finals[best] = min(finals) - 0.03
        rule, trained = MedianRule("min", 30), 0
        stopped = set()
        for trial, final in enumerate(finals):
            for epoch, value in enumerate(curve(generator, final), start=1):
                trained += 1
                if rule.reason(trial, epoch, value):
                    stopped.add(trial)
                    break
        kept += best not in stopped
        shares.append(1 - trained / (30 * 30))
    assert sum(shares) / len(shares) >= 0.3, shares
    assert kept == 20


def test_stopped_trials_are_stopped_and_told(tmp_path):
    driver = driver_of(tmp_path, rule=MedianRule("min", EPOCHS), trials=16)
    rows = searched(driver)
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert stopped
    assert all(
        row["epochs"] < EPOCHS and "worse than the median" in row["reason"] for row in stopped
    )
    assert len(driver.asker.oracle.stopped) == len(stopped)


def test_trainings_for_the_answer_are_not_run_twice(tmp_path):
    def tasks():
        return [
            Task(n, {"name": name}, name, {}, seed, 2, label={"arm": name, "role": "candidate"})
            for n, (name, seed) in enumerate(itertools.product(("mode", "batch"), (1, 2)))
        ]

    ran = []

    def run(task, report, stop=None):
        if len(ran) == stop:
            raise KeyboardInterrupt
        ran.append(task.number)
        return row_of(task, [{"epoch": 1, "val_error": 0.5}])

    driver = driver_of(tmp_path, lambda task, report: run(task, report, 2))
    with driver.store, pytest.raises(Interrupted, match="2 trainings"):
        driver.retrain(tasks())
    driver = driver_of(tmp_path, run)
    with driver.store:
        rows = driver.retrain(tasks())
    assert ran == [0, 1, 2, 3]
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("mode", 1),
        ("mode", 2),
        ("batch", 1),
        ("batch", 2),
    ]
