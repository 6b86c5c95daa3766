"""What every layer shares: moments, pooling, the affine step and the layer base class.

Nothing in here knows a paper.
"""
