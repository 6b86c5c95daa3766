"""What an evaluation needs beside Keras's own: fair moving statistics, and a word on chance."""

import math

import keras
import numpy as np

from kerasnorm.moving_statistics import Estimator
from search.errors import BadInput
from search.formats import LAGS

# Of the training data, for moving statistics: a small part of an epoch.
BATCHES = 16
# An error this many deviations of a random guess below that of the commonest class is no chance.
DEVIATIONS = 2.0
CHANCE = "error at chance level"


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


def is_readable(data):
    """Whether training data can be read a second time, beside the training."""
    return data is not None and not hasattr(data, "__next__")


def warning_of(model, training, validation, error):
    """What is wrong with an evaluation, if its error is that of a guess.

    Args:
        model: as it was trained.
        training: its training data, or None where they cannot be read again.
        validation: the validation data; only `(x, y)` with the numbers of classes is looked at.
        error: the share of wrong answers, or None.

    Returns:
        A few words, or None.
    """
    if error is None or not _has_classes(validation):
        return None
    x, y = validation[:2]
    limit = _least_of_chance(y)
    if limit <= 0 or error < limit:
        return None
    said = CHANCE
    if len(np.unique(_classes(model, x))) == 1:
        said += ", every example gets the same class"
    estimator = Estimator(model)
    if training is None or not estimator.layers:
        return said
    variables = model.non_trainable_variables
    kept = [keras.ops.copy(variable.value) for variable in variables]
    estimator(training, BATCHES)
    fair = float(np.mean(_classes(model, x) != y))
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    return said if fair >= limit else f"{said}; {LAGS} ({fair:.4f} with those of training data)"


def _has_classes(validation):
    """Whether validation data are arrays, with a number of a class for each example."""
    if not isinstance(validation, (tuple, list)) or len(validation) < 2:
        return False
    return isinstance(validation[1], np.ndarray) and (
        validation[1].ndim == 1 and np.issubdtype(validation[1].dtype, np.integer)
    )


def _least_of_chance(labels):
    """The error from which on a network is not better than always naming the commonest class."""
    _, counts = np.unique(labels, return_counts=True)
    chance = 1 - counts.max() / len(labels)
    return chance - DEVIATIONS * math.sqrt(chance * (1 - chance) / len(labels))


def _classes(model, x):
    """The class that a model gives each example."""
    return np.argmax(model.predict(x, batch_size=min(len(x), 512), verbose=0), axis=-1)
