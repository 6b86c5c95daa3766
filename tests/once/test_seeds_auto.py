"""Seeds that are added until all is settled: levels, verdicts, the loop, and going on with it."""

import functools
import json

import numpy as np
import pytest
from scipy import special

from search import answer as answers
from search import cli, examples, running
from search.answer import sequential
from search.answer.judging import compare
from search.answer.results import BETTER, EQUAL, NO_DIFFERENCE, UNFINISHED, WORSE, Arm
from search.answer.sequential import Rounds, levels, settle
from search.errors import BadInput, OtherSearch
from search.executors.inline import InlineExecutor
from search.report import live
from search_rows import manifest, run_rows
from small_search import OPTIONS, arrays, build

MOST = 12
SEEDS = list(range(1, MOST + 1))


@pytest.mark.parametrize("alpha", [0.05, 0.0083])
def test_all_rounds_together_are_wrong_as_often_as_they_may_be(alpha):
    rounds = Rounds(20)
    counts = rounds.seeds()
    sums = np.random.default_rng(1).standard_normal((400_000, 20)).cumsum(axis=1)
    crossed = np.zeros(len(sums), bool)
    for count in counts:
        limit = -special.ndtri(rounds.level(count, alpha))
        crossed |= sums[:, count - 1] / np.sqrt(count) > limit
        assert crossed.mean() == pytest.approx(alpha * count / 20, rel=0.12)


def test_one_round_has_all_of_it():
    assert levels((1.0,), 0.05) == [0.05]
    assert Rounds(3).seeds() == [3]
    assert Rounds(3).level(3, 0.05) == 0.05


def arm(name, level, rng, count=MOST, role="candidate", spread=0.002, wrong=None, **more):
    """An arm with values of 300 examples around a level."""
    values = {
        seed: level + spread * rng.normal() + 0.02 * rng.normal(size=300) for seed in SEEDS[:count]
    }
    found = Arm(name, role, name, {s: float(v.mean()) for s, v in values.items()}, wrong or {})
    found.values_of = values
    found.mean = float(np.mean(list(found.errors.values())))
    for key, value in more.items():
        setattr(found, key, value)
    return found


def test_each_candidate_is_settled_in_its_own_round(rng):
    candidates = [arm("far", 0.5, rng), arm("worse", 0.106, rng)]
    baselines = [arm("batch", 0.1, rng), arm("group", 0.13, rng)]
    settled = settle(candidates, baselines, SEEDS, Rounds(MOST))
    assert settled.complete
    assert [one.verdict for one in settled.comparisons] == [WORSE, WORSE]
    assert [one.seeds for one in settled.comparisons] == [settled.seeds[a.name] for a in candidates]
    assert 3 == settled.seeds["far"] < settled.seeds["worse"]
    assert settled.seeds["batch"] == settled.seeds["group"] == max(settled.seeds.values())
    assert max(settled.seeds.values()) < MOST
    # What comes later changes nothing of what is settled.
    for one in (*candidates, *baselines):
        for seed in SEEDS[settled.seeds[one.name] :]:
            one.errors[seed] = 9.0
            one.values_of[seed] = np.full(300, 9.0)
    assert settle(candidates, baselines, SEEDS, Rounds(MOST)) == settled


def test_it_asks_for_a_round_at_a_time(rng):
    candidates, baselines = [arm("a", 0.1, rng, 2)], [arm("batch", 0.1, rng, 2)]
    settled = settle(candidates, baselines, SEEDS, Rounds(MOST))
    assert (settled.complete, settled.seeds) == (False, {"a": 3, "batch": 3})
    assert settled.comparisons == []
    candidates, baselines = [arm("a", 0.1, rng, 3, spread=0.02)], [arm("batch", 0.1, rng, 3)]
    settled = settle(candidates, baselines, SEEDS, Rounds(MOST))
    assert settled.seeds in ({"a": 3, "batch": 3}, {"a": 5, "batch": 5})


