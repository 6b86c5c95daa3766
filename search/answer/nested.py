"""A difference over several splits of the data: one value for each split.

Seeds are nested in splits, and test examples too. The mean difference of a split holds all that
chance does there: the training part, the test part, the seeds. So the splits alone are what the
interval counts: K values D[k], of which V is the variance. Two splits have examples in common, so
their differences are alike, and the variance of the mean is more than V/K. It is taken for

    error^2 = V (1/K + test examples / training examples)

(Nadeau and Bengio, 2003), with Student's quantile of K - 1 degrees of freedom. A few splits may
agree by chance. So V is never taken for less than what the test examples of one split make of it,
with two more examples as `search.answer.crossed` adds them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from search.answer.crossed import crossed, smallest_alpha, variance_of_examples


class Nested(NamedTuple):
    """A mean over splits, with what its variance consists of.

    Attributes:
        mean: over the splits.
        splits, seeds, examples: how many splits, seeds of each of them, and test examples.
        overlap: test examples for each example of training.
        of_splits: the variance of the means of the splits.
        of_examples: what of it comes from the test examples, also together with the seeds.
        of_seeds: what of it comes from the seeds, also together with the examples; None with one
            seed for each split, which cannot be told from the split.
        of_both: what of it comes from both together; None like that.
    """

    mean: float
    splits: int
    seeds: int
    examples: int
    overlap: float
    of_splits: float
    of_examples: float
    of_seeds: float | None = None
    of_both: float | None = None

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return self._of_mean(max(self.of_splits, self.of_examples))

    def half(self, alpha: float) -> float:
        """Half the width of the interval that misses with a chance of `alpha` on either side."""
        by_splits = special.stdtrit(self.splits - 1, 1 - alpha) ** 2
        by_examples = special.stdtrit(self.examples - 1, 1 - alpha) ** 2
        return self._of_mean(max(by_splits * self.of_splits, by_examples * self.of_examples))

    def _of_mean(self, variance: float) -> float:
        return float(np.sqrt(variance * (1 / self.splits + self.overlap)))

    def p_value(self) -> float:
        """The smallest `alpha` with which the interval leaves zero out; at most a half."""
        return smallest_alpha(self.half, self.mean)

    def shares(self) -> dict[str, float]:
        """How much of the variance of a split's difference each source has.

        With one seed for each split, the share of the splits is that of the seeds too.
        """
        if self.of_seeds is None or self.of_both is None:
            parts = {"examples": self.of_examples}
        else:
            parts = {
                "seeds": max(self.of_seeds - self.of_both, 0.0),
                "examples": max(self.of_examples - self.of_both, 0.0),
                "both": self.of_both,
            }
        parts = {"splits": max(self.of_splits - sum(parts.values()), 0.0), **parts}
        whole = sum(parts.values())
        return {name: part / whole if whole else 0.0 for name, part in parts.items()}


def nested(values: Sequence[Any], overlap: float) -> Nested:
    """What the values of some splits say.

    Args:
        values: of each split an array, of its seeds (the rows) and test examples (the columns).
        overlap: test examples for each example of training.

    >>> found = nested([[[0, 0, 1, 1]], [[0, 1, 1, 1]], [[0, 0, 0, 1]]], overlap=0.25)
    >>> round(found.mean, 3), round(found.of_splits, 4), round(found.of_examples, 4)
    (0.5, 0.0625, 0.2361)
    """
    arrays = [np.asarray(one, dtype=float) for one in values]
    means = np.array([one.mean() for one in arrays])
    seeds, examples = min(len(one) for one in arrays), min(one.shape[1] for one in arrays)
    within = [crossed(one) for one in arrays] if seeds > 1 else []
    return Nested(
        float(means.mean()),
        len(arrays),
        seeds,
        examples,
        overlap,
        float(means.var(ddof=1)),
        float(np.mean([variance_of_examples(one) for one in arrays])),
        float(np.mean([one.of_seeds for one in within])) if within else None,
        float(np.mean([one.of_both for one in within])) if within else None,
    )
