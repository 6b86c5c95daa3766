"""Which branch of Consistent Normalization runs, and batches that hold several of them."""

import contextlib
import contextvars
from typing import NamedTuple

from keras import ops

from kerasnorm.core import backends

# What the innermost context says: a branch, `Interleaved`, or nothing. Threads have their own.
_choice = contextvars.ContextVar("kerasnorm.branch", default=None)


class Interleaved(NamedTuple):
    """That a batch holds each example once for every one of several branches, one after another."""

    branches: int


@contextlib.contextmanager
def branch(k):
    """Run every `ConsistentNorm` with branch `k` inside the context.

    It is for eager calls. A compiled function keeps the branch that it was traced with, so inside
    the context compiled functions (`model.predict`'s too) run operation by operation instead:
    slowly, but never with a stale branch. The replicas of a `tf.distribute` strategy run with the
    branch of the thread that runs the strategy. Outside of any context the branch is 0.

    Args:
        k: the branch; a layer that has no such branch raises an error when it is called.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ConsistentNorm(kerasnorm.BatchNorm(), branches=2)
        >>> with kerasnorm.branch(1):
        ...     y = layer(np.ones((2, 4), "float32"))
    """
    if isinstance(k, bool) or not hasattr(k, "__index__") or int(k) < 0:
        raise ValueError(f"branch: k={k!r}. Needed: an integer of at least 0.")
    with _chosen(int(k)):
        yield


def interleaved(count):
    """A context in which batches are what `interleave` makes of `count` branches' batches."""
    return _chosen(Interleaved(count))


@contextlib.contextmanager
def _chosen(choice):
    """A context with a choice of branches, in which nothing compiled earlier runs."""
    eagerly = contextlib.nullcontext() if backends.is_tracing() else backends.run_eagerly()
    with eagerly, backends.pass_on(choice):
        token = _choice.set(choice)
        try:
            yield
        finally:
            _choice.reset(token)


def current_branch():
    """The branch, or `Interleaved`, of the innermost context; outside of any, 0."""
    choice = _choice.get()
    if choice is None:
        choice = backends.passed_on()
    return 0 if choice is None else choice


def interleave(parts):
    """The batches of several branches as one: the first example of each, the second of each, ...

    Unlike one batch after the other, this leaves every example on the device that it is on where
    batches are spread over devices.
    """
    shape = ops.shape(parts[0])
    return ops.reshape(ops.stack(parts, axis=1), (shape[0] * len(parts), *shape[1:]))


def separate(batch, count):
    """What `interleave` put together: a list of `count` batches."""
    shape = ops.shape(batch)
    return ops.unstack(ops.reshape(batch, (shape[0] // count, count, *shape[1:])), count, axis=1)
