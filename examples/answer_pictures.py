"""Draw the pictures of docs/answers.md: what is chance in an answer, and what its words mean.

Nothing is trained: errors are drawn whose truth is known, and judged as a search judges them. Run
it from the root of the repository:

    python examples/answer_pictures.py
"""

import pathlib

import matplotlib.pyplot as plt
import numpy as np

from search.answer.judging import compare
from search.answer.results import ALPHA, Arm
from search.answer.sequential import Rounds

DOCS = pathlib.Path("docs")
BLUE, ORANGE, GREY, GREEN = "#1f6feb", "#d9730d", "#8a8f98", "#2a9d55"
EXAMPLES = 360
# One norm gets so many of the examples wrong, the other so many.
LEVELS = {"new norm": 0.08, "plain norm": 0.11}
MARGIN = 1.0


def wrong(rng, level, seeds, examples, own):
    """Which of the examples are wrong: some examples are hard, some seeds are bad."""
    hard = rng.beta(0.25, 0.25 * (1 / level - 1), examples)
    bad = own * rng.standard_normal((seeds, 1))
    return rng.random((seeds, examples)) < np.clip(hard + bad, 0, 1)


def arm(name, values):
    """An arm with a value for each seed and each example."""
    errors = dict(enumerate(values.mean(axis=1).tolist()))
    found = Arm(name, "", name, errors, {}, mean=float(values.mean()))
    found.values_of = dict(enumerate(values.astype(float)))
    return found


def axes_of(figure_size, xlabel, title):
    figure, axes = plt.subplots(figsize=figure_size, layout="constrained")
    axes.set_xlabel(xlabel)
    axes.set_title(title, loc="left", fontsize=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)
    return figure, axes


def sources():
    """Errors of one norm: on other seeds, on other examples, and on both."""
    rng = np.random.default_rng(4)
    level, many = LEVELS["new norm"], 9
    pool = wrong(rng, level, many, many * EXAMPLES, 0.012)
    parts = np.split(pool, many, axis=1)
    errors = {
        "other seeds, the same examples": [100 * one.mean() for one in parts[0]],
        "the same seed, other examples": [100 * part[0].mean() for part in parts],
        "other seeds, other examples": [100 * parts[n][n].mean() for n in range(many)],
    }
    figure, axes = axes_of(
        (7, 2.2), "test error, %", f"One norm, trained and tested {many} times: {EXAMPLES} examples"
    )
    for row, (name, values) in enumerate(errors.items()):
        axes.plot(values, np.full(many, -row), "o", color=BLUE, alpha=0.6, markersize=7)
        axes.text(-0.02, -row, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.axvline(100 * level, color=GREY, linewidth=1, linestyle=":")
    axes.set(yticks=[], ylim=(-2.6, 0.6))
    return figure


def verdicts():
    """Four intervals, and what they are called."""
    lines = [
        ("better", -3.0, -0.9),
        ("worse", 0.6, 2.4),
        ("equal within the margin", -0.7, 0.5),
        ("no difference shown", -2.2, 0.8),
    ]
    figure, axes = axes_of(
        (7, 2.4),
        "difference to the best plain norm, points (less is better)",
        "An interval says what it is called",
    )
    axes.axvspan(-MARGIN, MARGIN, color=GREY, alpha=0.15, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=1)
    colours = (GREEN, ORANGE, BLUE, GREY)
    for row, ((name, low, high), colour) in enumerate(zip(lines, colours, strict=True)):
        axes.plot([low, high], [-row, -row], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot((low + high) / 2, -row, "o", color=colour)
        axes.text(-0.02, -row, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
    axes.text(MARGIN, 0.75, "margin", ha="right", va="bottom", color=GREY, fontsize=8)
    axes.set(yticks=[], ylim=(-3.6, 0.75))
    return figure


def looks():
    """The interval of one difference at each look, and with a fixed number of seeds."""
    rng = np.random.default_rng(11)
    rounds = Rounds(20)
    hard = 2000
    values = {name: wrong(rng, level, 20, hard, 0.012) for name, level in LEVELS.items()}
    figure, axes = axes_of(
        (7, 3),
        "seeds",
        "Looking again and again: each interval is wider than if it were the only look",
    )
    for count in rounds.seeds():
        new, plain = (arm(name, one[:count]) for name, one in values.items())
        for shift, colour, level in (
            (-0.12, BLUE, rounds.level(count, ALPHA / 2)),
            (0.12, GREY, ALPHA / 2),
        ):
            (one,) = compare([new], plain, alpha=level)
            ends = [100 * one.low, 100 * one.high]
            axes.plot([count + shift] * 2, ends, color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot(count + shift, 100 * one.difference, "o", color=colour)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.plot([], [], color=BLUE, linewidth=3, label="--seeds auto")
    axes.plot([], [], color=GREY, linewidth=3, label="this number of seeds alone")
    axes.legend(frameon=False, loc="lower right")
    axes.spines["left"].set_visible(True)
    axes.tick_params(left=True)
    axes.set(ylabel="difference, points", xticks=rounds.seeds())
    return figure


PICTURES = {"answers_chance": sources, "answers_verdicts": verdicts, "answers_looks": looks}


def main():
    """Write all pictures."""
    for name, draw in PICTURES.items():
        figure = draw()
        figure.savefig(DOCS / f"{name}.png", dpi=120)
        plt.close(figure)


if __name__ == "__main__":
    main()
