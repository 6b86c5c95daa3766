"""Residual networks: those for CIFAR with 6n + 2 layers, and those for ImageNet."""

from collections.abc import Callable
from typing import NamedTuple

import keras

from kerasnorm.models.network import Network

STEMS = ("cifar", "imagenet")


class _Family(NamedTuple):
    """What those for one data set share: the defaults, and what their docstrings say."""

    data: str
    stem: str
    width: int
    input_shape: tuple
    classes: int
    section: str


CIFAR = _Family("CIFAR-10", "cifar", 16, (32, 32, 3), 10, "section 4.2")
IMAGENET = _Family("ImageNet", "imagenet", 64, (224, 224, 3), 1000, "section 3")


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
    """Any of them; the arguments after `kind` are those of the functions that users call."""
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
            bare = sum(depths) if net.next_norm(stage) is None else None
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


# What the functions of blocks and shortcuts are to a reader.
WORDS = {
    _basic: "two convolutions of 3x3",
    _bottleneck: "bottlenecks with the stride in the 3x3",
    _padded: "every other position, and zeros for the new channels",
    _projected: "a convolution of 1x1 with a norm",
}
DOCSTRING = """{title}, {millions} million parameters for {data}.

{stages} stages of {depths} blocks: {block}.
Where the shape changes, the shortcut is {shortcut}.
No biases, He's initialization; without norms, convolutions have biases and residual branches start
at zero (Fixup), as in "Consistent Normalization".{about}

Args:
    input_shape: `(height, width, channels)`, or `(channels, height, width)`.
    classes: how many.
    norm: a norm spec, or several: the first norm is the stem's, which is in the first stage.
    stem: `"cifar"`, a convolution of 3x3, or `"imagenet"`, one of 7x7 with stride 2 and a pooling.
    width: channels of the first stage; bottlenecks put out four times as many as they have inside.
    data_format: of the inputs; None is `keras.config.image_data_format()`.
    classifier_activation: of the last layer; None gives logits.
    name: of the model.

Example:
    >>> from kerasnorm import models
    >>> models.plan(models.{name}, {input_shape}, {classes}).parameters()
    {parameters}

Reference:
    He et al., 2016: https://arxiv.org/abs/1512.03385, {section}
"""


def _architecture(name, family, kind, parameters, about=""):
    """The function that users call.

    Args:
        name: its name, and that of the models.
        family: a `_Family`.
        kind: a `_Kind`.
        parameters: how many there are, for the docstring, whose example is a test.
        about: a further sentence for it.
    """

    def build(
        input_shape,
        classes,
        norm="batch",
        stem=family.stem,
        width=family.width,
        data_format=None,
        classifier_activation="softmax",
        name=name,
    ):
        return _resnet(
            kind, input_shape, classes, norm, stem, width, data_format, classifier_activation, name
        )

    build.__name__ = build.__qualname__ = name
    build.__doc__ = DOCSTRING.format(
        name=name,
        title=name.replace("Net", "Net-"),
        millions=f"{parameters / 1e6:.1f}" if parameters > 1e6 else f"{parameters / 1e6:.2f}",
        stages=len(kind.depths),
        depths=f"{', '.join(map(str, kind.depths[:-1]))} and {kind.depths[-1]}",
        block=WORDS[kind.block],
        shortcut=WORDS[kind.shortcut],
        about=about and f"\n{about}",
        parameters=parameters,
        **family._asdict(),
    )
    return build


def _for_cifar(name, depth, parameters, about=""):
    """One of 6*depth + 2 layers."""
    return _architecture(name, CIFAR, _Kind((depth,) * 3, _basic, _padded), parameters, about)


def _for_imagenet(name, depths, block, parameters):
    return _architecture(name, IMAGENET, _Kind(depths, block, _projected), parameters)


ResNet8 = _for_cifar("ResNet8", 1, 75290, "Not from the paper: for first trials and searches.")
ResNet20 = _for_cifar("ResNet20", 3, 269722)
ResNet32 = _for_cifar("ResNet32", 5, 464154)
ResNet56 = _for_cifar("ResNet56", 9, 853018)
ResNet110 = _for_cifar("ResNet110", 18, 1727962)

ResNet18 = _for_imagenet("ResNet18", (2, 2, 2, 2), _basic, 11689512)
ResNet34 = _for_imagenet("ResNet34", (3, 4, 6, 3), _basic, 21797672)
ResNet50 = _for_imagenet("ResNet50", (3, 4, 6, 3), _bottleneck, 25557032)
ResNet101 = _for_imagenet("ResNet101", (3, 4, 23, 3), _bottleneck, 44549160)
ResNet152 = _for_imagenet("ResNet152", (3, 8, 36, 3), _bottleneck, 60192808)
