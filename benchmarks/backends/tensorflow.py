"""Steps on TensorFlow."""

import numpy as np
import tensorflow as tf

from benchmarks.kept import kept_by_content

NAME = "tensorflow"
MODES = ("jit", "graph")
WAIT_EVERY_STEP = False
COMPILES = False


def versions():
    """Of what computes."""
    return {"tensorflow": tf.__version__}


def threads():
    """How many threads compute; 0 is as many as there are cores."""
    return tf.config.threading.get_intra_op_parallelism_threads()


def device():
    """Kind and name."""
    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        return "cpu", "cpu"
    return "gpu", tf.config.experimental.get_device_details(cards[0]).get("device_name", "gpu")


def wait(result):
    """A step on a CPU is over when it returns."""
    del result
    if tf.config.list_physical_devices("GPU"):
        tf.test.experimental.sync_devices()


def _compiled(function, mode):
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=mode == "jit", autograph=False)


def _trainable(layer):
    return [variable.value for variable in layer.trainable_variables]


def train_step(layer, x, dy, mode):
    def step(x, dy):
        sources = [x, *_trainable(layer)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(
            y,
            sources,
            output_gradients=dy,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    step = _compiled(step, mode)
    return lambda: step(x, dy)


def native_steps(x, dy):
    """None are compared."""
    del x, dy
    return {}


def inference_step(layer, x, mode):
    step = _compiled(lambda x: layer(x, training=False), mode)
    return lambda: step(x)


def plain_step(kind, x, dy, mode):
    def train(x, dy):
        y = x * _near_one(x, tf.reduce_max(x))
        return y, x + dy, _total(x), _total(dy)

    steps = {
        "train": train,
        "measured": lambda x, dy: x * _near_one(x, _total(x)),
        "moving": lambda x, dy: x * 1.5,
    }
    step = _compiled(steps[kind], mode)
    return lambda: step(x, dy)


def _total(x):
    # By rows: faster than all at once.
    rows = tf.reduce_sum(tf.reshape(x, (x.shape[0], -1)), 1)
    return tf.cast(tf.reduce_sum(rows), tf.float32)


def _near_one(x, total):
    return tf.cast(1 + 1e-9 * tf.cast(total, "float32"), x.dtype)


def kept(layer, x):
    @tf.function(autograph=False)
    def forward(x):
        sources = [x, *_trainable(layer)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)

        @tf.function(autograph=False)
        def backward(dy):
            return tape.gradient(
                y,
                sources,
                output_gradients=dy,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )

        # A graph of its own, so that what it needs of the forward pass is captured, and seen.
        captured = backward.get_concrete_function(tf.TensorSpec(y.shape, y.dtype)).captured_inputs
        return [tensor for tensor in captured if tensor.dtype not in (tf.resource, tf.variant)]

    # Variables are captured as resources: all weights count as kept.
    arrays = [*forward(x), *_trainable(layer)]
    return kept_by_content(map(np.asarray, arrays), np.asarray(x))
