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


def output_limit(dtype):
    """Where outputs saturate instead of becoming infinite; None where float32's range fits."""
    return FLOAT16_LIMIT if backend.standardize_dtype(dtype) == "float16" else None


def cast_to_output(y, dtype):
    """Cast, with values beyond the limit of the dtype at the limit."""
    limit = output_limit(dtype)
    return ops.cast(y if limit is None else ops.clip(y, -limit, limit), dtype)
