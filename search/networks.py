"""A network for quick searches, beside those of `kerasnorm.models`."""

import keras

from kerasnorm.sites import Specs, norm_layer


def ResNet8(input_shape, classes, norm="batch", width=16):
    """A residual network with 8 layers, for small images: seven norms in three stages.

    Its blocks are those of ResNet-20, one per stage, with projections where the shape changes.

    Args:
        input_shape: `(height, width, channels)`.
        classes: how many.
        norm: a norm spec, or several; the first norm is the stem's, which belongs to the first
            stage.
        width: channels of the first stage; each further stage has twice as many.

    Example:
        >>> from search.networks import ResNet8
        >>> ResNet8((8, 8, 1), 10, width=8).count_params()
        19954
    """
    specs = Specs(norm, stages=3, of="ResNet8")
    channels_first = keras.config.image_data_format() == "channels_first"
    sites = 0

    def normalized(x, filters, stage, strides=1):
        nonlocal sites
        x = convolved(x, filters, 3, strides)
        spec = specs.at(sites, stage)
        sites += 1
        return norm_layer(spec, filters, **({"axis": 1} if channels_first and spec else {}))(x)

    def convolved(x, filters, size, strides):
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
        )(x)

    inputs = keras.Input(input_shape)
    x = keras.layers.ReLU()(normalized(inputs, width, stage=0))
    for stage in range(3):
        filters, strides = width * 2**stage, 1 if stage == 0 else 2
        branch = keras.layers.ReLU()(normalized(x, filters, stage, strides))
        branch = normalized(branch, filters, stage)
        shortcut = x if stage == 0 else convolved(x, filters, 1, strides)
        x = keras.layers.ReLU()(keras.layers.Add()([shortcut, branch]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x), name="resnet8")
