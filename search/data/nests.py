"""Nests: an array, or several in dictionaries and tuples, as Keras takes inputs and labels.

Keras has such functions too; here they are without it, since data are refused before it is
imported.
"""

import numpy as np

from search.errors import BadInput


def normal(value):
    """What a user gives with tuples for its lists, where it is several arrays; else the same.

    As for Keras, a list of arrays is several arrays, and a list of numbers is one.

    >>> import numpy as np
    >>> from search.data import nests
    >>> nests.normal([np.ones(2), {"a": [1, 2]}])
    (array([1., 1.]), {'a': [1, 2]})
    """
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            keys = ", ".join(map(repr, value))
            raise BadInput(f"data: a dictionary has the keys {keys}. Needed: texts.")
        return {key: normal(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)) and value and all(map(_is_part, value)):
        return tuple(map(normal, value))
    return value


def _is_part(value):
    """Whether it is an array of examples, or several."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_part, value))
    return isinstance(value, dict) or len(getattr(value, "shape", ())) > 0


def are_several(nest):
    """Whether a nest is more than an array."""
    return isinstance(nest, (dict, tuple))


def mapped(function, *nests):
    """A nest of what a function makes of the arrays in the same place of each nest.

    It raises a ValueError where the nests differ in what they hold.
    """
    first = nests[0]
    if not are_several(first):
        if any(map(are_several, nests)):
            raise ValueError("one array here, several there")
        return function(*nests)
    if any(_places(one) != _places(first) for one in nests):
        raise ValueError(f"{' here, '.join(map(str, map(_places, nests[:2])))} there")
    found = [mapped(function, *(one[place] for one in nests)) for place in _places(first)]
    return (
        dict(zip(_places(first), found, strict=True)) if isinstance(first, dict) else tuple(found)
    )


def _places(nest):
    """By what the arrays of a nest are found in it, in an order that does not depend on it."""
    if isinstance(nest, dict):
        return sorted(nest)
    return list(range(len(nest))) if isinstance(nest, tuple) else None


def flat(nest):
    """The arrays of a nest, in the order in which Keras has them.

    >>> from search.data import nests
    >>> nests.flat({"b": 1, "a": (2, 3)})
    [2, 3, 1]
    """
    found: list = []
    mapped(found.append, nest)
    return found


def names(nest, name):
    """The names of the arrays in a nest of this name.

    >>> from search.data import nests
    >>> nests.names({"b": 1, "a": (2, 3)}, "x")
    {'a': ("x['a'][0]", "x['a'][1]"), 'b': "x['b']"}
    """
    if not are_several(nest):
        return name
    found = [names(nest[place], f"{name}[{place!r}]") for place in _places(nest)]
    return dict(zip(_places(nest), found, strict=True)) if isinstance(nest, dict) else tuple(found)


def named(nest, name):
    """The arrays of a nest by their names.

    >>> from search.data import nests
    >>> nests.named((1, 2), "y")
    {'y[0]': 1, 'y[1]': 2}
    """
    return dict(zip(flat(names(nest, name)), flat(nest), strict=True))


def rows(nest, chosen):
    """Some examples of each array."""
    return mapped(lambda array: array[chosen], nest)


def joined(nests):
    """The examples of one nest after those of the other; a ValueError where they do not fit."""
    return mapped(lambda *arrays: np.concatenate(arrays), *nests)


def count(nest):
    """How many examples there are."""
    return len(flat(nest)[0])


def shapes(nest):
    """The shape of an example; of several arrays, a dictionary or a list of them.

    >>> import numpy as np
    >>> from search.data import nests
    >>> nests.shapes((np.ones((5, 2)), np.ones((5, 3)))), nests.shapes(np.ones((5, 2)))
    ([(2,), (3,)], (2,))
    """
    if isinstance(nest, dict):
        return {place: shapes(nest[place]) for place in _places(nest)}
    return [shapes(one) for one in nest] if isinstance(nest, tuple) else tuple(nest.shape[1:])
