"""How a step is built, timed and weighed on the backend that runs: one module per backend.

* ``NAME``, ``versions()``, ``threads()``, ``device()`` (its kind, ``"cpu"`` or ``"gpu"``, and name)
* ``MODES``: those that are timed by default
* ``train_step(layer, x, dy, mode)``: a function that runs a training step and returns the output
  and the gradients of x and of the trainable weights
* ``inference_step(layer, x, mode)``: a function that returns the output
* ``native_steps(x, dy)``: by name, functions that make a training step of what the engine's own
  users would take, `{}` if there is nothing
* ``plain_step(kind, x, dy, mode)``: plain passes with the least memory traffic of a step
* ``wait(result)``, and ``WAIT_EVERY_STEP``
* ``COMPILES``: whether steps had better run for the first time side by side
* ``kept(layer, x)``: a `Kept`

The plain passes are sums or maxima (one read), a product with a scalar (a read and a write) and a
sum of two tensors (two reads and a write), in a form that the compiler neither merges nor skips.
By kind:

* ``train``: forward reads x twice and writes y, backward reads x and dy twice and writes dx
* ``measured``: inference that reads x twice (moments, then the affine step) and writes y
* ``moving``: inference that reads x once and writes y
"""

import importlib
from types import ModuleType

import keras

from benchmarks import BenchmarkError


def current() -> ModuleType:
    """The module of the backend that Keras runs on.

    Raises:
        BenchmarkError: if there is none.
    """
    name = keras.backend.backend()
    if name not in ("tensorflow", "jax", "torch"):
        raise BenchmarkError(f"No benchmarks on {name!r}. Needed: tensorflow, jax or torch.")
    return importlib.import_module(f"{__name__}.{name}")
