"""Measure the intervals over splits of the data: how often they cover, and how wide they are.

A pool of examples is drawn, with a difference between two norms on each of them, and split into
training and test part again and again. What a training part does to the difference is of its own,
or adds up from its examples; seeds come on top. The truth is the mean over all pools. "One split"
is the interval over as many seeds and the examples of one split, "plain t" that of a t test over
the splits without the correction for what they have in common. All are for 95 %. Nothing is
trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.tables import Table

HELP = "measure how often the intervals over splits of the data cover"
TRAIN, TEST = 320, 100
SPLITS, SEEDS = (3, 5, 10), (1, 2)
# On either side, so that intervals are for 95 %.
ALPHA = 0.025


class Law(NamedTuple):
    """How differences come about: from examples, training parts and seeds.

    Attributes:
        name: for a reader.
        of_examples: `of_examples(rng, count)`, on the examples of a pool, as if trained for ever.
        of_parts: `of_parts(rng, parts)`, of each split, from the places of its training examples.
        of_seeds: the deviation of the seeds.
        of_both: the deviation of what examples and seeds do together.
    """

    name: str
    of_examples: Callable[[np.random.Generator, int], np.ndarray]
    of_parts: Callable[[np.random.Generator, np.ndarray], np.ndarray]
    of_seeds: float = 0.05
    of_both: float = 0.5


def _normal(rng, count):
    return rng.normal(size=count)


def _rare(rng, count):
    return rng.choice([-1.0, 0.0, 1.0], p=[0.03, 0.94, 0.03], size=count)


def _nothing(rng, parts):
    return np.zeros(len(parts))


def _own(rng, parts):
    return rng.normal(0, 0.15, len(parts))


def _heavy(rng, parts):
    return 0.1 * rng.standard_t(3, len(parts))


def _added(rng, parts):
    """As large as `_own`, and alike where training parts are."""
    influence = rng.normal(0, 0.15 * np.sqrt(parts.shape[1]), TRAIN + TEST)
    return influence[parts].mean(1)


LAWS = [
    Law("the split does nothing", _normal, _nothing),
    Law("seeds alone", lambda rng, count: 0.01 * _normal(rng, count), _nothing, 0.15, 0.01),
    Law("each training part has an effect of its own", _normal, _own),
    Law("the same, heavy-tailed", _normal, _heavy),
    Law("the same, few examples differ", _rare, _own, 0.02, 0.0),
    Law("few examples differ, and nothing else", _rare, _nothing, 0.0, 0.0),
    Law("effects of training examples add up", _normal, _added),
]


def drawn(law: Law, splits: int, rng: np.random.Generator):
    """The examples' part of the differences in each split, with that of the training part."""
    order = rng.permuted(np.tile(np.arange(TRAIN + TEST), (splits, 1)), axis=1)
    return (
        law.of_examples(rng, TRAIN + TEST)[order[:, TRAIN:]]
        + law.of_parts(rng, order[:, :TRAIN])[:, None]
    )


def with_seeds(law: Law, values: np.ndarray, seeds: int, rng: np.random.Generator):
    """Differences of `(splits, seeds, examples)`."""
    splits, examples = values.shape
    return (
        values[:, None]
        + law.of_seeds * rng.normal(size=(splits, seeds, 1))
        + law.of_both * rng.normal(size=(splits, seeds, examples))
    )


def judged(values: np.ndarray, split_of: dict[int, int] | None = None, overlap: float = 0.0):
    """The comparison of an arm that has these differences to another.

    Args:
        values: of `(seeds, examples)`.
        split_of: the split of each seed; None where there is one.
        overlap: of the splits.
    """
    from search.answer.judging import compare
    from search.answer.results import Arm, Layout

    layout = None if split_of is None else Layout(split_of, overlap)
    arms = []
    for name, own in (("ours", values), ("theirs", np.zeros_like(values))):
        arm = Arm(name, "", name, dict(enumerate(own.mean(1).tolist())), {}, layout=layout)
        arm.values_of = dict(enumerate(own))
        arms.append(arm)
    return compare(arms[:1], arms[1], alpha=ALPHA)[0]


class Found(NamedTuple):
    """Of the intervals, which shares cover, and how wide they are on average."""

    one_split: float
    plain: float
    splits: float
    width_of_one_split: float
    width: float


def measured(law: Law, splits: int, seeds: int, answers: int) -> Found:
    """What the intervals of many answers do; the true difference is 0."""
    from search import statistics

    rng = np.random.default_rng([splits, seeds, LAWS.index(law)])
    found = []
    for _ in range(answers):
        pool = drawn(law, splits, rng)
        one = judged(with_seeds(law, pool[:1], splits * seeds, rng)[0])
        values = with_seeds(law, pool, seeds, rng)
        split_of = {place: place // seeds for place in range(splits * seeds)}
        all_of_them = judged(values.reshape(-1, TEST), split_of, TEST / TRAIN)
        plain = statistics.mean_interval(values.mean((1, 2)).tolist())
        found.append(
            (
                one.low <= 0 <= one.high,
                plain.low <= 0 <= plain.high,
                all_of_them.low <= 0 <= all_of_them.high,
                one.high - one.low,
                all_of_them.high - all_of_them.low,
            )
        )
    return Found(*np.mean(np.array(found, dtype=float), axis=0))


def add_arguments(parser):
    parser.add_argument("--splits", type=int, nargs="+", default=SPLITS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of each split")
    parser.add_argument("--answers", type=int, default=1000, help="of each kind")


def environment(options):
    return {}


def run(options):
    columns = ["law", "splits", "seeds of each", "one split: covers", "plain t: covers", "covers"]
    table = Table(
        f"{TRAIN} training and {TEST} test examples", [*columns, "times as wide as one split"]
    )
    for law in LAWS:
        for splits in options.splits:
            for seeds in options.seeds:
                found = measured(law, splits, seeds, options.answers)
                shares = (found.one_split, found.plain, found.splits)
                wide = found.width / found.width_of_one_split
                table.rows.append(
                    [
                        law.name,
                        str(splits),
                        str(seeds),
                        *(f"{100 * share:.1f}" for share in shares),
                        f"{wide:.1f}",
                    ]
                )
    print(table.markdown())
    return 0
