"""What the runs are taken to say: planted differences, none, failed runs, few seeds."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from search import answer as answers
from search import examples, formats, importance, statistics
from search.answer import advising, planning
from search.answer.crossed import crossed
from search.errors import BadInput
from search.rows import AnswerRow, TrialRow
from search_rows import manifest, run_rows, search


def judged(errors, candidates=("a",), **more):
    """The answer to some arms' errors; those that are no candidates are baselines."""
    roles = {arm: "candidate" if arm in candidates else "baseline" for arm in errors}
    return answers.conclude([], run_rows(errors, roles, **more), manifest())


def near(level, *offsets):
    """Five errors around a level."""
    return [level + offset for offset in offsets or (0.001, -0.001, 0.0005, -0.0005, 0.0)]


# The statistics against SciPy's own.


def test_paired_p_values_are_those_of_the_paired_t_test(rng):
    for seeds in (2, 5, 9):
        ours, theirs = rng.normal(size=(2, seeds))
        lower, higher = statistics.paired_p_values(ours, theirs)
        assert lower == pytest.approx(stats.ttest_rel(ours, theirs, alternative="less").pvalue)
        assert higher == pytest.approx(stats.ttest_rel(ours, theirs, alternative="greater").pvalue)


def test_intervals_are_students(rng):
    values = rng.normal(size=6)
    mean, low, high = statistics.mean_interval(values)
    expected = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(expected)


def test_holm_multiplies_by_what_is_left_and_never_goes_down():
    assert statistics.holm([0.04, 0.001, 0.02, 0.5]) == pytest.approx([0.08, 0.004, 0.06, 0.5])
    assert statistics.holm([]) == []
    assert max(statistics.holm([0.9, 0.8])) == 1


def test_the_front_is_what_nothing_beats(rng):
    points = rng.integers(0, 4, size=(30, 3))
    beaten = statistics.beaten_by(30, [statistics.apart(values, values) for values in points.T])
    for index, point in enumerate(points):
        better = [(other <= point).all() and (other < point).any() for other in points]
        assert beaten[index] == list(np.flatnonzero(better))


# Differences.


def test_a_planted_difference_is_found():
    answer = judged({"a": near(0.02), "batch": near(0.05), "group": near(0.06)})
    assert (answer.verdict, answer.best, answer.reference) == ("better", "a", "batch")
    assert answer.best_spec == {"name": "a"}
    (comparison,) = answer.comparisons
    assert comparison.difference == pytest.approx(-0.03)
    assert answer.sentence.startswith("Use a: its test error, 2.00\u202f%, is lower")
    assert "batch (5.00\u202f%), by 3.00 points" in answer.sentence
    json.dumps(answer.as_dict(), allow_nan=False)


def test_a_planted_difference_is_found_amid_noise(rng):
    """Nine times of ten at a difference of five deviations, among three candidates."""
    found = 0
    for _ in range(200):
        levels = {"a": 0.05, "b": 0.1, "c": 0.1, "batch": 0.1, "group": 0.1, "layer": 0.1}
        errors = {arm: rng.normal(level, 0.01, 5) for arm, level in levels.items()}
        answer = judged(errors, "abc")
        found += answer.verdict == "better" and answer.best == "a"
    assert found >= 180


def test_pairing_by_seed_finds_what_the_seeds_hide():
    effect = np.array([0.0, 0.03, -0.02, 0.05, 0.01])
    errors = {
        "a": 0.100 + effect + [0.0002, -0.0001, 0, 0.0001, -0.0002],
        "batch": 0.105 + effect,
    }
    assert judged(errors).verdict == "better"
    # The same errors with other seeds side by side show nothing.
    rows = run_rows({"a": errors["a"]}, {"a": "candidate"}, [1, 2, 3, 4, 5])
    rows += run_rows({"batch": errors["batch"]}, {"batch": "baseline"}, [3, 4, 5, 1, 2])
    assert answers.conclude([], rows, manifest()).verdict == "no difference shown"


