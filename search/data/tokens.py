"""Sequences of tokens that are translated: the map of the tokens, and the order, are known."""

import functools
import itertools

import numpy as np

from search.data.parts import PADDING, Data, Part

# Sequences of each part, how long they are, and how many tokens there are beside padding.
COUNTS, LENGTHS, TOKENS = (3000, 200, 300), (3, 8), 10


@functools.cache
def reversal():
    """Sequences of 3 to 8 tokens, and their translation: each token mapped, in reverse order.

    Ten tokens of the source stand for ten of the target, one for one, by a fixed map. Tokens are
    numbers from 1; 0 is padding behind a sequence, in source and target alike. No sequence is in
    two parts.

    >>> from search.data import reversal
    >>> data = reversal()
    >>> data.task, data.input_shape, data.output_shape, len(data.train), len(data.test)
    ('tokens', (8,), (8, 11), 3000, 300)
    """
    generator = np.random.default_rng(2026)
    meaning = np.concatenate([[PADDING], 1 + generator.permutation(TOKENS)])
    shortest, longest = LENGTHS
    known: dict = {}
    while len(known) < sum(COUNTS):
        length = generator.integers(shortest, longest + 1)
        known.setdefault(tuple(generator.integers(1, TOKENS + 1, length).tolist()))
    x = np.full((len(known), longest), PADDING, "int32")
    y = x.copy()
    for row, source in enumerate(known):
        x[row, : len(source)] = source
        y[row, : len(source)] = meaning[list(source[::-1])]
    ends = np.cumsum((0, *COUNTS))
    train, validation, test = (Part(x[a:b], y[a:b]) for a, b in itertools.pairwise(ends))
    return Data("reversal", train, validation, test, TOKENS + 1, task="tokens")
