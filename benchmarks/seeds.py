"""Measure `--seeds auto`: how often it is wrong, what it finds, and how many trainings it takes.

The laws are those of `answers`: 3 candidates and 4 baselines. All arms are equal, or the first
candidate is better by half of what `answers` plants, by that, or by twice as much. Nothing is
trained. Each answer has values for all seeds; `auto` looks at as many of them as it asks for.

Who chooses a fixed number of seeds does not know the law or the difference. So `auto` is compared
with the smallest fixed number that finds the planted differences at least as often, over all laws
and differences together; "saved" is the share of the trainings that `auto` does without.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.answers import ARMS, BASELINES, CANDIDATES, GAIN, LAWS, NAMES, Law, mean_of
from benchmarks.tables import Table

HELP = "measure how many trainings --seeds auto saves, and how often it is wrong"
EXAMPLES = (360, 2000)
# Of the difference that `answers` plants.
TIMES = (0.5, 1.0, 2.0)


class Found(NamedTuple):
    """What one answer did.

    Attributes:
        found: whether the first candidate was shown to be better.
        wrong: whether any claim was wrong.
        equal: whether a candidate was said to be equal.
        trainings: how many it took.
    """

    found: bool
    wrong: bool
    equal: bool
    trainings: int


def arms_of(values):
    """The arms that have these values, all trained on all seeds."""
    from search.answer.results import Arm

    means = values.mean(2, dtype=float)
    arms = []
    for name, mean, own in zip(NAMES, means, values, strict=True):
        arm = Arm(name, "", name, dict(enumerate(mean.tolist())), {}, mean=float(mean.mean()))
        arm.values_of = dict(enumerate(own))
        arms.append(arm)
    return arms[:CANDIDATES], arms[CANDIDATES:]


def wrong(comparisons, truth, margin):
    """Whether any of the claims is wrong."""
    from search.answer.results import BETTER, EQUAL, WORSE

    for one in comparisons:
        true = truth[NAMES.index(one.name)] - truth[NAMES.index(one.reference)]
        holds = {BETTER: true < 0, WORSE: true > 0, EQUAL: abs(true) <= (margin or 0)}
        if not holds.get(one.verdict, True):
            return True
    return False


def by_rounds(values, truth, rounds):
    """What `auto` does."""
    from search.answer.results import BETTER, EQUAL
    from search.answer.sequential import settle

    candidates, baselines = arms_of(values)
    settled = settle(candidates, baselines, list(range(rounds.most)), rounds)
    verdicts = [one.verdict for one in settled.comparisons]
    return Found(
        verdicts[0] == BETTER,
        wrong(settled.comparisons, truth, rounds.margin),
        EQUAL in verdicts,
        sum(settled.seeds.values()),
    )


def with_fixed(values, truth, seeds, margin):
    """What a fixed number of seeds does."""
    from search.answer.judging import best_baseline, compare
    from search.answer.results import BETTER, EQUAL

    candidates, baselines = arms_of(values[:, :seeds])
    reference = best_baseline(baselines, [])
    comparisons = compare(candidates, reference, BASELINES, margin)
    verdicts = [one.verdict for one in comparisons]
    return Found(
        verdicts[0] == BETTER, wrong(comparisons, truth, margin), EQUAL in verdicts, ARMS * seeds
    )


def planted(law: Law, values: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    """The values with all arms but the first candidate made worse by `gain`."""
    values = values.copy()
    if law.binary:
        values[1:] = np.maximum(values[1:], rng.random(values[1:].shape, dtype=np.float32) < gain)
    else:
        values[1:] += law.scale * gain
    return values


def measured(law: Law, examples: int, times: float, options):
    """What the answers did on average: of `auto`, and of each fixed number of seeds."""
    from search.answer.sequential import Rounds

    rng = np.random.default_rng([examples, int(10 * times), LAWS.index(law)])
    margin = None if options.margin is None else options.margin * (1 if law.binary else law.scale)
    rounds = Rounds(options.most, margin)
    gain, truth = times * GAIN, np.zeros(ARMS)
    truth[1:] = gain * ((1 - mean_of(law)) if law.binary else law.scale)
    auto: list[Found] = []
    others: dict[int, list[Found]] = {seeds: [] for seeds in range(3, options.most + 1)}
    for _ in range(options.answers):
        values = planted(law, law.draw(rng, options.most, examples), gain, rng)
        auto.append(by_rounds(values, truth, rounds))
        for seeds, found in others.items():
            found.append(with_fixed(values, truth, seeds, margin))
    return _mean(auto), {seeds: _mean(found) for seeds, found in others.items()}


def _mean(found):
    return Found(*np.mean(np.array(found, dtype=float), axis=0))


def add_arguments(parser):
    parser.add_argument("--examples", type=int, nargs="+", default=EXAMPLES)
    parser.add_argument("--answers", type=int, default=200, help="of each kind")
    parser.add_argument("--most", type=int, default=20, help="seeds")
    parser.add_argument("--margin", type=float, help="a share, or a part of a law's scale")


def environment(options):
    return {}


COLUMNS = [
    "law",
    "equal arms: wrong",
    "equal arms: trainings",
    "planted: wrong",
    *(f"found, {times:g} times" for times in TIMES),
    *(f"trainings, {times:g} times" for times in TIMES),
]


def run(options):
    for examples in options.examples:
        table = Table(f"{examples} test examples", COLUMNS)
        autos, fixed_ones = [], []
        for law in LAWS:
            equal, _ = measured(law, examples, 0.0, options)
            pairs = [measured(law, examples, times, options) for times in TIMES]
            found = [auto for auto, _ in pairs]
            autos += found
            fixed_ones += [fixed for _, fixed in pairs]
            table.rows.append(
                [
                    law.name,
                    f"{100 * equal.wrong:.1f}",
                    f"{equal.trainings:.0f}",
                    f"{100 * max(one.wrong for one in found):.1f}",
                    *(f"{100 * one.found:.0f}" for one in found),
                    *(f"{one.trainings:.0f}" for one in found),
                ]
            )
        print(table.markdown(), end="\n\n")
        print(together(autos, fixed_ones), end="\n\n", flush=True)
    return 0


def together(autos, fixed_ones) -> str:
    """`auto` beside the fixed number that finds as much, in a sentence."""
    auto = _mean(autos)
    fixed = {seeds: _mean([one[seeds] for one in fixed_ones]) for seeds in fixed_ones[0]}
    enough = [seeds for seeds, one in fixed.items() if one.found >= auto.found]
    said = (
        f"All laws and differences together: auto finds {100 * auto.found:.1f} % with "
        f"{auto.trainings:.0f} trainings."
    )
    if not enough:
        return f"{said} No fixed number up to {max(fixed)} seeds finds as many."
    one = fixed[enough[0]]
    saved = 100 * (1 - auto.trainings / one.trainings)
    return (
        f"{said} {enough[0]} seeds for each arm find {100 * one.found:.1f} % with "
        f"{one.trainings:.0f}: {saved:.0f} % saved."
    )
