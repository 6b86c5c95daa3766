"""A norm of one's own: replaced in a model, searched and benchmarked like those of the package.

    KERAS_BACKEND=jax python examples/my_norm.py
    kerasnorm-search --import examples/my_norm.py --norms batch,blend --trials 8
    KERAS_BACKEND=jax python -m benchmarks layers --import examples/my_norm.py --layers blend

It standardizes every channel partly by its own moments and partly by those of the whole example,
so it lies between instance norm (gate 1) and layer norm (gate 0).
"""

import dataclasses

import keras
import numpy as np
from keras import ops

import kerasnorm
from kerasnorm.core.layer import Normalization
from kerasnorm.core.pooling import pool_channels
from kerasnorm.core.standardization import assign, groups, numpy_of
from kerasnorm.norms import channels_are_single


@keras.saving.register_keras_serializable("my_norm")
class BlendNorm(Normalization):
    """y = gamma*(g*(x - mean_c)/sigma_c + (1-g)*(x - mean)/sigma) + beta, g learned per channel.

    Args:
        gate: the value at which every g starts.
        **kwargs: those of every norm of this package, by name.
    """

    def __init__(self, gate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.gate = self._checked_number("gate", gate, least=0.0, most=1.0)
        self.gate_weight = None

    def build_weights(self, channels, input_shape):
        """Add the gate."""
        self.gate_weight = self.add_weight(
            name="gate", shape=(channels,), initializer=keras.initializers.Constant(self.gate)
        )

    def coefficients(self, moments, training):
        """The formula, expanded around each channel's mean."""
        example = pool_channels(moments, 1)
        gate = ops.cast(self.gate_weight, moments.mean.dtype)[None]
        gamma, beta = self.rescaling(moments)
        own = gate * ops.rsqrt(moments.variance + self.epsilon)
        whole = (1 - gate) * ops.rsqrt(example.variance + self.epsilon)
        return gamma * (own + whole), gamma * whole * (moments.mean - example.mean) + beta

    # What surgery asks, so that `replace_norms(..., preserve=True)` keeps a model's outputs.

    def standardization(self):
        """Instance norm where all gates are 1, layer norm where they are 0."""
        gate = numpy_of(self.gate_weight)
        family = None
        if (gate == gate[0]).all() and gate[0] in (0, 1):
            family = groups(self.channels if gate[0] == 1 else 1)
        return dataclasses.replace(super().standardization(), family=family)

    def start_as(self, target):
        """All gates at 1 or at 0."""
        for gate, family in ((1.0, groups(self.channels)), (0.0, groups(1))):
            if target.family == family:
                assign(self.gate_weight, np.full(self.channels, gate))
        return ""

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "gate": self.gate}


kerasnorm.register(
    kerasnorm.NormRow(
        BlendNorm,
        "blend",
        summary="each channel by its own moments and by those of the example, blended",
        arguments=(kerasnorm.NormArgument("gate", (0.5, 0.1, 0.9), "gate from {}"),),
        refusal=channels_are_single,
    )
)


def main():
    """Put it in the place of layer norm without changing what the model computes."""
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3), kerasnorm.LayerNorm(name="norm")]
    model = keras.Sequential(layers)
    new = kerasnorm.replace_norms(model, "blend", preserve=True)
    print(kerasnorm.report_of(new))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    before, after = (one.predict(x, verbose=0) for one in (model, new))
    difference = float(abs(before - after).max())
    print(f"Largest difference of the outputs: {difference:.0e}")
    return difference


if __name__ == "__main__":
    main()
