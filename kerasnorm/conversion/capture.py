"""What a norm gets and what it should give, measured while the data pass through both models.

Layers are watched where they are called, so that nested and shared ones need no graph of their
own. A batch goes through the models operation by operation and no further than it has to.
"""

import contextlib

from kerasnorm.conversion.passes import Passes
from kerasnorm.conversion.statistics import joined, measure


@contextlib.contextmanager
def _called_instead(replacements):
    """A context in which layers call other functions.

    Args:
        replacements: pairs of a layer and what makes its new `call` from the old one.
    """
    for layer, wrap in replacements:
        layer.call = wrap(layer.call)
    try:
        yield
    finally:
        for layer, _ in replacements:
            del layer.call


class Inputs:
    """Statistics of what the norms of a model get and give, over some batches.

    Args:
        model: the model.
        batches: of inputs.
        room: for tensors that are kept, `Room`.
    """

    def __init__(self, model, batches, room):
        self._passes = Passes(model, batches, room)

    def statistics(self, sites):
        """`Statistics` for each of some sites; the calls of a shared one are further examples.

        Args:
            sites: `(layer, channel axis)`, in the order of their first calls.
        """
        steps = self._passes.steps_with([layer for layer, _ in sites])
        parts: list[list] = [[] for _ in sites]

        def watch(into, axis):
            def wrap(call):
                def watched(x, *args, **kwargs):
                    y = call(x, *args, **kwargs)
                    into.append(measure(x, y, axis, kwargs.get("mask")))
                    return y

                return watched

            return wrap

        for batch in range(len(self._passes)):
            values = self._passes.before(batch, steps[0])
            with _called_instead(
                [
                    (layer, watch(part, axis))
                    for part, (layer, axis) in zip(parts, sites, strict=True)
                ]
            ):
                self._passes.run(values, steps[0], steps[-1] + 1)
        return [joined(part) for part in parts]


class Pairs:
    """Statistics of what new norms get, and of what they should give, over some batches.

    The old model says what the outputs should be. In the new one, norms that are not fitted yet
    pass on the old outputs, so that those behind them see what they will see later.

    Args:
        old, new: models of the same graph.
        batches: of inputs.
        room: for tensors that are kept, `Room`.
    """

    def __init__(self, old, new, batches, room):
        self._old = Passes(old, batches, room)
        self._new = Passes(new, batches, room)

    def statistics(self, sites, later=()):
        """`Statistics` for each of some sites; the calls of a shared one are further examples.

        Args:
            sites: tuples `(old layer, new layer, channel axis, changed)` in the order of their
                first calls: `changed` are the new layers that will be others when the site has
                been fitted.
            later: the same of all sites that are fitted afterwards.
        """
        pending = [*sites, *later]
        old_steps = self._old.steps_with([old for old, *_ in sites])
        new_steps = self._new.steps_with([new for _, new, *_ in sites])
        start = self._new.steps_with([layer for *_, changed in sites for layer in changed])[0]
        parts: list[list] = [[] for _ in sites]
        for batch in range(len(self._old)):
            wanted: list[list] = [[] for _ in pending]
            values = self._old.before(batch, old_steps[0])
            with _called_instead(
                [(old, _keeping(y)) for y, (old, *_) in zip(wanted, pending, strict=True)]
            ):
                self._old.run(values, old_steps[0], old_steps[-1] + 1)
            values = self._new.before(batch, min(start, new_steps[0]))
            into = [*parts, *(None for _ in later)]
            with _called_instead(
                [
                    (new, _giving(y, part, axis))
                    for y, part, (_, new, axis, _) in zip(wanted, into, pending, strict=True)
                ]
            ):
                self._new.run(values, min(start, new_steps[0]), new_steps[-1] + 1)
        return [joined(part) for part in parts]


def _keeping(outputs):
    """A layer whose outputs are put into a list."""

    def wrap(call):
        def watched(*args, **kwargs):
            y = call(*args, **kwargs)
            outputs.append(y)
            return y

        return watched

    return wrap


def _giving(outputs, statistics, axis):
    """A layer that gives the outputs in a list, while there are any, and is measured."""

    def wrap(call):
        def watched(x, *args, **kwargs):
            if not outputs:
                return call(x, *args, **kwargs)
            y = outputs.pop(0)
            if statistics is not None:
                statistics.append(measure(x, y, axis, kwargs.get("mask")))
            return y

        return watched

    return wrap
