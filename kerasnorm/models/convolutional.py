"""Plain convolutional networks: LeNet, VGG, Network in Network, ALL-CNN-C."""

import math

import keras

from kerasnorm.layers.conv import ConvNorm
from kerasnorm.layers.learned_stats import LearnedStatsNorm
from kerasnorm.models.network import Network


def LeNet(
    input_shape,
    classes,
    norm="batch",
    data_format=None,
    classifier_activation="softmax",
    name="LeNet",
):
    """LeNet-5 with a norm after each convolution, as in Mode Normalization's multi-task experiment.

    Convolutions of 5x5 with 6 and 16 channels, each with norm, relu and max pooling, then dense
    layers of 120 and 84. He's initialization.

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`; height and width
            are at least 16 and known.
        classes: how many; 40 in the paper's experiment.
        norm: a norm spec, or several; there are two stages, one for each convolution.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.LeNet, (32, 32, 1), 10, norm=None).parameters()
        61706

    Reference:
        Deecke, Murray and Bilen, 2019, "Mode Normalization", section 4.1:
        https://arxiv.org/abs/1810.05466
    """
    net = Network(name, norm, 2, data_format)
    # Two convolutions without padding, with a halving after each.
    x = net.input(input_shape, least=16, known=True)
    for stage, filters in enumerate((6, 16)):
        number = stage + 1
        x = net.conv_norm(x, filters, 5, stage, f"{{}}{number}", padding="valid")
        x = net.activation(x, f"relu{number}")
        x = net(net.image_layer(keras.layers.MaxPooling2D, 2, name=f"pool{number}"), x)
    x = net(net.image_layer(keras.layers.Flatten, name="flatten"), x)
    for index, units in enumerate((120, 84)):
        x = _dense(net, x, units, index + 1)
    return net.model(net.classifier(x, classes, classifier_activation))


def VGG13(
    input_shape,
    classes,
    norm="batch",
    hidden=(),
    dropout=0.5,
    data_format=None,
    classifier_activation="softmax",
    name="VGG13",
    width=64,
):
    """VGG-13: ten convolutions of 3x3, each with norm and relu, in five stages.

    Stages have 64, 128, 256, 512 and 512 channels and end with a pooling. For CIFAR, where nothing
    of the image is left then, one dense layer follows; the original's two hidden ones are
    `hidden=(4096, 4096)`. He's initialization.

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`; height and width
            are known.
        classes: how many.
        norm: a norm spec, or several; there are five stages.
        hidden: units of dense layers before the last.
        dropout: after each of them.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.VGG13, (32, 32, 3), 10).parameters()
        9413066

    Reference:
        Simonyan and Zisserman, 2014: https://arxiv.org/abs/1409.1556, configuration B
    """
    net = Network(name, norm, 5, data_format)
    x = net.input(input_shape, known=True)
    for stage, filters in enumerate(width * times for times in (1, 2, 4, 8, 8)):
        for index in (1, 2):
            prefix = f"stage{stage + 1}"
            x = net.conv_norm(x, filters, 3, stage, f"{prefix}_{{}}{index}")
            x = net.activation(x, f"{prefix}_relu{index}")
        # "same" so that images smaller than 32 have something left; else there is no difference.
        pool = net.image_layer(keras.layers.MaxPooling2D, 2, padding="same", name=f"{prefix}_pool")
        x = net(pool, x)
    x = net(net.image_layer(keras.layers.Flatten, name="flatten"), x)
    for index, units in enumerate(hidden):
        x = _dense(net, x, units, index + 1)
        x = net(keras.layers.Dropout(dropout, name=f"dropout{index + 1}"), x)
    return net.model(net.classifier(x, classes, classifier_activation))


