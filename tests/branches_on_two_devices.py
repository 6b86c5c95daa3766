"""Consistent Normalization on two devices, on TensorFlow or JAX; two_devices.py runs it."""

import keras
import numpy as np

import kerasnorm
from small_models import images, numpy, randomize

SIDE = 6


def trained(model_options):
    """A trained model, and what it reported."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = kerasnorm.ConsistentNorm({"name": "mode", "synchronized": True}, 3)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("tanh")(x))
    inner = keras.Model(inputs, keras.layers.Dense(2)(x))
    randomize(inner)
    given = [None, lambda x: 2 * x + 1, kerasnorm.transforms.ScaleAndPad(0.5)]
    model = kerasnorm.ConsistentModel(inner, given, [1.0, 0.5, 0.25], **model_options)
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    x, y = images(8, 3, (SIDE, SIDE)), np.linspace(-1, 1, 16).reshape(8, 2)
    history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    results = {f"weight {weight.path}": numpy(weight.value) for weight in inner.weights}
    # Paths differ where a process has made models before.
    results = {f"weight {i}": value for i, value in enumerate(results.values())}
    results |= {f"reported {key}": np.array(value) for key, value in history.items()}
    return model, results


def tensorflow(strategy):
    """What is trained and predicted by the replicas of a strategy."""
    import tensorflow as tf

    results = {}
    for name, options in {"one pass": {}, "passes": {"concatenate": False}}.items():
        with strategy.scope():
            model, found = trained(options)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    x = images(4, 3, (SIDE, SIDE))
    plain = [model.branch_model(k) for k in range(3)]
    for index in (0, 1, 2, 0):
        results[f"branch {index}/expected"] = numpy(plain[index](x, training=False))
        with kerasnorm.branch(index):
            run = strategy.run(lambda: model.model(tf.constant(x), training=False))
            results[f"branch {index}/predict"] = model.predict(x, verbose=0)

        @tf.function
        def compiled(index=index):
            with kerasnorm.branch(index):
                return strategy.run(lambda: model.model(tf.constant(x), training=False))

        for replica in range(2):
            for kind, values in (("run", run), ("compiled", compiled())):
                value = strategy.experimental_local_results(values)[replica]
                results[f"branch {index}/{kind} {replica}"] = value.numpy()
    results["branch 0/after all"] = model.predict(x, verbose=0)
    return results


def jax():
    """What is trained under the distribution that is set."""
    results = {}
    for name, options in {"one pass": {}, "passes": {"concatenate": False}}.items():
        results |= {f"{name}/{key}": value for key, value in trained(options)[1].items()}
    return results
