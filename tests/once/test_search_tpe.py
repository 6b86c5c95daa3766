"""The Parzen estimator: against densities worked out by hand, and what it proposes."""

import math

import numpy as np
import pytest
from scipy import stats

from search.tpe import MOST_GOOD, Categorical, Numeric, ParzenEstimator, _Mixture, _weights_by_age

NORM = Categorical("norm", ["batch", "group", "mode"])
GROUPS = Categorical("groups", [2, 4, 8, 16])
RATE = Numeric("rate", 1e-4, 1e-1, log=True)
DEPTH = Numeric("depth", 1, 9, step=2, integer=True)
WHERE = [("norm", ["group", "mode"])]
SPACE = [(NORM, ()), (RATE, ()), (GROUPS, WHERE), (DEPTH, WHERE)]


def points(count, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        values = {
            "norm": str(generator.choice(NORM.values)),
            "rate": 10 ** generator.uniform(-4, -1),
        }
        if values["norm"] != "batch":
            values |= {"groups": int(generator.choice(GROUPS.values))}
            values |= {"depth": int(generator.choice([1, 3, 5, 7, 9]))}
        yield values


def filled(count, score=lambda values: values["rate"], seed=0, space=SPACE):
    estimator = ParzenEstimator(space)
    told = []
    for number, values in enumerate(points(count, seed)):
        estimator.add(values)
        estimator.tell(number, score(values))
        told.append(values)
    return estimator, told


def test_the_density_of_values_without_order():
    estimator, told = filled(30, space=[(NORM, ()), (GROUPS, WHERE)])
    group = estimator.groups[1]
    present = np.array([values["norm"] != "batch" for values in told])
    rows = np.flatnonzero(present)
    mixture = _Mixture(group, rows, np.random.default_rng(0))
    weights = np.append(_weights_by_age(len(rows)), 1)
    weights = weights / weights.sum()
    spread = 1 / (len(rows) + 1)
    for code, value in enumerate(GROUPS.values):
        kernels = [(told[row]["groups"] == value) + spread for row in rows]
        expected = np.dot(weights, [*np.divide(kernels, 1 + 4 * spread), 1 / 4])
        found = mixture.log_density(np.array([[code]]), np.zeros((1, 0)))
        np.testing.assert_allclose(np.exp(found), [expected], rtol=1e-12)


def test_the_density_of_numbers():
    estimator, told = filled(12, space=[(RATE, ())])
    rows = np.arange(12)
    mixture = _Mixture(estimator.groups[0], rows, np.random.default_rng(0))
    width = mixture._width
    places = np.linspace(0.01, 0.99, 5)
    expected = 0
    centers = [(math.log10(values["rate"]) + 4) / 3 for values in told]
    for center, scale in [*((center, width) for center in centers), (0.5, 1)]:
        ends = (0 - center) / scale, (1 - center) / scale
        expected = expected + stats.truncnorm.pdf(places, *ends, center, scale) / 13
    found = mixture.log_density(np.zeros((5, 0), int), places[:, None])
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9)


def test_draws_have_the_density():
    estimator, _ = filled(8, space=[(NORM, ()), (GROUPS, WHERE), (DEPTH, WHERE)])
    group = estimator.groups[1]
    mixture = _Mixture(group, np.flatnonzero(group.present.rows[:, 0]), np.random.default_rng(0))
    codes, places = mixture.draw(np.random.default_rng(1), 40_000)
    assert places.min() >= 0
    assert places.max() <= 1
    count = np.bincount(codes[:, 0], minlength=4) / len(codes)
    grid = (np.arange(200) + 0.5) / 200
    continuous = Numeric("depth", 0, 1)
    group.numeric[0] = continuous
    density = [
        np.exp(mixture.log_density(np.full((200, 1), code), grid[:, None])).mean()
        for code in range(4)
    ]
    np.testing.assert_allclose(sum(density), 1, rtol=1e-3)
    np.testing.assert_allclose(count, density, atol=0.01)


@pytest.mark.parametrize(
    "axis", [RATE, DEPTH, Numeric("n", 1, 100, log=True, integer=True, step=1)]
)
def test_values_and_places(axis):
    found = [axis.value(place) for place in np.linspace(0, 1, 50)]
    assert (found[0], found[-1]) == pytest.approx((axis.low, axis.high))
    assert found == sorted(found)
    for value in found:
        assert axis.value(axis.code(value)) == pytest.approx(value)


def test_proposals_are_points_and_depend_on_seed_and_trials_alone():
    estimator, _ = filled(40)
    again, _ = filled(40)
    found = [estimator.propose(seed, 10) for seed in range(50)]
    assert found == [again.propose(seed, 10) for seed in range(50)]
    for values in found:
        assert ("groups" in values) == ("depth" in values) == (values["norm"] != "batch")
        assert values.get("depth", 1) in (1, 3, 5, 7, 9)
        assert 1e-4 <= values["rate"] <= 1e-1
    low = np.mean([values["rate"] < 1e-3 for values in found])
    assert low > 0.7
    assert np.mean([estimator.propose(seed, 99)["rate"] < 1e-3 for seed in range(50)]) < 0.6


def test_who_runs_and_who_was_stopped_keeps_others_away():
    estimator = ParzenEstimator([(NORM, ())])
    for number in range(20):
        estimator.add({"norm": NORM.values[number % 3]})
        # Whoever was stopped is behind all that were not, however good it looked.
        stopped = 3 if number % 3 == 0 else None
        estimator.tell(number, 0.0 if stopped else 1.0 + number % 3, stopped)
    assert estimator.propose(0, 10) == {"norm": "group"}
    for _ in range(40):
        estimator.add({"norm": "group"})
    good, others = estimator._good_and_others()
    assert set(good) == {1, 4}
    assert len(others) == 58
    tried = {"group", "mode"}
    assert estimator.propose(0, 10, lambda values: values["norm"] in tried) == {"norm": "batch"}


def test_of_stopped_trials_the_later_is_better():
    estimator = ParzenEstimator([(NORM, ())])
    for number, epoch in enumerate((3, 8, 5)):
        estimator.add({"norm": "batch"})
        estimator.tell(number, float(number), epoch)
    assert list(estimator._good_and_others()[0]) == [1]


def test_thousands_of_trials():
    estimator, _ = filled(3000)
    assert len(estimator) == 3000
    good, others = estimator._good_and_others()
    assert (len(good), len(others)) == (MOST_GOOD, 3000 - MOST_GOOD)
    assert estimator.propose(0, 10)["rate"] < 1e-3


def test_failed_trials_count_for_nothing():
    estimator = ParzenEstimator([(NORM, ())])
    for number in range(12):
        estimator.add({"norm": "batch"})
        estimator.tell(number, None)
    assert not len(np.concatenate(estimator._good_and_others()))
    found = {estimator.propose(seed, 10)["norm"] for seed in range(20)}
    assert found == set(NORM.values)
