"""What `make test` runs where: all on torch, which meets new shapes fastest.

TensorFlow traces and JAX compiles whatever is new, which is most of a test's time. There a part is
marked `slow`: what differs between backends is in their kernels and in Keras's operations, and the
other part uses all of these. `make test-full` runs everything everywhere.
"""

import keras
import pytest

ON_TORCH = keras.backend.backend() == "torch"


def daily(needed=False):
    """Marks of a test: none on torch and where it is needed every day."""
    return [] if needed or ON_TORCH else [pytest.mark.slow]


def on_torch_daily(test):
    """A test that runs on torch every day, and on the others in `make test-full`."""
    return test if ON_TORCH else pytest.mark.slow(test)