def NIN(
    input_shape,
    classes,
    norm="batch",
    dropout=0.25,
    data_format=None,
    classifier_activation="softmax",
    name="NIN",
):
    """Network in Network with a norm after each convolution.

    Three stages of a convolution (5x5, 5x5, 3x3) and two of 1x1; the last one has a channel per
    class, which is averaged over the image. Max pooling, then average pooling, of 3x3 with stride 2
    between the stages, each with dropout. He's initialization.

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`.
        classes: how many.
        norm: a norm spec, or several; there are three stages.
        dropout: 0.25 as in "Mode Normalization"; the original has 0.5.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> plain, mode = (
        ...     models.plan(models.NIN, (32, 32, 3), 10, norm).parameters()
        ...     for norm in ("batch", {"name": "mode", "modes": 2})
        ... )
        >>> f"{(mode - plain) / plain:.2%}"
        '0.29%'

    Reference:
        Lin, Chen and Yan, 2013: https://arxiv.org/abs/1312.4400
    """
    net = Network(name, norm, 3, data_format)
    classes = net.checked_count("classes", classes)
    x = net.input(input_shape)
    pools = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D, None)
    stages = (
        ((192, 5), (160, 1), (96, 1)),
        ((192, 5), (192, 1), (192, 1)),
        ((192, 3), (192, 1), (classes, 1)),
    )
    for stage, (convolutions, pool) in enumerate(zip(stages, pools, strict=True)):
        prefix = f"stage{stage + 1}"
        for index, (filters, size) in enumerate(convolutions):
            x = net.conv_norm(x, filters, size, stage, f"{prefix}_{{}}{index + 1}")
            x = net.activation(x, f"{prefix}_relu{index + 1}")
        if pool:
            x = net(net.image_layer(pool, 3, 2, "same", name=f"{prefix}_pool"), x)
            x = net(keras.layers.Dropout(dropout, name=f"{prefix}_dropout"), x)
    x = net(net.image_layer(keras.layers.GlobalAveragePooling2D, name="pool"), x)
    return net.model(net.predictions(x, classifier_activation))


# Channels, kernel and stride of each convolution but the last, the number of its stage, and the
# sizes of its stack of depthwise kernels: the table of the ConvNorm paper.
_ALL_CNN_C = (
    (96, 3, 1, 0, (4, 2, 2, 2)),
    (96, 3, 1, 0, (4, 2, 2, 2)),
    (96, 3, 2, 1, (4, 2, 2)),
    (192, 3, 1, 1, (4, 2, 2)),
    (192, 3, 1, 1, (4, 2, 2)),
    (192, 3, 2, 2, (2, 2)),
    (192, 3, 1, 2, (2, 2)),
    (192, 1, 1, 2, (2,)),
)


def AllCNNC(
    input_shape,
    classes,
    norm="batch",
    data_format=None,
    classifier_activation="softmax",
    name="AllCNNC",
):
    """ALL-CNN-C as in "Convolutional Normalization": convolution with bias, norm, relu.

    Seven convolutions of 3x3, two of them with stride 2 in place of a pooling, and one of 1x1; the
    last, of 1x1 too, has a channel per class, no norm, and is averaged over the image. He's
    initialization.

    `ConvNorm` gets the stacks of the paper's table, 4, 2, 2, 2 for 32x32, where they divide the
    image, and `LearnedStatsNorm` its four convolutions for all norms but the first, where the spec
    says nothing else.

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`.
        classes: how many.
        norm: a norm spec, or several; there are three stages, one for each size of the image.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> model = models.AllCNNC((32, 32, 3), 10, norm="conv")
        >>> model.get_layer("norm3").kernel_sizes
        [[4, 4], [2, 2], [2, 2]]

    Reference:
        Esposito and Ganaba, 2021, "Convolutional Normalization", section 4;
        Springenberg et al., 2015: https://arxiv.org/abs/1412.6806
    """
    net = Network(name, norm, 3, data_format)
    x = net.input(input_shape)
    for index, (filters, size, strides, stage, stack) in enumerate(_ALL_CNN_C):
        sides = (side and math.ceil(side / strides) for side in net.sides(x))
        defaults: dict[type, dict] = {}
        if all(side and side % math.prod(stack) == 0 for side in sides):
            defaults[ConvNorm] = {"kernel_sizes": stack}
        if index:
            # Section 5.1 of the paper: the first has (4, 4, 1), (4, 3, 3), the default.
            arguments = {"filters": (4, 4, 2, 1), "kernel_sizes": (4, 3, 2, 3)}
            defaults[LearnedStatsNorm] = arguments
        number = index + 1
        x = net.conv_norm(
            x,
            filters,
            size,
            stage,
            f"{{}}{number}",
            defaults=defaults,
            strides=strides,
            use_bias=True,
        )
        x = net.activation(x, f"relu{number}")
    x = net.conv(x, net.checked_count("classes", classes), 1, f"conv{number + 1}")
    x = net(net.image_layer(keras.layers.GlobalAveragePooling2D, name="pool"), x)
    return net.model(net.predictions(x, classifier_activation))


def _dense(net, x, units, number):
    """A hidden dense layer."""
    x = net(keras.layers.Dense(units, kernel_initializer="he_normal", name=f"dense{number}"), x)
    return net.activation(x, f"dense_relu{number}")
