"""What an evaluation needs beside Keras's own: fair moving statistics, and a word on chance."""

import math
from typing import NamedTuple

import keras
import numpy as np

from kerasnorm.moving_statistics import Estimator
from search.errors import BadInput
from search.formats import LAGS
from search.measuring import outputs_of

# Of the training data, for moving statistics: a small part of an epoch.
BATCHES = 16
# An error this many deviations of a random guess below that of the commonest class is no chance.
DEVIATIONS = 2.0
# Of the squared error of the mean, than which no other guess has a lower one.
ALMOST = 0.98
CHANCE = "error at chance level"
# What the answer is measured in, on the validation part: an objective.
MEASURED = "val_measure"
# What the loss may be called of which naming the mean is a guess.
SQUARED = ("mse", "mean_squared_error", "MeanSquaredError")


class Reestimation(keras.callbacks.Callback):
    """Sets the moving statistics to those of some training batches before each evaluation.

    Args:
        data: the training data, which can be read more than once.
    """

    def __init__(self, data):
        super().__init__()
        if not is_readable(data):
            raise BadInput(
                f"reestimate needs training data that can be read again, and they are a "
                f"{type(data).__name__}. Needed: arrays, a PyDataset, a Dataset, or no reestimate."
            )
        self.data = data
        self._estimator = None

    def set_model(self, model):
        """Take the model, and measure whatever moving statistics it has."""
        super().set_model(model)
        self._estimator = Estimator(model)

    def on_test_begin(self, logs=None):
        """Measure."""
        self._estimator(self.data, BATCHES)


class Measured(keras.callbacks.Callback):
    """Measures the validation part after each epoch in what the answer is measured in.

    Args:
        measure: `measure(model, x, y)` gives a number.
        part: `(x, y)`.
        before: a `Reestimation` where nothing else lets it work; or None.
    """

    def __init__(self, measure, part, before=None):
        super().__init__()
        self.measure = measure
        self.part = part
        self.before = before

    def on_epoch_end(self, epoch, logs=None):
        """Add it to what the epoch measured."""
        if self.before is not None:
            self.before.on_test_begin()
        if logs is not None:
            logs[MEASURED] = float(self.measure(self.model, *self.part))


def is_readable(data):
    """Whether training data can be read a second time, beside the training."""
    return data is not None and not hasattr(data, "__next__")


def warning_of(model, training, validation, metrics):
    """What is wrong with an evaluation, if its error is that of a guess.

    Args:
        model: as it was trained.
        training: its training data, or None where they cannot be read again.
        validation: the validation data; only `(x, y)` is looked at, with the numbers of classes, or
            with the targets of a regression that is trained on the mean squared error.
        metrics: of the last epoch.

    Returns:
        A few words, or None.
    """
    guess = _guess(model, validation)
    if guess is None or metrics.get(guess.metric) is None:
        return None
    x, y = validation[:2]
    if guess.limit <= 0 or metrics[guess.metric] < guess.limit:
        return None
    said = CHANCE
    if guess.says_the_same(outputs_of(model, x)):
        said += f", {guess.same}"
    estimator = Estimator(model)
    if training is None or not estimator.layers:
        return said
    variables = model.non_trainable_variables
    kept = [keras.ops.copy(variable.value) for variable in variables]
    estimator(training, BATCHES)
    fair = guess.error(outputs_of(model, x), y)
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    return (
        said if fair >= guess.limit else f"{said}; {LAGS} ({fair:.4f} with those of training data)"
    )


class _OfClasses(NamedTuple):
    """Naming the commonest class, of an example, a pixel or a position."""

    limit: float
    metric: str = "val_error"
    same: str = "every example gets the same class"
    ignored: int | None = None

    @classmethod
    def of(cls, labels, ignored=None):
        _, counts = np.unique(labels[labels != ignored], return_counts=True)
        chance = 1 - counts.max() / counts.sum()
        limit = chance - DEVIATIONS * math.sqrt(chance * (1 - chance) / len(labels))
        return cls(limit, ignored=ignored)

    def error(self, outputs, y):
        return float(np.mean((np.argmax(outputs, axis=-1) != y)[y != self.ignored]))

    def says_the_same(self, outputs):
        return len(np.unique(np.argmax(outputs, axis=-1))) == 1


class _OfNumbers(NamedTuple):
    """Naming the mean."""

    limit: float
    metric: str = "val_loss"
    same: str = "every example gets the same numbers"

    @classmethod
    def of(cls, targets):
        return cls(ALMOST * float(np.mean((targets - targets.mean(axis=0)) ** 2)))

    def error(self, outputs, y):
        return float(np.mean((outputs - y) ** 2))

    def says_the_same(self, outputs):
        return bool(np.all(np.ptp(outputs, axis=0) == 0))


def _guess(model, validation):
    """What a guess is for such labels; None where that is not known."""
    if not isinstance(validation, (tuple, list)) or len(validation) < 2:
        return None
    y = validation[1]
    if not isinstance(y, np.ndarray) or y.ndim == 0 or not y.size:
        return None
    shape = _output_shape(model)
    loss = getattr(model, "loss", None)
    if np.issubdtype(y.dtype, np.integer) and (y.ndim == 1 or shape[:-1] == y.shape[1:]):
        return _OfClasses.of(y, getattr(loss, "ignore_class", None))
    names = (loss, getattr(loss, "__name__", None), type(loss).__name__)
    if y.dtype.kind == "f" and shape == y.shape[1:] and set(SQUARED) & set(map(str, names)):
        return _OfNumbers.of(y)
    return None


def _output_shape(model):
    """The shape of a model's output for an example; empty where it is not known."""
    try:
        return tuple(model.output_shape[1:])
    except (AttributeError, ValueError, TypeError, KeyError):
        return ()
