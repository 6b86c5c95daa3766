"""Measure what answers claim: how often their intervals cover, how often they are wrong.

Arms with known errors are drawn: 3 candidates and 4 baselines, on seeds and test examples that
are new each time. In half of the answers all arms are equal; in the other half the first candidate
is better. "t test" is the paired t test over seeds with Holm's correction, for comparison.
Nothing is trained. Larger tests are drawn less often; the column "answers" says how often.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.tables import Table

HELP = "measure how often the intervals of answers cover, and how often they are wrong"
CANDIDATES, BASELINES = 3, 4
ARMS = CANDIDATES + BASELINES
NAMES = [*(f"c{index}" for index in range(CANDIDATES)), *(f"b{i}" for i in range(BASELINES))]
SEEDS = (3, 5, 10, 30)
EXAMPLES = (200, 360, 2000, 10000)
# Of the values that are drawn for one line of the table.
MOST_VALUES = 10_000_000
# The planted difference: a share of the examples, or of a law's scale.
GAIN = 0.05


class Law(NamedTuple):
    """A law of the values of (arms, seeds, examples).

    `draw` makes equal arms. Of a law of right and wrong, `GAIN` is the share of the examples that
    all but the first candidate get wrong besides; of the others it is added to their values, in
    units of `scale`.
    """

    name: str
    draw: Callable[[np.random.Generator, int, int], np.ndarray]
    binary: bool = False
    scale: float = 1.0


def _wrong(rng, probability, seeds, examples):
    shape = (ARMS, seeds, examples)
    return (rng.random(shape, dtype=np.float32) < probability).astype(np.float32)


def _normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def normal(rng, seeds, examples):
    return (
        0.1 * _normal(rng, ARMS, seeds, 1)
        + _normal(rng, 1, 1, examples)
        + 0.7 * _normal(rng, ARMS, 1, examples)
        + _normal(rng, ARMS, seeds, examples)
    )


def binomial(rng, seeds, examples):
    return _wrong(rng, 0.1, seeds, examples)


def rare(rng, seeds, examples):
    return _wrong(rng, 0.01, seeds, examples)


def heavy(rng, seeds, examples):
    effect = 0.05 * rng.standard_t(2, (ARMS, seeds, 1)).astype(np.float32)
    return effect + _normal(rng, ARMS, 1, examples) + _normal(rng, ARMS, seeds, examples)


def skewed(rng, seeds, examples):
    effect = 0.2 * rng.standard_exponential((ARMS, seeds, 1), dtype=np.float32)
    return effect + _normal(rng, ARMS, 1, examples) + _normal(rng, ARMS, seeds, examples)


def hard_examples(rng, seeds, examples):
    return _wrong(rng, rng.beta(0.3, 2.7, (1, 1, examples)).astype(np.float32), seeds, examples)


def own_misses(rng, seeds, examples):
    own = rng.beta(0.1, 0.9, (ARMS, 1, examples)).astype(np.float32)
    return _wrong(rng, own, seeds, examples)


def correlated(rng, seeds, examples):
    effect = 0.03 * _normal(rng, 1, seeds, 1) + 0.01 * _normal(rng, ARMS, seeds, 1)
    return _wrong(rng, 0.15 + effect, seeds, examples)


def noisy_candidates(rng, seeds, examples):
    scale = np.where(np.arange(ARMS) < CANDIDATES, 0.04, 0.004).astype(np.float32)
    effect = scale[:, None, None] * _normal(rng, ARMS, seeds, 1)
    own = 0.1 * (rng.random((ARMS, 1, examples)) < 0.5)
    return _wrong(rng, 0.2 + effect + own, seeds, examples)


def collapsing(rng, seeds, examples):
    collapsed = 0.5 * (rng.random((ARMS, seeds, 1)) < 0.05)
    return _wrong(rng, 0.1 + collapsed, seeds, examples)


def losses(rng, seeds, examples):
    effect = 0.8 * _normal(rng, 1, 1, examples) + 0.5 * _normal(rng, ARMS, 1, examples)
    return np.exp(effect + 0.1 * _normal(rng, ARMS, seeds, 1) + _normal(rng, ARMS, seeds, examples))


LAWS = [
    Law("normal", normal, scale=4),
    Law("binomial", binomial, True),
    Law("binomial, 1 % wrong", rare, True),
    Law("heavy-tailed seeds", heavy, scale=4),
    Law("skewed seeds", skewed, scale=4),
    Law("hard examples, the same for all", hard_examples, True),
    Law("each arm misses its own", own_misses, True),
    Law("correlated seeds", correlated, True),
    Law("noisy candidates, quiet baselines", noisy_candidates, True),
    Law("runs that collapse", collapsing, True),
    Law("losses, log-normal", losses, scale=8),
]


def planted(law: Law, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The values with all arms but the first candidate made worse by a known amount on average."""
    values = values.copy()
    if law.binary:
        more = rng.random(values[1:].shape, dtype=np.float32) < GAIN
        values[1:] = np.maximum(values[1:], more)
    else:
        values[1:] += law.scale * GAIN
    return values