@pytest.mark.parametrize(
    ("candidates", "baselines"), [(1, 1), (3, 4), (1, 8), (10, 1), (12, 4)], ids=str
)
@pytest.mark.parametrize("noise", ["normal", "counts", "uneven", "shared"])
def test_identical_arms_are_told_apart_in_at_most_one_answer_of_twenty(
    candidates, baselines, noise, rng
):
    """Any claim, of better or of worse, is an error here; ablation arms are judged alike."""
    arms = [f"c{i}" for i in range(candidates)] + [f"b{i}" for i in range(baselines)]
    answered, wrong = 400, 0
    for _ in range(answered):
        errors = rng.normal(0.1, 0.01, (len(arms), 5))
        if noise == "counts":
            errors = rng.binomial(360, 0.01, (len(arms), 5)) / 360
        elif noise == "uneven":
            errors = 0.1 + rng.normal(0, 0.001, (len(arms), 5)) * rng.choice(
                [1, 3, 10], (len(arms), 1)
            )
        elif noise == "shared":
            errors = errors + rng.normal(0, 0.05, 5)
        answer = judged(dict(zip(arms, errors, strict=True)), arms[:candidates])
        wrong += any(comparison.verdict in ("better", "worse") for comparison in answer.comparisons)
    # Five per cent, and three deviations of chance.
    assert wrong / answered <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / answered)


def test_choosing_the_best_baseline_does_not_make_candidates_look_worse(rng):
    """Without the factor for the choice, "worse" would be claimed far too often."""
    wrong = 0
    for _ in range(400):
        arms = ["a", *(f"b{i}" for i in range(20))]
        answer = judged(dict(zip(arms, rng.normal(0.1, 0.01, (21, 5)), strict=True)))
        wrong += answer.comparisons[0].verdict == "worse"
    assert wrong <= 0.05 * 400


def test_a_worse_candidate_is_said_to_be_worse():
    answer = judged({"a": near(0.09), "batch": near(0.05), "group": near(0.06)})
    assert (answer.verdict, answer.best) == ("no difference shown", "batch")
    assert answer.comparisons[0].verdict == "worse"
    assert answer.sentence == (
        "Keep batch: on 5 seeds the candidate was worse than this best of the plain norms "
        "(5.00\u202f%)."
    )


def test_no_difference_is_an_answer_and_says_what_it_could_have_seen(rng):
    errors = {arm: rng.normal(0.1, 0.01, 5) for arm in ("a", "b", "batch")}
    answer = judged(errors, "ab")
    assert (answer.verdict, answer.best) == ("no difference shown", "batch")
    assert answer.sentence.startswith(
        "Keep batch: no difference was shown. On 5 seeds none of 2 candidates was better"
    )
    assert f"below about {100 * answer.detectable:.2f} points" in answer.sentence


def test_a_baseline_that_varies_more_is_named_when_it_is_not_beaten():
    wide = [0.02, 0.2, 0.05, 0.15, 0.06]
    answer = judged({"a": near(0.03), "batch": near(0.05, *near(0)), "layer": wide})
    assert (answer.verdict, answer.reference) == ("better", "batch")
    assert any("Against layer by itself" in note for note in answer.notes)


def test_the_best_of_several_better_candidates_wins():
    errors = {"a": near(0.02), "b": near(0.01, *reversed(near(0))), "batch": near(0.05)}
    answer = judged(errors, "ab")
    assert answer.best == "b"
    assert [comparison.verdict for comparison in answer.comparisons] == ["better", "better"]
    assert [arm.name for arm in answer.arms] == ["b", "a", "batch"]


# Two sources of chance.


def with_values(arms):
    """Rows of arms, from what each did on every seed (a row) and test example (a column)."""
    roles = {arm: "candidate" if arm == "a" else "baseline" for arm in arms}
    rows = run_rows({arm: values.mean(1) for arm, values in arms.items()}, roles)
    packed = [examples.packed(seed) for values in arms.values() for seed in values]
    return [{**row, "test_values": text} for row, text in zip(rows, packed, strict=True)]


