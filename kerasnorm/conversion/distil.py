"""Training on another model's predictions, without labels."""

import contextlib

import keras
import numpy as np

from kerasnorm.batches import size_of
from kerasnorm.core.standardization import assign, numpy_of


def distil(old, new, norms, examples, steps, train, learning_rate, show):
    """Train a model to predict what another one does, if that brings it nearer.

    Both work as at inference: no dropout, and no moving statistic moves. Where the predictions for
    held-out examples are further away afterwards, all weights are again what they were before.

    Args:
        old: the model whose predictions are wanted.
        new: the model that is trained; it stays compiled as it is.
        norms: its layers that were converted.
        examples: `Examples`; their labels are not used.
        steps: of Adam.
        train: `"norms"`, or `"all"` of the weights.
        learning_rate: at the start; it falls to zero as a half cosine.
        show: whether to show progress.

    Returns:
        Whether it came nearer.
    """
    batches = examples.fitting
    wanted = [keras.tree.flatten(old.predict_on_batch(x)) for x, _ in batches]
    student = _AtInference(new)
    kept = {id(variable) for norm in norms for variable in norm.variables}
    with training(norms), contextlib.ExitStack() as stack:
        if train == "norms":
            stack.enter_context(
                _held([variable for variable in new.variables if id(variable) not in kept])
            )
        losses = [_loss(parts) for parts in zip(*wanted, strict=True)]
        start = [numpy_of(variable) for variable in new.variables]
        before = _distance(old, new, losses, examples.held_out)
        student.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
            losses if len(losses) > 1 else losses[0],
            jit_compile=new.jit_compile if new.compiled else "auto",
            run_eagerly=bool(new.compiled and new.run_eagerly),
        )
        bar = keras.utils.Progbar(steps, unit_name="step") if show else None
        for step in range(steps):
            x, y = batches[step % len(batches)][0], wanted[step % len(batches)]
            loss = student.train_on_batch(x, y if len(y) > 1 else y[0])
            if bar is not None:
                bar.update(step + 1, [("loss", float(np.sum(loss)))])
        nearer = _distance(old, new, losses, examples.held_out) < before
        if not nearer:
            for variable, value in zip(new.variables, start, strict=True):
                assign(variable, value)
    return nearer


def _distance(old, new, losses, batches):
    """How far the predictions of two models are apart: the sum of the losses over all batches."""
    return sum(
        size_of(x) * float(loss(before, after))
        for x, _ in batches
        for loss, before, after in zip(
            losses,
            *(keras.tree.flatten(model.predict_on_batch(x)) for model in (old, new)),
            strict=True,
        )
    )


class _AtInference(keras.Model):
    """A model that works as at inference while it is trained, with a list of outputs."""

    def __init__(self, model):
        super().__init__(dtype=model.dtype_policy, name="student")
        self.model = model
        self.built = True

    def call(self, inputs):
        outputs = keras.tree.flatten(self.model(inputs, training=False))
        return outputs if len(outputs) > 1 else outputs[0]


@contextlib.contextmanager
def training(layers):
    """A context in which layers are trainable, also those that a user froze."""
    frozen = [layer for layer in layers if not layer.trainable]
    for layer in frozen:
        layer.trainable = True
    try:
        yield
    finally:
        for layer in frozen:
            layer.trainable = False


@contextlib.contextmanager
def _held(variables):
    """A context in which variables are not trained."""
    held = [variable for variable in variables if variable.trainable]
    for variable in held:
        variable.trainable = False
    try:
        yield
    finally:
        for variable in held:
            variable.trainable = True


def _loss(parts):
    """For probabilities their divergence; for all else the squared distance."""
    values = np.concatenate(parts)
    sums = values.sum(-1)
    if values.shape[-1] > 1 and values.min() >= 0 and np.allclose(sums, 1.0, atol=1e-2):
        return keras.losses.KLDivergence()
    return keras.losses.MeanSquaredError()
