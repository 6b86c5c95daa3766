"""What the data-parallel examples train: a small residual network, and data made up on the spot."""

import keras
import numpy as np

import kerasnorm


def network(norm):
    """Two residual blocks, with a norm after each convolution."""

    def convolution(x):
        x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        return kerasnorm.get(norm)(x)

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.ReLU()(convolution(inputs))
    for _ in range(2):
        y = keras.layers.ReLU()(convolution(x))
        x = keras.layers.ReLU()(keras.layers.Add()([x, convolution(y)]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))


def shapes_and_labels(count=256):
    """Noise in which class 1 has a bright bar, across in half of the data and down in the rest."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, count)
    images = generator.normal(size=(count, 8, 8, 3)).astype("float32")
    images[: count // 2, 4] += 2 * labels[: count // 2, None, None]
    images[count // 2 :, :, 4] += 2 * labels[count // 2 :, None, None]
    order = generator.permutation(count)
    return images[order], labels[order]
