"""Adaptive normalization layers for Keras 3, on TensorFlow, JAX and PyTorch."""

from kerasnorm import models, transforms
from kerasnorm.consistent import ConsistentNorm, branch
from kerasnorm.layers.associate import AssociateNorm
from kerasnorm.layers.batch import BatchNorm
from kerasnorm.layers.conv import ConvNorm
from kerasnorm.layers.group import GroupNorm, InstanceNorm, LayerNorm
from kerasnorm.layers.ilm import ILMGroupNorm, ILMInstanceNorm, ILMLayerNorm
from kerasnorm.layers.learned_stats import LearnedStatsNorm
from kerasnorm.layers.mode import ModeGroupNorm, ModeNorm
from kerasnorm.registry import available, get, register, spec_of
from kerasnorm.surgery import replace_norms, report_of
from kerasnorm.training import ConsistentModel

AssocNorm = AssociateNorm

__version__ = "0.1.0"

__all__ = [
    "AssocNorm",
    "AssociateNorm",
    "BatchNorm",
    "ConsistentModel",
    "ConsistentNorm",
    "ConvNorm",
    "GroupNorm",
    "ILMGroupNorm",
    "ILMInstanceNorm",
    "ILMLayerNorm",
    "InstanceNorm",
    "LayerNorm",
    "LearnedStatsNorm",
    "ModeGroupNorm",
    "ModeNorm",
    "available",
    "branch",
    "get",
    "models",
    "register",
    "replace_norms",
    "report_of",
    "spec_of",
    "transforms",
]
