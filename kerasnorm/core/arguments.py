"""Types and descriptions of constructor arguments, each in one place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

import keras

# What `keras.initializers.get` and its like take.
InitializerLike: TypeAlias = (
    str | dict[str, Any] | keras.initializers.Initializer | Callable[..., Any]
)
RegularizerLike: TypeAlias = (
    str | dict[str, Any] | keras.regularizers.Regularizer | Callable[..., Any] | None
)
ConstraintLike: TypeAlias = (
    str | dict[str, Any] | keras.constraints.Constraint | Callable[..., Any] | None
)
ActivationLike: TypeAlias = str | dict[str, Any] | Callable[..., Any] | None
# A number, or one for each step of the training.
ScheduleLike: TypeAlias = (
    float
    | dict[str, Any]
    | keras.optimizers.schedules.LearningRateSchedule
    | Callable[[Any], Any]
    | None
)
# A count or a size that divides the channels.
Divisor: TypeAlias = int | Literal["auto"]


class LayerArguments(TypedDict, total=False):
    """The keyword arguments of every Keras layer."""

    name: str | None
    dtype: str | dict[str, Any] | keras.dtype_policies.DTypePolicy | None
    trainable: bool
    activity_regularizer: RegularizerLike


_Class = TypeVar("_Class", bound=type)
_SECTION = re.compile(r"^    Args:\n((?: {8}.*\n)+)", re.MULTILINE)
_PLACE = re.compile(r"^        \{(\w+)\}$", re.MULTILINE)


def documented(layer_class: _Class) -> _Class:
    """Fill in what a docstring's `Args:` take over from those of the classes above.

    A line `{MovingNormalization}` stands for the arguments of that class, where their description
    is at home.
    """
    sections = {
        ancestor.__name__: section[1].rstrip()
        for ancestor in layer_class.__mro__[1:]
        if (section := _SECTION.search(vars(ancestor).get("__doc__") or ""))
    }
    if layer_class.__doc__:  # None with `python -OO`.
        layer_class.__doc__ = _PLACE.sub(lambda line: sections[line[1]], layer_class.__doc__)
    return layer_class