def test_errors_of_seeds_and_examples_are_those_of_a_two_way_layout(rng):
    values = rng.normal(size=(4, 30))
    found = crossed(values)
    assert found.of_seeds == pytest.approx(values.mean(1).var(ddof=1) / 4)
    rest = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    assert found.of_both == pytest.approx(np.square(rest).sum() / (3 * 29) / (4 * 30))
    worth = np.abs(values.mean(0) - values.mean()).max()
    examples_alone = (values.mean(0).var(ddof=0) * 30 + 2 * worth**2) / (30 * 29)
    assert found.of_examples == pytest.approx(examples_alone)
    assert found.half(found.p_value()) == pytest.approx(abs(found.mean))


def test_arms_that_miss_other_examples_by_chance_are_not_told_apart(rng):
    """Equal norms: on these very examples they differ for certain, on new ones they do not."""
    wrong = here = 0
    for _ in range(200):
        arms = {}
        for arm in ("a", "batch"):
            missed = np.tile(rng.random(200) < 0.1, (5, 1))
            arms[arm] = (missed ^ (rng.random((5, 200)) < 0.005)).astype(float)
        (comparison,) = answers.conclude([], with_values(arms), manifest()).comparisons
        wrong += comparison.verdict != answers.NO_DIFFERENCE
        here += comparison.here_p <= answers.ALPHA
    assert wrong <= 20
    assert here >= 100


def test_an_answer_for_new_examples_says_so_and_what_would_help(rng):
    arms = {"a": rng.random((5, 1000)) < 0.05, "batch": rng.random((5, 1000)) < 0.15}
    answer = answers.conclude([], with_values(arms), manifest())
    (comparison,) = answer.comparisons
    assert (answer.verdict, comparison.examples) == ("better", 1000)
    assert comparison.low < comparison.difference < comparison.high < 0
    assert sum(comparison.shares.values()) == pytest.approx(1)
    assert "for new seeds and test examples" in answer.sentence
    assert any("On these very examples, a differs from batch by" in note for note in answer.notes)
    assert any("More test examples would help" in note for note in answer.notes) != any(
        "More seeds would help" in note for note in answer.notes
    )
    assert "values_of" not in json.dumps(answer.as_dict(), allow_nan=False)


def drawn(rng, seeds, count, difference=0.0, wide=(0.01, 0.1, 0.3)):
    """Differences of each seed and each example, from three sources of chance."""
    of_seeds, of_examples, of_both = wide
    values = difference + of_both * rng.normal(size=(seeds, count))
    return values + of_seeds * rng.normal(size=(seeds, 1)) + of_examples * rng.normal(size=count)


def test_variances_are_those_of_the_sources(rng):
    wide = (0.03, 0.1, 0.3)
    found = [planning.Variances.of(crossed(drawn(rng, 30, 400, wide=wide))) for _ in range(60)]
    np.testing.assert_allclose(np.mean(found, 0), np.square(wide), rtol=0.15)


@pytest.mark.parametrize(("examples_of_plan", "least"), [(1000, 5), (300, 10)])
def test_a_plan_keeps_its_word(examples_of_plan, least, rng):
    variances, alpha = planning.Variances(0.01**2, 0.1**2, 0.3**2), answers.ALPHA / 2
    difference = 0.02
    seeds = variances.seeds_for(difference, examples_of_plan, alpha)
    assert seeds >= least
    for planned, low, high in ((seeds, 0.75, 1.0), (seeds - 2, 0.4, 0.9)):
        shown = 0
        for _ in range(300):
            found = crossed(drawn(rng, planned, examples_of_plan, difference))
            shown += found.mean - found.half(alpha) > 0
        assert low <= shown / 300 <= high
    assert variances.shows(seeds, examples_of_plan, alpha) <= difference
    assert variances.shows(seeds - 1, examples_of_plan, alpha) > difference
    # However many seeds, few examples remain few.
    assert variances.seeds_for(0.001, examples_of_plan, alpha) is None


