"""The examples that a conversion works on."""

import dataclasses

import keras
import numpy as np

from kerasnorm.batches import are_inputs, as_arrays, as_taken, each_batch, size_of

# One of so many examples is held out: no norm is fitted on it.
HELD_OUT = 8


@dataclasses.dataclass(frozen=True)
class Examples:
    """The batches that norms are fitted on, and those held out.

    Batches are pairs of the inputs, structured as the model's, and of labels or None; arrays.
    """

    fitting: list
    held_out: list

    @staticmethod
    def count(batches):
        """How many examples there are."""
        return sum(size_of(x) for x, _ in batches)


def examples_of(model, data, labels, examples, batch_size, of):
    """Some examples of the data, one in eight of them held out.

    Args:
        model: what they are for.
        data: arrays (one, or a list, tuple or dictionary of them: the model's inputs), of which
            examples are taken evenly; or batches as `fit` takes them, of which the first are taken.
        labels: for arrays, their labels, or None.
        examples: how many at most.
        batch_size: of what is made of arrays.
        of: the function, as errors name it.

    Returns:
        `Examples`.
    """
    for name, value, least in (("examples", examples, 2), ("batch_size", batch_size, 1)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{of}: {name}={value!r}. Needed: an integer of at least {least}.")
    if labels is not None and not are_inputs(data):
        raise ValueError(f"{of}: labels beside batches. Needed: batches of `(x, y)`.")
    batches = (_cut if are_inputs(data) else _taken)(data, labels, examples, batch_size)
    generator = np.random.default_rng(0)
    fitting, held_out = [], []
    number, held_number = 0, generator.integers(HELD_OUT)
    for x, y in batches:
        try:
            x = as_taken(model, x)
        except ValueError as error:
            raise ValueError(f"{of}: {error}") from None
        held = np.zeros(size_of(x), bool)
        for row in range(len(held)):
            held[row] = number % HELD_OUT == held_number
            number += 1
            if number % HELD_OUT == 0:
                # One of each eight, but not always the same: data may be periodic.
                held_number = generator.integers(HELD_OUT)
        for chosen, into in ((~held, fitting), (held, held_out)):
            if chosen.any():
                into.append(tuple(_rows(part, chosen) for part in (x, y)))
    if fitting and not held_out and Examples.count(fitting) > 1:
        x, y = fitting.pop()
        count = size_of(x)
        held_out.append(tuple(_rows(part, slice(count - 1, None)) for part in (x, y)))
        if count > 1:
            fitting.append(tuple(_rows(part, slice(count - 1)) for part in (x, y)))
    if not fitting or not held_out:
        raise ValueError(
            f"{of}: the data have {Examples.count(fitting + held_out)} examples. Needed: at least "
            "2, some hundreds to be of use."
        )
    return Examples(fitting, _merged(held_out, batch_size))


def _cut(data, labels, examples, batch_size):
    """Batches of arrays."""
    count = size_of(data)
    if labels is not None and size_of(labels) != count:
        raise ValueError(
            f"convert: {size_of(labels)} labels for {count} examples. Needed: one for each."
        )
    chosen = np.linspace(0, count - 1, min(examples, count)).round().astype(int)
    # Every batch has some of everywhere, as data may be sorted.
    chosen = np.random.default_rng(0).permutation(chosen)
    for start in range(0, len(chosen), batch_size):
        rows = chosen[start : start + batch_size]
        yield tuple(as_arrays(_rows(part, rows)) for part in (data, labels))


def _taken(data, labels, examples, batch_size):
    """The first batches, cut off where there are enough examples."""
    missing = examples
    for batch in each_batch(data):
        x, y = (as_arrays(part) for part in batch)
        yield tuple(_rows(part, slice(missing)) for part in (x, y))
        missing -= size_of(x)
        if missing <= 0:
            return


def _rows(part, chosen):
    return None if part is None else keras.tree.map_structure(lambda a: a[chosen], part)


def _merged(batches, batch_size):
    """The same examples in fewer batches, where their shapes allow it."""
    merged = [batches[0]]
    for batch in batches[1:]:
        last = merged[-1]
        if size_of(last[0]) < batch_size and _shapes(last) == _shapes(batch):
            merged[-1] = keras.tree.map_structure(
                lambda *parts: None if parts[0] is None else np.concatenate(parts), last, batch
            )
        else:
            merged.append(batch)
    return merged


def _shapes(batch):
    return [None if part is None else part.shape[1:] for part in keras.tree.flatten(batch)]
