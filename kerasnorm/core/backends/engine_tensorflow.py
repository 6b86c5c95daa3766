"""TensorFlow beside arithmetic."""

import contextlib

import tensorflow as tf

from kerasnorm.core.backends import internals_tensorflow
from kerasnorm.core.backends.switch import Switch


def _reduce(x, operation):
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(operation, x)


def replica_sum(x):
    """Sum over the replicas of the strategy in scope, differentiable."""
    return _reduce(x, tf.distribute.ReduceOp.SUM)


def replica_max(x):
    """Maximum over the replicas of the strategy in scope, a constant to gradients."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tf.stop_gradient(x)
    # Strategies reduce by sum and mean only; a gathered maximum is small and exact.
    gathered = context.all_gather(tf.stop_gradient(x)[tf.newaxis], axis=0)
    return tf.reduce_max(gathered, axis=0)


def unscaled_loss(loss):
    """Keras divides each replica's loss by their number, for the sum of all to be the mean."""
    return loss * tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype)


class _PassedOn:
    """A variable creator that creates as usual, and holds a value.

    Creators are what the thread of a replica takes over from the thread that starts it.
    """

    def __init__(self, value):
        self.value = value

    def __call__(self, next_creator, **kwargs):
        return next_creator(**kwargs)


def pass_on(value):
    """A context in which `passed_on` is the value, in threads of replicas too."""
    return tf.variable_creator_scope(_PassedOn(value))


def passed_on():
    """The value of the innermost `pass_on` of this thread or the one that started it, or None."""
    creators = internals_tensorflow.variable_creators()
    held = [creator.value for creator in creators if isinstance(creator, _PassedOn)]
    return held[-1] if held else None


def is_tracing():
    """Whether the operations of this moment are being recorded in a graph."""
    return not tf.executing_eagerly()


@contextlib.contextmanager
def _functions_run_eagerly():
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


# Makes contexts in which `tf.function`s run as plain Python, their graphs unused.
run_eagerly = Switch(_functions_run_eagerly)


@contextlib.contextmanager
def forgetting_traces():
    """Free afterwards what was traced inside.

    Each custom gradient in a traced function is put into a register of TensorFlow's, under a new
    name, and never taken out; with it stays the whole graph: 6 to 13 MB for a small network. Only
    tracing the gradient looks it up, which is over by then.
    """
    register = internals_tensorflow.gradient_register()
    before = set(register)
    try:
        yield
    finally:
        for name in set(register) - before:
            if name.startswith("CustomGradient-"):
                del register[name]


def be_deterministic():
    """TensorFlow then wants every random operation seeded, which `set_random_seed` does."""
    tf.config.experimental.enable_op_determinism()


def devices():
    """The GPUs, or else the processor."""
    found = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(one).get("device_name") for one in found]
    return [f"gpu {name}" for name in names] or ["cpu"]


def trains_replicas():
    """Whether a model that is made here is run once for each replica."""
    return tf.distribute.has_strategy()


def differentiated(function):
    """A number and its gradient for the first argument, a vector; compiled."""

    @tf.function(autograph=False)
    def value_and_gradient(flat, *others):
        with tf.GradientTape() as tape:
            tape.watch(flat)
            value = function(flat, *others)
        return value, tape.gradient(value, flat)

    return lambda flat, *others: value_and_gradient(tf.convert_to_tensor(flat), *others)
