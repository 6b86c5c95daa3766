"""A hyperparameter of the space, before KerasTuner knows it."""

import math
from dataclasses import dataclass

from search.errors import BadInput


@dataclass(frozen=True)
class Choice:
    """A hyperparameter.

    Attributes:
        name: in KerasTuner's space.
        values: what may be chosen, the default first. Of a range: lowest and highest.
        parent, parent_values: the choice that this one depends on, and when it is there.
        argument: what it means to `spec_from`; for a reader, too.
        range: whether it is a range of floats, sampled on a log scale.
    """

    name: str
    values: tuple
    parent: str | None = None
    parent_values: tuple = ()
    argument: str = ""
    range: bool = False

    @property
    def default(self):
        """The paper's value, or the legal one nearest to it."""
        return self.values[0] if not self.range else math.sqrt(self.values[0] * self.values[1])

    def active(self, values):
        """Whether it is there, given the values of the choices before it."""
        return self.parent is None or values.get(self.parent) in self.parent_values


def listed(name, values):
    """A choice of further numbers, if there are any to choose from."""
    if values is None:
        return []
    values = tuple(values)
    if values and values[0] == "range":
        if len(values) != 3 or not 0 < values[1] < values[2]:
            raise BadInput(f"{name}: {values!r}. Needed: ('range', lowest, highest), above 0.")
        return [Choice(name, values[1:], argument=name, range=True)]
    if not values or any(isinstance(v, bool) or not v > 0 for v in values):
        raise BadInput(f"{name}: {values!r}. Needed: positive numbers, the default first.")
    return [Choice(name, values, argument=name)]


def epochs_of(given):
    """Numbers of frozen epochs as a tuple, the default first.

    >>> from search.space import epochs_of
    >>> epochs_of(2), epochs_of([0, 2, 5])
    ((2,), (0, 2, 5))
    """
    found = tuple(dict.fromkeys(given)) if isinstance(given, (list, tuple, range)) else (given,)
    if not found or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in found):
        raise BadInput(
            f"frozen_epochs={given!r}. Needed: an integer of at least 0, or several to search, the "
            "default first."
        )
    return found
