"""What an engine does where it says nothing else: it neither compiles nor distributes."""

import contextlib


def replica_sum(x):
    """There is one replica."""
    return x


def replica_max(x):
    """There is one replica."""
    return x


def unscaled_loss(loss):
    """Return the loss unchanged."""
    return loss


def pass_on(value):
    """Return a context that does nothing, because replicas do not run in threads."""
    return contextlib.nullcontext()


def passed_on():
    """Return False: replicas do not run in threads."""
    return None


def is_tracing():
    """Nothing is ever traced."""
    return False


def run_eagerly():
    """Nothing is ever compiled."""
    return contextlib.nullcontext()


def refuse_dtype(dtype):
    """Refuse nothing: every dtype is computed as named."""
    return None


def forgetting_traces():
    """Return a context that does nothing, because no trace outlives what was traced."""
    return contextlib.nullcontext()


def be_deterministic():
    """Do nothing: all operations repeat bit for bit."""


def devices():
    """The processor."""
    return ["cpu"]


def differentiated(function):
    """Nothing is differentiated here."""
    raise NotImplementedError("This Keras backend has no gradients. Needed: one that trains.")


def trains_replicas():
    """Whether a model that is made here is run once for each replica."""
    return False


def without_gradients():
    """A context in which nothing is kept for gradients: nowhere is, unless one asks."""
    return contextlib.nullcontext()
