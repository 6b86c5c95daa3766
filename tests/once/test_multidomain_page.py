"""docs/multidomain.md and its picture are what examples/multidomain.py makes of the data set.

The accuracies are taken from the page, because training the linear classifiers takes minutes. One
of them is trained on a few examples, to see that they work.
"""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from examples import multidomain
from readme import ROOT

PAGE = (ROOT / "docs" / "multidomain.md").read_text()
ACCURACIES = [
    tuple(float(percent) / 100 for percent in row)
    for row in re.findall(r"^\| \w+ \| ([\d.]+) % \| ([\d.]+) % \|$", PAGE, re.MULTILINE)
]


@pytest.fixture(scope="module")
def data():
    return multidomain.multidomain()


def test_the_page_and_the_picture_are_of_this_data_set(data):
    assert multidomain.page(data, ACCURACIES) == PAGE
    committed = Image.open(ROOT / "docs" / "multidomain.png").convert("RGB")
    made = multidomain.picture(data).convert("RGB")
    assert made.size == committed.size
    assert abs(np.asarray(made, int) - np.asarray(committed, int)).max() <= 1


# Few steps are enough to see that it learns.
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_a_classifier_learns_the_plain_digits(data):
    few = dataclasses.replace(data.train, x=data.train.x[::10], y=data.train.y[::10])
    few = dataclasses.replace(data, train=few)
    probe = multidomain.train(few, 0, steps=20)
    assert 0.4 < multidomain.accuracy(probe, few, 0) <= 1
