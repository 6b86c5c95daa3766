"""Whether a model fits the data that its norms are searched on, seen before the first trial."""

import keras

import kerasnorm
from kerasnorm.core.keras_internals import compiled_loss_of, operation_of
from kerasnorm.surgery.find import is_graph
from search.data.parts import PADDING
from search.errors import BadInput

# What each loss of Keras's wants of the labels, where that is not what all tasks have.
ONE_HOT = "one-hot labels"
EACH_OUTPUT = "labels of 0 and 1 for each output"
NUMBERS = "regression"
WANTED = {
    "SparseCategoricalCrossentropy": "integer labels",
    "CategoricalCrossentropy": ONE_HOT,
    "CategoricalFocalCrossentropy": ONE_HOT,
    "Dice": ONE_HOT,
    "Tversky": ONE_HOT,
    "BinaryCrossentropy": EACH_OUTPUT,
    "BinaryFocalCrossentropy": EACH_OUTPUT,
    "MeanSquaredError": NUMBERS,
    "MeanAbsoluteError": NUMBERS,
    "MeanAbsolutePercentageError": NUMBERS,
    "MeanSquaredLogarithmicError": NUMBERS,
    "Huber": NUMBERS,
    "LogCosh": NUMBERS,
}
# Methods in which a model's class may train in its own way.
TRAINING = (
    "fit",
    "evaluate",
    "train_step",
    "test_step",
    "compute_loss",
    "make_train_function",
    "make_test_function",
)
AS_COMPILED = "--task compiled (task='compiled') takes the labels as they are"
CLASSES = f"Needed: SparseCategoricalCrossentropy, as labels are integers; or {AS_COMPILED}."
REGRESSION = f"Needed: a loss for regression, such as MeanSquaredError; or {AS_COMPILED}."


def network_of(model):
    """What a model trains: itself, or the network in a `ConsistentModel`."""
    return model.model if isinstance(model, kerasnorm.ConsistentModel) else model


def check_model(model, form):
    """Refuse a model whose inputs, outputs or loss do not fit.

    Args:
        model: a Keras model, compiled or not.
        form: what the data ask of it, a `search.data.parts.Form`.

    >>> import keras
    >>> from search.data.parts import Form
    >>> from search.fitting import check_model
    >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    >>> check_model(keras.Sequential(layers, name="small"), Form((8, 8, 1), (10,), 10))
    Traceback (most recent call last):
        ...
    search.errors.BadInput: model 'small' has 3 outputs, and the data 10 classes. Needed: an \
    output for each class.
    """
    model = network_of(model)
    name = f"model {model.name!r}"
    if form.task == "compiled" and not model.compiled:
        raise BadInput(
            f"{name} is not compiled, and task='compiled' leaves its loss and metrics to it. "
            "Needed: a compiled model, or another task."
        )
    if not is_graph(model):
        # Its own code says what it does with its inputs.
        return
    if len(model.inputs) > 1 or not isinstance(form.input_shape, tuple):
        _check_several_inputs(name, model, form)
    else:
        given, expected = tuple(form.input_shape), tuple(model.inputs[0].shape[1:])
        if not _fits(expected, given):
            raise BadInput(
                f"{name} takes inputs of shape {expected}, and the data's examples have {given}. "
                "Needed: the same."
            )
    if len(model.outputs) > 1 or not isinstance(form.output_shape, tuple):
        _check_several_outputs(name, model, form)
    if form.task == "compiled":
        return
    activation = last_activation(model)
    if form.task == "regression":
        _check_numbers(name, model, form)
    else:
        _check_classes(name, model, form, activation)
    if model.compiled:
        _check_loss(name, model.loss, activation, form.task)


def _fits(shape, wanted):
    """Whether a shape, in which None is any size, can be another."""
    return len(shape) == len(wanted) and all(
        a is None or a == b for a, b in zip(shape, wanted, strict=True)
    )


