"""Compare ways to propose trials on planted searches: what is the best norm found worth?

The space is that of ResNet-20. A planted objective gives every norm and every value of its
arguments an effect at random, in deviations between norms; trials see it with noise. A search ends
with the trial that looks best, and what that is really worth is compared with what random search
finds, objective by objective. Nothing is trained.
"""

import functools
import random
import statistics
import zlib

import numpy as np

from benchmarks.tables import Table

HELP = "compare ways to propose trials on planted searches"
KINDS = {
    "neutral": "arguments matter half as much as norms",
    "default": "the best is a norm with the papers' values",
    "far": "the papers' values are bad ones",
    "interactions": "arguments depend on each other",
    "stages": "a norm for each stage is better",
    "first": "a norm at the first site alone is better",
}
ARGUMENT, INTERACTION, PLACE, NOISE = 0.5, 0.6, 1.0, 0.3
# With the papers' defaults first, and without. Optuna is what the search was driven by before.
WAYS = ("search", "tpe alone", "optuna, defaults first", "optuna alone")


class Planted:
    """An objective, to be minimized, over the points of a space.

    Args:
        space: a `NormSpace` whose placements are all three.
        kind: one of `KINDS`.
        seed: decides everything.
    """

    def __init__(self, space, kind, seed):
        self.space = space
        self.kind = kind
        self.seed = seed
        self.best = np.random.default_rng([seed, 1]).choice(space.norms)
        self._effect = functools.cache(self._drawn)

    def _drawn(self, *key):
        number = zlib.crc32(repr(key).encode())
        return np.random.default_rng([self.seed, number]).normal()

    def __call__(self, values):
        values = self.space.active(values)
        if values["per_stage"]:
            norms = [values[f"stage_{stage}/norm"] for stage in (1, 2, 3)]
            worth = [self._norm(n, {}) + ARGUMENT * self._effect(i, n) for i, n in enumerate(norms)]
            return statistics.mean(worth) - PLACE * (self.kind == "stages")
        worth = self._norm(values["norm"], values)
        if values.get("placement") == "first":
            rest = self._norm(self.space.rest, {})
            return 0.4 * worth + 0.6 * rest - PLACE * (self.kind == "first")
        return worth

    def _norm(self, norm, values):
        """What a norm with its arguments is worth."""
        worth = self._effect("norm", norm)
        if self.kind == "default":
            worth -= 2.0 * (norm == self.best)
        chosen = []
        for choice in self.space.choices:
            if choice.parent == "norm" and choice.name.startswith(f"{norm}/"):
                value = values.get(choice.name, choice.default)
                effect = ARGUMENT * self._effect(choice.name, value)
                if self.kind == "default":
                    effect = abs(effect) if value != choice.default else 0.0
                elif self.kind == "far" and value == choice.default:
                    effect += 1.0
                worth += effect
                if self.kind == "interactions":
                    worth += sum(
                        INTERACTION * self._effect(choice.name, value, other) for other in chosen
                    )
                chosen.append((choice.name, value))
        return worth


def found(space, kind, seed, way, trials, checkpoints):
    """What the best trial is worth, after each of some numbers of trials."""
    from benchmarks.optuna_oracle import OptunaOracle
    from search.oracle import Asker, TPEOracle, objective_of

    objective, noise = Planted(space, kind, seed), np.random.default_rng([seed, 2])
    asker, points = None, iter(())
    if way == "random":
        points = _distinct(space, random.Random(seed))
    else:
        kind_of_oracle = OptunaOracle if "optuna" in way else TPEOracle
        oracle = kind_of_oracle(objective_of("val_error"), max_trials=trials, seed=seed)
        first = () if "alone" in way else space.paper_defaults()
        asker = Asker(oracle, space, first, trials)
    seen, results = [], []
    for number in range(trials):
        if asker is None:
            worth = objective(next(points))
        else:
            _, trial = asker.ask()
            worth = objective(trial.hyperparameters.values)
        score = worth + NOISE * noise.normal()
        if asker is not None:
            asker.tell(number, "completed", float(score))
        seen.append((score, worth))
        if number + 1 in checkpoints:
            results.append(min(seen)[1])
    return results


def _distinct(space, generator):
    """Random points, none twice."""
    seen = set()
    while True:
        point = space.unseen(seen, generator)
        seen.add(space.key(point))
        yield point


def space_of_resnet(norms=None, **options):
    """The space of ResNet-20's norms; None is all. Options are those of `NormSpace`."""
    from search.hypermodel import NormHyperModel

    network = {"input_shape": (32, 32, 3), "classes": 10}
    return NormHyperModel("resnet20", **network, norms=norms, **options).space


def compared(space, kind, ways, checkpoints, searches):
    """For each way but random, mean and standard error of what it finds beyond random search.

    Less is better. A list for each way, of a pair for each checkpoint.
    """
    values = {
        way: np.array(
            [
                found(space, kind, seed, way, max(checkpoints), checkpoints)
                for seed in range(searches)
            ]
        )
        for way in ("random", *ways)
    }
    result = {}
    for way in ways:
        difference = values[way] - values["random"]
        error = difference.std(0, ddof=1) / np.sqrt(searches)
        result[way] = list(zip(difference.mean(0), error, strict=True))
    return result


def add_arguments(parser):
    parser.add_argument("--searches", type=int, default=200, help="planted searches of each kind")
    parser.add_argument("--trials", type=int, nargs="+", default=[20], help="looked at after these")
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    parser.add_argument("--ways", nargs="+", default=["search", "tpe alone"], choices=WAYS)


def environment(options):
    return {}


def run(options):
    space = space_of_resnet()
    ways = options.ways
    table = Table(
        f"What is found, against random search, {options.searches} searches; negative is better",
        ["objective", *(f"{way}, {n} trials" for way in ways for n in options.trials)],
    )
    for kind in options.kinds.split(","):
        result = compared(space, kind, ways, options.trials, options.searches)
        cells = [f"{mean:+.2f} ± {error:.2f}" for way in ways for mean, error in result[way]]
        table.rows.append([KINDS[kind], *cells])
        print(kind, *cells, flush=True)
    print()
    print(table.markdown())
    return 0
