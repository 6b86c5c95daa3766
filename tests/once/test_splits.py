"""Data that are split anew: the parts, the trainings, the answer over them, and going on."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest

from benchmarks import splits as benchmark
from search import answer as answers
from search import cli, examples, measuring, running
from search.answer.judging import compare
from search.answer.nested import nested
from search.answer.results import BETTER, NO_DIFFERENCE, TOO_FEW, Arm, Layout
from search.data import Data, load
from search.data.splits import Splits
from search.errors import BadInput
from search.history import key_of_run
from search.report import live
from search.rows import AnswerRow
from search.task import Task
from search_rows import manifest, run_rows
from small_search import OPTIONS, arrays, build, short_search

COUNT = 4


def contents(part):
    return [(x.tobytes(), y.tobytes()) for x, y in zip(part.x, part.y, strict=True)]


def sizes(data):
    return [len(part) for part in (data.train, data.validation, data.test)]


def doubled():
    """Arrays in which every fifth example is there twice, some of them three times."""
    x, y = arrays(240)
    again = np.r_[np.arange(0, 240, 5), np.arange(0, 240, 20)]
    return load((np.r_[x, x[again]], np.r_[y, y[again]]))


def of_sources():
    """Four examples of each of 60 sources, two of either class."""
    rng = np.random.default_rng(0)
    data = load((rng.normal(size=(240, 5)), np.arange(240) % 2))
    source = np.arange(60).repeat(4)
    labels = np.arange(240, dtype="int32") % 2
    x = rng.normal(size=(240, 5)).astype("float32")
    ends = [slice(0, 144), slice(144, 192), slice(192, 240)]
    parts = [type(data.train)(x[one], labels[one]) for one in ends]
    return Data("patients", *parts, 2, sources=tuple(source[one] for one in ends))


DATA = {
    "digits": lambda: load("digits"),
    "diabetes": lambda: load("diabetes"),
    "doubled": doubled,
    "sources": of_sources,
}


@pytest.mark.parametrize("name", DATA)
def test_no_example_is_trained_on_and_tested(name):
    data = DATA[name]()
    splits = Splits(data, COUNT, seed=3)
    whole = sorted(contents(data.train) + contents(data.test))
    tests = []
    for split in range(COUNT):
        one = splits[split]
        assert sizes(one) == sizes(data)
        assert one.validation is data.validation
        assert sorted(contents(one.train) + contents(one.test)) == whole
        tests.append(one.test.x.tobytes())
        if data.task == "classification":
            for part, other in ((one.train, data.train), (one.test, data.test)):
                np.testing.assert_array_equal(np.bincount(part.y), np.bincount(other.y))
        if split:
            seen = {x.tobytes() for part in (one.train, one.validation) for x in part.x}
            assert not any(x.tobytes() in seen for x in one.test.x)
        if data.sources:
            train, validation, test = map(set, one.sources)
            assert not test & (train | validation)
            assert [len(part) for part in one.sources] == sizes(one)
    assert len(set(tests)) == COUNT


def test_what_belongs_to_a_validated_example_is_not_tested():
    x, y = arrays(60)
    # Half of the test part is in the validation part, too.
    data = load({"train": (x, y), "val": (x[:12] + 9, y[:12]), "test": (x[:24] + 9, y[:24])})
    one = Splits(data, 3)[2]
    validated = {x.tobytes() for x in data.validation.x}
    assert not any(x.tobytes() in validated for x in one.test.x)
    assert sum(x.tobytes() in validated for x in one.train.x) == 12
    assert sizes(one) == sizes(data)


def test_splits_depend_on_the_data_and_the_seed():
    first, again, other = (Splits(load("digits"), COUNT, seed)[2].test.x for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    data = load("digits")
    assert Splits(data, COUNT)[0] is data
    # More of them change none.
    np.testing.assert_array_equal(Splits(data, 3)[2].test.x, first)


@pytest.mark.parametrize("name", ["multidomain", "shapes", "edges2photos"])
def test_data_of_photographs_are_not_split_anew(name):
    with pytest.raises(BadInput, match="each part has pieces of photographs of its own"):
        Splits(load(name), 3)
    assert Splits(load(name))[0] is load(name)


def test_too_few_sources_are_refused():
    data = of_sources()
    tied = tuple(np.zeros(len(one), int) for one in data.sources)
    with pytest.raises(BadInput, match="too many examples belong together"):
        Splits(dataclasses.replace(data, sources=tied), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": 0}, "splits=0. Needed: an integer of at least 1"),
        ({"splits": True}, "splits=True"),
        ({"splits": 2, "seeds": 4}, "splits=2. Needed: 1, or at least 3"),
        ({"splits": 3, "seeds": 5}, "seeds=5 with splits=3. Needed: a multiple of 3"),
        ({"splits": 3, "seeds": "auto"}, "seeds='auto' with splits=3"),
        ({"splits": 3, "seeds": 3, "data": "shapes"}, "'shapes' cannot be split anew"),
        ({"splits": 3, "seeds": 3, "network": build("batch")}, "a Keras model, whose weights"),
    ],
)
def test_what_is_refused(options, message, tmp_path):
    arguments = {"network": build, "data": arrays(60), **OPTIONS, **options}
    with pytest.raises(BadInput, match=message):
        running.run(out=tmp_path / "a", **arguments)
    assert not (tmp_path / "a").exists()


# Trainings.


# What trainings saw and were tested on, in this order.
SEEN: list = []


def mean_label(model, test):
    """A measure that says which examples it was computed on."""
    SEEN.append(("tested", contents(test)))
    return float(np.mean(test.y)), test.y.astype(float)


def test_no_training_is_tested_on_what_it_was_trained_on(tmp_path, monkeypatch):
    SEEN.clear()

    class Batches(running.Batches):
        def __init__(self, part, *arguments):
            super().__init__(part, *arguments)
            SEEN.append(("trained", contents(part)))

    monkeypatch.setattr(running, "Batches", Batches)
    result = short_search(
        tmp_path / "a", seeds=6, splits=3, measure=(mean_label, "min"), candidates=1, ablation=0
    )
    pairs = [
        (before[1], after[1])
        for before, after in itertools.pairwise(SEEN)
        if (before[0], after[0]) == ("trained", "tested")
    ]
    assert len(pairs) == len(result.runs) == 12
    assert not any(set(trained) & set(tested) for trained, tested in pairs)
    assert [row["split"] for row in result.runs] == 2 * [0, 1, 2, 0, 1, 2]
    # All arms have the same splits.
    assert [one for _, one in pairs[:6]] == [one for _, one in pairs[6:]]
    assert len({tuple(one) for _, one in pairs}) == 3
    assert result.manifest["splits"] == 3
    assert all(one.splits == 3 for one in result.answer.comparisons)
    assert "in 3 splits" in result.answer.reason


def without_times(result):
    return [(row["arm"], row["seed"], row["split"], row["test_values"]) for row in result.runs]


def test_a_search_goes_on_with_the_same_splits(tmp_path):
    options = {"candidates": 1, "ablation": 0}
    whole = short_search(tmp_path / "whole", seeds=6, splits=3, **options)
    first = short_search(tmp_path / "a", seeds=3, splits=1, **options)
    assert {row["split"] for row in first.runs} == {0}
    assert "splits" not in first.manifest
    grown = short_search(tmp_path / "a", seeds=3, splits=3, resume=True, **options)
    assert [row["started"] for row in grown.runs][::3] == [row["started"] for row in first.runs][
        ::3
    ]
    # The report from the journal alone counts the trainings of these splits.
    journal = (tmp_path / "a" / "journal.jsonl").read_text()
    assert len([line for line in journal.splitlines() if '"event":"run"' in line]) == 6 + 4
    assert live.rebuild(tmp_path / "a").as_dict() == grown.answer.as_dict()
    last = short_search(tmp_path / "a", seeds=6, splits=3, resume=True, **options)
    assert without_times(last) == without_times(whole)
    assert [row for row in without_times(last) if row[1] <= 3] == without_times(grown)
    with pytest.raises(BadInput, match="several splits"):
        live.plan(tmp_path / "a", 0.5)


def test_early_journals_have_one_split():
    run = {"role": "baseline", "spec": {"name": "batch"}, "values": {}, "seed": 4}
    assert key_of_run(run) == key_of_run({**run, "split": 0}) == key_of_run(AnswerRow.of(run))
    assert key_of_run(run) != key_of_run({**run, "split": 1})
    rows = run_rows({"batch": [0.1, 0.2, 0.3]}, {"batch": "baseline"}, seeds=[1, 2, 3], values={})
    arm = {"arm": "batch", "role": "baseline", "spec": {"name": "batch"}, "values": {}}
    planned, complete = live.planned(rows, manifest(seeds=[1, 2, 3], arms=[arm]))
    assert (len(planned), complete) == (3, True)
    planned, complete = live.planned(rows, manifest(seeds=[1, 2, 3], arms=[arm], splits=3))
    assert ([row["seed"] for row in planned], complete) == ([1], False)


def test_the_command_on_digits(tmp_path, capsys):
    arguments = ["--arch", "resnet8", "--width", "4", "--norms", "batch,group", "--epochs", "1"]
    arguments += ["--trials", "2", "--seeds", "3", "--splits", "3", "--batch-size", "512"]
    arguments += ["--placements", "all", "--candidates", "1", "--ablation", "0", "--no-jit"]
    arguments += ["--baselines", "batch", "--executor", "inline", "--out", str(tmp_path / "a")]
    arguments += ["--backend", keras.backend.backend()]
    assert cli.main(arguments) == 0
    assert "in 3 splits" in " ".join(capsys.readouterr().out.split())
    said = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert said["splits"] == 3
    assert "--splits" in said["command"]
    answer = json.loads((tmp_path / "a" / "answer.json").read_text())
    assert set(answer["comparisons"][0]["shares"]) == {"splits", "examples"}
    assert any("The candidates were chosen on split 0" in one for one in answer["notes"])
    assert "splits of the data" in (tmp_path / "a" / "report.html").read_text()
    assert "split" in (tmp_path / "a" / "tables" / "runs.csv").read_text().splitlines()[0].split(
        ","
    )
    assert cli.main(["--resume", "--out", str(tmp_path / "a")]) == 0
    assert cli.main(["--splits", "4", "--seeds", "5", "--out", str(tmp_path / "b")]) == 2
    said = capsys.readouterr().err
    assert said == (
        "kerasnorm-search: seeds=5 with splits=4. Needed: a multiple of 4, so that each split gets "
        "as many seeds.\n"
    )


def test_the_measure_is_of_the_tasks_split():
    data = load("digits")
    measure, by = measuring.chosen((mean_label, "min"), data.task)
    SEEN.clear()
    test = measuring.Test(Splits(data, 3), measure, by)
    for split in range(3):
        test(None, Task(0, None, "", {}, seed=0, epochs=1, split=split))
    tested = [contents(Splits(data, 3)[split].test) for split in range(3)]
    assert [one for _, one in SEEN] == tested


# The answer.


@pytest.mark.parametrize(("law", "splits", "seeds"), [(2, 5, 1), (2, 5, 2), (4, 3, 1)])
def test_intervals_over_splits_cover_where_the_split_matters(law, splits, seeds):
    found = benchmark.measured(benchmark.LAWS[law], splits, seeds, answers=500)
    assert found.splits >= 0.93
    assert found.one_split < 0.9


def arm_of(name, values, layout):
    """An arm with values of (seeds, examples)."""
    arm = Arm(name, "candidate", name, dict(enumerate(values.mean(1).tolist())), {}, layout=layout)
    arm.values_of = dict(enumerate(values))
    return arm


def test_each_split_has_one_value(rng):
    of_splits = np.array([0.1, -0.05, 0.2, 0.05])
    values = of_splits.repeat(2)[:, None] + 0.001 * rng.normal(size=(8, 50))
    layout = Layout({seed: seed // 2 for seed in range(8)}, overlap=0.25)
    (one,) = compare([arm_of("a", values, layout)], arm_of("b", 0 * values, layout))
    means = values.reshape(4, -1).mean(1)
    error = means.std(ddof=1) * np.sqrt(1 / 4 + 0.25)
    assert (one.splits, one.seeds, one.wins) == (4, 8, 1)
    assert one.error == pytest.approx(error)
    assert one.half == pytest.approx(2.3534 * 1.3522 * error, rel=1e-3)
    assert (one.here_low, one.chance_low) == (None, None)
    assert one.shares["splits"] > 0.99
    assert sum(one.shares.values()) == pytest.approx(1)
    # Seeds that are all alike make it no surer than the splits are.
    alike = means.repeat(2)[:, None] + 0 * values
    (other,) = compare([arm_of("a", alike, layout)], arm_of("b", 0 * values, layout))
    assert other.half == pytest.approx(one.half, rel=0.01)


def test_splits_that_agree_are_not_certain():
    values = np.zeros((3, 1, 100))
    values[:, :, 0] = 1
    found = nested(list(values), overlap=0.25)
    assert found.of_splits == 0
    assert found.half(0.025) > 0.01
    assert found.p_value() > 0.025


def test_sources_of_chance_are_told_apart(rng):
    shape = (200, 2, 100)
    values = 0.2 * rng.normal(size=(200, 1, 1)) + 0.1 * rng.normal(size=(200, 2, 1))
    values = values + 1.0 * rng.normal(size=(200, 1, 100)) + 0.5 * rng.normal(size=shape)
    shares = nested(list(values), 0.25).shares()
    whole = 0.2**2 + 0.1**2 / 2 + 1 / 100 + 0.5**2 / 200
    wanted = {"splits": 0.2**2, "seeds": 0.1**2 / 2, "examples": 1 / 100, "both": 0.5**2 / 200}
    for name, part in wanted.items():
        assert shares[name] == pytest.approx(part / whole, abs=0.12)


def rows_of(levels, splits, seeds, spread):
    """Rows whose errors change with the split, each arm's in its own way."""
    rng = np.random.default_rng(0)
    rows = []
    for name, level in levels.items():
        of_splits = level + spread * rng.normal(size=splits)
        values = of_splits[np.arange(seeds) % splits, None] + 0.01 * rng.normal(size=(seeds, 300))
        values = np.clip(values, 0, 1)
        role = "candidate" if name in "abc" else "baseline"
        of_arm = run_rows(
            {name: values.mean(1).tolist()}, {name: role}, seeds=list(range(1, seeds + 1))
        )
        for place, (row, own) in enumerate(zip(of_arm, values, strict=True)):
            packed = examples.packed(own)
            rows.append({**row, "split": place % splits, "test_values": packed, "values": {}})
    return rows