def _fits_with_axis(shape, wanted):
    """The same where Keras may add, or leave out, a last axis of one number."""
    short = wanted[:-1] if wanted[-1:] == (1,) else wanted
    return any(_fits(shape, one) for one in (wanted, short, (*wanted, 1)))


def _by_place(nest, name, lists=(list,)):
    """What a nest holds by the place that it has there, such as `x['left']`."""
    if isinstance(nest, dict):
        places = sorted(nest.items())
    elif isinstance(nest, lists):
        places = list(enumerate(nest))
    else:
        return {name: nest}
    parts = [_by_place(one, f"{name}[{place!r}]", lists) for place, one in places]
    return {place: one for part in parts for place, one in part.items()}


def _tensors_by_place(structure, name, given, layers):
    """A model's inputs, or its outputs, by the places where the data have what belongs to them.

    Args:
        structure: of the tensors.
        name: `"x"` or `"y"`.
        given: what the data have; where it is a dictionary, Keras goes by the layers' names.
        layers: these.
    """
    if isinstance(given, dict) and not isinstance(structure, dict):
        structure = dict(zip(layers, keras.tree.flatten(structure), strict=True))
    return _by_place(structure, name, (list, tuple))


def _structure(model, of):
    """The inputs or the outputs of a graph, as it was made."""
    return (
        getattr(model, f"{of}s")[0] if isinstance(model, keras.Sequential) else getattr(model, of)
    )


def _check_several_inputs(name, model, form):
    """Refuse inputs that are not those of the examples, by their names or their order."""
    layers = [one.name for one in model.inputs]
    structure = _structure(model, "input")
    wanted = _tensors_by_place(structure, "x", form.input_shape, layers)
    given = _by_place(form.input_shape, "x")
    # Keras takes what it needs of a dictionary, where the inputs are none themselves.
    fits = set(wanted) == set(given)
    if isinstance(form.input_shape, dict) and not isinstance(structure, dict):
        fits = set(wanted) <= set(given)
    if not fits:
        raise BadInput(
            f"{name} takes {_said(wanted)}, and the data's examples have {_said(given)}. Needed: "
            "the same; a dictionary names inputs, a list has their order."
        )
    for place, tensor in wanted.items():
        shape = tuple(tensor.shape[1:])
        if not _fits_with_axis(shape, given[place]):
            raise BadInput(
                f"{name} takes {place} of shape {shape}, and the data's examples have "
                f"{given[place]}. Needed: the same."
            )


def _check_several_outputs(name, model, form):
    """Refuse labels that are not those of the outputs, by their names or their order."""
    structure = _structure(model, "output")
    wanted = _tensors_by_place(structure, "y", form.output_shape, _output_names(model))
    given = _by_place(form.output_shape, "y")
    losses = _losses_by_place(model, wanted)
    # An output without a loss needs no labels.
    missing = [one for one in wanted if one not in given and losses.get(one) is not None]
    if missing or not set(given) <= set(wanted):
        raise BadInput(
            f"{name} gives {_said(wanted)}, and the data have the labels {_said(given)}. Needed: "
            "labels for each output with a loss; a dictionary names them, a list has their order."
        )
    for place, labels in given.items():
        _check_labels(name, place, losses.get(place), tuple(wanted[place].shape[1:]), labels)


def _output_names(model):
    """The names of the outputs of a graph, which are those of their layers; else none."""
    return [operation_of(one).name for one in model.outputs] if is_graph(model) else []


def by_output(model, several):
    """The array of each output, by its name; {} where the names are not known.

    Args:
        model: a Keras model.
        several: a dictionary of arrays, a tuple in the order of the outputs, or the only one.
    """
    if not isinstance(several, dict):
        names = _output_names(network_of(model))
        arrays = several if isinstance(several, tuple) else (several,)
        several = dict(zip(names, arrays, strict=True)) if len(names) == len(arrays) else {}
    return {name: one for name, one in several.items() if hasattr(one, "shape")}