def test_nothing_is_trained_that_would_not_settle_it(rng):
    # Their difference comes from the examples alone, and these do not become more.
    own = 0.05 * rng.normal(size=(2, 300))
    two = [arm("a", 0.1, rng, spread=0), arm("batch", 0.1, rng, spread=0)]
    for one, part in zip(two, own, strict=True):
        for seed in SEEDS:
            one.values_of[seed] = one.values_of[seed] + part
            one.errors[seed] = float(one.values_of[seed].mean())
    settled = settle(two[:1], two[1:], SEEDS, Rounds(MOST))
    assert settled.ended == {"a": sequential.HOPELESS}
    assert settled.seeds == {"a": 3, "batch": 3}
    assert settled.comparisons[0].verdict == NO_DIFFERENCE


def test_losers_end_when_there_is_a_winner(rng):
    candidates = [arm("better", 0.05, rng), arm("same", 0.1, rng, spread=0.004)]
    settled = settle(candidates, [arm("batch", 0.1, rng)], SEEDS, Rounds(MOST))
    assert settled.comparisons[0].verdict == BETTER
    assert settled.ended == {"same": sequential.BEHIND}


def test_failed_trainings_settle_their_arm(rng):
    broken = arm("broken", 0.05, rng, 2, wrong={3: "out of memory"})
    settled = settle([broken], [arm("batch", 0.1, rng)], SEEDS, Rounds(MOST))
    assert settled.complete
    assert settled.comparisons[0].verdict == UNFINISHED
    assert settled.seeds["broken"] == 3


def test_without_candidates_or_baselines(rng):
    settled = settle([], [arm("batch", 0.1, rng)], SEEDS, Rounds(MOST))
    assert (settled.complete, settled.seeds) == (True, {"batch": 3})
    settled = settle([arm("a", 0.1, rng)], [], SEEDS, Rounds(MOST))
    assert (settled.complete, settled.seeds, settled.reference) == (True, {"a": 3}, None)


@pytest.mark.parametrize(("margin", "verdict"), [(0.02, EQUAL), (0.0001, NO_DIFFERENCE)])
def test_equal_within_a_margin(margin, verdict, rng):
    settled = settle([arm("a", 0.1, rng)], [arm("batch", 0.1, rng)], SEEDS, Rounds(MOST, margin))
    one = settled.comparisons[0]
    assert one.verdict == verdict
    assert (-margin < one.low < one.high < margin) == (verdict == EQUAL)
    (fixed,) = compare([arm("a", 0.1, rng)], arm("batch", 0.1, rng), margin=margin)
    assert fixed.verdict == verdict


# The answer.


def rows_of(levels_of, counts, **more):
    """Rows of arms with values per example; the margin of the tests is a share."""
    rng = np.random.default_rng(0)
    rows = []
    for name, level in levels_of.items():
        role = "candidate" if name in "abc" else "baseline"
        values = np.clip(level + 0.01 * rng.normal(size=(counts[name], 300)), 0, 1)
        of_arm = run_rows({name: values.mean(1).tolist()}, {name: role}, seeds=SEEDS)
        for row, own in zip(of_arm, values, strict=True):
            rows.append({**row, "test_values": examples.packed(own), **more.get(name, {})})
    return rows


def auto(**more):
    return manifest(seeds=SEEDS, most_seeds=MOST, **more)


def test_the_sentence_of_what_is_equal():
    counts = {"a": 3, "batch": 3, "group": 3}
    levels_of = {"a": 0.1, "batch": 0.1, "group": 0.12}
    cheap = {"a": {"step_seconds": 0.005}}
    answer = answers.conclude([], rows_of(levels_of, counts, **cheap), auto(margin=1.0))
    assert (answer.verdict, answer.best) == (EQUAL, "a")
    assert answer.sentence.startswith("Use a: its test error, 9.98")
    assert "is equal within 1.00 points to that of the best plain norm, batch" in answer.sentence
    assert "it is the cheaper one: 5 ms for a train step" in answer.sentence
    answer = answers.conclude([], rows_of(levels_of, counts), auto(margin=1.0))
    assert answer.sentence == (
        "Keep batch: a is equal to this best of the plain norms within 1.00 points, and not "
        "cheaper."
    )
    assert any("settled: 3 of at most 12" in note for note in answer.notes)


