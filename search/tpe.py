"""A tree-structured Parzen estimator (TPE): proposes points of a space from the trials so far.

Bergstra et al., 2011, "Algorithms for Hyper-Parameter Optimization". The best tenth of the trials
and the others are each a mixture of kernels, one for each trial and one for the whole space. Of
some points drawn from the first mixture, the one is proposed whose density there is largest
against that in the second. Hyperparameters with the same conditions are drawn together, from
products of kernels. That is what Optuna does with `multivariate=True, group=True`.

Here trials are kept as arrays that grow, so a proposal costs little after thousands of trials.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

# Of the trials with a score, these are the good ones: a tenth, but not more than so many.
GOOD_SHARE, MOST_GOOD = 0.1, 25
# How many points are drawn for one proposal.
CANDIDATES = 24
# How often another point is looked for where the best one was tried already.
TRIES = 20
# The latest trials count in full, older ones the less the older they are.
FULL_WEIGHT = 25
# Widths of kernels on an axis of length 1.
WIDTH = 0.2
# Where hardly any two trials are alike, at most so many make a mixture.
MOST_KERNELS = 512


class Categorical:
    """An axis of values without an order.

    Args:
        name: of the hyperparameter.
        values: what it can be.
    """

    def __init__(self, name, values):
        self.name = name
        self.values = list(values)
        self.size = len(self.values)
        self._codes = {value: code for code, value in enumerate(self.values)}

    def code(self, value):
        """A value as a number."""
        return self._codes[value]

    def value(self, code):
        """The value of a number."""
        return self.values[int(code)]


class Numeric:
    """An axis of numbers, as a place between 0 and 1.

    Args:
        name: of the hyperparameter.
        low, high: its ends.
        log: whether equal factors are equal distances.
        step: between two values; None is none.
        integer: whether values are integers.
    """

    size = None

    def __init__(self, name, low, high, log=False, step=None, integer=False):
        self.name = name
        self.low, self.high, self.step = low, high, step
        self.log, self.integer = log, integer
        # A value stands for its surroundings up to the middle to the next.
        half = 0.0 if step is None else step / 2
        self._ends = (
            self._scaled(low - half if not log or low > half else low),
            self._scaled(high + half),
        )
        # How far from each other two values can be on the axis; 0 without steps.
        self.cell = 0.0 if step is None or log else step / (high - low + step)

    def _scaled(self, value):
        return math.log(value) if self.log else float(value)

    def code(self, value):
        """The place of a value."""
        low, high = self._ends
        return 0.5 if high == low else (self._scaled(value) - low) / (high - low)

    def value(self, code):
        """The value at a place."""
        low, high = self._ends
        value = low + float(code) * (high - low)
        value = math.exp(value) if self.log else value
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else value


class _Group:
    """Axes with the same conditions, which are drawn together.

    Args:
        conditions: of the axes: names with the values that they must have.
        axes: the axes.
    """

    def __init__(self, conditions, axes):
        self.conditions = conditions
        self.categorical = [axis for axis in axes if axis.size is not None]
        self.numeric = [axis for axis in axes if axis.size is None]
        self.sizes = tuple(axis.size for axis in self.categorical)
        # Of each trial: the codes of its values, and whether it has any.
        self.codes = _Rows(len(self.categorical), np.int64)
        self.places = _Rows(len(self.numeric), float)
        self.present = _Rows(1, bool)

    @property
    def tables(self):
        """What is known of the trials, in the order of what `encode` returns."""
        return self.codes, self.places, self.present

    def active(self, values):
        """Whether values have what the conditions ask for."""
        return all(values.get(name) in allowed for name, allowed in self.conditions)

    def encode(self, values):
        """The codes, the places, and whether the group is there."""
        names = [axis.name for axis in (*self.categorical, *self.numeric)]
        if not self.active(values) or any(name not in values for name in names):
            return [0] * len(self.categorical), [0.0] * len(self.numeric), False
        try:
            codes = [axis.code(values[axis.name]) for axis in self.categorical]
        except KeyError:
            # A value that is not among the choices any more.
            return [0] * len(self.categorical), [0.0] * len(self.numeric), False
        return codes, [axis.code(values[axis.name]) for axis in self.numeric], True


class _Rows:
    """Rows of an array that grows.

    Args:
        width: of a row.
        dtype: of the array.
    """

    def __init__(self, width, dtype):
        self._array = np.zeros((64, width), dtype)
        self._count = 0

    def add(self, row):
        """One more row."""
        if self._count == len(self._array):
            self._array = np.concatenate([self._array, np.zeros_like(self._array)])
        self._array[self._count] = row
        self._count += 1

    def set(self, index, row):
        """Another row in its place."""
        self._array[index] = row

    @property
    def rows(self):
        """All of them."""
        return self._array[: self._count]


class _Mixture:
    """Kernels around some trials of a group, and one for the whole of it.

    Args:
        group: the group.
        rows: the indexes of the trials, the oldest first.
        generator: chooses among them where there are too many.
    """

    def __init__(self, group, rows, generator):
        self.group = group
        weights = _weights_by_age(len(rows))
        # Trials with the same values can be one kernel.
        alike = not group.numeric and math.prod(group.sizes) < 2**62
        if not alike and len(rows) > MOST_KERNELS:
            kept = np.sort(generator.choice(len(rows), MOST_KERNELS, replace=False))
            rows, weights = rows[kept], weights[kept] * len(rows) / MOST_KERNELS
        self.codes, self.places = group.codes.rows[rows], group.places.rows[rows]
        # What the kernel of a trial gives to all values of an axis; its own gets 1 more.
        self._spread = 1.0 / (len(rows) + 1)
        self._width = self._width_for(len(rows))
        if alike and len(rows) > 1:
            flat = np.ravel_multi_index(tuple(self.codes.T), group.sizes)
            _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
            self.codes, self.places = self.codes[first], self.places[first]
            weights = np.bincount(inverse.ravel(), weights)
        self.weights = weights

    def add(self, codes, places):
        """One more kernel."""
        self.codes = np.concatenate([self.codes, codes[None]])
        self.places = np.concatenate([self.places, places[None]])
        self.weights = np.append(self.weights, 1.0)

    def _width_for(self, count):
        axes = len(self.group.numeric) + len(self.group.categorical)
        width = WIDTH * max(count, 1) ** (-1.0 / (axes + 4))
        return max(width, 1.0 / min(100.0, count + 2.0))

    def draw(self, generator, count):
        """Codes and places of some points."""
        # The last one is that of the whole space.
        weights = np.append(self.weights, 1.0)
        kernel = generator.choice(len(weights), count, p=weights / weights.sum())
        whole = kernel == len(self.codes)
        own = np.where(whole, 0, kernel)
        codes = np.empty((count, len(self.group.categorical)), np.int64)
        for index, size in enumerate(self.group.sizes):
            anywhere = whole | (
                generator.random(count) < size * self._spread / (1 + size * self._spread)
            )
            held = self.codes[own, index] if len(self.codes) else 0
            codes[:, index] = np.where(anywhere, generator.integers(size, size=count), held)
        places = np.empty((count, len(self.group.numeric)))
        for index in range(len(self.group.numeric)):
            center = np.where(whole, 0.5, self.places[own, index] if len(self.places) else 0.5)
            width = np.where(whole, 1.0, self._width)
            low, high = ndtr((0 - center) / width), ndtr((1 - center) / width)
            drawn = ndtri(low + generator.random(count) * (high - low))
            places[:, index] = np.clip(center + width * drawn, 0, 1)
        return codes, places

    def log_density(self, codes, places):
        """Of some points, up to what both mixtures of a group have in common."""
        density = np.ones((len(codes), len(self.codes)))
        whole = np.ones(len(codes))
        for index, size in enumerate(self.group.sizes):
            same = codes[:, index, None] == self.codes[None, :, index]
            density *= (same + self._spread) / (1 + size * self._spread)
            whole /= size
        for index, axis in enumerate(self.group.numeric):
            point = places[:, index, None]
            density *= _truncated(point, self.places[None, :, index], self._width, axis.cell)
            whole *= _truncated(point[:, 0], 0.5, 1.0, axis.cell)
        return np.log((density @ self.weights + whole) / (self.weights.sum() + 1))


def _truncated(point, center, width, cell):
    """The density of a normal distribution between 0 and 1; of a cell where there are cells."""
    total = ndtr((1 - center) / width) - ndtr((0 - center) / width)
    if cell:
        high = ndtr((np.minimum(point + cell / 2, 1) - center) / width)
        return (high - ndtr((np.maximum(point - cell / 2, 0) - center) / width)) / total
    distance = (point - center) / width
    return np.exp(-0.5 * distance**2) / (width * math.sqrt(2 * math.pi) * total)


def _weights_by_age(count):
    """What trials count, the oldest first."""
    weights = np.ones(count)
    older = count - FULL_WEIGHT
    if older > 0:
        weights[:older] = np.linspace(1.0 / count, 1.0, older)
    return weights


class ParzenEstimator:
    """What is known of a space, and proposals from it.

    Args:
        axes: pairs of an axis and its conditions. These are pairs of a name and the values that it
            must have, and name axes that come earlier.

    Example:
        >>> from search.tpe import Categorical, ParzenEstimator
        >>> estimator = ParzenEstimator([(Categorical("norm", ("batch", "group")), ())])
        >>> for number in range(20):
        ...     values = {"norm": ("batch", "group")[number % 2]}
        ...     estimator.add(values)
        ...     estimator.tell(number, float(number % 2))
        >>> estimator.propose(seed=0, startup=10)
        {'norm': 'batch'}
    """

    def __init__(self, axes: Sequence[tuple[Any, Sequence]]):
        grouped: dict[tuple, list] = {}
        for axis, conditions in axes:
            key = tuple((name, tuple(values)) for name, values in conditions)
            grouped.setdefault(key, []).append(axis)
        self.groups = [_Group(conditions, own) for conditions, own in grouped.items()]
        # Of each trial, what it is sorted by; infinite for those that run, NaN for failed ones.
        self._scores = _Rows(2, float)
        self._order: Any = None

    def __len__(self):
        return len(self._scores.rows)

    def add(self, values):
        """One more trial, which runs; it keeps others away from its place."""
        for group in self.groups:
            for table, row in zip(group.tables, group.encode(values), strict=True):
                table.add(row)
        self._scores.add((math.inf, math.inf))
        self._order = None

    def tell(self, number, score, stopped_at=None, values=None):
        """How a trial ended.

        Args:
            number: of the trial, in the order of `add`.
            score: less is better; None if it failed.
            stopped_at: the epoch after which it was stopped early, if it was. It is behind all that
                were not, and the later the better.
            values: what its values have become, if that is not what they were.
        """
        if values is not None:
            for group in self.groups:
                for table, row in zip(group.tables, group.encode(values), strict=True):
                    table.set(number, row)
        if score is None:
            self._scores.set(number, (math.nan, math.nan))
        else:
            rank = -math.inf if stopped_at is None else -float(stopped_at)
            self._scores.set(number, (rank, score))
        self._order = None

    def propose(self, seed, startup, is_tried: Callable[[dict], bool] = lambda _: False):
        """The values of a new point.

        Args:
            seed: decides, together with the trials.
            startup: with fewer trials than this, points are random.
            is_tried: whether values were tried already.
        """
        generator = np.random.default_rng(seed)
        informed = np.count_nonzero(np.isfinite(self._scores.rows[:, 1])) >= startup
        mixtures: dict[int, tuple] = {}
        for _ in range(TRIES):
            values, drawn = self._drawn(generator, informed, mixtures)
            if not is_tried(values):
                break
            # It counts as running, which drives the next ones elsewhere, but not far: a good region
            # that is small gets searched to its end.
            for index, found in drawn.items():
                mixtures[index][1].add(*found)
        return values

    def _drawn(self, generator, informed, mixtures):
        """A point, group by group; conditions look at groups before.

        Args:
            generator: of random numbers.
            informed: whether the trials count.
            mixtures: those that are there, by the index of their group; others are added.

        Returns:
            The values, and, where the trials count, codes and places by the index of the group.
        """
        values: dict[str, Any] = {}
        drawn = {}
        for index, group in enumerate(self.groups):
            if not group.active(values):
                continue
            if informed:
                if index not in mixtures:
                    mixtures[index] = tuple(
                        _Mixture(group, rows[group.present.rows[rows, 0]], generator)
                        for rows in self._good_and_others()
                    )
                good, others = mixtures[index]
                codes, places = good.draw(generator, CANDIDATES)
                gain = good.log_density(codes, places) - others.log_density(codes, places)
                best = int(np.argmax(gain))
                codes, places = drawn[index] = codes[best], places[best]
            else:
                codes = [generator.integers(size) for size in group.sizes]
                places = generator.random(len(group.numeric))
            for axes, found in ((group.categorical, codes), (group.numeric, places)):
                values.update(
                    (axis.name, axis.value(code)) for axis, code in zip(axes, found, strict=True)
                )
        return values, drawn

    def _good_and_others(self):
        """The indexes of the good trials and of the others, the oldest first in each."""
        if self._order is None:
            scores = self._scores.rows
            told = np.isfinite(scores[:, 1])
            there = ~np.isnan(scores[:, 1])
            count = min(math.ceil(GOOD_SHARE * told.sum()), MOST_GOOD)
            order = np.lexsort((scores[:, 1], scores[:, 0]))
            good = np.zeros(len(scores), bool)
            good[order[:count]] = True
            self._order = np.flatnonzero(good), np.flatnonzero(there & ~good)
        return self._order
