"""What surgery asks of layers: which plain norm a layer is, and how two of them relate."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

# Families: whose mean and variance standardize.
BATCH = ("batch",)
CONSTANTS = ("constants",)


def groups(count):
    """The family of norms that standardize an example by `count` groups of its channels."""
    return ("groups", count)


RENORMALIZED = "renormalized batch"


def renormalized(limits, momentum, averages):
    """What batch renormalization uses in training, as `Standardization.in_training`.

    Args:
        limits: the largest r, the largest d and the least r; None is no limit.
        momentum: of the averages.
        averages: the mean and the deviation in r and d.
    """
    return (RENORMALIZED, *limits, momentum, *(numpy_of(each).tobytes() for each in averages))


# How the outputs of one layer relate to those of another, for the same inputs.
SAME = "same"
SAME_AT_INFERENCE = "same at inference"
NEAR = "near"
OTHER = "other"


@dataclasses.dataclass(frozen=True, eq=False)
class Standardization:
    """A layer as the plain norm `gamma*(x - mean)/sqrt(variance + epsilon) + beta`.

    Attributes:
        gamma, beta: per channel, float64; 1 and 0 where the layer has no weight.
        epsilon: added to the variance.
        family: what the mean and variance are taken of: `BATCH` (moving ones), `groups(4)`, or a
            different tuple for others. None: with its present weights, the layer is not a plain
            norm.
        in_training: the family in training, if it is different.
        moving_mean, moving_variance: per channel, float64; None where there are none.
        per_channel: False where gamma or beta differ over positions, and are not those above.
        near: whether the layer is only nearly this norm.
    """

    gamma: Any
    beta: Any
    epsilon: float
    family: tuple | None = None
    in_training: tuple | None = None
    moving_mean: Any = None
    moving_variance: Any = None
    per_channel: bool = True
    near: bool = False

    @property
    def slope_and_shift(self):
        """What a norm with moving statistics is at inference: `slope*x + shift`."""
        slope = self.gamma / np.sqrt(self.moving_variance + self.epsilon)
        return slope, self.beta - self.moving_mean * slope

    def relation_to(self, new):
        """How the outputs of `new` relate to this one's: one of the constants above."""
        alike = self.per_channel and new.per_channel and self.family == new.family
        if self.family is None or not alike:
            return OTHER
        same = self.epsilon == new.epsilon and _close(
            (self.gamma, self.beta), (new.gamma, new.beta), atol=1e-6
        )
        if self.family == BATCH:
            if not _close(self.slope_and_shift, new.slope_and_shift, rtol=1e-6, atol=1e-7):
                return OTHER
            same = same and all(
                np.array_equal(a, b)
                for a, b in (
                    (self.moving_mean, new.moving_mean),
                    (self.moving_variance, new.moving_variance),
                )
            )
        elif not same:
            return OTHER
        if new.near:
            return NEAR
        return SAME if same and self.in_training == new.in_training else SAME_AT_INFERENCE


def _close(one, other, atol, rtol=0.0):
    """Whether two pairs of arrays are equal but for rounding."""
    return all(np.allclose(a, b, rtol=rtol, atol=atol) for a, b in zip(one, other, strict=True))


def numpy_of(value):
    """A copy of the value of a variable or tensor, as an array."""
    return np.array(ops.convert_to_numpy(value))


def assign(variable, value):
    """Give a variable a copy of a value, so that no buffer is shared (JAX gives them away)."""
    if hasattr(value, "assign"):
        value = ops.convert_to_numpy(value)
    variable.assign(np.array(value))
