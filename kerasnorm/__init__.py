"""Adaptive normalization layers for Keras 3, on TensorFlow, JAX and PyTorch."""

# This imports Keras, which imports its backend.
try:
    from kerasnorm import models, transforms
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing in ("tensorflow", "jax", "torch"):
        error.add_note(
            "Keras's backend is not installed. Set KERAS_BACKEND to the one that is (tensorflow, "
            f"jax or torch) before Python starts, or install it: pip install {missing}"
        )
    raise
from kerasnorm.consistent.branches import branch
from kerasnorm.consistent.model import ConsistentModel
from kerasnorm.consistent.norm import ConsistentNorm
from kerasnorm.conversion import calibrate, convert
from kerasnorm.layers.associate import AssociateNorm
from kerasnorm.layers.batch import BatchNorm
from kerasnorm.layers.batch_instance import BatchInstanceNorm
from kerasnorm.layers.batch_renorm import BatchRenorm
from kerasnorm.layers.conv import ConvNorm
from kerasnorm.layers.filter_response import FilterResponseNorm, ThresholdedLinearUnit
from kerasnorm.layers.group import GroupNorm, InstanceNorm, LayerNorm
from kerasnorm.layers.ilm import ILMGroupNorm, ILMInstanceNorm, ILMLayerNorm
from kerasnorm.layers.learned_stats import LearnedStatsNorm
from kerasnorm.layers.mode import ModeGroupNorm, ModeNorm
from kerasnorm.layers.switchable import SwitchableNorm
from kerasnorm.moving_statistics import reestimate
from kerasnorm.norms import NormArgument, NormRow
from kerasnorm.registry import available, get, register, spec_of
from kerasnorm.surgery import register_composite, replace_norms, report_of

AssocNorm = AssociateNorm

__version__ = "0.2.0"

__all__ = [
    "AssocNorm",
    "AssociateNorm",
    "BatchInstanceNorm",
    "BatchNorm",
    "BatchRenorm",
    "ConsistentModel",
    "ConsistentNorm",
    "ConvNorm",
    "FilterResponseNorm",
    "GroupNorm",
    "ILMGroupNorm",
    "ILMInstanceNorm",
    "ILMLayerNorm",
    "InstanceNorm",
    "LayerNorm",
    "LearnedStatsNorm",
    "ModeGroupNorm",
    "ModeNorm",
    "NormArgument",
    "NormRow",
    "SwitchableNorm",
    "ThresholdedLinearUnit",
    "available",
    "branch",
    "calibrate",
    "convert",
    "get",
    "models",
    "reestimate",
    "register",
    "register_composite",
    "replace_norms",
    "report_of",
    "spec_of",
    "transforms",
]
