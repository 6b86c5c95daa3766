"""Moving statistics that are those of some data, instead of a trace of the training so far."""

import contextlib
import functools
import itertools
import types

import keras
import numpy as np
from keras import ops

from kerasnorm.batches import are_inputs, each_batch
from kerasnorm.core import backends
from kerasnorm.core.dtypes import statistics_dtype
from kerasnorm.core.keras_internals import layers_in
from kerasnorm.core.moving import MovingNormalization, noting_statistics
from kerasnorm.core.pooling import Moments


def reestimate(model, data, batches=16, batch_size=64):
    """Set the moving statistics of a model's norms to those of some data.

    Moving statistics follow the training with a delay. After few steps they are still near their
    initial values, and a network that trains well predicts at chance level. This function measures
    them again. The data pass through the model once. Norms use the statistics of the batch, as in
    training; everything else, such as dropout, works as at inference. The mean and variance of all
    batches together become the moving ones. No other weight changes.

    It sets the statistics of `BatchNorm`, `ModeNorm`, `ConvNorm` and Keras's BatchNormalization, in
    nested models too. In a `ConsistentNorm` it sets those of the branch in use. It does not change
    norms with `trainable=False`.

    All norms are measured in the same pass. As in training, each norm sees what the norms before it
    make of the batch with the batch's own statistics. Measuring one norm after the other would take
    one pass per norm.

    While it runs, no other thread may train or call a model with such norms.

    Args:
        model: a built Keras model.
        data: training data, in one of two forms:
            the inputs as an array, or as a list, tuple or dictionary of arrays. Examples are taken
            evenly from all of them;
            or batches as `fit` takes them (a `keras.utils.PyDataset`, a `tf.data.Dataset`, any
            iterable), each the inputs `x`, or `(x, y)`, or `(x, y, sample_weight)`.
        batches: the largest number of batches to use; None is all.
        batch_size: for arrays; the statistics hardly depend on it.

    Returns:
        The number of layers whose statistics were set; 0 for a model without any.

    Example:
        >>> import keras, numpy as np
        >>> import kerasnorm
        >>> model = keras.Sequential([keras.Input((4,)), kerasnorm.BatchNorm()])
        >>> kerasnorm.reestimate(model, np.random.normal(3.0, 1.0, (640, 4)).astype("float32"))
        1
        >>> bool(np.all(abs(model.layers[0].moving_mean.numpy() - 3) < 0.2))
        True
    """
    return Estimator(model)(data, batches, batch_size)


class Estimator:
    """Does what `reestimate` does, for a model whose statistics are measured repeatedly.

    Where the backend compiles, the pass through the model is compiled once.

    Args:
        model: a built Keras model.

    Attributes:
        layers: the norms with moving statistics that are trained.
    """

    def __init__(self, model):
        if not isinstance(model, keras.Model):
            raise TypeError(f"reestimate: model={model!r}. Needed: a Keras model.")
        if not model.built:
            raise ValueError(
                f"reestimate: model '{model.name}' is not built. Needed: an input shape, or a call "
                "of the model."
            )
        self.layers = [
            layer
            for layer in layers_in(model)
            if isinstance(layer, (MovingNormalization, keras.layers.BatchNormalization))
            and layer.trainable
        ]
        self._collector = _Collector(model, self.layers)

    def __call__(self, data, batches=16, batch_size=64):
        """Measure and set; see `reestimate`."""
        if not self.layers:
            return 0
        totals = {}
        # Replicas would all get the whole batch, and their threads note into the same list.
        alone = backends.trains_replicas()
        measured = self._collector if alone else self._collector.predict_on_batch
        for inputs in itertools.islice(_batches(data, batches, batch_size), batches):
            values = iter(measured(inputs))
            for layer in self._collector.noted.order:
                _, *parts = totals.setdefault(id(layer), (layer, _Total(), _Total()))
                for part in parts:
                    part.add(*itertools.islice(values, 3))
        if not totals:
            raise ValueError("reestimate: the data have no batch. Needed: at least one.")
        # A batch may hold nothing but masked positions.
        found = [one for one in totals.values() if np.any(one[1].weight > 0)]
        for layer, location, spread in found:
            _set_where(layer.moving_mean, location.mean, location.weight)
            _set_where(layer.moving_variance, spread.variance, spread.weight)
            if getattr(layer, "moving_stddev", None) is not None:
                # Batch renormalization takes the moving variance from it.
                deviation = np.sqrt(spread.variance + layer.epsilon)
                _set_where(layer.moving_stddev, deviation, spread.weight)
        return len(found)


