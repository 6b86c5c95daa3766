"""The architectures of the papers, and one for tables, with any norm.

They are functions that return functional Keras models.

All take `(input_shape, classes, norm="batch", ...)`. `norm` is a norm spec, a pair `(first, rest)`,
or `{"stages": [spec, ...]}`; group arguments that a spec leaves open are "auto". With None there is
no norm, and the convolution before it has a bias.

>>> from kerasnorm import models
>>> model = models.ResNet20((32, 32, 3), 10, norm=("mode", "batch"))
>>> model.get_layer("stem_norm").modes
2
"""

from kerasnorm.models.convolutional import NIN, VGG13, AllCNNC, LeNet
from kerasnorm.models.mlp import MLP
from kerasnorm.models.network import Network, Site, plan
from kerasnorm.models.pix2pix import Pix2PixDiscriminator, Pix2PixGenerator
from kerasnorm.models.resnet import (
    ResNet8,
    ResNet18,
    ResNet20,
    ResNet32,
    ResNet34,
    ResNet50,
    ResNet56,
    ResNet101,
    ResNet110,
    ResNet152,
)
from kerasnorm.models.transformer import Transformer, TransformerEncoder

__all__ = [
    "MLP",
    "NIN",
    "VGG13",
    "AllCNNC",
    "LeNet",
    "Network",
    "Pix2PixDiscriminator",
    "Pix2PixGenerator",
    "ResNet8",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet50",
    "ResNet56",
    "ResNet101",
    "ResNet110",
    "ResNet152",
    "Site",
    "Transformer",
    "TransformerEncoder",
    "plan",
]
