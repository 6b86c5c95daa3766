"""Whether a model fits the data that its norms are searched on, seen before the first trial."""

import keras

import kerasnorm
from search.errors import BadInput

# Losses of Keras's that want other labels than integers, or another task.
OTHER_LOSSES = {
    "CategoricalCrossentropy": "one-hot labels",
    "CategoricalFocalCrossentropy": "one-hot labels",
    "BinaryCrossentropy": "labels of 0 and 1 for each output",
    "BinaryFocalCrossentropy": "labels of 0 and 1 for each output",
    "MeanSquaredError": "regression",
    "MeanAbsoluteError": "regression",
    "MeanAbsolutePercentageError": "regression",
    "MeanSquaredLogarithmicError": "regression",
    "Huber": "regression",
    "LogCosh": "regression",
    "Dice": "segmentation",
    "Tversky": "segmentation",
}
LOSS = "Needed: SparseCategoricalCrossentropy, as labels are integers by the time of training."


def check_model(model, input_shape, classes):
    """Refuse a model whose inputs, outputs or loss do not fit.

    Args:
        model: a Keras model, compiled or not.
        input_shape: of an example.
        classes: how many there are.

    >>> import keras
    >>> from search.fitting import check_model
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="small")
    >>> check_model(model, (4,), 10)
    Traceback (most recent call last):
        ...
    search.errors.BadInput: model 'small' has 3 outputs, and the data 10 classes. Needed: an \
    output for each class.
    """
    if isinstance(model, kerasnorm.ConsistentModel):
        model = model.model
    name = f"model {model.name!r}"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise BadInput(
            f"{name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs. Needed: one "
            "of each; the search compares classifiers only."
        )
    expected = tuple(model.inputs[0].shape[1:])
    if len(expected) != len(input_shape) or any(
        a is not None and a != b for a, b in zip(expected, input_shape, strict=True)
    ):
        raise BadInput(
            f"{name} takes inputs of shape {expected}, and the data's examples have "
            f"{tuple(input_shape)}. Needed: the same."
        )
    shape = tuple(model.outputs[0].shape)
    if len(shape) != 2:
        raise BadInput(
            f"{name} has outputs of shape {shape}. Needed: (None, {classes}), one output for each "
            "class; the search compares classifiers only, and a Flatten or pooling layer may be "
            "missing."
        )
    if shape[-1] is not None and shape[-1] < classes:
        binary = " A single output for two classes becomes Dense(2)." if classes == 2 else ""
        raise BadInput(
            f"{name} has {shape[-1]} output{'s' if shape[-1] > 1 else ''}, and the data {classes} "
            f"classes. Needed: an output for each class.{binary}"
        )
    activation = last_activation(model)
    if activation == "sigmoid":
        raise BadInput(
            f"{name} ends in sigmoid, which gives each class a probability of its own. Needed: "
            "softmax, or no activation."
        )
    if model.compiled:
        _check_loss(name, model.loss, activation)


def _check_loss(name, loss, activation):
    """Refuse a loss that wants other labels, or other outputs."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    # Keras has each of its losses as a function too.
    function = getattr(loss, "__name__", None)
    classes = {_snake(one): one for one in (*OTHER_LOSSES, "SparseCategoricalCrossentropy")}
    kind = classes.get(function) if function else type(loss).__name__
    if kind in OTHER_LOSSES:
        raise BadInput(f"{name} is compiled with {kind}, for {OTHER_LOSSES[kind]}. {LOSS}")
    if kind != "SparseCategoricalCrossentropy":
        return
    from_logits = not function and loss.get_config().get("from_logits", False)
    if from_logits and activation == "softmax":
        raise BadInput(
            f"{name} ends in softmax, and its loss has from_logits=True. Needed: one of the two."
        )
    if not from_logits and activation == "linear":
        raise BadInput(
            f"{name} ends without an activation, and its loss wants probabilities. Needed: "
            "SparseCategoricalCrossentropy(from_logits=True), or a softmax."
        )


def _snake(name):
    """`LogCosh` as `log_cosh`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def last_activation(model):
    """The name of the activation that a model ends in; None where that cannot be seen."""
    if isinstance(model, kerasnorm.ConsistentModel):
        model = model.model
    steps = getattr(model, "operations", None) or model.layers
    last = steps[-1] if steps else None
    if isinstance(last, keras.Model):
        return last_activation(last)
    if isinstance(last, keras.layers.Softmax) or type(last).__name__ == "Softmax":
        return "softmax"
    if type(last).__name__ == "Sigmoid":
        return "sigmoid"
    return getattr(getattr(last, "activation", None), "__name__", None)
