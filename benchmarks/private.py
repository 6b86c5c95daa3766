"""Training that keeps single examples private, as Abadi et al., 2016, do it, with Adam.

https://arxiv.org/abs/1607.00133
"""

import keras
from keras import ops


class PrivateAdam(keras.optimizers.Adam):
    """Adam on clipped gradients of single examples, with noise in their mean.

    A model that it trains gets one example at a time; each `examples` of them are a step.

    Args:
        examples: in a step.
        clip: the largest norm of an example's gradient; longer ones are shortened to it.
        noise: the deviation of the noise in the sum of these gradients, as a part of `clip`.
        seed: of the noise.
        **kwargs: of Adam.
    """

    def __init__(self, examples, clip=1.0, noise=1.0, seed=0, **kwargs):
        super().__init__(gradient_accumulation_steps=examples, **kwargs)
        self.clip = clip
        self.deviation = noise * clip / examples
        self.random = keras.random.SeedGenerator(seed)
        # Among the optimizer's variables, so that every backend keeps it.
        self.random_state = self.random.state

    def apply(self, grads, trainable_variables=None):
        """One example more."""
        norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in grads))
        factor = ops.minimum(1.0, self.clip / ops.maximum(norm, 1e-12))
        super().apply([factor * gradient for gradient in grads], trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Adam's, with the mean gradient of all examples of a step."""
        noise = keras.random.normal(gradient.shape, dtype=gradient.dtype, seed=self.random)
        super().update_step(gradient + self.deviation * noise, variable, learning_rate)
