"""The words that are known without Keras are those that it and the search understand."""

from kerasnorm import registry, transforms
from search import executors, names
from search.hypermodel import architectures


def test_the_lists_are_those_of_the_things_they_name():
    by_task = architectures() + architectures("segmentation") + architectures("tokens")
    assert list(names.ARCHITECTURES) == sorted(by_task)
    assert set(names.ARCHITECTURE_OF.values()) <= set(map(str.lower, by_task))
    assert list(names.EXECUTORS) == list(executors._PLACES)
    assert set(names.NORMS) <= set(registry.available())
    # Another test of this process may have registered a norm of its own.
    assert set(registry._names) >= names.NORM_KEYS
    assert all(names.norm_key(word) in names.NORM_KEYS for word in names.NORMS)
    known = {
        names.key(name)
        for name, value in vars(transforms).items()
        if isinstance(value, type)
        and issubclass(value, transforms.Transform)
        and value not in (transforms.Transform, transforms.RandomTransform)
    }
    assert known == set(map(names.key, names.TRANSFORMS))
