"""Norm specs: what names a normalization layer everywhere, in plain JSON."""

import difflib
import inspect

import keras

from kerasnorm.core.layer import divisors
from kerasnorm.layers.associate import AssociateNorm
from kerasnorm.layers.batch import BatchNorm
from kerasnorm.layers.conv import ConvNorm
from kerasnorm.layers.group import GroupNorm, InstanceNorm, LayerNorm
from kerasnorm.layers.ilm import ILMGroupNorm, ILMInstanceNorm, ILMLayerNorm
from kerasnorm.layers.learned_stats import LearnedStatsNorm
from kerasnorm.layers.mode import ModeGroupNorm, ModeNorm

# Layer classes by their name, and names by every key that is understood.
_classes: dict[str, type] = {}
_names: dict[str, str] = {}

# Arguments that models, surgery and the search take as "auto" where a spec does not give them.
AUTO_ARGUMENTS = ("groups", "key_group_size")


def register(name, layer_class, aliases=()):
    """Give a layer class a name that `get` understands, in specs and in searches.

    Args:
        name: a word, such as `"my_norm"`. Case, `_`, `-` and a last "norm" do not matter where it
            is looked up. The class's own name is understood too, unless it is taken.
        layer_class: a `keras.layers.Layer` class with `get_config`.
        aliases: other words for it.

    Example:
        >>> import keras
        >>> import kerasnorm
        >>> class Halve(keras.layers.Layer):
        ...     def call(self, inputs):
        ...         return inputs / 2
        >>> kerasnorm.register("halve", Halve)
        >>> type(kerasnorm.get("Halve")).__name__
        'Halve'
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise TypeError(f"register: layer_class={layer_class!r}. Needed: a Keras layer class.")
    for word in (name, *aliases):
        if not isinstance(word, str) or not _key(word):
            raise ValueError(f'register: {word!r} is no name. Needed: a word, such as "my_norm".')
        holder = _classes.get(_names.get(_key(word), ""))
        if holder is not None and not _same_class(holder, layer_class):
            raise ValueError(
                f"register: {word!r} already names {holder.__module__}.{holder.__name__}. Needed: "
                f"another word for {layer_class.__module__}.{layer_class.__name__}."
            )
    _classes[name] = layer_class
    for word in (name, *aliases):
        _names[_key(word)] = name
    # The class's own name too, unless it means another class already.
    _names.setdefault(_key(layer_class.__name__), name)


def available():
    """The names that `get` understands, without their aliases.

    >>> import kerasnorm
    >>> kerasnorm.available()[:4]
    ['batch', 'group', 'instance', 'layer']
    """
    return list(_classes)


def get(spec, **overrides):
    """The layer that a norm spec names.

    Args:
        spec: a name (`"ilm_group"`), a dictionary (`{"name": "ilm_group", "groups": 16}`), a layer
            class, a layer (whose configuration is copied, not its weights), or None: no norm, a
            layer that passes its inputs on.
        **overrides: constructor arguments that count more than the spec's. The layer's own name is
            not part of a spec; it may be given here.

    Example:
        >>> import kerasnorm
        >>> kerasnorm.get("gn", groups=8).groups
        8
        >>> kerasnorm.get({"name": "mode", "modes": 4}).modes
        4
    """
    if spec is None:
        return keras.layers.Identity(
            **{key: overrides[key] for key in ("name", "dtype") if key in overrides}
        )
    layer_class, arguments = parse(spec)
    return make(layer_class, {**arguments, **overrides})


def make(layer_class, arguments):
    """A layer of a class, from arguments as a configuration has them."""
    if layer_class.from_config.__func__ is keras.layers.Layer.from_config.__func__:
        # The same, and what the constructor says of illegal arguments arrives as it is.
        return layer_class(**arguments)
    return layer_class.from_config(arguments)


def spec_of(layer):
    """The spec, a dictionary of plain JSON, that `get` makes such a layer from.

    It holds the arguments that differ from the defaults, and not the layer's own name.

    >>> import kerasnorm
    >>> kerasnorm.spec_of(kerasnorm.ModeNorm(modes=4, name="norm"))
    {'name': 'mode', 'modes': 4}
    """
    if layer is None or type(layer) is keras.layers.Identity:
        return None
    name = name_of(type(layer))
    config = unmarked(layer.get_config())
    defaults = _default_config(type(layer), config)
    return {
        "name": name,
        **{
            key: value
            for key, value in config.items()
            if key != "name" and (key not in defaults or defaults[key] != value)
        },
    }


def has_name(layer_class):
    """Whether exactly this class, not a base of it, is registered."""
    return any(_same_class(layer_class, registered) for registered in _classes.values())


def name_of(layer_class):
    """The name under which exactly this class is registered."""
    for name, registered in _classes.items():
        if _same_class(layer_class, registered):
            return name
    raise ValueError(
        f"spec_of: {layer_class.__name__} has no name. Needed: one of "
        f"{', '.join(c.__name__ for c in _classes.values())}, or "
        f'`kerasnorm.register("a_name", {layer_class.__name__})` beforehand.'
    )


def parse(spec):
    """The class and the constructor arguments that a spec stands for (not for None)."""
    if isinstance(spec, str):
        return _class_named(spec), {}
    if isinstance(spec, (list, tuple)) or (isinstance(spec, dict) and "stages" in spec):
        raise TypeError(
            f"norm spec {spec!r} is for several places of a network. Needed: one norm; "
            "`kerasnorm.replace_norms` and `kerasnorm.models` take norms for several places."
        )
    if isinstance(spec, dict):
        if not isinstance(spec.get("name"), str):
            raise ValueError(
                f"norm spec {spec!r} has no name. Needed: a dictionary such as "
                '{"name": "group", "groups": 8}.'
            )
        arguments = {key: value for key, value in spec.items() if key != "name"}
        layer_class = _class_named(spec["name"])
        _check_arguments(layer_class, arguments)
        return layer_class, arguments
    if isinstance(spec, type) and issubclass(spec, keras.layers.Layer):
        return spec, {}
    if isinstance(spec, keras.layers.Layer):
        arguments = {key: v for key, v in unmarked(spec.get_config()).items() if key != "name"}
        return type(spec), arguments
    raise TypeError(
        f"norm spec {spec!r}. Needed: a name ({', '.join(available())}), a dictionary with a "
        "name and arguments, a layer class, a layer, or None for no norm."
    )


def given_arguments(spec):
    """The class of a spec, and the arguments that it decides (not for None).

    Those of a layer are the ones that differ from the defaults, and its group arguments.

    >>> import kerasnorm
    >>> from kerasnorm.registry import given_arguments
    >>> given_arguments(kerasnorm.GroupNorm(epsilon=1e-3, name="norm"))
    (<class 'kerasnorm.layers.group.GroupNorm'>, {'epsilon': 0.001, 'groups': 32})
    """
    layer_class, arguments = parse(spec)
    if not isinstance(spec, keras.layers.Layer):
        return layer_class, arguments
    defaults = _default_config(layer_class, arguments)
    return layer_class, {
        key: value
        for key, value in arguments.items()
        if key in AUTO_ARGUMENTS or key not in defaults or defaults[key] != value
    }


def is_norm(layer):
    """Whether a layer is a normalization layer: of a registered class, or of a subclass.

    UnitNormalization, which learns nothing and often ends a network, is none here, and neither is
    `keras.layers.Normalization`, which prepares data.

    >>> import keras
    >>> from kerasnorm.registry import is_norm
    >>> is_norm(keras.layers.BatchNormalization()), is_norm(keras.layers.Normalization())
    (True, False)
    """
    return isinstance(layer, tuple(_classes.values())) and not isinstance(
        layer, keras.layers.UnitNormalization
    )


def takes(layer_class, argument):
    """Whether a layer class has a constructor argument."""
    return argument in inspect.signature(layer_class).parameters


def auto_arguments(spec, channels=None):
    """The group arguments that a spec leaves open, as "auto".

    Args:
        spec: a norm spec.
        channels: where they are known, Keras's GroupNormalization, which has no "auto", gets the
            number that it stands for.

    >>> from kerasnorm.registry import auto_arguments
    >>> auto_arguments({"name": "ilm_group", "groups": 8}), auto_arguments("keras_group", 48)
    ({'key_group_size': 'auto'}, {'groups': 24})
    """
    if spec is None:
        return {}
    layer_class, arguments = parse(spec)
    if layer_class is keras.layers.GroupNormalization:
        return (
            {} if channels is None or "groups" in arguments else {"groups": auto_groups(channels)}
        )
    inner = arguments.get("norm")
    if layer_class.__module__ == "kerasnorm.consistent" and isinstance(inner, (str, dict)):
        # A spec within the spec; "class_name" is what Keras writes of a layer, with all arguments.
        opened = {} if "class_name" in inner else auto_arguments(inner, channels)
        own_class, given = parse(inner) if opened else (None, {})
        return {"norm": {"name": name_of(own_class), **given, **opened}} if opened else {}
    return {
        argument: "auto"
        for argument in AUTO_ARGUMENTS
        if layer_class.__module__.startswith("kerasnorm.")
        and takes(layer_class, argument)
        and argument not in arguments
    }


def auto_groups(channels, most=32):
    """What "auto" stands for: the largest number up to 32 that divides the channels."""
    return divisors(channels, min(most, channels))[-1]


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


def _same_class(one, other):
    """Whether two classes are one, defined twice at most (a notebook's cell run again)."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _key(word):
    """A word without case, `_`, `-`, blanks and a last "norm"."""
    return "".join(ch for ch in word.lower() if ch.isalnum()).removesuffix("norm")


def _class_named(word):
    name = _names.get(_key(word))
    if name is None:
        near = difflib.get_close_matches(_key(word), _names, n=5, cutoff=0.4)
        near = list(dict.fromkeys(_names[key] for key in near))
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"norm spec {word!r} is unknown.{hint} Needed: one of {', '.join(available())}."
        )
    return _classes[name]