def concluded(rows, **more):
    shapes = {"train": [1200, 5], "validation": [300, 5], "test": [300, 5]}
    data = {"name": "made", "shapes": shapes, "classes": 2}
    return answers.conclude([], rows, manifest(data=data, **more))


@pytest.mark.parametrize(("spread", "verdict"), [(0.002, BETTER), (0.06, NO_DIFFERENCE)])
def test_a_verdict_is_for_other_splits(spread, verdict):
    rows = rows_of({"a": 0.1, "batch": 0.15}, 5, 10, spread)
    answer = concluded(rows, splits=5)
    assert answer.verdict == verdict
    (one,) = answer.comparisons
    assert any(f"in {one.wins:g} of 5 splits of the data" in note for note in answer.notes)
    assert any("comes from the split, " in note for note in answer.notes)
    assert ("new data, split anew" in answer.reason) == (verdict == BETTER)
    # The mean errors have intervals over splits, too.
    assert all(arm.low < arm.mean < arm.high for arm in answer.arms)
    assert json.loads(json.dumps(answer.as_dict()))["splits"] == 5
    # Seeds are not counted as splits: with one split for all, chance is much smaller.
    assert concluded([{**row, "split": 0} for row in rows]).comparisons[0].half < one.half


def test_with_no_value_for_each_example_the_splits_alone_count():
    rows = rows_of({"a": 0.1, "batch": 0.15}, 3, 6, 0.002)
    rows = [{key: v for key, v in row.items() if key != "test_values"} for row in rows]
    answer = concluded(rows, splits=3)
    (one,) = answer.comparisons
    assert (one.verdict, one.examples, one.shares) == (BETTER, None, {})
    assert not any("the seeds alone count" in note for note in answer.notes)
    # The correction for what splits have in common is in the p-values, too.
    known = compare(answer.arms[:1], answer.arms[1])[0]
    plain = [dataclasses.replace(arm, layout=Layout(arm.layout.split_of, 0)) for arm in answer.arms]
    assert compare(plain[:1], plain[1])[0].p < known.p


def test_two_splits_are_too_few():
    rows = [row for row in rows_of({"a": 0.1, "batch": 0.15}, 3, 6, 0.002) if row["split"] < 2]
    assert concluded(rows, splits=3).comparisons[0].verdict == TOO_FEW
