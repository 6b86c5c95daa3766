"""The one place that knows which backend runs.

The kernels of a backend (`torch.py`, `jax.py`, `tensorflow.py`, else `plain.py`) are the two
full-size steps and a matrix product:

* ``moments(x, channel_axis, variance=True) -> handle, mean, variance``
* ``affine(handle, mean, scale, shift, channel_axis, dtype) -> y``
* ``dot(a, b)``: of small statistics, at full precision

Its engine (`engine_*.py`) is what it does beside arithmetic; `engine_plain.py` has what an engine
does not define:

* ``replica_sum(x)`` and ``replica_max(x)`` over a data-parallel run
* ``unscaled_loss(loss)``: of a replica, what Keras made a share of the whole batch's
* ``trains_replicas()``: whether a model that is made here is run once for each replica
* ``pass_on(value)`` is a context in which ``passed_on()`` is the value, in the threads that the
  engine starts for replicas; elsewhere it may be None
* ``is_tracing()`` and ``run_eagerly()``, for what must not be baked into a compiled function
* ``refuse_dtype(dtype)``: why it cannot compute in a dtype, or None
* ``be_deterministic()``: only operations that repeat bit for bit, from here on
* ``devices()``: what it computes on, as words
* ``differentiated(function)``: the number ``function(flat, *others)`` and its gradient for the
  vector ``flat``, as a function that takes and gives arrays, compiled where the engine compiles
* ``without_gradients()``: a context in which nothing is kept for gradients
* ``forgetting_traces()``: a context after which what was traced in it can be freed
"""

import importlib

import keras

from kerasnorm.core.backends import engine_plain

_TUNED = ("tensorflow", "jax", "torch")
_name = keras.backend.backend()
# Backends without kernels of their own (numpy, openvino) run the plain ones: right, not tuned.
_kernels = importlib.import_module(f"{__name__}.{_name if _name in _TUNED else 'plain'}")
_engine = importlib.import_module(f"{__name__}.engine_{_name if _name in _TUNED else 'plain'}")


def _of_engine(name):
    return getattr(_engine, name, None) or getattr(engine_plain, name)


affine = _kernels.affine
dot = _kernels.dot
moments = _kernels.moments

be_deterministic = _of_engine("be_deterministic")
devices = _of_engine("devices")
differentiated = _of_engine("differentiated")
forgetting_traces = _of_engine("forgetting_traces")
is_tracing = _of_engine("is_tracing")
pass_on = _of_engine("pass_on")
passed_on = _of_engine("passed_on")
refuse_dtype = _of_engine("refuse_dtype")
replica_max = _of_engine("replica_max")
replica_sum = _of_engine("replica_sum")
run_eagerly = _of_engine("run_eagerly")
trains_replicas = _of_engine("trains_replicas")
unscaled_loss = _of_engine("unscaled_loss")
without_gradients = _of_engine("without_gradients")
