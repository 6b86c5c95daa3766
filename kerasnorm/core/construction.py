"""Layers that can be saved and loaded whatever constructor their subclasses have."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import keras
from keras.saving import deserialize_keras_object, serialize_keras_object

# What every layer's configuration holds. Where a constructor does not take them, they are set.
_OF_EVERY_LAYER = ("name", "trainable", "dtype")


class Reconstructible(keras.layers.Layer):
    """A layer that remembers what a subclass's constructor was given.

    Keras loads a layer by `cls(**config)`, so a subclass with another constructor than its base
    class needs a `get_config` that fits. One that has none gets this: its configuration also holds
    what its constructor was given, and `from_config` calls the constructor with that again.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        """Make the layer, and have its configuration hold the arguments if the class does not."""
        layer = super().__new__(cls, *args, **kwargs)
        if _is_undescribed(cls):
            described = layer.get_config

            def get_config():
                config = described()
                return {**config, **_given(cls, args, kwargs, known=config)}

            # Not by `setattr`, which would look for variables in it.
            object.__setattr__(layer, "get_config", get_config)
        return layer

    @classmethod
    def from_config(cls, config):
        """The layer that a configuration describes."""
        if not _is_undescribed(cls):
            # Not Keras's, which wraps what the constructor says of illegal arguments.
            return cls(**config)
        signature = _signature(cls)
        given = {
            name: deserialize_keras_object(config[name])
            for name in signature.parameters
            if name in config
        }
        arguments = inspect.BoundArguments(signature, given)
        with _default_policy(config.get("dtype")):
            layer = cls(*arguments.args, **arguments.kwargs)
            # What `**kwargs` were given shows in what differs.
            made, wanted = unmarked(layer.get_config()), unmarked(config)
            others = {
                key: deserialize_keras_object(config[key])
                for key, value in wanted.items()
                if key not in given
                and key not in _OF_EVERY_LAYER
                and (key not in made or made[key] != value)
            }
            if others:
                layer = cls(*arguments.args, **{**arguments.kwargs, **others})
        layer.name = config.get("name", layer.name)
        layer.trainable = config.get("trainable", layer.trainable)
        return layer


def _is_undescribed(cls):
    """Whether a class has a constructor whose arguments no `get_config` gives."""
    for ancestor in cls.__mro__:
        if "get_config" in vars(ancestor):
            return False
        if "__init__" in vars(ancestor):
            break
    above = cls.__mro__[cls.__mro__.index(ancestor) + 1 :]
    known = [_names(each) for each in above if "__init__" in vars(each) and _is_one(each)]
    # A constructor that spells out those of the classes above it is described by them.
    return _names(ancestor) != set().union(*known)


def _is_one(cls):
    """Whether a class is one of those that may be reconstructed, not one of Keras."""
    return issubclass(cls, Reconstructible)


def _signature(cls):
    """The constructor's signature, without `self`."""
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    return inspect.Signature(parameters)


def _names(cls):
    """The names that a constructor spells out."""
    parameters = _signature(cls).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}


def _given(cls, args, kwargs, known):
    """What a constructor was given, as far as the configuration `known` does not tell."""
    bound = _signature(cls).bind(*args, **kwargs)
    bound.apply_defaults()
    given = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            given.update({key: v for key, v in value.items() if key not in known})
        elif name not in _OF_EVERY_LAYER:
            given[name] = value
    return {name: serialize_keras_object(value) for name, value in given.items()}


def unmarked(config):
    """A configuration without the marks of objects that occur twice in a model's file.

    While Keras saves or loads a model it marks, by its address, what it serializes for a second
    time. A layer made only to be described is gone soon, and another object has its address then.
    """
    if isinstance(config, dict):
        return {key: unmarked(v) for key, v in config.items() if key != "shared_object_id"}
    if isinstance(config, (list, tuple)):
        return type(config)(map(unmarked, config))
    return config


@contextlib.contextmanager
def _default_policy(policy):
    """A context in which layers that are given no dtype policy get this one."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(keras.dtype_policies.get(policy))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