def output_activation(model, output):
    """The name of the activation that an output ends in; None where that cannot be seen."""
    model = network_of(model)
    if not is_graph(model):
        return None
    structure = _structure(model, "output")
    tensors = _tensors_by_place(structure, "y", {output: None}, _output_names(model))
    return activation_of(operation_of(tensors[f"y[{output!r}]"]))


def _said(places):
    return " and ".join(places)


def _losses_by_place(model, wanted):
    """The loss of each output, by its place; those that are not known are left out."""
    loss = model.loss if model.compiled else None
    place_of = {id(tensor): place for place, tensor in wanted.items()}
    places = [place_of.get(id(tensor)) for tensor in model.outputs]
    if isinstance(loss, dict):
        named = dict(zip(_output_names(model), places, strict=True))
        return {named.get(key, f"y[{key!r}]"): one for key, one in loss.items()}
    if isinstance(loss, (list, tuple)):
        return dict(zip(places, loss, strict=False))
    return dict.fromkeys(places, loss)


def _check_labels(name, place, loss, shape, given):
    """Refuse labels that are not of the shape that a loss of Keras's compares with an output."""
    kind = _kind_of(loss)[0]
    if kind not in WANTED:
        return
    wanted = shape[:-1] if WANTED[kind] == WANTED["SparseCategoricalCrossentropy"] else shape
    if not _fits_with_axis(wanted, given):
        raise BadInput(
            f"{name} is compiled with {kind} for {place}, an output of shape {shape}, and the "
            f"labels have {given}. Needed: {WANTED[kind]} of shape {wanted}."
        )


def _check_numbers(name, model, form):
    """Refuse outputs that are not of the shape of the targets."""
    shape, wanted = tuple(model.outputs[0].shape[1:]), tuple(form.output_shape)
    if not _fits(shape, wanted):
        raise BadInput(
            f"{name} has outputs of shape {shape}, and the data targets of shape {wanted}. Needed: "
            "the same."
        )


def _check_classes(name, model, form, activation):
    """Refuse outputs that do not give each class a score."""
    shape, classes = tuple(model.outputs[0].shape), form.classes
    each = {"segmentation": "class of each pixel", "tokens": "token of each position"}
    if form.task in each:
        if not _fits(shape[1:-1], form.output_shape[:-1]):
            raise BadInput(
                f"{name} has outputs of shape {shape}. Needed: (None, "
                f"{', '.join(map(str, form.output_shape))}), one output for each "
                f"{each[form.task]}."
            )
    elif len(shape) != 2:
        raise BadInput(
            f"{name} has outputs of shape {shape}. Needed: (None, {classes}), one output for each "
            "class; a Flatten or pooling layer may be missing. For an output at each pixel: "
            "--task segmentation (task='segmentation')."
        )
    if shape[-1] is not None and shape[-1] < classes:
        binary = " A single output for two classes becomes Dense(2)." if classes == 2 else ""
        raise BadInput(
            f"{name} has {shape[-1]} output{'s' if shape[-1] > 1 else ''}, and the data {classes} "
            f"classes. Needed: an output for each class.{binary}"
        )
    if activation == "sigmoid":
        raise BadInput(
            f"{name} ends in sigmoid, which gives each class a probability of its own. Needed: "
            f"softmax, or no activation; or {AS_COMPILED}."
        )


def _check_loss(name, loss, activation, task):
    """Refuse a loss that wants other labels, or other outputs."""
    kind, from_logits = _kind_of(loss)
    wanted = WANTED.get(kind)
    if task == "regression":
        if wanted not in (None, NUMBERS):
            raise BadInput(f"{name} is compiled with {kind}, for {wanted}. {REGRESSION}")
        return
    if wanted not in (None, WANTED["SparseCategoricalCrossentropy"]):
        raise BadInput(f"{name} is compiled with {kind}, for {wanted}. {CLASSES}")
    if kind != "SparseCategoricalCrossentropy":
        return
    if from_logits and activation == "softmax":
        raise BadInput(
            f"{name} ends in softmax, and its loss has from_logits=True. Needed: one of the two."
        )
    if not from_logits and activation == "linear":
        raise BadInput(
            f"{name} ends without an activation, and its loss wants probabilities. Needed: "
            "SparseCategoricalCrossentropy(from_logits=True), or a softmax."
        )


