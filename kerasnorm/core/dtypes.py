"""In which dtype statistics are computed, and how results leave it."""

from keras import backend, ops

# The largest finite float16.
FLOAT16_LIMIT = 65504.0


def statistics_dtype(*dtypes):
    """float64 if any of the dtypes is, else float32: never less."""
    return backend.result_type(*dtypes, "float32")


def cast_to_output(y, dtype):
    """Cast; float16, which ends at 65504, saturates there instead of becoming infinite."""
    if backend.standardize_dtype(dtype) == "float16":
        y = ops.clip(y, -FLOAT16_LIMIT, FLOAT16_LIMIT)
    return ops.cast(y, dtype)