def test_intervals_are_of_the_round():
    counts = {"a": 3, "batch": 3}
    rows = rows_of({"a": 0.05, "batch": 0.1}, counts)
    ours = answers.conclude([], rows, auto()).comparisons[0]
    fixed = answers.conclude([], rows, manifest(seeds=SEEDS[:3])).comparisons[0]
    assert ours.high - ours.low > 1.2 * (fixed.high - fixed.low)
    assert ours.verdict == fixed.verdict == BETTER
    assert (ours.wins, ours.chance_high) == (3, 1)
    assert ours.chance_low == pytest.approx(0.025 ** (1 / 3))


def test_the_chance_on_a_new_seed_is_told():
    rows = rows_of({"a": 0.05, "batch": 0.1}, {"a": 5, "batch": 5})
    notes = answers.conclude([], rows, manifest(seeds=SEEDS[:5])).notes
    assert any("a was better than batch on 5 of 5 seeds" in note for note in notes)
    assert any("with a chance of 48 to 100\N{NARROW NO-BREAK SPACE}%" in note for note in notes)


# Whole searches.


class Dear(InlineExecutor):
    """Ends the process after so many trainings, as a kill would."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def submit(self, task):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().submit(task)


AUTO = OPTIONS | {"seeds": "auto", "most_seeds": 5, "ablation": 1, "candidates": 1}


@functools.cache
def data():
    return arrays(120)


def trained(result):
    return sorted((row["arm"], row["seed"]) for row in result.runs)


def test_a_search_adds_seeds_and_goes_on_where_it_was(tmp_path):
    whole = running.run(build, data(), out=tmp_path / "whole", **AUTO)
    answer = whole.answer
    assert whole.manifest["most_seeds"] == 5
    counts = {arm.name: arm.seeds for arm in (*answer.arms, *answer.ablation_arms)}
    assert set(counts.values()) <= {3, 5}
    assert sum(counts.values()) == len(whole.runs)
    assert any("Seeds were added until all was settled" in note for note in answer.notes)
    out = tmp_path / "parts"
    for left in (4, 2, 3):
        with pytest.raises(BaseException, match="Interrupted"):
            running.run(build, data(), out=out, resume=left < 4, executor=Dear(left), **AUTO)
        if left == 2:
            assert "of at least" in live.rebuild(out).notes[0]
    inline = AUTO | {"executor": "inline"}
    parts = running.run(build, data(), out=out, resume=True, **inline)
    assert trained(parts) == trained(whole)
    assert parts.answer.sentence == answer.sentence
    assert live.rebuild(out).sentence == answer.sentence
    journal = (out / "journal.jsonl").read_text().splitlines()
    started = [line for line in map(json.loads, journal) if line["event"] == "started"]
    assert len([line for line in started if "run" in line]) <= len(whole.runs) + 3
    with pytest.raises(OtherSearch, match="most_seeds: 5 there, 6 here"):
        running.run(build, data(), out=out, resume=True, **inline | {"most_seeds": 6})


def test_workers_share_the_rounds(tmp_path):
    options = AUTO | {"executor": "processes", "workers": 2, "ablation": 0}
    found = running.run(build, data(), out=tmp_path / "a", **options)
    counts = {arm.name: arm.seeds for arm in found.answer.arms}
    assert set(counts.values()) <= {3, 5}
    assert sum(counts.values()) == len(found.runs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": "many"}, "seeds='many'"),
        ({"most_seeds": 2}, "most_seeds=2. Needed: at least 3"),
        ({"margin": 0}, "margin=0. Needed: a number above 0"),
    ],
)
def test_what_is_refused(options, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        running.run(build, data(), out=tmp_path / "a", **AUTO | options)


def test_the_command_takes_them():
    options = cli.parser().parse_args(["--seeds", "auto", "--most-seeds", "9", "--margin", "0.5"])
    assert (options.seeds, options.most_seeds, options.margin) == ("auto", 9, 0.5)
    assert cli.replay(options, "torch")[3:] == [
        "--seeds", "auto", "--most-seeds", "9", "--margin", "0.5", "--out", "search-results-again",
    ]  # fmt: skip
