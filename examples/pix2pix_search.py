"""Search the norms of a pix2pix: two networks, one train_step, on TensorFlow, JAX or PyTorch.

The pictures are made from photographs of scikit-learn's, without a download. Run it from the root
of the repository:

    KERAS_BACKEND=torch python examples/pix2pix_search.py

With the command, this file is both the model and the measure:

    kerasnorm-search --data edges2photos --model examples/pix2pix_search.py:build \\
        --measure examples/pix2pix_search.py:detail:min --epochs 20 --out pix2pix
"""

from collections.abc import Callable

import keras
import numpy as np

import search
from kerasnorm import models

WIDTH = 16
# Of the absolute error beside the discriminator's opinion, as in the paper.
WEIGHT = 100.0


class Pix2Pix(keras.Model):
    """A generator of images and a discriminator, trained against each other.

    Both are trained by one optimizer in one step: it keeps a state for each weight, so this is what
    two optimizers with the same arguments do.

    Args:
        generator: gives an image for an image.
        discriminator: gives logits for both images, side by side in the channels.
    """

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.built = True

    def call(self, x, training=False):
        """The image that the generator makes."""
        return self.generator(x, training=training)

    def both_losses(self, x, y):
        """The losses of the generator and of the discriminator."""
        fake = self.generator(x, training=True)
        on_real = self.discriminator(keras.ops.concatenate([x, y], axis=-1), training=True)
        on_fake = self.discriminator(keras.ops.concatenate([x, fake], axis=-1), training=True)
        apart = keras.ops.mean(keras.ops.abs(fake - y))
        # The cross-entropy of a logit with 1 is softplus of its negative.
        generator = keras.ops.mean(keras.ops.softplus(-on_fake)) + WEIGHT * apart
        discriminator = keras.ops.mean(keras.ops.softplus(-on_real))
        return generator, (discriminator + keras.ops.mean(keras.ops.softplus(on_fake))) / 2

    def train_step(self, *given):
        """A step of both networks; JAX's trainer gives the state of the model too."""
        return STEPS[keras.backend.backend()](self, *given)


def tensorflow_step(model, data):
    """A step on TensorFlow."""
    import tensorflow as tf

    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape(persistent=True) as tape:
        losses = model.both_losses(x, y)
    parts = (model.generator.trainable_variables, model.discriminator.trainable_variables)
    gradients = [
        one
        for loss, part in zip(losses, parts, strict=True)
        for one in tape.gradient(loss, [variable.value for variable in part])
    ]
    model.optimizer.apply(gradients, [*parts[0], *parts[1]])
    return told(losses)


def torch_step(model, data):
    """A step on PyTorch."""
    import torch

    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    losses = model.both_losses(x, y)
    parts = (model.generator.trainable_variables, model.discriminator.trainable_variables)
    gradients = [
        one
        for loss, part in zip(losses, parts, strict=True)
        for one in torch.autograd.grad(loss, [v.value for v in part], retain_graph=True)
    ]
    with torch.no_grad():
        model.optimizer.apply(gradients, [*parts[0], *parts[1]])
    return told(losses)


def jax_step(model, state, data):
    """A step on JAX, from a state of the model to the next."""
    import jax

    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    trainable, others, optimizer, metrics = state

    def losses_of(trainable):
        known = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, others, strict=True),
        ]
        with keras.StatelessScope(known) as scope:
            losses = model.both_losses(x, y)
        # Moving statistics, and the seeds of dropout.
        return losses, [scope.get_current_value(one) for one in model.non_trainable_variables]

    losses, back, others = jax.vjp(losses_of, trainable, has_aux=True)
    count = len(model.generator.trainable_variables)
    one, none = keras.ops.ones_like(losses[0]), keras.ops.zeros_like(losses[0])
    gradients = [*back((one, none))[0][:count], *back((none, one))[0][count:]]
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
    return told(losses), (trainable, others, optimizer, metrics)


def told(losses):
    """What a step says of itself."""
    return {"generator_loss": losses[0], "discriminator_loss": losses[1]}


STEPS: dict[str, Callable] = {"tensorflow": tensorflow_step, "torch": torch_step, "jax": jax_step}


def build(norm, size=32, width=WIDTH):
    """A pix2pix of a norm spec, for edges with colours and their photographs."""
    model = Pix2Pix(
        models.Pix2PixGenerator(
            (size, size, 4), 3, norm, width=width, classifier_activation="sigmoid"
        ),
        models.Pix2PixDiscriminator(
            (size, size, 7), norm=norm, width=width, classifier_activation=None
        ),
    )
    model.compile(keras.optimizers.Adam(2e-3, beta_1=0.5))
    return model


def detail(model, test):
    """How far the differences of neighbouring pixels are from those of the photographs."""
    made = np.asarray(model.predict(test.x, batch_size=64, verbose=0))
    apart = [
        np.abs(np.diff(made, axis=axis) - np.diff(test.y, axis=axis)).mean(axis=(1, 2, 3))
        for axis in (1, 2)
    ]
    values = np.mean(apart, axis=0)
    return values.mean(), values


def main(**options):
    """Search, and say what to do."""
    arguments = {
        "norms": "batch,instance,group,ilm_group",
        "placements": "all",
        "trials": 8,
        "epochs": 20,
        "batch_size": 16,
        "measure": (detail, "min"),
        "out": "pix2pix-results",
        **options,
    }
    result = search.run(build, "edges2photos", **arguments)
    print(result)
    return result


if __name__ == "__main__":
    main()
