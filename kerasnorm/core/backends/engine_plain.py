"""What an engine does where it says nothing else: it neither compiles nor distributes."""

import contextlib


def replica_sum(x):
    """There is one replica."""
    return x


def replica_max(x):
    """There is one replica."""
    return x


def unscaled_loss(loss):
    """Keras takes a loss as it is."""
    return loss


def pass_on(value):
    """A context that does nothing: no replica runs in a thread of its own."""
    return contextlib.nullcontext()


def passed_on():
    """Nothing is: no replica runs in a thread of its own."""
    return None


def is_tracing():
    """Nothing is ever traced."""
    return False


def run_eagerly():
    """Nothing is ever compiled."""
    return contextlib.nullcontext()


def refuse_dtype(dtype):
    """Every dtype is computed in as it is named."""
    return None


def forgetting_traces():
    """Nothing keeps a trace for longer than what was traced."""
    return contextlib.nullcontext()


def be_deterministic():
    """They do."""


def devices():
    """The processor."""
    return ["cpu"]
