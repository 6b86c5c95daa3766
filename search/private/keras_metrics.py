"""Keras 3.10 to 3.15: a metric that is the mean of a function does not give that function away."""


def function_of(metric):
    """`function(y_true, y_pred)` that a metric is the mean of; None where there is none.

    Args:
        metric: a `keras.metrics.Metric`.
    """
    function = getattr(metric, "_fn", None)
    if function is None:
        return None
    arguments = getattr(metric, "_fn_kwargs", {})
    return lambda y_true, y_pred: function(y_true, y_pred, **arguments)
