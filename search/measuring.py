"""Measures of trained models on the test part, with a value per example where there is one."""

import dataclasses

import keras
import numpy as np

from search import fitting, modules
from search.data import nests
from search.data.parts import PADDING, Part
from search.errors import BadInput, SearchError, one_line
from search.fitting import evaluates, last_activation
from search.measure import DEFAULTS, SHORT, Measure
from search.private import keras_metrics

# Of the test part, to see whether a measure works before anything is trained.
TRIED = 8
# The search's own measures, and the tasks that have them.
OWN = {
    "error": ("classification",),
    "accuracy": ("classification", "segmentation"),
    "pixel_error": ("segmentation",),
    "mean_iou": ("segmentation",),
    "token_error": ("tokens",),
    "loss": ("classification", "segmentation", "tokens", "regression", "compiled"),
}


def chosen(measure, task, several=False):
    """The measure that is asked for, and what computes it: None for a name.

    Args:
        measure: None for what the task has by default; a text as `Measure.of` takes it; a
            `keras.metrics.Metric`; or a function with its direction, `(function, "max")`.
        task: of the data.
        several: whether these have labels of several outputs.
    """
    if measure is None:
        measure = DEFAULTS[task]
    if isinstance(measure, keras.metrics.Metric):
        if several:
            raise BadInput(
                f"measure={measure.name!r} does not say of which output. Needed: its name after "
                f"that of the output, such as 'OUTPUT_{measure.name}', or a function with its "
                "direction."
            )
        return Measure.of(measure.name), KerasMetric(measure)
    if isinstance(measure, (tuple, list)) and len(measure) == 2 and callable(measure[0]):
        function, direction = measure
        place = f"{function.__module__}:{getattr(function, '__qualname__', function)}"
        return Measure.of(f"{place}:{direction}"), function
    if not isinstance(measure, str):
        raise BadInput(
            f"measure={measure!r}. Needed: a name, a metric of Keras's, or a function with its "
            "direction, such as (function, 'max')."
        )
    found = Measure.of(measure)
    if ":" in found.name:
        return found, modules.function_of(found.name, "measure")
    if several and found.name != "loss":
        return dataclasses.replace(found, share=False), OfOutput(found.name)
    if found.name in OWN:
        if task not in OWN[found.name]:
            raise BadInput(
                f"measure {found.name!r} is for {' and '.join(OWN[found.name])}, and the data are "
                f"for {task}. Needed: such as {DEFAULTS[task]}."
            )
        return found, None
    return found, KerasMetric(_metric(found.name))


def _metric(name):
    """The metric of Keras's of a name."""
    try:
        return keras.metrics.get(name)
    except TypeError as error:
        raise BadInput(
            f"measure {name!r} needs arguments ({one_line(error)}). Needed: in Python the metric "
            "itself, else MODULE:FUNCTION."
        ) from error
    except ValueError as error:
        raise BadInput(
            f"measure {name!r} is unknown. Needed: one of {', '.join(OWN)}, the name of a metric "
            "of Keras's such as mean_absolute_error, or MODULE:FUNCTION."
        ) from error


class KerasMetric:
    """A metric of Keras's, in a form that other processes can be sent.

    Args:
        metric: a `keras.metrics.Metric`.
    """

    def __init__(self, metric):
        self.kind = type(metric)
        self.config = metric.get_config()

    def __call__(self, y, outputs, logits):
        """What it gives for all examples, and for each where it is the mean of these.

        Args:
            y: the labels.
            outputs: of the model.
            logits: whether these are not probabilities.
        """
        config = dict(self.config)
        if "from_logits" in config:
            config["from_logits"] = logits
        metric = self.kind.from_config(config)
        metric.update_state(y, outputs)
        value = float(np.mean(keras.ops.convert_to_numpy(metric.result())))
        function = keras_metrics.function_of(metric)
        if function is None:
            return value, None
        values = keras.ops.convert_to_numpy(function(y, outputs))
        if values.shape[:1] != (len(y),):
            return value, None
        values = values.reshape(len(y), -1).mean(axis=1)
        # Some are more than a mean: then seeds alone are what chance comes from.
        same = np.isclose(values.mean(), value, rtol=1e-3, atol=1e-6)
        return value, values if same else None


class OfOutput:
    """A measure of one of several outputs, by the name that Keras's logs have for it.

    That is `OUTPUT_METRIC`; the metric is `error`, `accuracy` or one of Keras's. Whatever else the
    model evaluates is known by its name too, with no value for each example.

    Args:
        name: `OUTPUT_METRIC`.
    """

    def __init__(self, name):
        self.name = name

    def __call__(self, model, part):
        """What it gives for all examples, and for each where it is the mean of these."""
        outputs = fitting.by_output(model, outputs_of(model, part.x))
        labels = fitting.by_output(model, part.y)
        for output in sorted(outputs.keys() & labels.keys()):
            y, given = labels[output], outputs[output]
            # As Keras's losses have it.
            y = y[..., None] if (*y.shape, 1) == given.shape else y
            metric = self.name.removeprefix(f"{output}_")
            by = None if metric == self.name else _by(metric, y, given)
            if by is not None:
                logits = fitting.output_activation(model, output) == "linear"
                value, values = by(y, given, logits)
                return _as_error(value, values) if metric == "error" else (value, values)
        found = evaluated(model, part)
        if self.name not in found:
            raise BadInput(
                f"measure {self.name!r} is not known of model {model.name!r}, whose outputs are "
                f"{', '.join(sorted(outputs))}. Needed: a metric of Keras's after the name of one, "
                f"such as OUTPUT_accuracy; one of {', '.join(found)}; or MODULE:FUNCTION."
            )
        return found[self.name], None


