"""Residual networks: those for CIFAR with 6n + 2 layers, and those for ImageNet."""

import keras

from kerasnorm.models.network import Network

STEMS = ("cifar", "imagenet")


def _resnet(
    name, input_shape, classes, norm, stem, depths, width, data_format, activation, block, shortcut
):
    """Any of them.

    Args:
        depths: how many blocks each stage has.
        width: channels of the first stage; each further stage has twice as many.
        block: `_basic` or `_bottleneck`.
        shortcut: `_padded` or `_projected`, where a block changes the shape.
        name, input_shape, classes, norm, stem, data_format, activation: as the functions below.
    """
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (3, 3, 3),
        width,
        data_format,
        classifier_activation,
        _basic,
        _padded,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (5, 5, 5),
        width,
        data_format,
        classifier_activation,
        _basic,
        _padded,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (9, 9, 9),
        width,
        data_format,
        classifier_activation,
        _basic,
        _padded,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (18, 18, 18),
        width,
        data_format,
        classifier_activation,
        _basic,
        _padded,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (2, 2, 2, 2),
        width,
        data_format,
        classifier_activation,
        _basic,
        _projected,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (3, 4, 6, 3),
        width,
        data_format,
        classifier_activation,
        _basic,
        _projected,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (3, 4, 6, 3),
        width,
        data_format,
        classifier_activation,
        _bottleneck,
        _projected,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (3, 4, 23, 3),
        width,
        data_format,
        classifier_activation,
        _bottleneck,
        _projected,
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
    return _resnet(
        name,
        input_shape,
        classes,
        norm,
        stem,
        (3, 8, 36, 3),
        width,
        data_format,
        classifier_activation,
        _bottleneck,
        _projected,
    )
