"""Norm specs: what names a normalization layer everywhere, in plain JSON."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Mapping
from typing import Any, Optional

import keras

from kerasnorm.core.construction import unmarked
from kerasnorm.core.layer import divisors
from kerasnorm.norms import ROWS, NormRow, key_of

# Rows by their name, and names by every key that is understood.
_rows: dict[str, NormRow] = {}
_names: dict[str, str] = {}

# Arguments that models, surgery and the search take as "auto" where a spec does not give them.
AUTO_ARGUMENTS = ("groups", "key_group_size")


@dataclasses.dataclass(frozen=True)
class NormSpec:
    """A norm spec that was read: what `parse` makes of a name, a dictionary, a class or a layer.

    Attributes:
        layer_class: the class.
        arguments: of its constructor, as a configuration has them.
        inner: of a layer with copies of another norm (`ConsistentNorm`), that norm's spec.
        written: the spec as it was given.
    """

    layer_class: type
    arguments: Mapping[str, Any]
    inner: Optional["NormSpec"] = None
    written: Any = None

    @functools.cached_property
    def given(self):
        """The arguments that the spec decides.

        Of a layer these are the arguments that differ from the defaults, and its group arguments.
        """
        if not isinstance(self.written, keras.layers.Layer):
            return self.arguments
        defaults = _default_config(self.layer_class, self.arguments)
        return {
            key: value
            for key, value in self.arguments.items()
            if key in AUTO_ARGUMENTS or key not in defaults or defaults[key] != value
        }

    def open_arguments(self, channels=None):
        """The group arguments that the spec leaves open, as "auto".

        Args:
            channels: where they are known, Keras's GroupNormalization, which has no "auto", gets
                the number that it stands for.

        >>> from kerasnorm.registry import parse
        >>> parse({"name": "ilm_group", "groups": 8}).open_arguments()
        {'key_group_size': 'auto'}
        >>> parse("keras_group").open_arguments(channels=48)
        {'groups': 24}
        """
        if self.layer_class is keras.layers.GroupNormalization:
            known = channels is not None and "groups" not in self.given
            return {"groups": auto_groups(channels)} if known else {}
        return {argument: "auto" for argument in self._auto if argument not in self.given}

    @property
    def _auto(self):
        """The arguments that take "auto": of the row, or of those of the classes above."""
        ancestors = self.layer_class.__mro__
        named = [row for row in rows() if row.layer_class in ancestors]
        nearest = min(named, key=lambda row: ancestors.index(row.layer_class), default=None)
        auto = nearest.auto if nearest else ()
        return [argument for argument in auto if takes(self.layer_class, argument)]

    def layer(self, **overrides):
        """The layer."""
        return make(self.layer_class, {**self.arguments, **overrides})


def register(row, layer_class=None, aliases=()):
    """Give a layer class a name that `get` understands, in specs and in searches.

    Args:
        row: a `NormRow`, which also says what a search may choose and what is benchmarked; or a
            name alone, such as `"my_norm"`, with the two arguments that follow.
        layer_class: a `keras.layers.Layer` class with `get_config`.
        aliases: other names for it.

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
    if isinstance(row, NormRow):
        if layer_class is not None or aliases:
            raise TypeError("register: a NormRow and further arguments. Needed: the row alone.")
        words, layer_class = (row.name, *row.aliases), row.layer_class
    else:
        words = (row, *aliases)
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise TypeError(f"register: layer_class={layer_class!r}. Needed: a Keras layer class.")
    for word in words:
        if not isinstance(word, str) or not key_of(word):
            raise ValueError(
                f'register: {word!r} is not a valid name. Needed: a word, such as "my_norm".'
            )
        known = _rows.get(_names.get(key_of(word), ""))
        holder: Any = None if known is None else known.layer_class
        if holder is not None and not _same_class(holder, layer_class):
            raise ValueError(
                f"register: {word!r} already names {holder.__module__}.{holder.__name__}. Needed: "
                f"a different name for {layer_class.__module__}.{layer_class.__name__}."
            )
    if not isinstance(row, NormRow):
        # Of a name alone a search knows nothing; it tries such a norm where it is asked to.
        row = NormRow(layer_class, row, tuple(aliases), searched=False)
    _add(row)