def test_a_plan_says_what_a_difference_would_take(rng):
    arms = {arm: rng.random((5, 1000)) < level for arm, level in (("a", 0.05), ("batch", 0.06))}
    answer = answers.conclude([], with_values(arms), manifest())
    found = planning.plan(answer.arms, answer.arm("batch"), 0.01, answer.percent)
    assert (found.seeds, found.examples, found.arms) == (5, 1000, 2)
    assert list(found.needed) == [1000, 2000, 4000, 10_000, 100_000]
    counts = [math.inf if seeds is None else seeds for seeds in found.needed.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < math.inf
    # A variance that would be negative counts as none, which is careful.
    assert answer.detectable <= found.shown < 2 * answer.detectable
    text = str(found)
    assert "5 seeds and 1,000 test examples" in text
    assert "To show 1.00 points" in text
    assert f"{2 * counts[-1]:,}" in text
    without = judged({"a": near(0.02), "batch": near(0.05)}).arms
    with pytest.raises(BadInput, match="have values for each test example"):
        planning.plan(without, without[1], 0.01, True)
    with pytest.raises(BadInput, match="more than 0"):
        planning.plan(answer.arms, answer.arm("batch"), 0.0, True)


def test_an_interval_is_never_narrower_than_a_test_example():
    arms = {arm: np.tile(np.arange(100) < 5, (5, 1)) for arm in ("a", "batch")}
    (comparison,) = answers.conclude([], with_values(arms), manifest()).comparisons
    assert (comparison.difference, comparison.verdict) == (0, "no difference shown")
    assert comparison.high - comparison.low >= 1 / 100


def test_verdicts_and_intervals_are_one(rng):
    for _ in range(100):
        arms = {arm: rng.random((3, 200)) < level for arm, level in (("a", 0.1), ("batch", 0.2))}
        (comparison,) = answers.conclude([], with_values(arms), manifest()).comparisons
        assert (comparison.verdict == "better") == (comparison.high < 0)
        assert (comparison.verdict == "worse") == (comparison.low > 0)


def test_without_values_per_example_the_seeds_alone_count():
    answer = judged({"a": near(0.02), "batch": near(0.05)})
    assert answer.comparisons[0].examples is None
    assert any("the seeds alone count" in note for note in answer.notes)
    assert "for new seeds, these examples" in answer.sentence


# No spread.


def test_equal_errors_are_no_difference():
    answer = judged({"a": [0.05] * 5, "batch": [0.05] * 5})
    assert answer.verdict == "no difference shown"
    assert (answer.comparisons[0].p, answer.arms[0].low) == (1.0, 0.05)


def test_the_same_difference_on_every_seed_has_a_finite_p_value():
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last digit: that is no spread.
    answer = judged({"a": [0.1, 0.2, 0.3, 0.1, 0.2], "batch": [0.2, 0.3, 0.4, 0.2, 0.3]})
    assert answer.verdict == "better"
    assert answer.comparisons[0].p == pytest.approx(2 * 4.0**-5)
    # Of three seeds it could be chance.
    assert judged({"a": [0.1] * 3, "batch": [0.2] * 3}).verdict == "better"
    errors = {**{f"c{i}": [0.1] * 3 for i in range(4)}, "batch": [0.2] * 3}
    assert judged(errors, tuple(errors)[:4]).verdict == "no difference shown"


# What is missing.


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_are_said_to_be_too_few(seeds):
    answer = judged({"a": near(0.01)[:seeds], "batch": near(0.05)[:seeds]})
    assert answer.verdict == "not judged: too few seeds"
    assert answer.sentence.startswith("Try a: it has the lowest mean test error")
    assert f"too few seeds to tell more: {seeds} of at least 3" in answer.sentence
    assert answer.best == "a"


def test_a_candidate_with_a_failed_run_is_not_called_better():
    errors = {"a": [None, *near(0.01)[1:]], "b": near(0.05), "batch": near(0.05)}
    answer = judged(errors, "ab")
    verdicts = {comparison.name: comparison.verdict for comparison in answer.comparisons}
    assert verdicts["a"] == "not judged: unfinished runs"
    assert answer.best == "batch"
    assert any("a (candidate) did not finish on 1 of 5 seeds" in note for note in answer.notes)
    # Its correction counts all the same: two candidates are asked about.
    b = next(comparison for comparison in answer.comparisons if comparison.name == "b")
    assert b.adjusted_p >= b.p


def test_a_missing_seed_is_an_unfinished_run():
    rows = run_rows({"a": near(0.01)}, {"a": "candidate"})[:4]
    rows += run_rows({"batch": near(0.05)}, {"batch": "baseline"})
    answer = answers.conclude([], rows, manifest())
    assert answer.comparisons[0].verdict == "not judged: unfinished runs"
    assert answer.arm("a").unfinished == {1004: "not run"}
    # Also where no arm came to it.
    answer = answers.conclude([], rows, manifest(seeds=[1000, 1001, 1002, 1003, 1004, 1005]))
    assert answer.arm("batch").unfinished == {1005: "not run"}


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_no_number_is_a_failed_run(error):
    answer = judged({"a": [*near(0.01)[:4], error], "batch": near(0.05)})
    assert answer.comparisons[0].verdict == "not judged: unfinished runs"
    json.dumps(answer.as_dict(), allow_nan=False)


def test_a_baseline_that_failed_is_not_the_best_baseline():
    answer = judged({"a": near(0.02), "batch": [None, *near(0.03)[1:]], "group": near(0.05)})
    assert answer.reference == "group"
    assert any("Not taken as the best baseline" in note for note in answer.notes)
    answer = judged({"a": near(0.02), "batch": [None] * 5, "group": near(0.05)})
    assert (answer.reference, answer.verdict) == ("group", "better")


def test_without_a_baseline_there_is_no_answer():
    answer = judged({"a": near(0.02)})
    assert answer.sentence.startswith("Try a: ")
    assert "No plain norm finished a run to compare it with." in answer.sentence
    assert answer.best == "a"
    rows = run_rows({"a": near(0.02)}, {"a": "candidate"})
    answer = answers.conclude([], rows, manifest(baselines=[]))
    assert answer.sentence.endswith("No plain norm was asked for to compare it with.")


def test_when_all_runs_fail_there_is_no_answer():
    answer = judged({"a": [None] * 5, "batch": [None] * 5})
    assert answer.sentence.startswith("No answer")
    assert (answer.best, answer.best_spec) == (None, None)
    # What the search found is there all the same, and named so.
    trials, _, _ = search(trials=4)
    rows = run_rows({"a": [None] * 5, "batch": [None] * 5}, {"a": "candidate", "batch": "baseline"})
    for row in rows:
        del row["test_error"]
    answer = answers.conclude(trials, rows, manifest())
    assert (answer.best_spec, answer.rests_on) == (answers.ranked(trials)[0]["spec"], "validation")
    assert "by validation (val_error" in answer.sentence


def test_nothing_at_all():
    answer = answers.conclude([], [], manifest())
    assert answer.sentence.startswith("No answer: no trial was completed")
    trials, _, found = search(trials=4)
    answer = answers.conclude(trials, [], found)
    assert "Nothing was trained again" in answer.sentence
    assert answer.best_spec == answers.ranked(trials)[0]["spec"]


def test_a_run_that_was_repeated_counts_once_and_is_noted():
    rows = run_rows({"a": near(0.01), "batch": near(0.05)}, {"a": "candidate", "batch": "baseline"})
    again = {**rows[0], "test_error": 0.02}
    answer = answers.conclude([], [*rows, again], manifest())
    assert answer.arm("a").errors[1000] == 0.02
    assert answer.notes[0] == "a ran more than once on seed 1000: the last run counts."


# Front, ablation.


def test_the_pareto_front_weighs_error_time_and_parameters():
    roles = {"a": "candidate", "b": "candidate", "batch": "baseline"}
    costs = {"a": (0.03, 1000), "b": (0.03, 1100), "batch": (0.01, 900)}
    rows = run_rows({"a": near(0.02), "b": near(0.03), "batch": near(0.05)}, roles)
    for row in rows:
        row["step_seconds"], row["parameters"] = costs[row["arm"]]
    answer = answers.conclude([], rows, manifest())
    assert answer.pareto == ["a", "batch"]
    for row in rows[:5]:
        row["step_seconds"] = None
    answer = answers.conclude([], rows, manifest())
    assert answer.pareto == ["b", "batch"]
    assert any("Not on the Pareto front" in note and "a" in note for note in answer.notes)


def test_times_of_a_noisy_machine_do_not_decide_the_front():
    """Times whose ranges overlap are equal, and so are errors that chance explains."""
    roles = {"a": "candidate", "batch": "baseline"}
    times = {"a": [0.017, 0.018, 0.03, 0.017, 0.018], "batch": [0.018, 0.046, 0.02, 0.019, 0.02]}
    noise = {"a": [0.05, 0.03, 0.05, 0.03, 0.04], "batch": [0.03, 0.05, 0.03, 0.05, 0.05]}
    rows = run_rows(noise, roles)
    for row in rows:
        row["step_seconds"] = times[row["arm"]][row["seed"] - 1000]
    answer = answers.conclude([], rows, manifest())
    assert (answer.best, [arm.name for arm in answer.arms]) == ("batch", ["a", "batch"])
    assert answer.pareto == ["a", "batch"]
    assert any("a stands above batch in the leaderboard" in note for note in answer.notes)
    # Ranges that are apart do decide, and the reader is told.
    for row in rows:
        row["step_seconds"] = {"a": 0.01, "batch": 0.02}[row["arm"]]
    answer = answers.conclude([], rows, manifest())
    assert (answer.pareto, answer.beaten) == (["a"], {"batch": ("a", ["time"])})
    assert any("recommended for its test error alone" in note for note in answer.notes)


def test_a_part_of_the_runs_gives_no_verdict():
    trials, _, _ = search(trials=4)
    rows = run_rows({"a": near(0.01), "batch": near(0.05)}, {"a": "candidate", "batch": "baseline"})
    assert answers.conclude(trials, rows, manifest()).advice == "Use a"
    answer = answers.conclude(trials, rows[:-1], manifest(), complete=False)
    assert (answer.rests_on, answer.advice) == (
        "validation",
        f"Try {answers.ranked(trials)[0]['words']}",
    )
    assert answer.notes == []


def test_the_trials_front_follows_the_direction():
    trials = [
        {"trial": n, "spec": "batch", "words": "batch norm", "values": {}, "status": "completed"}
        | {"score": score, "step_seconds": seconds, "parameters": 1}
        for n, (score, seconds) in enumerate([(0.9, 2.0), (0.8, 1.0), (0.7, 3.0)])
    ]
    assert answers.conclude(trials, [], manifest(direction="max")).pareto_trials == [0, 1]
    assert answers.conclude(trials, [], manifest(direction="min")).pareto_trials == [2, 1]


def test_the_ablation_compares_to_the_arm_that_it_changes():
    errors = {"a": near(0.02), "batch": near(0.05), "same": near(0.02), "no gate": near(0.04)}
    roles = {"a": "candidate", "batch": "baseline", "same": "ablation", "no gate": "ablation"}
    rows = run_rows(errors, roles)
    for row in rows[10:]:
        row["changed"], row["around"] = {"gate": row["arm"]}, "a"
    answer = answers.conclude([], rows, manifest())
    assert answer.ablated == "a"
    assert [arm.name for arm in answer.arms] == ["a", "batch"]
    verdicts = {comparison.name: comparison.verdict for comparison in answer.ablation}
    assert verdicts == {"same": "no difference shown", "no gate": "worse"}


# What to train again.


def trial_row(number, spec, score, status="completed", **values):
    return {
        "trial": number,
        "spec": spec,
        "words": spec if isinstance(spec, str) else f"{spec['name']} norm",
        "values": values,
        "status": status,
        "score": score,
    }


def test_arms_are_different_norms_and_no_baselines():
    mode = {"name": "mode", "modes": 4}
    trials = [
        trial_row(0, "batch", 0.01, learning_rate=0.3),
        trial_row(1, mode, 0.03, learning_rate=0.1),
        trial_row(2, {"modes": 4, "name": "mode"}, 0.02, learning_rate=0.2),
        trial_row(3, {"name": "mode", "modes": 2}, 0.04),
        trial_row(4, "conv", 0.001, status="stopped"),
        trial_row(5, "conv", None, status="failed"),
        trial_row(6, "conv", math.nan),
        trial_row(7, "associate", 0.05),
    ]
    arms = answers.arms(trials, 2, [{"name": "batch"}, {"name": "group", "groups": "auto"}])
    assert [(arm["trial"], arm["role"]) for arm in arms] == [
        (2, "candidate"),
        (3, "candidate"),
        (0, "baseline"),
        (None, "baseline"),
    ]
    assert arms[0]["values"] == {"learning_rate": 0.2}
    assert arms[2]["values"] == {"learning_rate": 0.3}
    # Names are what rows are told apart by.
    assert [arm["arm"] for arm in arms][:3] == ["mode norm", "mode norm (trial 3)", "batch"]
    assert len({arm["arm"] for arm in arms}) == 4
    best = answers.arms(trials, 1, [], direction="max")
    assert best[0]["trial"] == 7


def test_models_without_a_spec_are_told_apart_by_their_hyperparameters():
    trials = [
        {**trial_row(n, "x", n / 10, units=n % 2), "spec": None, "words": "a model"}
        for n in range(4)
    ]
    arms = answers.arms(trials, 3, [])
    assert [arm["trial"] for arm in arms] == [0, 1]
    assert len({arm["arm"] for arm in arms}) == 2


class Space:
    """A small conditional space, as `search.space.NormSpace` describes itself."""

    ROWS = (
        ("norm", ["batch", "ilm_group"], False, None, []),
        ("groups", [8, 2, 4, 16], False, "norm", ["ilm_group"]),
        ("activation", ["tanh", "relu", "sigmoid", "linear"], False, "norm", ["ilm_group"]),
        ("rate", [0.001, 0.1], True, None, []),
        ("modes", [2, 4], False, "norm", ["mode"]),
    )

    def rows(self):
        keys = ("name", "values", "range", "parent", "parent_values")
        return [dict(zip(keys, row, strict=True)) for row in self.ROWS]

    def active(self, values):
        active = {}
        for row in self.rows():
            if row["parent"] is None or active.get(row["parent"]) in row["parent_values"]:
                active[row["name"]] = values.get(row["name"], row["values"][0])
        return active

    def key(self, values):
        return json.dumps(self.active(values), sort_keys=True)

    def spec_from(self, values):
        spec = {"name": values["norm"], **values}
        return {key: value for key, value in spec.items() if key not in ("norm", "rate")}


def test_an_ablation_changes_one_thing_at_a_time():
    best = trial_row(3, {"name": "ilm_group"}, 0.1, norm="ilm_group", groups=4, activation="tanh")
    best["values"]["rate"] = 0.01
    arms = answers.ablation_arms(best, Space())
    assert [arm["changed"] for arm in arms[:4]] == [
        {"groups": 2},
        {"groups": 8},
        {"activation": "relu"},
        {"activation": "sigmoid"},
    ]
    rates = [arm["changed"]["rate"] for arm in arms[4:]]
    assert rates == pytest.approx([0.01 / 10**0.5, 0.01 * 10**0.5])
    for arm in arms:
        different = {k for k in arm["values"] if arm["values"][k] != best["values"][k]}
        assert different == set(arm["changed"])
        assert (arm["role"], arm["around"], arm["trial"]) == ("ablation", "ilm_group norm", 3)
        assert arm["spec"]["groups"] == arm["values"]["groups"]
    assert len({arm["arm"] for arm in arms}) == len(arms)
    plain = trial_row(0, "batch", 0.1, norm="batch", rate=0.1)
    assert [list(arm["changed"]) for arm in answers.ablation_arms(plain, Space())] == [["rate"]]


# Importance.


def conditional_trials(rng, count, matters):
    """Trials of a conditional space, in which one hyperparameter decides the score."""
    rows = []
    for _ in range(count):
        values = {"norm": str(rng.choice(["batch", "group", "mode"])), "rate": float(rng.random())}
        if values["norm"] == "group":
            values["groups"] = int(rng.choice([2, 4, 8]))
        if values["norm"] == "mode":
            values["modes"] = int(rng.choice([2, 4]))
        effect = values.get(matters, 0)
        if isinstance(effect, str):
            effect = {"batch": 0.0, "group": 1.0, "mode": 2.0}[effect]
        row = {"values": values, "status": "completed", "score": effect + rng.normal(0, 0.05)}
        rows.append(row)
    return rows


@pytest.mark.parametrize("matters", ["norm", "rate", "groups"])
def test_what_matters_is_found_among_conditions(matters, rng):
    found = importance.of_trials(conditional_trials(rng, 60, matters))
    most, share = next(iter(found.shares.items()))
    # `groups` only matters where there are groups, so there the norm matters too.
    expected = {"norm", "groups"} if matters == "groups" else {matters}
    assert most in expected
    assert share > 0.4
    assert found.explained > 0.3
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == {"norm", "rate", "groups", "modes"}


def test_a_condition_carries_what_hangs_on_it(rng):
    """What hangs on a hyperparameter must not give it away, nor take any of its importance."""
    rows = []
    for _ in range(60):
        values = {"gated": bool(rng.integers(2)), "rate": float(rng.random())}
        if values["gated"]:
            values |= {f"gate_{n}": int(rng.integers(5)) for n in range(4)}
        score = values["gated"] + values["rate"]
        rows.append({"values": values, "status": "completed", "score": score})
    shares = importance.of_trials(rows).shares
    assert shares["gated"] > 0.6
    assert shares["gated"] + shares["rate"] > 0.98


def test_noise_is_not_important(rng):
    rows = [
        {"values": {"a": int(rng.integers(4)), "b": float(rng.random())}, "status": "completed"}
        | {"score": float(rng.random())}
        for _ in range(40)
    ]
    found = importance.of_trials(rows)
    assert found.explained <= 0
    assert set(found.shares.values()) == {0.0}
    assert "do not show" in found.note


def test_failed_trials_count_as_the_last(rng):
    rows = conditional_trials(rng, 40, "nothing")
    for row in rows:
        if row["values"]["rate"] > 0.6:
            row["status"], row["score"] = "failed", None
    assert next(iter(importance.of_trials(rows).shares)) == "rate"
    for direction in ("min", "max"):
        assert importance.of_trials(rows, direction).explained > 0.3


def test_few_or_equal_trials_tell_nothing(rng):
    few = importance.of_trials(conditional_trials(rng, 9, "norm"))
    assert (few.shares, few.explained) == ({}, None)
    assert "Too few trials" in few.note
    same = [{"values": {"a": 1}, "status": "completed", "score": 0.1}] * 12
    assert "same hyperparameters" in importance.of_trials(same).note
    assert importance.of_trials([]).shares == {}


def test_evaluations_that_were_unfair_are_noted():
    notes: list = []
    said = f"error at chance level; {formats.LAGS}"
    trials = [{"words": "batch norm", "warning": f"{said} (0.1 with those of training data)"}]
    runs = [{"arm": "mode norm", "warning": "error at chance level"}] * 2 + [{"arm": "other"}]
    advising.note_warnings(map(TrialRow.of, trials), map(AnswerRow.of, runs), notes)
    assert notes == [
        f"1 trial ended with an {said}: batch norm. More epochs or --reestimate help.",
        "2 trainings for the answer ended with an error at chance level: mode norm.",
    ]
