"""What every layer shares: moments, pooling, the affine step and the layer base class.

Formulas of a single paper are in `kerasnorm.layers`; those that several layers share, such as the
auto-encoder of `groups.Association`, are here.
"""