def _add(row):
    """Take a row in."""
    _rows[row.name] = row
    *own, of_class = row.keys
    for key in own:
        _names[key] = row.name
    # The class's own name too, unless it means another class already.
    _names.setdefault(of_class, row.name)


def rows():
    """All rows, in the order of `available`."""
    return list(_rows.values())


def row_of(spec):
    """The row of the norm that a spec names, or of a layer's class.

    >>> from kerasnorm.registry import row_of
    >>> row_of("ilm").words
    'ILM group norm'
    """
    return _rows[name_of(parse(spec).layer_class)]


def is_known(word):
    """Whether a word names a norm."""
    return key_of(word) in _names


def available():
    """The names that `get` understands, without their aliases.

    >>> import kerasnorm
    >>> kerasnorm.available()[:4]
    ['batch', 'group', 'instance', 'layer']
    """
    return list(_rows)


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
    return parse(spec).layer(**overrides)


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
    return any(_same_class(layer_class, row.layer_class) for row in rows())


def name_of(layer_class):
    """The name under which exactly this class is registered."""
    for row in rows():
        if _same_class(layer_class, row.layer_class):
            return row.name
    raise ValueError(
        f"spec_of: {layer_class.__name__} has no name. Needed: one of "
        f"{', '.join(row.class_name for row in rows())}, or "
        f'`kerasnorm.register("a_name", {layer_class.__name__})` beforehand.'
    )


def parse(spec):
    """The `NormSpec` of a spec; None for None. What was read already comes back as it is.

    >>> import kerasnorm
    >>> from kerasnorm.registry import parse
    >>> parse(kerasnorm.GroupNorm(epsilon=1e-3, name="norm")).given
    {'epsilon': 0.001, 'groups': 32}
    """
    if spec is None or isinstance(spec, NormSpec):
        return spec
    if isinstance(spec, keras.layers.Layer):
        layer_class = type(spec)
        arguments = {key: v for key, v in unmarked(spec.get_config()).items() if key != "name"}
    else:
        layer_class, arguments = _read(spec)
    inner = None
    if getattr(layer_class, "copies_a_norm", False) and "norm" in arguments:
        inner = parse(revived(arguments["norm"]))
    return NormSpec(layer_class, arguments, inner, spec)


def revived(norm):
    """A norm spec, of what may also be Keras's own writing of a layer."""
    if isinstance(norm, dict) and "class_name" in norm:
        return keras.saving.deserialize_keras_object(norm)
    return norm


def _read(spec):
    """The class and the arguments of a spec that is no layer."""
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
    raise TypeError(
        f"norm spec {spec!r}. Needed: a name ({', '.join(available())}), a dictionary with a "
        "name and arguments, a layer class, a layer, or None for no norm."
    )


def is_norm(layer):
    """Whether a layer is a normalization layer: of a registered class, or of a subclass.

    UnitNormalization, which learns nothing and often ends a network, is none here, and neither is
    `keras.layers.Normalization`, which prepares data.

    >>> import keras
    >>> from kerasnorm.registry import is_norm
    >>> is_norm(keras.layers.BatchNormalization()), is_norm(keras.layers.Normalization())
    (True, False)
    """
    return isinstance(layer, tuple(row.layer_class for row in rows())) and not isinstance(
        layer, keras.layers.UnitNormalization
    )


def takes(layer_class, argument):
    """Whether a layer class has a constructor argument."""
    return argument in inspect.signature(layer_class).parameters


def auto_groups(channels, most=32):
    """What "auto" stands for: the largest number up to 32 that divides the channels."""
    return divisors(channels, min(most, channels))[-1]


def _same_class(one, other):
    """Whether two classes are one, defined twice at most (a notebook's cell run again)."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _class_named(word):
    name = _names.get(key_of(word))
    if name is None:
        near = difflib.get_close_matches(key_of(word), _names, n=5, cutoff=0.4)
        near = list(dict.fromkeys(_names[key] for key in near))
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"norm spec {word!r} is unknown.{hint} Needed: one of {', '.join(available())}."
        )
    return _rows[name].layer_class


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


for _row in ROWS:
    _add(_row)
