"""Transformations of images, for the branches of `kerasnorm.ConsistentModel`.

They are layers of Keras, run in the graph of any backend, and change whatever they are given, in
training or not. Integers become floating point; half precision is kept, and computed in float32.

>>> import numpy as np
>>> from kerasnorm import transforms
>>> float(transforms.ScaleAndPad(0.5)(np.ones((1, 4, 4, 1), "float32"))[0, 0, 0, 0])
0.0
"""

from kerasnorm.consistent.transforms import (
    Blur,
    Cutout,
    Noise,
    RandomCrop,
    RandomTransform,
    Resize,
    ScaleAndPad,
    Transform,
)

__all__ = [
    "Blur",
    "Cutout",
    "Noise",
    "RandomCrop",
    "RandomTransform",
    "Resize",
    "ScaleAndPad",
    "Transform",
]
