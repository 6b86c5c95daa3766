"""A network for tables."""

import keras

from kerasnorm.models.network import Network


def MLP(
    input_shape,
    classes,
    norm="batch",
    width=64,
    depth=3,
    classifier_activation="softmax",
    name="MLP",
):
    """Dense layers, each with a norm and relu, for tables.

    Args:
        input_shape: `(features,)`.
        classes: how many; of a regression, how many numbers are predicted.
        norm: a norm spec, or several; there is one stage.
        width: units of each dense layer.
        depth: how many there are.
        classifier_activation: of the last layer; None gives logits, or the numbers of a regression.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.MLP, (10,), 1, norm="layer").parameters()
        9281
    """
    net = Network(name, norm, 1)
    depth = net.checked_count("depth", depth)
    width = net.checked_count("width", width)
    x = net.input(input_shape, rank=1, known=True)
    for number in range(1, depth + 1):
        bias = net.next_norm(0) is None
        dense = keras.layers.Dense(
            width, use_bias=bias, kernel_initializer="he_normal", name=f"dense{number}"
        )
        x = net.norm(net(dense, x), 0, f"norm{number}", axis=-1)
        x = net.activation(x, f"relu{number}")
    return net.model(net.classifier(x, classes, classifier_activation))
