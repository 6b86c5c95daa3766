"""docs/data.md and its picture are what examples/task_sets.py makes of the data sets.

The errors of the networks are taken from the page, because training takes minutes. One of them is
trained for a while, to see that it learns.
"""

import numpy as np
from PIL import Image

from examples import task_sets
from readme import ROOT
from search.data import diabetes, edges2photos, reversal

PAGE = (ROOT / "docs" / "data.md").read_text()
TRAINED = task_sets.errors_on(PAGE)


def test_the_page_is_of_these_data_sets():
    found = {}
    for load in task_sets.SETS:
        data = load()
        found[data.name] = (task_sets.guess(data), task_sets.simple(data), TRAINED[data.name])
    assert task_sets.page(found) == PAGE


def test_a_network_is_better_than_a_guess():
    for load in task_sets.SETS:
        data = load()
        assert max(TRAINED[data.name]) < 0.9 * task_sets.guess(data)


def test_the_picture_is_of_these_data_sets():
    with Image.open(ROOT / "docs" / "data.png") as image:
        committed = image.convert("RGB")
    made = task_sets.picture().convert("RGB")
    assert made.size == committed.size
    assert abs(np.asarray(made, int) - np.asarray(committed, int)).max() <= 1


def test_a_network_learns():
    data = diabetes()
    (error,) = task_sets.errors_of(data, epochs=15, seeds=1)
    assert error < 0.9 * task_sets.guess(data)


def test_edges_are_of_their_photographs():
    data = edges2photos()
    steps = np.abs(np.diff(data.test.y.mean(axis=-1), axis=2))
    edges = data.test.x[:, :, :-1, 0] > 0
    assert steps[edges].mean() > 4 * steps[~edges].mean()
    corner = data.test.y[:, :8, :8].mean(axis=(1, 2))
    np.testing.assert_allclose(data.test.x[:, 3, 5, 1:], corner, rtol=1e-4)


def test_translations_are_mapped_one_for_one_and_reversed():
    data = reversal()
    meaning: dict = {}
    seen: list = []
    for part in (data.train, data.validation, data.test):
        for x, y in zip(part.x, part.y, strict=True):
            source, target = x[x > 0], y[y > 0]
            assert 3 <= len(source) <= 8
            # Padding is behind them.
            assert (x[len(source) :] == 0).all()
            assert (y[len(source) :] == 0).all()
            for one, other in zip(source, target[::-1], strict=True):
                assert meaning.setdefault(one, other) == other
            seen.append(tuple(x))
    assert sorted(meaning) == sorted(meaning.values()) == list(range(1, 11))
    assert list(meaning) != list(meaning.values())
    assert len(set(seen)) == len(seen) == 3500