class _Collector(keras.Model):
    """A model whose outputs are the statistics of another one's norms."""

    def __init__(self, model, layers):
        super().__init__(dtype=model.dtype_policy, name="statistics")
        self.model = model
        # Not attributes of their own: Keras would track the layers a second time.
        self.noted = types.SimpleNamespace(layers=layers, order=())
        self.built = True
        self.compile(
            run_eagerly=bool(model.compiled and model.run_eagerly),
            jit_compile=model.jit_compile if model.compiled else "auto",
        )

    def call(self, inputs):
        notes = []
        with noting_statistics(notes), _noting_keras(self.noted.layers, notes):
            self.model(inputs, training=False)
        # As the model was traced: the same in each batch.
        self.noted.order = tuple(layer for layer, *_ in notes)
        return tuple(value for _, *parts in notes for moments in parts for value in moments)


@contextlib.contextmanager
def _noting_keras(layers, notes):
    """A context in which Keras's layers do what ours do in `noting_statistics`."""
    theirs = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in theirs:
        layer.call = functools.partial(_call_keras, layer, notes)
    try:
        yield
    finally:
        for layer in theirs:
            del layer.call


def _call_keras(layer, notes, inputs, training=None, mask=None):
    """BatchNormalization with the statistics of the batch, which are noted.

    Keras's own way to the variance subtracts large numbers on some backends.
    """
    del training
    x = ops.cast(inputs, statistics_dtype(inputs.dtype))
    channel_axis = layer.axis % len(x.shape)
    axes = [axis for axis in range(len(x.shape)) if axis != channel_axis]
    shape = ops.shape(x)
    inside = ops.ones([1] * len(shape), "bool") if mask is None else ops.expand_dims(mask, -1)
    inside = ops.broadcast_to(ops.cast(inside, "bool"), shape)
    count = ops.sum(ops.cast(inside, x.dtype), axis=axes, keepdims=True)
    divisor = ops.where(count > 0, count, 1)

    def average(values):
        return ops.sum(ops.where(inside, values, 0), axis=axes, keepdims=True) / divisor

    mean = average(x)
    mean = mean + average(x - mean)
    variance = average(ops.square(x - mean))
    moments = Moments(*(ops.reshape(value, (1, -1)) for value in (mean, variance, count)))
    notes.append((layer, moments, moments))
    outputs = ops.batch_normalization(
        x,
        ops.reshape(mean, (-1,)),
        ops.reshape(variance, (-1,)),
        axis=layer.axis,
        offset=None if layer.beta is None else ops.cast(layer.beta, x.dtype),
        scale=None if layer.gamma is None else ops.cast(layer.gamma, x.dtype),
        epsilon=layer.epsilon,
    )
    return ops.cast(outputs, layer.compute_dtype)


class _Total:
    """The moments of all batches together, in float64."""

    def __init__(self):
        self.mean = self.variance = self.weight = np.zeros((1, 1))

    def add(self, mean, variance, weight):
        """Pool with the moments of a batch, all `(K, C)` or `(K, 1)`."""
        mean, variance, weight = (np.asarray(v, "float64") for v in (mean, variance, weight))
        total = self.weight + weight
        # A batch that weighs nothing has no moments.
        share = np.where(weight > 0, weight / np.where(total > 0, total, 1), 0.0)
        apart = np.where(share > 0, mean - self.mean, 0.0)
        self.mean = self.mean + share * apart
        self.variance = (
            (1 - share) * self.variance
            + share * np.where(share > 0, variance, 0.0)
            + share * (1 - share) * apart**2
        )
        self.weight = total


def _set_where(variable, values, weight):
    """Set a moving statistic, but for modes that no example belongs to."""
    old = keras.ops.convert_to_numpy(variable.value).astype("float64")
    rows = old.reshape(-1, values.shape[-1])
    new = np.where(weight > 0, values, rows).reshape(old.shape)
    new = new.astype(statistics_dtype(variable.dtype))
    variable.assign(ops.cast(ops.convert_to_tensor(new), variable.dtype))


def _batches(data, batches, batch_size):
    """The inputs of each batch."""
    if are_inputs(data):
        count = len(keras.tree.flatten(data)[0])
        number = max(1, count // batch_size)
        chosen = number if batches is None else min(number, batches)
        for start in range(chosen):
            # Each takes examples from everywhere, as data may be sorted; all have one size.
            step = slice(start * number // chosen, number * (count // number), number)
            yield keras.tree.map_structure(lambda array, step=step: array[step], data)
        return
    for inputs, _ in each_batch(data):
        yield inputs
