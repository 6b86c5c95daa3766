"""Training with Consistent Normalization: every transformation through its own branch."""

import functools
import inspect
import math
from typing import Any, NamedTuple

import keras
from keras import ops

from kerasnorm.consistent.branches import branch, interleave, interleaved, separate
from kerasnorm.consistent.norm import ConsistentNorm
from kerasnorm.core import backends
from kerasnorm.core.keras_internals import additional_loss, compiled_loss_of, layers_in
from kerasnorm.core.layer import PACKAGE
from kerasnorm.surgery import rebuild


class BranchOutputs(NamedTuple):
    """What a `ConsistentModel` returns in training: the model's outputs, one per branch."""

    branches: list[Any]


@keras.saving.register_keras_serializable(PACKAGE)
class ConsistentModel(keras.Model):
    """Trains a model on transformed copies of each batch, each through its own normalization.

    Algorithm 1 of the paper: in every training step each transformation T_k of the batch goes
    through branch k of all `ConsistentNorm` layers, and one optimizer step minimizes

        sum_k lambda_k loss(model_k(T_k(x)), y)

    `compile`, `fit`, callbacks and saving work as for every Keras model. `predict`, `evaluate` and
    the metrics given to `compile` use branch 0, the unchanged data. `fit` also reports
    `branch_0_loss`, `branch_1_loss`, ... without their weights; `loss` is the weighted sum. With
    `training=True` the model returns `BranchOutputs`.

    Args:
        model: a Keras model whose norms are `ConsistentNorm`, such as
            `kerasnorm.replace_norms(model, {"name": "consistent", "norm": "batch", "branches": 3})`
            returns. If transformations change the size, it must take inputs of any size:
            `keras.Input((None, None, 3))`.
        transforms: one per branch: Keras layers, such as those of `kerasnorm.transforms`, or
            functions of the model's inputs. The first is the identity: None, or
            `keras.layers.Identity()`. They only run in training, and must keep the batch size.
        loss_weights: a number lambda_k per transformation; None is 1 for each, as in the paper.
        concatenate: whether all branches go through the model in one pass, as one batch, which
            takes less time than one pass for each. `"auto"` does so if this does not change the
            result. Then all transformations keep the (known) shape, and no layer other than
            `ConsistentNorm` is known to mix examples, by moving statistics or an activity
            regularizer. Use False for a model with a layer that mixes them in a different way.
        **kwargs: `name`, `dtype`, `trainable`.

    Example:
        >>> import keras
        >>> import kerasnorm
        >>> from kerasnorm import transforms
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3)(inputs)
        >>> x = kerasnorm.ConsistentNorm("batch", branches=2)(x)
        >>> x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
        >>> inner = keras.Model(inputs, keras.layers.Dense(2)(x))
        >>> model = kerasnorm.ConsistentModel(inner, [None, transforms.ScaleAndPad(0.5)])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(keras.ops.ones((4, 8, 8, 3)), keras.ops.ones((4, 2)), verbose=0)
        >>> sorted(history.history)
        ['branch_0_loss', 'branch_1_loss', 'loss']
        >>> small = model.branch_model(1)
        >>> small.count_params() < inner.count_params()
        True

    Reference:
        Zhou et al., 2019, "Towards Improving Generalization of Deep Networks via Consistent
        Normalization", Algorithm 1: https://arxiv.org/abs/1909.00182
    """

    def __init__(self, model, transforms, loss_weights=None, concatenate="auto", **kwargs):
        if isinstance(model, keras.Model):
            kwargs.setdefault("dtype", model.dtype_policy)
        # Transformations see the data as they come; the model casts its own inputs.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(model, keras.Model):
            raise TypeError(f"{self._described()}: model={model!r}. Needed: a Keras model.")
        self.transforms = self._checked_transforms(transforms)
        self.loss_weights = self._checked_loss_weights(loss_weights)
        if concatenate not in (True, False, "auto"):
            raise ValueError(
                f"{self._described()}: concatenate={concatenate!r}. Needed: True, False or 'auto'."
            )
        self.concatenate = concatenate
        self.model = model
        self._branch_losses = [
            keras.metrics.Mean(name=f"branch_{index}_loss") for index in range(self.branches)
        ]
        self._separate = _Separate(self.branches)
        # Whether another layer than ConsistentNorm mixes examples; found when it is needed.
        self._mixes: bool | None = None
        if model.built:
            self._check_norms()
            self.build(getattr(model, "input_shape", None))

    @property
    def branches(self):
        """How many branches there are."""
        return len(self.transforms)

    # What may be given.

    def _described(self):
        return f"ConsistentModel '{self.name}'"

    def _checked_transforms(self, transforms):
        """The transformations as a list, the identity as None."""
        if not isinstance(transforms, (list, tuple)) or not transforms:
            raise ValueError(
                f"{self._described()}: transforms={transforms!r}. Needed: a list, with the "
                "identity (None) first."
            )
        transforms = [None if _is_identity(one) else one for one in transforms]
        wrong = [one for one in transforms if one is not None and not callable(one)]
        if wrong:
            raise TypeError(
                f"{self._described()}: the transform {wrong[0]!r}. Needed: a Keras layer, a "
                "function of the inputs, or None for the identity."
            )
        if transforms[0] is not None:
            raise ValueError(
                f"{self._described()}: the first transform is {transforms[0]!r}. Needed: the "
                "identity, None or `keras.layers.Identity()`, because inference uses branch 0 for "
                f"the unchanged data; for example transforms=[None, *the {len(transforms)} "
                "given], with one more branch."
            )
        return transforms

    def _checked_loss_weights(self, loss_weights):
        """A finite number of at least 0 for each transformation."""
        weights = [1.0] * self.branches if loss_weights is None else loss_weights
        if (
            not isinstance(weights, (list, tuple))
            or len(weights) != self.branches
            or not all(
                isinstance(w, (int, float)) and not isinstance(w, bool) and 0 <= w < math.inf
                for w in weights
            )
        ):
            raise ValueError(
                f"{self._described()}: loss_weights={loss_weights!r}. Needed: {self.branches} "
                "numbers of at least 0, one per transform, or None."
            )
        return [float(weight) for weight in weights]

    def _check_norms(self):
        """Refuse a model without branches, or with another number of them."""
        norms = [x for x in layers_in(self.model) if isinstance(x, ConsistentNorm)]
        spec = f'{{"name": "consistent", "norm": "batch", "branches": {self.branches}}}'
        if not norms:
            raise ValueError(
                f"{self._described()}: model '{self.model.name}' has no ConsistentNorm. Needed: "
                f"norms such as `kerasnorm.replace_norms(model, {spec})` gives."
            )
        others = {n.name: n.branches for n in norms if n.branches != self.branches}
        if others:
            raise ValueError(
                f"{self._described()}: {self.branches} transforms (the identity counts), but "
                f"ConsistentNorm layers with different numbers of branches: {others}. Needed: as "
                f"many branches as transforms, as in {spec}."
            )

    # Running.

    def build(self, input_shape):
        """Build the model and those transformations that are layers."""
        if not self.model.built:
            self.model.build(input_shape)
        self._check_norms()
        for transform in self.transforms:
            if isinstance(transform, keras.layers.Layer) and not transform.built and input_shape:
                transform.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """The model's outputs in inference; `BranchOutputs` in training."""
        # Said to the model as well: JAX's trainer calls without Keras's record of it.
        run = self.model
        if "training" in inspect.signature(run.call).parameters:
            run = functools.partial(run, training=bool(training))
        if not training:
            return run(inputs)
        batches = [
            inputs if transform is None else self._transformed(index, transform, inputs)
            for index, transform in enumerate(self.transforms)
        ]
        if self._in_one_pass(batches):
            with interleaved(self.branches):
                outputs = run(keras.tree.map_structure(_interleave, *batches))
            parts = [self._separate(output) for output in keras.tree.flatten(outputs)]
            return BranchOutputs(
                [
                    keras.tree.pack_sequence_as(outputs, list(one))
                    for one in zip(*parts, strict=True)
                ]
            )
        outputs = []
        for index, batch in enumerate(batches):
            with branch(index):
                outputs.append(run(batch))
        return BranchOutputs(outputs)

    def _transformed(self, index, transform, inputs):
        """The inputs of a branch, checked."""
        given = keras.tree.flatten(inputs)[0].shape[0]
        outputs = transform(inputs)
        received = {output.shape[0] for output in keras.tree.flatten(outputs)}
        if given is None or received == {None}:
            # A graph does not know the batch's size: the transformation is tried with some.
            given, received = _tried(transform, inputs)
        if received != {given}:
            raise ValueError(
                f"{self._described()}: transform {index} ({transform!r}) makes batches of "
                f"{', '.join(map(str, received))} from batches of {given}. Needed: as many "
                "examples as it is given, because they have the same targets."
            )
        return outputs

    def _in_one_pass(self, batches):
        """Whether all branches go through the model as one batch."""
        shapes = [
            [tuple(leaf.shape[1:]) for leaf in keras.tree.flatten(batch)] for batch in batches
        ]
        same = all(shape == shapes[0] for shape in shapes) and not any(
            None in shape for shape in shapes[0]
        )
        if self.concatenate is True and not same:
            raise ValueError(
                f"{self._described()}: concatenate=True, with inputs of shapes {shapes} in the "
                "branches. Needed: transforms that keep the shape, or concatenate='auto'."
            )
        if self.concatenate != "auto":
            return self.concatenate
        if self._mixes is None:
            self._mixes = any(map(_mixes_examples, _layers_beside_norms(self.model)))
        return same and not self._mixes

    # Losses and metrics.

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The weighted sum of the branches' losses, and further losses once."""
        if not isinstance(y_pred, BranchOutputs):
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)
        if compiled_loss_of(self) is None:
            raise ValueError(
                f"{self._described()}: there is no loss to train with. Needed: "
                "`compile(..., loss=...)`."
            )
        total = sum(additional_loss(self, loss) for loss in self.losses)
        examples = ops.shape(keras.tree.flatten(y_pred.branches[0])[0])[0]
        for index, (outputs, weight, tracker) in enumerate(
            zip(y_pred.branches, self.loss_weights, self._branch_losses, strict=True)
        ):
            loss = self._branch_loss(index, y, outputs, sample_weight)
            tracker.update_state(backends.unscaled_loss(loss), sample_weight=examples)
            total = total + weight * loss
        return total

    def _branch_loss(self, index, y, outputs, sample_weight):
        """The compiled loss of a branch; what it tracks of single outputs is of branch 0."""
        compiled_loss = compiled_loss_of(self)
        tracked = [v for metric in compiled_loss.metrics for v in metric.variables]
        before = [ops.copy(variable.value) for variable in tracked] if index else []
        loss = compiled_loss(y, outputs, sample_weight)
        for variable, value in zip(tracked, before, strict=False):
            variable.assign(value)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics of branch 0, and the losses of all branches in training."""
        trained = isinstance(y_pred, BranchOutputs)
        outputs = y_pred.branches[0] if trained else y_pred
        results = super().compute_metrics(x, y, outputs, sample_weight)
        names = {tracker.name for tracker in self._branch_losses}
        return {name: v for name, v in results.items() if trained or name not in names}

    def get_metrics_result(self):
        """Without the branches' losses where there was no training, as in `evaluate`."""
        results = super().get_metrics_result()
        # An operation makes a number of a variable that is spread over replicas.
        if not backends.is_tracing() and float(self._branch_losses[0].count + 0) == 0:
            for tracker in self._branch_losses:
                results.pop(tracker.name)
        return results

    # Afterwards.

    def branch_model(self, k):
        """A plain model with branch `k` alone: what the paper calls dynamic inference.

        It has the architecture of the model, each `ConsistentNorm` replaced by a copy of its bank
        `k` under the same name, and copies of all other weights; so it has as many parameters as
        the network with plain norms, and gives what branch `k` gives. It is not compiled. Its
        inputs are not transformed.

        Args:
            k: the branch.
        """
        if isinstance(k, bool) or not hasattr(k, "__index__") or not 0 <= int(k) < self.branches:
            raise ValueError(
                f"{self._described()}: branch_model({k!r}). Needed: an integer from 0 to "
                f"{self.branches - 1}."
            )
        layers = [x for x in layers_in(self.model) if isinstance(x, ConsistentNorm)]
        return rebuild(self.model, [(x, x.bank_copy(int(k))) for x in layers]).model

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "transforms": [keras.saving.serialize_keras_object(one) for one in self.transforms],
            "loss_weights": self.loss_weights,
            "concatenate": self.concatenate,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model from its configuration."""
        config = dict(config)

        def revived(part):
            if not isinstance(part, dict):
                return part
            return keras.saving.deserialize_keras_object(part, custom_objects=custom_objects)

        config["model"] = revived(config["model"])
        config["transforms"] = [revived(part) for part in config["transforms"]]
        if "dtype" in config:
            config["dtype"] = revived(config["dtype"])
        return cls(**config)


class _Separate(keras.layers.Layer):
    """Gives the batch of each branch, and its mask, as layers of Keras hand masks on."""

    def __init__(self, count):
        super().__init__(autocast=False, name="separate")
        self.count = count
        self.supports_masking = True
        self.built = True

    def call(self, inputs):
        return separate(inputs, self.count)

    def compute_mask(self, inputs, previous_mask):
        if previous_mask is None:
            return [None] * self.count
        return separate(previous_mask, self.count)


def _interleave(*parts):
    """The batches of all branches as one."""
    return interleave(parts)


def _is_identity(transform):
    """Whether a transformation is None, Keras's Identity, or a function that returns what it gets.

    >>> from kerasnorm.consistent.model import _is_identity
    >>> _is_identity(lambda x: x), _is_identity(lambda x: x + 0)
    (True, False)
    """
    if transform is None or isinstance(transform, keras.layers.Layer):
        return transform is None or type(transform) is keras.layers.Identity
    probe = object()
    try:
        return transform(probe) is probe
    except Exception:
        return False


def _tried(transform, inputs):
    """The batch sizes before and after a transformation, of a batch that is only described."""
    size = 7

    def described(tensor):
        return keras.KerasTensor((size, *tensor.shape[1:]), dtype=tensor.dtype)

    probe = transform
    if not isinstance(transform, keras.layers.Layer):
        probe = keras.layers.Lambda(transform)
    outputs = probe.compute_output_spec(keras.tree.map_structure(described, inputs))
    return size, {output.shape[0] for output in keras.tree.flatten(outputs)}


def _layers_beside_norms(layer):
    """A layer and the layers in it, but for `ConsistentNorm`."""
    if isinstance(layer, ConsistentNorm):
        return
    yield layer
    for inner in layers_in(layer, include_self=False, recursive=False):
        yield from _layers_beside_norms(inner)


def _mixes_examples(layer):
    """Whether a layer is seen to treat a batch not as each example by itself."""
    return (
        getattr(layer, "moving_mean", None) is not None
        or getattr(layer, "activity_regularizer", None) is not None
    )
