"""The pictures of docs/answers.md are what examples/answer_pictures.py draws."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from examples import answer_pictures
from readme import ROOT
from search.answer.judging import compare
from search.answer.sequential import Rounds


@pytest.mark.parametrize("name", answer_pictures.PICTURES)
def test_the_picture_is_drawn_by_the_example(name, tmp_path):
    figure = answer_pictures.PICTURES[name]()
    figure.savefig(tmp_path / "a.png", dpi=120)
    plt.close(figure)
    sizes = []
    for path in (tmp_path / "a.png", ROOT / "docs" / f"{name}.png"):
        with Image.open(path) as image:
            sizes.append(image.size)
    # Fonts differ a little from machine to machine.
    np.testing.assert_allclose(*sizes, rtol=0.02)
    assert f"({name}.png)" in (ROOT / "docs" / "answers.md").read_text()


def test_the_page_says_when_the_looks_end(monkeypatch):
    shown = []

    def noted(arms, reference, **options):
        found = compare(arms, reference, **options)
        shown.append((found[0].seeds, options["alpha"], found[0].high < 0))
        return found

    monkeypatch.setattr(answer_pictures, "compare", noted)
    plt.close(answer_pictures.looks())
    first = min(seeds for seeds, alpha, below in shown if below and alpha < 0.02)
    page = (ROOT / "docs" / "answers.md").read_text()
    assert f"left out after {first} seeds, and the other {20 - first} are not trained" in page
    looks = [str(count) for count in Rounds(20).seeds()]
    for name in ("answers.md", "answers_method.md"):
        text = " ".join((ROOT / "docs" / name).read_text().split())
        assert f"after {', '.join(looks[:-1])} and {looks[-1]} seeds" in text