def mean_of(law: Law) -> float:
    """The mean of a law of right and wrong, drawn."""
    rng = np.random.default_rng(7)
    return float(np.mean([law.draw(rng, 300, 300).mean() for _ in range(10)]))


class Found(NamedTuple):
    """What an answer did, or the shares of many."""

    covered_all: float
    covered_best: float
    wrong: float
    found: float
    t_covered_best: float
    t_wrong: float
    t_found: float


def judged(values: np.ndarray, truth: np.ndarray) -> Found:
    """What the answer to some values is, and what is true of it."""
    from search import statistics
    from search.answer.judging import compare
    from search.answer.results import BETTER, NO_DIFFERENCE, Arm

    means = values.mean(2, dtype=float)
    arms = []
    for name, mean, own in zip(NAMES, means, values, strict=True):
        errors = dict(enumerate(mean.tolist()))
        arm = Arm(name, "", name, errors, {}, mean=float(mean.mean()))
        arm.values_of = dict(enumerate(own))
        arms.append(arm)
    at = CANDIDATES + int(np.argmin(means[CANDIDATES:].mean(1)))
    true = truth[:CANDIDATES] - truth[at]
    comparisons = compare(arms[:CANDIDATES], arms[at], choices=BASELINES)
    covers = [c.low <= t <= c.high for c, t in zip(comparisons, true, strict=True)]
    best = int(np.argmin(means[:CANDIDATES].mean(1)))
    wrong = [
        c.verdict != NO_DIFFERENCE and not (t < 0 if c.verdict == BETTER else t > 0)
        for c, t in zip(comparisons, true, strict=True)
    ]
    lower = statistics.lower_p_values(means[:CANDIDATES], means[at])
    higher = statistics.lower_p_values(means[at], means[:CANDIDATES])
    shown = np.array(statistics.holm([*lower, *np.minimum(1, higher * BASELINES)])) <= 0.05
    better, worse = shown[:CANDIDATES], shown[CANDIDATES:]
    interval = statistics.mean_interval((means[best] - means[at]).tolist())
    return Found(
        all(covers),
        covers[best],
        any(wrong),
        comparisons[0].verdict == BETTER,
        interval.low <= true[best] <= interval.high,
        bool(np.any(better & (true >= 0)) or np.any(worse & (true <= 0))),
        bool(better[0]),
    )


def measured(law: Law, seeds: int, examples: int, answers: int, better: bool) -> Found:
    """The shares of the answers that did each thing."""
    rng = np.random.default_rng([seeds, examples, int(better), LAWS.index(law)])
    truth = np.zeros(ARMS)
    if better:
        truth[1:] = GAIN * (1 - mean_of(law)) if law.binary else GAIN * law.scale
    found = []
    for _ in range(answers):
        values = law.draw(rng, seeds, examples)
        found.append(judged(planted(law, values, rng) if better else values, truth))
    return Found(*np.mean(np.array(found, dtype=float), axis=0))


def add_arguments(parser):
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--examples", type=int, nargs="+", default=EXAMPLES)
    parser.add_argument("--answers", type=int, default=400, help="of each kind, at most")
    parser.add_argument(
        "--values", type=int, default=MOST_VALUES, help="that are drawn for a kind, about"
    )


def environment(options):
    return {}


COLUMNS = [
    "answers",
    "equal: covers all",
    "planted: covers all",
    "covers the best",
    "t test: covers the best",
    "equal: wrong",
    "planted: wrong",
    "t test, equal: wrong",
    "found",
    "t test: found",
]


def shares_of(equal: Found, better: Found) -> list[float]:
    """What stands under the columns after the first."""
    return [
        equal.covered_all,
        better.covered_all,
        better.covered_best,
        better.t_covered_best,
        equal.wrong,
        better.wrong,
        equal.t_wrong,
        better.found,
        better.t_found,
    ]


def _percent(shares) -> list[str]:
    return [f"{100 * one:.1f}" for one in shares]


def run(options):
    together = Table("All laws and numbers of seeds together", ["test examples", *COLUMNS])
    for examples in options.examples:
        table = Table(f"{examples} test examples", ["law", "seeds", *COLUMNS])
        drawn, lines = [], []
        for law in LAWS:
            for seeds in options.seeds:
                most = options.values // (ARMS * seeds * examples)
                answers = min(options.answers, max(20, most))
                equal = measured(law, seeds, examples, answers, False)
                better = measured(law, seeds, examples, answers, True)
                drawn.append(answers)
                lines.append(shares_of(equal, better))
                table.rows.append([law.name, str(seeds), str(answers), *_percent(lines[-1])])
        print(table.markdown(), end="\n\n", flush=True)
        means = np.average(lines, axis=0, weights=drawn)
        together.rows.append([str(examples), str(sum(drawn)), *_percent(means)])
    print(together.markdown())
    return 0
