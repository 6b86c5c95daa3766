"""Layers that are code and keep norms in attributes: which norms, and copies with other ones.

A copy is a layer of a subclass. It makes its norms as the original does, then puts others in their
place. Its configuration holds that of the original and those of the other norms, so that it is
saved and loaded like any layer.
"""

import collections
import contextvars
import dataclasses
import functools

import keras

from kerasnorm.core.keras_internals import attributes_of, layers_in, put_layer
from kerasnorm.private.keras_hub import COMPOSITES, WRONG_ENTRIES
from kerasnorm.registry import is_norm
from kerasnorm.sites import names_before

# The attributes by the full name of a class.
_attributes: dict[str, tuple] = dict(COMPOSITES)
# The other norms of a layer that is being made.
_pending: contextvars.ContextVar = contextvars.ContextVar("_pending", default=None)


def register_composite(layer_class, norms):
    """Let `replace_norms`, `convert` and searches replace the norms inside layers of a class.

    A layer that is defined by its own `call` may hold norms in its attributes. This says in which
    ones. A copy with other norms is made from the layer's configuration; then the new norms are
    put into these attributes. It can be saved and loaded where the class and `kerasnorm` are
    imported.

    The class has to call each of these norms on the tensor to be normalized and to use nothing
    else of it: no gamma, no moving mean. It creates them in `__init__` or in `build`. A subclass
    has to be registered by itself. KerasHub's `TransformerEncoder`, `TransformerDecoder`,
    `FNetEncoder` and the encoder of its ViT are registered already.

    Args:
        layer_class: a `keras.layers.Layer` class with `get_config`.
        norms: the names of the attributes, in the order in which `call` uses them. Each holds a
            norm, another layer of a registered class, or a list of these. Attributes that a layer
            does not have are passed over.

    Example:
        >>> import keras
        >>> import kerasnorm
        >>> class Block(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.norm = keras.layers.BatchNormalization()
        ...         self.norm.build(shape)
        ...
        ...     def call(self, inputs):
        ...         return inputs + self.norm(inputs)
        >>> kerasnorm.register_composite(Block, ["norm"])
        >>> model = keras.Sequential([keras.Input((4,)), Block(name="block")])
        >>> new = kerasnorm.replace_norms(model, "layer")
        >>> type(new.get_layer("block").norm).__name__
        'LayerNorm'
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise TypeError(
            f"register_composite: layer_class={layer_class!r}. Needed: a Keras layer class."
        )
    if (
        not isinstance(norms, (list, tuple))
        or not norms
        or not all(isinstance(name, str) and name.isidentifier() for name in norms)
    ):
        raise TypeError(
            f"register_composite: norms={norms!r}. Needed: a list of names of attributes, such as "
            '["norm_1", "norm_2"].'
        )
    _attributes[_full_name(_original(layer_class))] = tuple(norms)


@dataclasses.dataclass(frozen=True, eq=False)
class Inner:
    """A norm inside a composite layer.

    Attributes:
        attributes: where it is: names of attributes and numbers in lists, from the outer layer on.
        names: of the layers from there down to the norm.
        norm: the norm.
    """

    attributes: tuple
    names: tuple
    norm: keras.layers.Layer

    @property
    def path(self):
        """`attributes` as one text."""
        return "/".join(map(str, self.attributes))


def norms_in(layer):
    """The norms in the attributes of a composite layer that can be replaced, each an `Inner`.

    A norm in several attributes is none of them: a saved layer would not know that it is one.
    """
    found = list(_walk(layer, (), ()))
    counts = collections.Counter(id(inner.norm) for inner in found)
    return [inner for inner in found if counts[id(inner.norm)] == 1]


def _walk(holder, attributes, names):
    for attribute in _attributes.get(_full_name(_original(type(holder))), ()):
        value = getattr(holder, attribute, None)
        if isinstance(value, (list, tuple)):
            places = [((*attributes, attribute, i), part) for i, part in enumerate(value)]
        else:
            places = [((*attributes, attribute), value)]
        for place, part in places:
            if not isinstance(part, keras.layers.Layer):
                continue
            if not is_norm(part):
                yield from _walk(part, place, (*names, part.name))
            elif not isinstance(value, tuple):
                yield Inner(place, (*names, part.name), part)


def advice(holder):
    """The calls of `register_composite` that would make the norms inside a layer replaceable."""
    lines = []

    def visit(layer):
        names = []
        for name, value in attributes_of(layer).items():
            parts = value if isinstance(value, list) else [value]
            parts = [part for part in parts if any(map(is_norm, layers_in(part)))]
            if parts:
                names.append(name)
            for part in parts:
                if not is_norm(part):
                    visit(part)
        words = ", ".join(f'"{name}"' for name in names)
        line = f"kerasnorm.register_composite({_original(type(layer)).__name__}, [{words}])"
        if names and line not in lines and type(layer) is not keras.Sequential:
            lines.append(line)

    visit(holder)
    return lines


# Copies.


@dataclasses.dataclass(frozen=True, eq=False)
class _Replaced:
    """What a layer with other norms was made of.

    No dictionary, since Keras saves what is in one.

    Attributes:
        norms: that it has instead of its own, by their path.
        config: of the original.
    """

    norms: dict
    config: dict


def replaced_in(layer):
    """The paths of the norms that a layer has instead of its own."""
    replaced = vars(layer).get("_replaced_norms")
    return () if replaced is None else tuple(replaced.norms)


def copy_with(layer, norms):
    """A copy of a composite layer, without weights yet, with other norms by their path."""
    inner = {type(part).__name__: type(part) for part in layers_in(layer, include_self=False)}
    own = {name: c for name, c in inner.items() if not c.__module__.startswith("keras.")}
    with keras.saving.custom_object_scope(own):
        return _made(_original(type(layer)), _config_of(layer), norms)


def needs_copy(layer):
    """Whether a layer cannot be made from its own configuration, but can by `copy_with`."""
    return _full_name(_original(type(layer))) in WRONG_ENTRIES


def _config_of(layer):
    """The configuration from which a layer of the original class can be made."""
    original = _original(type(layer))
    config = original.get_config(layer)
    if original.get_config is keras.layers.Layer.get_config and type(layer) is not original:
        # Keras finds out by itself what the constructor was given, but of the original alone.
        config = {**layer._replaced_norms.config, **config}
    wrong, missing = WRONG_ENTRIES.get(_full_name(original), ((), ()))
    more = {key: getattr(layer, key) for key in missing}
    return {key: value for key, value in {**config, **more}.items() if key not in wrong}


def _made(original, config, norms):
    """A layer of an original class with other norms."""
    layer_class = _class_with_norms(original)
    token = _pending.set(_Replaced(dict(norms), dict(config)))
    try:
        return original.from_config.__func__(layer_class, config)
    finally:
        _pending.reset(token)


@keras.saving.register_keras_serializable("kerasnorm", "WithNorms")
class WithNorms:
    """What a class of layers with other norms has beyond the class of the original."""

    original: type | None = None
    _replaced_norms: _Replaced

    def __init__(self, *args, **kwargs):
        # Not by `setattr`, which Keras allows behind its own `__init__` alone.
        object.__setattr__(self, "_replaced_norms", _pending.get() or _Replaced({}, {}))
        super().__init__(*args, **kwargs)

    def get_config(self):
        original = self.original
        layer = {
            "module": original.__module__,
            "class_name": original.__name__,
            "config": keras.saving.serialize_keras_object(_config_of(self)),
            "registered_name": keras.saving.get_registered_name(original),
        }
        norms = {
            path: keras.saving.serialize_keras_object(norm)
            for path, norm in self._replaced_norms.norms.items()
        }
        for norm in norms.values():
            # They are built inside the layer, where their weights get their paths.
            norm.pop("build_config", None)
        return {"layer": layer, "norms": norms}

    @classmethod
    def from_config(cls, config):
        """The layer that a configuration describes, of any original class."""
        layer = config["layer"]
        original = cls.original
        if original is None or _names_of(original) != _names_in(layer):
            original = keras.saving.get_registered_object(layer["registered_name"])
        if original is None:
            original = type(keras.saving.deserialize_keras_object(layer))
        norms = {
            path: keras.saving.deserialize_keras_object(norm)
            for path, norm in config["norms"].items()
        }
        return _made(original, layer["config"], norms)


@functools.cache
def _class_with_norms(original):
    """The subclass of a class whose layers have other norms."""
    body = {"original": original, "__module__": __name__, "__doc__": original.__doc__}
    build = original.build
    if build is keras.layers.Layer.build:
        # The norms are there, and are built when the layer is called.
        def __init__(self, *args, **kwargs):
            WithNorms.__init__(self, *args, **kwargs)
            _install(self)

        body["__init__"] = __init__
    else:

        @functools.wraps(build)
        def build_and_install(self, *args, **kwargs):
            build(self, *args, **kwargs)
            _install(self)

        body["build"] = build_and_install
    suffix = "WithNorms" if _full_name(original) in _attributes else "Copy"
    name = f"{original.__name__}{suffix}"
    made = type(name, (WithNorms, original), {**body, "__qualname__": name})
    # Each of them can make a layer of any original, so it does not matter which is the last one.
    return keras.saving.register_keras_serializable("kerasnorm", "WithNorms")(made)


def _install(layer):
    """Put the other norms into the attributes of a layer."""
    places = {inner.path: inner for inner in norms_in(layer)}
    for path, norm in layer._replaced_norms.norms.items():
        if path not in places:
            raise ValueError(
                f"layer '{layer.name}' ({layer.original.__name__}) has no norm at '{path}' after "
                f"it is created from its configuration; it has {list(places) or 'none'}. Needed: a "
                "class that creates its norms in `__init__` or in `build`, and is registered by "
                "`kerasnorm.register_composite` as it was when the layer was saved."
            )
        inner = places[path]
        if inner.norm.built and not norm.built:
            with names_before(inner.names[:-1]):
                norm.build(inner.norm.get_build_config()["input_shape"])
        owner = container = layer
        for step in inner.attributes[:-1]:
            container = container[step] if isinstance(step, int) else getattr(container, step)
            owner = container if isinstance(container, keras.layers.Layer) else owner
        put_layer(owner, container, inner.attributes[-1], inner.norm, norm)


def _original(layer_class):
    """The class whose norms were replaced, of a class with other norms."""
    return getattr(layer_class, "original", None) or layer_class


def _full_name(layer_class):
    return f"{layer_class.__module__}.{layer_class.__qualname__}"


def _names_of(layer_class):
    return layer_class.__module__, layer_class.__name__


def _names_in(config):
    return config["module"], config["class_name"]
