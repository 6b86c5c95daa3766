"""Consistent Normalization: a bank of normalization parameters per data transformation."""

import functools
import inspect
import json

import keras
from keras import ops

from kerasnorm import registry
from kerasnorm.consistent.branches import Interleaved, current_branch, interleave, separate
from kerasnorm.core.construction import Reconstructible
from kerasnorm.core.layer import PACKAGE, Normalization, check_dtype
from kerasnorm.core.pooling import Moments


@keras.saving.register_keras_serializable(PACKAGE)
class ConsistentNorm(Reconstructible):
    """Consistent Normalization (CN): copies of a normalization layer, one per transformation.

    Transformed data (scaled, blurred, ...) have a different distribution from the original. Here
    they get their own moments, gamma and beta. Branch k is the copy for transformation k. Branch 0
    is for the unchanged data, and inference uses it. `with kerasnorm.branch(k)` selects a branch.

    Args:
        norm: what to copy: a norm spec (a name, a dictionary, a class, or a layer, of which the
            configuration is used and not the weights), or a configuration from
            `keras.saving.serialize_keras_object`.
        branches: how many copies. They take this layer's dtype policy.
        **kwargs: `name`, `dtype`, `trainable`.

    Input and output shape: those of the copied layer. Masks work as in the copied layer.

    Example:
        >>> import numpy as np
        >>> import kerasnorm
        >>> layer = kerasnorm.ConsistentNorm(kerasnorm.GroupNorm(groups=2), branches=3)
        >>> _ = layer(np.ones((2, 8, 8, 4), "float32"))
        >>> len(layer.weights)
        6
        >>> kerasnorm.spec_of(layer)
        {'name': 'consistent', 'norm': {'name': 'group', 'groups': 2}, 'branches': 3}

    Reference:
        Zhou et al., 2019, "Towards Improving Generalization of Deep Networks via Consistent
        Normalization": https://arxiv.org/abs/1909.00182
    """

    # What a spec of it has as its `norm` is a spec too.
    copies_a_norm = True

    def __init__(self, norm, branches, **kwargs):
        super().__init__(autocast=False, **kwargs)
        described = f"ConsistentNorm '{self.name}'"
        if isinstance(branches, bool) or not hasattr(branches, "__index__") or branches < 1:
            raise ValueError(
                f"{described}: branches={branches!r}. Needed: an integer of at least 1."
            )
        check_dtype(self)
        template = _layer_of(norm, described)
        self.branches = int(branches)
        # As text: a dictionary would be tracked, and a template layer would be saved as a part.
        self._norm = json.dumps(_config_of(template))
        config = registry.unmarked(template.get_config())
        config["dtype"] = self.dtype_policy
        config["trainable"] = config["trainable"] and self.trainable
        self.banks = [
            type(template).from_config({**config, "name": f"branch_{index}"})
            for index in range(self.branches)
        ]
        parameters = inspect.signature(template.call).parameters
        self._takes_mask = "mask" in parameters
        self._takes_training = "training" in parameters
        self.supports_masking = True

    def build(self, input_shape):
        """Build every bank."""
        for bank in self.banks:
            bank.build(input_shape)

    def call(self, inputs, training=None, mask=None):
        """Normalize with the bank of the current branch."""
        choice = current_branch()
        arguments = {"training": training} if self._takes_training else {}
        mask = mask if self._takes_mask else None
        if not isinstance(choice, Interleaved):
            self._check_has(choice)
            if mask is not None:
                arguments["mask"] = mask
            return self.banks[choice](inputs, **arguments)
        self._check_has(choice.branches - 1)
        if training and all(map(_has_row_per_example, self.banks)):
            # Full-size arrays stay together: each bank gives the coefficients of its own examples.
            formula = functools.partial(self._coefficients, choice.branches)
            return self.banks[0]._normalized(inputs, training, mask, formula)
        parts = separate(inputs, choice.branches)
        masks: list = [None] * choice.branches
        if mask is not None:
            mask = ops.broadcast_to(mask, (ops.shape(inputs)[0], *ops.shape(mask)[1:]))
            masks = separate(mask, choice.branches)
        outputs = []
        for bank, part, part_mask in zip(self.banks, parts, masks, strict=False):
            if part_mask is not None:
                arguments["mask"] = part_mask
            outputs.append(bank(part, **arguments))
        return interleave(outputs)

    def _coefficients(self, branches, moments, training):
        """Scale and shift of interleaved examples from their moments."""
        parts = zip(
            *([None] * branches if v is None else separate(v, branches) for v in moments),
            strict=True,
        )
        rows = []
        for bank, part in zip(self.banks, parts, strict=False):
            own = Moments(*part)
            shape = ops.shape(own.mean)
            rows.append([ops.broadcast_to(v, shape) for v in bank.coefficients(own, training)])
        return tuple(map(interleave, zip(*rows, strict=True)))

    def _check_has(self, index):
        """Refuse a branch that the layer has no bank for."""
        if index >= self.branches:
            raise ValueError(
                f"ConsistentNorm '{self.name}': branch {index} was asked for. Needed: a branch "
                f"from 0 to {self.branches - 1}, as many as the layer was made with "
                f"(branches={self.branches})."
            )

    def bank_copy(self, index):
        """A built layer like a bank, with its weights, by itself."""
        bank = self.banks[index]
        new = type(bank).from_config({**bank.get_config(), "name": self.name})
        new.build_from_config(bank.get_build_config())
        for target, source in zip(new.weights, bank.weights, strict=True):
            # A copy: JAX gives arrays away to compiled steps.
            target.assign(ops.copy(source.value))
        return new

    def compute_output_shape(self, input_shape):
        """That of the copied layer."""
        return self.banks[0].compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, training=None, mask=None):
        """That of the copied layer."""
        return self.banks[0].compute_output_spec(inputs)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "norm": json.loads(self._norm),
            "branches": self.branches,
        }


def _has_row_per_example(bank):
    """Whether a bank, in training, can do without an array of its own examples alone."""
    return (
        isinstance(bank, Normalization)
        and bank._row_per_example
        and bank.trainable
        and bank.activity_regularizer is None
    )


def _config_of(template):
    """A norm spec where the class has a name, else what Keras makes of the layer."""
    if registry.has_name(type(template)):
        return registry.spec_of(template)
    return registry.unmarked(keras.saving.serialize_keras_object(template))


def _layer_of(norm, described):
    """An unbuilt layer from what `ConsistentNorm` takes as `norm`."""
    if isinstance(norm, dict) and "class_name" in norm:
        norm = keras.saving.deserialize_keras_object(norm)
    if norm is None:
        raise TypeError(
            f"{described}: norm=None has no parameters to keep apart. Needed: a norm spec, such as "
            '"batch", or a normalization layer.'
        )
    try:
        return registry.get(norm)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{described}: {error}") from error
