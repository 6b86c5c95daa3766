"""Residual networks: those for CIFAR with 6n + 2 layers, and those for ImageNet."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from kerasnorm.models.network import Network

STEMS = ("cifar", "imagenet")


class _Kind(NamedTuple):
    """What residual networks differ in.

    Attributes:
        depths: how many blocks each stage has; each stage has twice the channels of the last.
        block: `_basic` or `_bottleneck`.
        shortcut: `_padded` or `_projected`, where a block changes the shape.
    """

    depths: tuple
    block: Callable
    shortcut: Callable


def _resnet(kind, input_shape, classes, norm, stem, width, data_format, activation, name):
    """Any of them; the arguments after `kind` are those of the functions below."""
    depths, block, shortcut = kind
    net = Network(name, norm, len(depths), data_format)
    width = net.checked_count("width", width)
    net.checked_choice("stem", stem, STEMS)
    x = net.input(input_shape)
    if stem == "imagenet":
        x = net.conv_norm(x, width, 7, 0, "stem_{}", strides=2)
        x = net.activation(x, "stem_relu")
        x = net(net.image_layer(keras.layers.MaxPooling2D, 3, 2, "same", name="stem_pool"), x)
    else:
        x = net.conv_norm(x, width, 3, 0, "stem_{}")
        x = net.activation(x, "stem_relu")
    for stage, depth in enumerate(depths):
        for index in range(depth):
            strides = 2 if stage > 0 and index == 0 else 1
            prefix = f"stage{stage + 1}_block{index + 1}"
            filters = width * 2**stage
            # A branch without norms starts as if it were not there (Fixup initialization).
            bare = sum(depths) if net.spec_of_next(stage) is None else None
            branch, filters = block(net, x, filters, strides, stage, prefix, bare)
            if strides != 1 or net.channels(x) != filters:
                x = shortcut(net, x, filters, strides, stage, prefix)
            x = net(keras.layers.Add(name=f"{prefix}_add"), [x, branch])
            x = net.activation(x, f"{prefix}_relu")
    x = net(net.image_layer(keras.layers.GlobalAveragePooling2D, name="pool"), x)
    kernel = "zeros" if net.without_norms() else "glorot_uniform"
    return net.model(net.classifier(x, classes, activation, kernel_initializer=kernel))


def _basic(net, x, filters, strides, stage, prefix, bare):
    """Two convolutions of 3x3; the branch and its channels."""
    first, last = _initializers(bare, 2)
    name = f"{prefix}_{{}}"
    x = net.conv_norm(x, filters, 3, stage, f"{name}1", strides=strides, kernel_initializer=first)
    x = net.activation(x, f"{prefix}_relu1")
    return net.conv_norm(x, filters, 3, stage, f"{name}2", kernel_initializer=last), filters


def _bottleneck(net, x, filters, strides, stage, prefix, bare):
    """Convolutions of 1x1, 3x3, with the stride, and 1x1; the branch and its channels."""
    first, last = _initializers(bare, 3)
    name = f"{prefix}_{{}}"
    x = net.conv_norm(x, filters, 1, stage, f"{name}1", kernel_initializer=first)
    x = net.activation(x, f"{prefix}_relu1")
    x = net.conv_norm(x, filters, 3, stage, f"{name}2", strides=strides, kernel_initializer=first)
    x = net.activation(x, f"{prefix}_relu2")
    filters = 4 * filters
    return net.conv_norm(x, filters, 1, stage, f"{name}3", kernel_initializer=last), filters


def _initializers(bare, convolutions):
    """He's for a branch; Fixup's, for its last convolution and the others, where no norms are.

    Fixup multiplies He's deviation by `blocks**(-1 / (2*convolutions - 2))` and has zeros in the
    last convolution: https://arxiv.org/abs/1901.09321.

    Args:
        bare: the number of blocks of a network without norms, else None.
        convolutions: of the branch.
    """
    if bare is None:
        return "he_normal", "he_normal"
    scale = 2.0 * bare ** (-1 / (convolutions - 1))
    return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal"), "zeros"


def _projected(net, x, filters, strides, stage, prefix):
    """A convolution of 1x1 with a norm (option B)."""
    return net.conv_norm(x, filters, 1, stage, f"{prefix}_shortcut_{{}}", strides=strides)


def _padded(net, x, filters, strides, stage, prefix):
    """Every other position, and channels of zeros: nothing to learn (option A)."""
    del stage
    if strides != 1:
        name = f"{prefix}_shortcut_pick"
        x = net(net.image_layer(keras.layers.AveragePooling2D, 1, strides, name=name), x)
    missing = filters - net.channels(x)
    padding = (missing // 2, missing - missing // 2)
    # In the other data format the axis of the channels is one of the image's sides.
    if net.data_format == "channels_last":
        other, sides = "channels_first", ((0, 0), padding)
    else:
        other, sides = "channels_last", (padding, (0, 0))
    return net(
        keras.layers.ZeroPadding2D(sides, data_format=other, name=f"{prefix}_shortcut_pad"), x
    )


def _cifar(depth):
    """Those of 6*depth + 2 layers."""
    return _Kind((depth, depth, depth), _basic, _padded)


def ResNet20(
    input_shape,
    classes,
    norm="batch",
    stem="cifar",
    width=16,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet20",
):
    """ResNet-20 for small images, 0.27 million parameters.

    Three stages of 3 blocks with two convolutions of 3x3 each, shortcuts without parameters
    (every other position, zeros for the new channels), convolutions without biases, He's
    initialization. Without norms, convolutions have biases and residual branches start at zero
    (Fixup), as in "Consistent Normalization".

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`.
        classes: how many.
        norm: a norm spec, or several: the first norm is the stem's; there are three stages, the
            stem belongs to the first.
        stem: `"cifar"`, a convolution of 3x3, or `"imagenet"`, one of 7x7 with stride 2 and a
            pooling.
        width: channels of the first stage.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet20, (32, 32, 3), 10).parameters()
        269722

    Reference:
        He et al., 2016: https://arxiv.org/abs/1512.03385, section 4.2
    """
    kind = _cifar(3)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet8(
    input_shape,
    classes,
    norm="batch",
    stem="cifar",
    width=16,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet8",
):
    """As `ResNet20`, with a block a stage, for quick experiments: 0.08 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet8, (32, 32, 3), 10).parameters()
        75290
    """
    kind = _cifar(1)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet32(
    input_shape,
    classes,
    norm="batch",
    stem="cifar",
    width=16,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet32",
):
    """As `ResNet20`, with 5 blocks a stage: 0.46 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet32, (32, 32, 3), 10).parameters()
        464154
    """
    kind = _cifar(5)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet56(
    input_shape,
    classes,
    norm="batch",
    stem="cifar",
    width=16,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet56",
):
    """As `ResNet20`, with 9 blocks a stage: 0.85 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet56, (32, 32, 3), 10).parameters()
        853018
    """
    kind = _cifar(9)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet110(
    input_shape,
    classes,
    norm="batch",
    stem="cifar",
    width=16,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet110",
):
    """As `ResNet20`, with 18 blocks a stage: 1.7 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet110, (32, 32, 3), 10).parameters()
        1727962
    """
    kind = _cifar(18)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet18(
    input_shape,
    classes,
    norm="batch",
    stem="imagenet",
    width=64,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet18",
):
    """ResNet-18, 11.7 million parameters with the stem for ImageNet and 1000 classes.

    Four stages of 2, 2, 2 and 2 blocks, two convolutions of 3x3 each; where the
    shape changes, the shortcut is a convolution of 1x1 with a norm. No biases, He's initialization.
    Without norms, convolutions have biases and residual branches start at zero (Fixup), as in
    "Consistent Normalization".

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`.
        classes: how many.
        norm: a norm spec, or several: the first norm is the stem's; there are four stages, the
            stem belongs to the first.
        stem: `"imagenet"`, a convolution of 7x7 with stride 2 and a pooling, or `"cifar"`, one of
            3x3 and no pooling.
        width: channels of the first stage.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet18, (224, 224, 3), 1000).parameters()
        11689512

    Reference:
        He et al., 2016: https://arxiv.org/abs/1512.03385, section 3
    """
    kind = _Kind((2, 2, 2, 2), _basic, _projected)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet34(
    input_shape,
    classes,
    norm="batch",
    stem="imagenet",
    width=64,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet34",
):
    """As `ResNet18`, with 3, 4, 6 and 3 blocks: 21.8 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet34, (224, 224, 3), 1000).parameters()
        21797672
    """
    kind = _Kind((3, 4, 6, 3), _basic, _projected)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet50(
    input_shape,
    classes,
    norm="batch",
    stem="imagenet",
    width=64,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet50",
):
    """ResNet-50, 25.6 million parameters with the stem for ImageNet and 1000 classes.

    Four stages of 3, 4, 6 and 3 blocks, bottlenecks with the stride in the 3x3; where the shape
    changes, the shortcut is a convolution of 1x1 with a norm. No biases, He's initialization.
    Without norms, convolutions have biases and residual branches start at zero (Fixup), as in
    "Consistent Normalization".

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`.
        classes: how many.
        norm: a norm spec, or several: the first norm is the stem's; there are four stages, the
            stem belongs to the first.
        stem: `"imagenet"`, a convolution of 7x7 with stride 2 and a pooling, or `"cifar"`, one of
            3x3 and no pooling.
        width: channels of the first stage inside of the bottlenecks.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet50, (224, 224, 3), 1000).parameters()
        25557032

    Reference:
        He et al., 2016: https://arxiv.org/abs/1512.03385, section 3
    """
    kind = _Kind((3, 4, 6, 3), _bottleneck, _projected)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet101(
    input_shape,
    classes,
    norm="batch",
    stem="imagenet",
    width=64,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet101",
):
    """As `ResNet50`, with 3, 4, 23 and 3 blocks: 44.5 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet101, (224, 224, 3), 1000).parameters()
        44549160
    """
    kind = _Kind((3, 4, 23, 3), _bottleneck, _projected)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )


def ResNet152(
    input_shape,
    classes,
    norm="batch",
    stem="imagenet",
    width=64,
    data_format=None,
    classifier_activation="softmax",
    name="ResNet152",
):
    """As `ResNet50`, with 3, 8, 36 and 3 blocks: 60.2 million parameters.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.ResNet152, (224, 224, 3), 1000).parameters()
        60192808
    """
    kind = _Kind((3, 8, 36, 3), _bottleneck, _projected)
    return _resnet(
        kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
    )
