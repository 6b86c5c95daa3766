"""The generator and the discriminator of pix2pix."""

import keras

from kerasnorm.models.network import Network

# Of the encoder, from the outside in; the decoder has the same from the inside out.
_WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)


def Pix2PixGenerator(
    input_shape,
    classes=3,
    norm="batch",
    depth=None,
    width=64,
    dropout=0.5,
    data_format=None,
    classifier_activation="tanh",
    name="Pix2PixGenerator",
):
    """The U-Net of pix2pix: an image to an image of the same size.

    `depth` convolutions of 4x4 with stride 2, leaky relu between, down to the innermost, then as
    many transposed ones; each takes what the encoder had at its size beside its own input. The
    outermost ones and the innermost convolution have no norm (one position has no variance).
    Weights start normal with deviation 0.02.

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`.
        classes: channels of the resulting image.
        norm: a norm spec, or several; there are two stages, encoder and decoder.
        depth: how often the image is halved; it must divide by `2**depth`. None is as often as it
            can be, up to 8 (256x256 to 1x1).
        width: channels of the outermost convolution; 64 to 512 in the original.
        dropout: after the first three of the decoder, where there are so many besides the last.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the resulting image.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.Pix2PixGenerator, (256, 256, 3), 3, "instance").parameters()
        54414531

    Reference:
        Isola et al., 2017: https://arxiv.org/abs/1611.07004, appendix 6.1; used in "Instance-Level
        Meta Normalization", section 4.4
    """
    net = Network(name, norm, 2, data_format)
    x = net.input(input_shape, least=4)
    depth = _depth_of(net, x, depth)
    width = net.checked_count("width", width)
    widths = [width * times for times in _WIDTHS[:depth]]
    start = keras.initializers.RandomNormal(0.0, 0.02)
    skips = []
    for index, filters in enumerate(widths):
        prefix = f"down{index + 1}"
        if index:
            leaky = keras.layers.LeakyReLU(negative_slope=0.2, name=f"{prefix}_relu")
            skips.append(x)
            x = net(leaky, x)
        arguments = {"strides": 2, "kernel_initializer": start.clone()}
        if index in (0, depth - 1):
            x = net.conv(x, filters, 4, f"{prefix}_conv", **arguments)
        else:
            x = net.conv_norm(x, filters, 4, 0, f"{prefix}_{{}}", **arguments)
    for index, filters in enumerate(reversed(widths[:-1])):
        prefix = f"up{index + 1}"
        x = net.activation(x, f"{prefix}_relu")
        x = net.conv_norm(
            x,
            filters,
            4,
            1,
            f"{prefix}_{{}}",
            layer=keras.layers.Conv2DTranspose,
            strides=2,
            kernel_initializer=start.clone(),
        )
        if index < min(3, depth - 2) and dropout:
            x = net(keras.layers.Dropout(dropout, name=f"{prefix}_dropout"), x)
        join = keras.layers.Concatenate(axis=net.channel_axis, name=f"{prefix}_join")
        x = net(join, [x, skips.pop()])
    x = net.activation(x, "image_relu")
    x = net.conv(
        x,
        net.checked_count("classes", classes),
        4,
        "image_conv",
        layer=keras.layers.Conv2DTranspose,
        strides=2,
        kernel_initializer=start.clone(),
    )
    return net.model(net.predictions(x, classifier_activation))


def Pix2PixDiscriminator(
    input_shape,
    classes=1,
    norm="batch",
    width=64,
    data_format=None,
    classifier_activation="sigmoid",
    name="Pix2PixDiscriminator",
):
    """The discriminator of pix2pix: whether each patch of 70x70 of an image is real.

    Four convolutions of 4x4, the first three with stride 2, leaky relu, and a last one to the
    answer. The first and the last have no norm. Weights start normal with deviation 0.02.

    Args:
        input_shape: `(height, width, channels)`, or `(channels, height, width)`, at least 24 high
            and wide; input and output image lie side by side in the channels, 6 for two images in
            colour.
        classes: numbers per patch.
        norm: a norm spec, or several; there are three stages, one for each norm.
        width: channels of the first convolution.
        data_format: of the inputs; None is `keras.config.image_data_format()`.
        classifier_activation: of the answer; None gives logits.
        name: of the model.

    Example:
        >>> from kerasnorm import models
        >>> models.plan(models.Pix2PixDiscriminator, (256, 256, 6)).parameters()
        2768705

    Reference:
        Isola et al., 2017: https://arxiv.org/abs/1611.07004, appendix 6.1
    """
    net = Network(name, norm, 3, data_format)
    x = net.input(input_shape, least=24)
    width = net.checked_count("width", width)
    for index, times in enumerate((1, 2, 4, 8)):
        start = keras.initializers.RandomNormal(0.0, 0.02)
        arguments = {"strides": 2, "kernel_initializer": start}
        if index == 3:
            x = _bordered(net, x, "border4")
            arguments |= {"strides": 1, "padding": "valid"}
        if index == 0:
            x = net.conv(x, width, 4, "conv1", **arguments)
        else:
            x = net.conv_norm(x, width * times, 4, index - 1, f"{{}}{index + 1}", **arguments)
        x = net(keras.layers.LeakyReLU(negative_slope=0.2, name=f"relu{index + 1}"), x)
    x = net.conv(
        _bordered(net, x, "border5"),
        net.checked_count("classes", classes),
        4,
        "conv5",
        padding="valid",
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
    )
    return net.model(net.predictions(x, classifier_activation))


def _bordered(net, x, name):
    """A border of zeros: the original's padding, which makes 32 to 31."""
    return net(net.image_layer(keras.layers.ZeroPadding2D, 1, name=name), x)


def _depth_of(net, x, depth):
    """How often the image is halved."""
    sides = [side for side in net.sides(x) if side is not None]
    most = len(_WIDTHS)
    while any(side % 2**most for side in sides):
        most -= 1
    if depth is None:
        depth = most
    if isinstance(depth, bool) or depth not in range(2, most + 1):
        raise ValueError(
            f"{net.name}: depth={depth!r} for an image of {net.sides(x)}. Needed: an integer from "
            f"2 to {len(_WIDTHS)}, and sides that divide by 2**depth"
            + (f"; here up to {most}." if most >= 2 else ".")
        )
    return depth