def _check_arguments(layer_class, arguments):
    parameters = inspect.signature(layer_class).parameters
    common = ("name", "dtype", "trainable", "activity_regularizer")
    for argument in arguments:
        if argument not in parameters and argument not in common:
            known = [key for key in parameters if key != "kwargs"]
            near = difflib.get_close_matches(argument, known, n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ValueError(
                f"norm spec: {layer_class.__name__} has no argument {argument!r}.{hint} Needed: "
                f"some of {', '.join(known)}."
            )


def _default_config(layer_class, config):
    """The configuration of a layer made with nothing but the arguments that it must have."""
    required = {
        key: config[key]
        for key, parameter in inspect.signature(layer_class).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and key in config
    }
    defaults = unmarked(layer_class.from_config(required).get_config())
    return {key: value for key, value in defaults.items() if key not in required}


for _name, _class, *_aliases in (
    ("batch", BatchNorm, "bn"),
    ("group", GroupNorm, "gn"),
    ("instance", InstanceNorm, "in"),
    ("layer", LayerNorm, "ln"),
    ("ilm_group", ILMGroupNorm, "ilm", "ilm_gn"),
    ("ilm_instance", ILMInstanceNorm, "ilm_in"),
    ("ilm_layer", ILMLayerNorm, "ilm_ln"),
    ("associate", AssociateNorm, "assoc"),
    ("mode", ModeNorm, "mn"),
    ("mode_group", ModeGroupNorm, "mgn"),
    ("conv", ConvNorm, "dwck"),
    ("learned_stats", LearnedStatsNorm),
    ("keras_batch", keras.layers.BatchNormalization),
    ("keras_group", keras.layers.GroupNormalization),
    ("keras_layer", keras.layers.LayerNormalization),
    ("keras_rms", keras.layers.RMSNormalization),
    ("keras_unit", keras.layers.UnitNormalization),
):
    register(_name, _class, _aliases)
