"""Subclasses of layers, whatever their constructor looks like, are made, saved and loaded."""

import dataclasses

import keras
import numpy as np
import pytest

import kerasnorm
from layer_table import LAYERS


def subclasses(base, given):
    """Layers of subclasses of a layer class, each with another kind of constructor.

    Args:
        base: the layer class.
        given: arguments that it works with.
    """

    class Nothing(base):
        def __init__(self):
            super().__init__(**given, epsilon=1e-3)

    class PositionalOnly(base):
        def __init__(self, size, /):
            super().__init__(**given, epsilon=size)

    class KeywordOnly(base):
        def __init__(self, *, size=1e-3, name=None):
            super().__init__(**given, epsilon=size, name=name)

    class Several(base):
        def __init__(self, first, *sizes, factor=1.0):
            super().__init__(**given, epsilon=first + factor * sum(sizes))

    @dataclasses.dataclass(eq=False)
    class Data(base):
        size: float = 1e-3

        def __post_init__(self):
            super().__init__(**given, epsilon=self.size)

    class Inherited(base):
        pass

    class OtherName(base):
        def __init__(self, **options):
            size = options.pop("size", 1e-3)
            super().__init__(**{**given, "epsilon": size, **options})

    class Fixed(base):
        def __init__(self, **kwargs):
            super().__init__(**given, epsilon=1e-3, name="fixed", **kwargs)

    class Changed(base):
        def __init__(self, epsilon=1e-3, **kwargs):
            super().__init__(**given, epsilon=2 * epsilon, **kwargs)

    class WithObject(base):
        def __init__(self, start):
            super().__init__(**given, beta_initializer=start)

    class Positional(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**given, **kwargs})

    class Described(base):
        def __init__(self, size=1e-3, **kwargs):
            super().__init__(**{**given, **kwargs})
            self.size = size

        def get_config(self):
            return {**super().get_config(), "size": self.size}

    return [
        Nothing(),
        PositionalOnly(0.1),
        KeywordOnly(size=0.2, name="named"),
        Several(0.1, 0.2, 0.3, factor=2.0),
        Data(0.3),
        Inherited(**given, epsilon=0.4),
        OtherName(size=0.5, axis=-1),
        OtherName(epsilon=0.6, dtype="float32", trainable=False),
        Fixed(center=True, scale=False),
        Changed(0.7),
        WithObject(keras.initializers.Constant(0.25)),
        Positional(epsilon=0.8),
        Described(size=0.9),
    ]


def loaded(model, folder):
    """A model, saved and loaded again."""
    classes = {type(layer).__name__: type(layer) for layer in model.layers}
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras", custom_objects=classes)


def same(one, other, images):
    """Check that two models have the same layers and give the same outputs."""
    for layer, again in zip(one.layers, other.layers, strict=True):
        assert type(again) is type(layer)
        assert again.get_config() == layer.get_config(), type(layer).__name__
    expected, got = (keras.ops.convert_to_numpy(model(images)) for model in (one, other))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("row", LAYERS, ids=str)
def test_a_subclass_with_any_constructor_is_saved_and_loaded(row, tmp_path, rng):
    given = {**next(iter(row.variants.values()))}
    norms = subclasses(getattr(kerasnorm, row.name), given)
    assert len({norm.name for norm in norms}) == len(norms)
    images = rng.normal(size=(2, 4, 4, 8)).astype("float32")
    model = keras.Sequential([keras.Input(images.shape[1:]), *norms])
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    again = loaded(model, tmp_path)
    same(model, again, images)
    for layer, copy in zip(norms, again.layers, strict=True):
        assert (copy.epsilon, copy.name, copy.trainable) == (
            layer.epsilon,
            layer.name,
            layer.trainable,
        )


def test_subclasses_of_a_consistent_norm_too(tmp_path, rng):
    class Two(kerasnorm.ConsistentNorm):
        def __init__(self):
            super().__init__(kerasnorm.GroupNorm(groups=2), 2)

    class Around(kerasnorm.ConsistentNorm):
        def __init__(self, inner, /, *, copies):
            super().__init__(inner, copies)

    images = rng.normal(size=(2, 4, 4, 8)).astype("float32")
    norms = Two(), Around(kerasnorm.BatchNorm(epsilon=0.1), copies=3)
    model = keras.Sequential([keras.Input(images.shape[1:]), *norms])
    again = loaded(model, tmp_path)
    same(model, again, images)
    assert again.layers[1].branches == 3


def test_a_loaded_subclass_keeps_the_policy_it_was_made_with():
    class Nothing(kerasnorm.BatchNorm):
        def __init__(self):
            super().__init__(momentum=0.5)

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        config = Nothing().get_config()
    finally:
        keras.config.set_dtype_policy("float32")
    again = Nothing.from_config(config)
    assert (again.dtype_policy.name, again.momentum) == ("mixed_bfloat16", 0.5)
    assert keras.config.dtype_policy().name == "float32"


def test_arguments_that_were_changed_in_a_configuration_count():
    class Open(kerasnorm.GroupNorm):
        def __init__(self, size=2, **kwargs):
            super().__init__(groups=size, **kwargs)

    config = Open(4, epsilon=0.1).get_config()
    again = Open.from_config({**config, "epsilon": 0.2})
    assert (again.groups, again.epsilon) == (4, 0.2)
