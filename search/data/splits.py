"""The same data split anew: other examples for training, and others for the test.

Split 0 is the data as they came. In the others, training part and test part change examples; each
keeps its size, and of a classification as many of each class. The validation part stays what it is:
the trials were scored on it, so what it holds is no test of what they chose.

Examples that belong together stay together: those of one source (`Data.sources`), and those that
are the same numbers. One that belongs to an example of the validation part is for training.
"""

import dataclasses
import hashlib

import numpy as np

from search.data import nests
from search.data.parts import Data, Part
from search.errors import BadInput

# With two splits a t test has one degree of freedom, and rests on chance alone.
FEWEST_SPLITS = 3


def seeds_for(seeds, splits):
    """The number of seeds where none is given: as many as it takes, or two for each split.

    >>> seeds_for(None, 1), seeds_for(None, 5), seeds_for(10, 5)
    ('auto', 10, 10)
    """
    if seeds is not None:
        return seeds
    return "auto" if splits == 1 else 2 * splits


def check(splits, seeds):
    """Refuse a number of splits from which there is no answer.

    Args:
        splits: how many.
        seeds: on how many seeds the answer's norms are trained, or "auto".
    """
    if isinstance(splits, bool) or not isinstance(splits, int) or splits < 1:
        raise BadInput(f"splits={splits!r}. Needed: an integer of at least 1.")
    if splits == 1:
        return
    if splits < FEWEST_SPLITS:
        raise BadInput(f"splits={splits}. Needed: 1, or at least {FEWEST_SPLITS}.")
    if seeds == "auto":
        raise BadInput(f"seeds='auto' with splits={splits}. Needed: a number of seeds.")
    if seeds % splits:
        raise BadInput(
            f"seeds={seeds} with splits={splits}. Needed: a multiple of {splits}, so that each "
            "split gets as many seeds."
        )


def split_of(place, splits):
    """The split that the answer's seed in a place is for.

    >>> [split_of(place, 3) for place in range(6)]
    [0, 1, 2, 0, 1, 2]
    """
    return place % splits


class Splits:
    """Data in several splits, which depend on the data and on a seed alone.

    Args:
        data: a `Data`.
        count: how many splits there are.
        seed: of the splits after the first.

    Example:
        >>> from search.data import load
        >>> from search.data.splits import Splits
        >>> digits = load("digits")
        >>> splits = Splits(digits, 5, seed=0)
        >>> splits[0] is digits, len(splits[4].train), len(splits[4].test)
        (True, 1151, 359)
    """

    def __init__(self, data: Data, count: int = 1, seed: int = 0):
        self.data = data
        # Of each split after the first, which examples of training and test part are for the test.
        self._tested: list[np.ndarray] = []
        # The split that was asked for last: it is a copy of the examples.
        self._last = (0, data)
        if count == 1:
            return
        if data.tied:
            raise BadInput(
                f"the data {data.name!r} cannot be split anew: {data.tied}. Needed: splits=1, or "
                "other data."
            )
        draw = _Draw(data)
        self._tested = [draw(np.random.default_rng([seed, split])) for split in range(1, count)]
        if not all(one.any() and not one.all() for one in self._tested):
            raise BadInput(
                f"the data {data.name!r} cannot be split anew: too many examples belong together. "
                "Needed: splits=1, or examples of more sources."
            )

    def __getitem__(self, split: int) -> Data:
        """The data of a split."""
        if split == 0:
            return self.data
        if self._last[0] != split:
            tested = self._tested[split - 1]
            train, test = (_taken(self.data, chosen) for chosen in (~tested, tested))
            sources = _sources(self.data, tested)
            made = dataclasses.replace(self.data, train=train, test=test, sources=sources)
            self._last = (split, made)
        return self._last[1]


class _Draw:
    """Says which examples of training and test part are for the test.

    Args:
        data: a `Data`.
    """

    def __init__(self, data):
        groups = _groups(data)
        first, last = len(data.train), len(groups) - len(data.test)
        validated = groups[first:last]
        self.groups = np.concatenate([groups[:first], groups[last:]])
        self.free = ~np.isin(self.groups, validated)
        self.classes = np.zeros(len(self.groups), int)
        if data.task == "classification":
            self.classes = np.concatenate([data.train.y, data.test.y])
        # For either part, how many of each class there are to be.
        self.room = np.stack([self._counts(slice(first)), self._counts(slice(first, None))])
        self.room[0] -= self._counts(~self.free)

    def _counts(self, chosen):
        return np.bincount(self.classes[chosen], minlength=self.classes.max() + 1)

    def __call__(self, generator):
        """The largest groups come first, each where there is room for it, by chance.

        Examples that belong to no other fill what is left, so that the parts keep their sizes.
        """
        tested, room = np.zeros(len(self.groups), bool), self.room.copy()
        _, place, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        large = generator.permutation(np.unique(place[self.free & (sizes[place] > 1)]))
        for number in large[np.argsort(-sizes[large], kind="stable")]:
            own = np.flatnonzero(place == number)
            needs = self._counts(own)
            fits = (np.maximum(room, 0) // np.maximum(needs, 1))[:, needs > 0].min(axis=1)
            part = int(np.argmax(room.sum(axis=1)))
            if fits.any():
                part = int(generator.random() * fits.sum() >= fits[0])
            tested[own] = part == 1
            room[part] -= needs
        single = self.free & (sizes[place] == 1)
        for label in np.unique(self.classes[single]):
            own = generator.permutation(np.flatnonzero(single & (self.classes == label)))
            tested[own[: max(room[1, label], 0)]] = True
        return tested


def _taken(data, chosen):
    """Some of the examples of training part and test part."""
    first, second = chosen[: len(data.train)], chosen[len(data.train) :]
    train, test = data.train.rows(first), data.test.rows(second)
    return Part(*(nests.joined(one) for one in ((train.x, test.x), (train.y, test.y))))


def _sources(data, tested):
    if not data.sources:
        return ()
    train, validation, test = data.sources
    both = np.concatenate([train, test])
    return both[~tested], validation, both[tested]


def _groups(data):
    """For each example of all parts the number of the group of those that belong together."""
    parts = (data.train, data.validation, data.test)
    same = _numbers([digest for part in parts for digest in _digests(part.x)])
    if not data.sources:
        return same
    # Every command imports this module, and few split anything.
    from scipy import sparse

    source = _numbers(np.concatenate(data.sources).tolist())
    # Sources and contents are points, and each example joins two of them.
    points = source.max() + 1 + same.max() + 1
    joined = sparse.coo_array(
        (np.ones(len(same)), (source, source.max() + 1 + same)), shape=(points, points)
    )
    return sparse.csgraph.connected_components(joined, directed=False)[1][source]


def _digests(x):
    """For each example a digest of all its inputs."""
    for inputs in zip(*nests.flat(x), strict=True):
        digest = hashlib.sha256()
        for one in inputs:
            digest.update(one.tobytes())
        yield digest.digest()


def _numbers(keys):
    """Numbers for keys, in the order in which they come."""
    known: dict = {}
    return np.array([known.setdefault(key, len(known)) for key in keys])