def _kind_of(loss):
    """The name of the class of a loss, and whether it takes logits."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    # Keras has each of its losses as a function too.
    function = getattr(loss, "__name__", None)
    if function:
        return {_snake(one): one for one in WANTED}.get(function), False
    kind = type(loss).__name__
    known = kind in WANTED
    return kind, known and loss.get_config().get("from_logits", False)


def task_of_model(model):
    """The task that a compiled model's loss says it is for; None where it does not."""
    if not (isinstance(model, keras.Model) and model.compiled):
        return None
    if is_graph(model) and len(model.outputs) > 1:
        return None
    wanted = WANTED.get(_kind_of(model.loss)[0])
    return "regression" if wanted == NUMBERS else None


def own_training(model):
    """The methods of training that are a model's own, and not Keras's or this package's.

    >>> import keras
    >>> from search.fitting import own_training
    >>> class Mine(keras.Model):
    ...     def train_step(self, data):
    ...         return {}
    >>> own_training(Mine()), own_training(keras.Sequential())
    (['train_step'], [])
    """
    if isinstance(model, kerasnorm.ConsistentModel):
        return []
    kind = type(model)
    return [name for name in TRAINING if _is_own(getattr(kind, name), name)]


def _is_own(method, name):
    # `fit` and `evaluate` of KerasHub's tasks preprocess the data, then do what Keras's do.
    preprocesses = name in ("fit", "evaluate") and method.__module__.startswith("keras_hub.")
    return method is not getattr(keras.Model, name) and not preprocesses


def evaluates(model):
    """Whether `evaluate` measures something; a model with its own `train_step` may have no loss."""
    own = own_training(model)
    known = {"test_step", "compute_loss", "evaluate"} & set(own)
    return "train_step" not in own or bool(known) or compiled_loss_of(model) is not None


def usual_compilation(task, logits):
    """Loss and metrics for a model that has none.

    Args:
        task: `"classification"`, `"segmentation"`, `"tokens"` or `"regression"`.
        logits: whether the outputs are not probabilities.
    """
    if task == "regression":
        return keras.losses.MeanSquaredError(), ["mean_absolute_error"]
    if task == "tokens":
        loss = keras.losses.SparseCategoricalCrossentropy(logits, ignore_class=PADDING)
        return loss, [TokenAccuracy()]
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), ["accuracy"]


@keras.saving.register_keras_serializable("search")
class TokenAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of right tokens; padding is none.

    >>> import numpy as np
    >>> from search.fitting import TokenAccuracy
    >>> metric = TokenAccuracy()
    >>> metric.update_state(np.array([[2, 1, 0]]), np.eye(3)[None, [2, 2, 2]])
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Take one more batch."""
        counts = keras.ops.cast(keras.ops.not_equal(y_true, PADDING), self.dtype)
        super().update_state(y_true, y_pred, counts)


def _snake(name):
    """`LogCosh` as `log_cosh`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def last_activation(model):
    """The name of the activation that a model ends in; None where that cannot be seen."""
    model = network_of(model)
    if not is_graph(model):
        return None
    steps = getattr(model, "operations", None) or model.layers
    return activation_of(steps[-1] if steps else None)


def activation_of(last):
    """The name of the activation that a layer ends in; None where that cannot be seen."""
    if isinstance(last, keras.Model):
        return last_activation(last)
    if isinstance(last, keras.layers.Softmax) or type(last).__name__ == "Softmax":
        return "softmax"
    if type(last).__name__ == "Sigmoid":
        return "sigmoid"
    return getattr(getattr(last, "activation", None), "__name__", None)
