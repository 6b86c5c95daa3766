"""Measure the rules of early stopping on planted searches: how often the best trial is kept.

The learning curves of a search are drawn at random, and a rule is asked after each epoch of each
trial, one trial after the other. The best trial is the one with the best score had all been
trained to their end. Nothing is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from benchmarks.tables import Table

HELP = "measure the rules of early stopping on planted curves"
START = 0.9


def _ends(generator, trials):
    """The errors that the curves approach, a column."""
    return generator.uniform(0.05, 0.4, (trials, 1))


def _falling(time, end, pace=10.0, begin=0.0, start=START):
    """Exponential curves."""
    return end + (start - end) * np.exp(-pace * np.clip(time - begin, 0, None))


def _dropped(time, before, end):
    """What a drop of the learning rate at two thirds takes from curves."""
    return (before - end) * (1 - np.exp(-25 * np.clip(time - 2 / 3, 0, None)))


def same_pace(generator, trials, time):
    return _falling(time, _ends(generator, trials))


def other_pace(generator, trials, time):
    return _falling(time, _ends(generator, trials), generator.uniform(4.7, 14.1, (trials, 1)))


def slow_best(generator, trials, time):
    ends = _ends(generator, trials)
    pace = np.where(ends == ends.min(), 3.5, 10.0)
    return _falling(time, np.where(ends == ends.min(), ends - 0.03, ends), pace)


def slow_starter(generator, trials, time):
    ends = _ends(generator, trials)
    late = ends == ends.min()
    begin = np.where(late, generator.uniform(0.2, 0.5), 0.0)
    return _falling(time, ends, np.where(late, 13.0, 10.0), begin)


def linear(generator, trials, time):
    ends, whole = _ends(generator, trials), generator.uniform(1 / 3, 1, (trials, 1))
    return START - (START - ends) * np.minimum(time / whole, 1)


def linear_best_slowest(generator, trials, time):
    ends, whole = _ends(generator, trials), generator.uniform(1 / 3, 1, (trials, 1))
    return START - (START - ends) * np.minimum(time / np.where(ends == ends.min(), 1, whole), 1)


def plateau(generator, trials, time):
    ends, late = _ends(generator, trials), generator.random((trials, 1)) < 0.5
    return _falling(time, ends, begin=np.where(late, 0.25, 0.0))


def plateau_of_the_best(generator, trials, time):
    ends = _ends(generator, trials)
    return _falling(time, ends, begin=np.where(ends == ends.min(), 0.25, 0.0))


def drop(generator, trials, time):
    ends = _ends(generator, trials)
    before = ends + generator.uniform(0.05, 0.3, (trials, 1))
    return _falling(time, before) - _dropped(time, before, ends)


def drop_that_reverses(generator, trials, time):
    ends = _ends(generator, trials)
    before = START - ends + generator.normal(0, 0.05, (trials, 1))
    return _falling(time, before, start=START + 0.05) - _dropped(time, before, ends)


@dataclasses.dataclass(frozen=True)
class Family:
    """Planted curves: `curves(generator, trials, time)`, with time from 0 to 1, and their noise."""

    name: str
    curves: Callable
    noise: float = 0.01

    def draw(self, generator, trials, epochs):
        """A row of values for each trial of a search."""
        time = np.arange(1, epochs + 1) / epochs
        values = self.curves(generator, trials, time)
        return values + generator.normal(0, self.noise, (trials, epochs))


FAMILIES = (
    Family("same pace", same_pace),
    Family("pace differs by three", other_pace),
    Family("pace: the best is three times slower", slow_best),
    Family("slow starter: the best begins at 20 to 50 %", slow_starter),
    Family("linear", linear),
    Family("linear: the best takes longest", linear_best_slowest),
    Family("plateau to a quarter, half of them", plateau),
    Family("plateau to a quarter, the best alone", plateau_of_the_best),
    Family("learning rate drops at two thirds", drop),
    Family("the same, and reverses the order", drop_that_reverses),
    Family("noisy epochs (deviation 0.05)", other_pace, noise=0.05),
)


def measured(rule_of, family, trials, epochs, searches, first_seed=0):
    """What a rule does to planted searches.

    Args:
        rule_of: `rule_of(epochs)`, a new rule for each search.
        family: a `Family`.
        trials, epochs: of each search.
        searches: how many.
        first_seed: of the curves.

    Returns:
        The shares of searches that keep their best trial and of epochs that are not trained.
    """
    kept, saved = 0, 0.0
    for seed in range(first_seed, first_seed + searches):
        curves = family.draw(np.random.default_rng([seed, trials, epochs]), trials, epochs)
        rule, trained, finished = rule_of(epochs), 0, []
        for trial, curve in enumerate(curves.tolist()):
            for epoch, value in enumerate(curve, start=1):
                trained += 1
                if rule.reason(trial, epoch, value) is not None:
                    break
            else:
                finished.append(curve[-1])
        kept += min(finished) == curves[:, -1].min()
        saved += 1 - trained / curves.size
    return kept / searches, saved / searches


def add_arguments(parser):
    parser.add_argument("--searches", type=int, default=200, help="planted searches of each kind")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    # The rule's constants were chosen on curves drawn with the seeds from 0 on.
    parser.add_argument("--seed", type=int, default=1000, help="the first one (default: 1000)")


def environment(options):
    return {}


def run(options):
    from search.stopping import RULES

    table = Table(
        f"{options.searches} searches of {options.trials} trials and {options.epochs} epochs",
        [
            "curves",
            *(f"{name}: {what}" for name in RULES for what in ("best kept", "epochs saved")),
        ],
    )
    for family in FAMILIES:
        row = [family.name]
        for rule in RULES.values():
            kept, saved = measured(
                lambda epochs, rule=rule: rule("min", epochs),
                family,
                options.trials,
                options.epochs,
                options.searches,
                options.seed,
            )
            row += [f"{100 * kept:.0f} %", f"{100 * saved:.0f} %"]
        table.rows.append(row)
    print(table.markdown())
    return 0
