"""Data for the examples of data-parallel training, made up on the spot."""

import numpy as np


def shapes_and_labels(count=256):
    """Noise in which class 1 has a bright bar, across in half of the data and down in the rest."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, count)
    images = generator.normal(size=(count, 8, 8, 3)).astype("float32")
    images[: count // 2, 4] += 2 * labels[: count // 2, None, None]
    images[count // 2 :, :, 4] += 2 * labels[count // 2 :, None, None]
    order = generator.permutation(count)
    return images[order], labels[order]
