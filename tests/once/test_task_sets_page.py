"""docs/data.md and its picture are what examples/task_sets.py makes of the data sets.

The errors of the networks are taken from the page, because training takes minutes. One of them is
trained for a while, to see that it learns.
"""

import re

import numpy as np
from PIL import Image

from examples import task_sets
from readme import ROOT
from search.data import diabetes, edges2photos, shapes

PAGE = (ROOT / "docs" / "data.md").read_text()
TRAINED = {
    name: tuple(map(float, ends))
    for name, *ends in re.findall(
        r"^\| `(\w+)` .* ([\d.]+) \(([\d.]+) to ([\d.]+)\) \|", PAGE, re.MULTILINE
    )
}
SETS = (diabetes, shapes, edges2photos)


def test_the_page_is_of_these_data_sets():
    found = {}
    for load in SETS:
        data = load()
        mean, low, high = TRAINED[data.name]
        # Three numbers with that mean and range.
        found[data.name] = (
            task_sets.guess(data),
            task_sets.simple(data),
            [low, high, 3 * mean - low - high],
        )
    assert task_sets.page(found) == PAGE


def test_a_network_is_better_than_a_guess():
    for load in SETS:
        data = load()
        assert TRAINED[data.name][0] < 0.9 * task_sets.guess(data)


def test_the_picture_is_of_these_data_sets():
    with Image.open(ROOT / "docs" / "data.png") as image:
        committed = image.convert("RGB")
    made = task_sets.picture().convert("RGB")
    assert made.size == committed.size
    assert abs(np.asarray(made, int) - np.asarray(committed, int)).max() <= 1


def test_a_network_learns():
    data = diabetes()
    (error,) = task_sets.trained(data, epochs=15, seeds=1)
    assert error < 0.9 * task_sets.guess(data)


def test_edges_are_of_their_photographs():
    data = edges2photos()
    steps = np.abs(np.diff(data.test.y.mean(axis=-1), axis=2))
    edges = data.test.x[:, :, :-1, 0] > 0
    assert steps[edges].mean() > 4 * steps[~edges].mean()
    corner = data.test.y[:, :8, :8].mean(axis=(1, 2))
    np.testing.assert_allclose(data.test.x[:, 3, 5, 1:], corner, rtol=1e-4)
