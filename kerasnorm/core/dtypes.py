"""In which dtype statistics are computed, and how results leave it."""

from keras import backend, ops

# The largest finite float16.
FLOAT16_LIMIT = 65504.0


def statistics_dtype(*dtypes):
    """float64 if any of the dtypes is, else float32: never less.

    `keras.backend.result_type` would make float32 of float64 on JAX and torch, and so do the
    operations that ask it (`keras.ops.mean`, `keras.ops.maximum`): the core keeps clear of them.
    """
    wide = any(backend.standardize_dtype(dtype) == "float64" for dtype in dtypes)
    return "float64" if wide else "float32"


def cast_to_output(y, dtype):
    """Cast; float16, which ends at 65504, saturates there instead of becoming infinite."""
    if backend.standardize_dtype(dtype) == "float16":
        y = ops.clip(y, -FLOAT16_LIMIT, FLOAT16_LIMIT)
    return ops.cast(y, dtype)