def _by(name, y, outputs):
    """What computes a metric of one output; None where Keras has none of that name."""
    if name in ("accuracy", "error"):
        return KerasMetric(_accuracy(y, outputs))
    try:
        return KerasMetric(_metric(SHORT.get(name, name)))
    except BadInput:
        return None


def _accuracy(y, outputs):
    """What Keras makes of the word: an output for two classes, or one for each of more."""
    if outputs.shape[-1] == 1:
        return keras.metrics.BinaryAccuracy()
    if y.shape == outputs.shape:
        return keras.metrics.CategoricalAccuracy()
    return keras.metrics.SparseCategoricalAccuracy()


def _as_error(value, values):
    return 1 - value, None if values is None else 1 - values


class Test:
    """Measures a model on the test part, of the split that its training was for.

    Args:
        splits: a `search.data.splits.Splits`.
        measure: what is measured, a `Measure`.
        by: what computes it, as `chosen` gives it: a metric, a function or None.
    """

    # Not a test, whatever pytest makes of the name.
    __test__ = False

    def __init__(self, splits, measure, by=None):
        self.splits = splits
        self.measure = measure
        self.by = by

    def __call__(self, model, task=None):
        """The measure and, where it is the mean of one for each example, these values."""
        return self._on(model, self.splits[0 if task is None else task.split].test)

    def on(self, model, x, y):
        """The measure on other examples, such as those of the validation part."""
        return self._on(model, Part(x, y))[0]

    def check(self, model):
        """Refuse a measure that fails, tried on a few examples with a model that is not trained."""
        if self.measure.name == "loss" and self.by is None and not evaluates(model):
            raise BadInput(
                f"model {model.name!r} has its own train_step, and no loss and no test_step to "
                "evaluate it with; so it has no measure 'loss'. Needed: --measure "
                "FILE.py:FUNCTION:min (measure=(function, 'min'))."
            )
        part = self.splits[0].test.rows(slice(TRIED))
        if nests.are_several(part.y) and evaluates(model):
            _check_evaluates(model, part)
        if self.by is None and self.measure.share:
            # The search's own, of whose outputs and labels it has made sure.
            return
        try:
            self._on(model, part)
        except SearchError:
            raise
        except Exception as error:
            raise BadInput(
                f"measure {self.measure.name!r} raised {one_line(error)}, tried on {len(part)} "
                "test examples. Needed: a measure of such outputs and labels."
            ) from error

    def _on(self, model, part):
        if isinstance(self.by, KerasMetric):
            outputs = outputs_of(model, part.x)
            return self.by(part.y, outputs, logits=last_activation(model) == "linear")
        if isinstance(self.by, OfOutput):
            return self.by(model, part)
        if self.by is not None:
            return _given(self.measure, self.by(model, part), len(part))
        if self.measure.share:
            values = _SHARE_OF[self.measure.name](outputs_of(model, part.x), part.y)
            return float(np.mean(values)), values
        return evaluated(model, part)["loss"], None


def _check_evaluates(model, part):
    """Refuse losses and metrics that fail with the labels of several outputs."""
    try:
        evaluated(model, part)
    except Exception as error:
        raise BadInput(
            f"model {model.name!r} cannot be evaluated with these labels: {one_line(error)}. "
            "Needed: outputs, losses, metrics and labels that fit each other."
        ) from error


def evaluated(model, part):
    """What a model is compiled to measure, on a part."""
    size = whole_batches(len(part))
    found = model.evaluate(part.x, part.y, batch_size=size, verbose=0, return_dict=True)
    return {name: float(value) for name, value in found.items()}


def outputs_of(model, x):
    """What a model gives for each example; of several outputs a dictionary or a tuple."""
    found = model.predict(x, batch_size=whole_batches(nests.count(x)), verbose=0)
    return nests.mapped(np.asarray, nests.normal(found))


def _given(measure, given, count):
    """What a function of the user's gave: a number, or a number and a value for each example."""
    value, values = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"measure {measure.name!r} gave {value!r}. Needed: a number, or a number and an array "
            "with a value for each example."
        ) from error
    if values is not None:
        values = np.asarray(values, float)
        if values.shape != (count,) or not np.isclose(values.mean(), value, rtol=1e-3, atol=1e-6):
            raise BadInput(
                f"measure {measure.name!r} gave {value:g} and values of shape {values.shape}. "
                f"Needed: ({count},), with that mean."
            )
    return value, values


def _wrong(outputs, y):
    """For each example the share of its labels that are wrong."""
    wrong = np.argmax(outputs, axis=-1) != y
    return wrong.reshape(len(y), -1).mean(axis=1)


def _wrong_tokens(outputs, y):
    """For each sequence the share of its tokens that are wrong; padding is none."""
    wrong = (np.argmax(outputs, axis=-1) != y) & (y != PADDING)
    return wrong.sum(axis=1) / (y != PADDING).sum(axis=1)


def _mean_iou(outputs, y):
    """For each image the mean over the classes in it of intersection over union."""
    found = np.argmax(outputs, axis=-1)
    values = []
    for one, other in zip(found, y, strict=True):
        classes = np.union1d(one, other)
        both = [
            np.sum((one == c) & (other == c)) / np.sum((one == c) | (other == c)) for c in classes
        ]
        values.append(np.mean(both))
    return np.array(values)


_SHARE_OF = {
    "error": _wrong,
    "pixel_error": _wrong,
    "accuracy": lambda outputs, y: 1 - _wrong(outputs, y),
    "mean_iou": _mean_iou,
    "token_error": _wrong_tokens,
}


def whole_batches(count, most=512):
    """A batch size with few batches of nearly one size: other sizes are compiled anew."""
    batches = -(-count // most)
    return -(-count // batches)
