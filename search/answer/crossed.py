"""The two sources of chance of a difference: the seeds, and the test examples.

A difference has a value for each seed and each test example, d[s, i]. Its mean is taken for what
other seeds and other examples of this kind would show. Three mean squares say how sure that is:
of the means of the seeds, of the means of the examples, and of what neither explains. They give

    error_of_seeds^2      variance of the means of the seeds / seeds
    error_of_examples^2   variance of the means of the examples / examples
    error_of_both^2       variance of the rest / (seeds * examples)

The last one is in each of the first two. The interval is mean +- half, with Student's quantiles:

    half^2 = t(seeds - 1)^2 error_of_seeds^2
             + t(examples - 1)^2 max(error_of_examples^2 - error_of_both^2, 0)

Each variance keeps the quantile of its own degrees of freedom, as in Banerjee's interval (1960).
With independent estimates for normal values that covers at least what it promises, however few
seeds there are; `python -m benchmarks answers` tries it here, where one term is a difference. It is
never narrower than the examples alone make it. Two more examples, which differ by one either way,
are added to the variance of the examples: where few examples are missed, a variance of zero is
chance (Agresti and Min, 2005).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

# The pseudo-examples: one either way.
ADDED = 2
# Halvings when a p-value is sought; it is exact to 1e-6.
HALVINGS = 40
SMALLEST_P = 1e-12


class Crossed(NamedTuple):
    """A mean over seeds and examples, with the squares of its errors.

    Attributes:
        mean: of all values.
        seeds, examples: how many there are.
        of_seeds, of_examples, of_both: see above.
    """

    mean: float
    seeds: int
    examples: int
    of_seeds: float
    of_examples: float
    of_both: float

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        alone = max(self.of_examples - self.of_both, 0.0)
        return float(np.sqrt(max(self.of_seeds + alone, self.of_examples)))

    def half(self, alpha: float) -> float:
        """Half the width of the interval that misses with a chance of `alpha` on either side."""
        by_seeds = special.stdtrit(self.seeds - 1, 1 - alpha) ** 2
        by_examples = special.stdtrit(self.examples - 1, 1 - alpha) ** 2
        alone = max(self.of_examples - self.of_both, 0.0)
        square = by_seeds * self.of_seeds + by_examples * alone
        return float(np.sqrt(max(square, by_examples * self.of_examples)))

    def p_value(self) -> float:
        """The smallest `alpha` with which the interval leaves zero out; at most a half."""
        return smallest_alpha(self.half, self.mean)

    def shares(self) -> dict[str, float]:
        """How much of the variance of the mean each source has."""
        both = self.of_both
        parts = {
            "seeds": max(self.of_seeds - both, 0.0),
            "examples": max(self.of_examples - both, 0.0),
            "both": both,
        }
        whole = sum(parts.values())
        return {name: part / whole if whole else 0.0 for name, part in parts.items()}


def smallest_alpha(half: Callable[[float], float], mean: float) -> float:
    """The smallest `alpha` of which half the width is less than a mean's distance from zero."""
    if half(0.5 - SMALLEST_P) >= abs(mean):
        return 0.5
    low, high = np.log(SMALLEST_P), np.log(0.5)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if half(float(np.exp(middle))) < abs(mean):
            high = middle
        else:
            low = middle
    return float(np.exp(high))


def crossed(values: Any) -> Crossed:
    """What the values of each seed (a row) and each test example (a column) say.

    >>> found = crossed([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0]])
    >>> round(found.mean, 3), round(found.of_seeds, 4), round(found.of_examples, 4)
    (0.5, 0.0208, 0.213)
    """
    values = np.asarray(values, dtype=float)
    seeds, examples = values.shape
    mean = float(values.mean())
    by_seed, by_example = values.mean(1), values.mean(0)
    square_of_seeds = float(np.square(by_seed - mean).sum())
    square_of_examples = float(np.square(by_example - mean).sum())
    rest = float(np.square(values - mean).sum())
    rest -= examples * square_of_seeds + seeds * square_of_examples
    return Crossed(
        mean,
        seeds,
        examples,
        square_of_seeds / (seeds * (seeds - 1)),
        variance_of_examples(values),
        max(rest, 0.0) / ((seeds - 1) * (examples - 1) * seeds * examples),
    )


def variance_of_examples(values: np.ndarray) -> float:
    """The squared error of the mean that comes from the examples (columns), two more among them."""
    by_example = values.mean(0)
    square, unit = np.square(by_example - values.mean()), 1.0
    if not np.isin(values, (-1, 0, 1)).all():
        unit = float(np.sqrt(square.max()))
    return float(square.sum() + ADDED * unit**2) / (len(square) * (len(square) - 1))
