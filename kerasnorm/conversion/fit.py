"""Fitting the weights of one norm to what it should give."""

import importlib
import math

import keras
import numpy as np
from keras import ops

from kerasnorm.core import backends
from kerasnorm.core.moving import MovingNormalization
from kerasnorm.core.pooling import Moments
from kerasnorm.core.standardization import assign, numpy_of

# Where this share of the wanted outputs' variance is explained, nothing more is fitted.
ENOUGH = 0.99999


def coefficients_of(layer, statistics):
    """The layer's scale and shift for some examples, float64 arrays."""
    with backends.without_gradients():
        scale, shift = layer.coefficients(_moments(layer, statistics), False)
    shape = statistics.mean.shape
    return tuple(
        np.broadcast_to(numpy_of(part).astype("float64"), shape) for part in (scale, shift)
    )


def explained_by(layer, statistics):
    """The share of the wanted outputs' variance that the layer's explain."""
    return statistics.explained(*coefficients_of(layer, statistics))


def fit(layer, statistics, steps=100, moving=True, compiled=None):
    """Set a layer's weights so that its outputs are nearest to those wanted.

    Gamma and beta are the least squares solution. Weights beyond them start where the layer says,
    and are then improved together with these by L-BFGS, unless there is nothing left to explain.

    Args:
        layer: a built layer of this package.
        statistics: of the data.
        steps: of L-BFGS at most.
        moving: whether moving statistics become those of the data.
        compiled: a dictionary, in which what is compiled for one layer is kept for others.
    """
    if moving and isinstance(layer, MovingNormalization):
        _set_moving(layer, statistics)
    fit_rescaling(layer, statistics)
    rescaling = {id(layer.gamma), id(layer.beta)}
    plain = explained_by(layer, statistics)
    if plain > ENOUGH or all(id(weight) in rescaling for weight in layer.trainable_variables):
        return
    kept = [numpy_of(weight) for weight in layer.trainable_variables]
    scales = layer.start_fit(_moments(layer, statistics), *statistics.coefficients)
    fit_rescaling(layer, statistics)
    if steps and explained_by(layer, statistics) <= ENOUGH:
        _descend(layer, statistics, scales, steps, {} if compiled is None else compiled)
    if explained_by(layer, statistics) < plain:
        for weight, value in zip(layer.trainable_variables, kept, strict=True):
            assign(weight, value)


def fit_rescaling(layer, statistics):
    """Gamma and beta by least squares, a channel at a time; all else stays as it is.

    A layer's scale and shift are affine functions of the two, whatever the method. What they are is
    read from the layer itself.
    """
    weights = [w for w in (layer.gamma, layer.beta) if w is not None]
    if not weights:
        return

    def at(values):
        for weight, value in zip(weights, values, strict=True):
            assign(weight, np.full(weight.shape, value))
        return np.stack(coefficients_of(layer, statistics))

    start = [numpy_of(weight) for weight in weights]
    none = at([0.0] * len(weights))
    slopes = [at(np.eye(len(weights))[n]) - none for n in range(len(weights))]
    both = at([1.0] * len(weights))
    if not np.allclose(both, none + sum(slopes), rtol=1e-3, atol=1e-3 * np.abs(both).max()):
        # Not affine, as AssociateNorm with `bias_mode="before"`: L-BFGS goes on from the old ones.
        for weight, value in zip(weights, start, strict=True):
            assign(weight, value)
        return
    weight = statistics.positions

    def inner(one, other):
        around = one[0] * other[0] * statistics.variance
        return (weight * (around + one[1] * other[1])).sum(0)

    def against(one):
        scale, shift = none
        around = one[0] * (statistics.covariance - scale * statistics.variance)
        return (weight * (around + one[1] * (statistics.wanted - shift))).sum(0)

    matrix = np.stack([[inner(one, other) for other in slopes] for one in slopes])
    matrix = np.moveaxis(matrix, -1, 0)
    right = np.stack([against(one) for one in slopes], -1)
    # A channel that is always constant has no slope: the smallest solution is taken.
    solution = np.stack(
        [np.linalg.lstsq(a, b, rcond=1e-9)[0] for a, b in zip(matrix, right, strict=True)]
    )
    for column, variable in enumerate(weights):
        assign(variable, solution[:, column])


def _descend(layer, statistics, scales, steps, compiled):
    """L-BFGS on all of a layer's trainable weights."""
    optimize = _scipy_optimize()
    variables = layer.trainable_variables
    fixed = [weight.value for weight in layer.non_trainable_variables]
    moments = _moments(layer, statistics)
    dtype = keras.backend.standardize_dtype(moments.mean.dtype)
    weight = statistics.positions / statistics.positions.sum()
    total = max(statistics.total, 1e-30)
    data = tuple(
        ops.convert_to_tensor(part, dtype)
        for part in (statistics.variance, statistics.covariance, statistics.wanted, weight / total)
    )
    constant = float((weight / total * statistics.spread).sum())
    key = (type(layer), _own_arguments(layer), statistics.mean.shape, dtype, moments.count is None)
    if key not in compiled:
        compiled[key] = backends.differentiated(_error_of(layer))
    value_and_gradient_at = compiled[key]
    bounds = layer.fit_bounds()
    low, high, width = (
        np.concatenate([np.full(math.prod(w.shape), of(w)) for w in variables])
        for of in (
            lambda w: bounds.get(id(w), (-np.inf, np.inf))[0],
            lambda w: bounds.get(id(w), (-np.inf, np.inf))[1],
            lambda w: scales.get(id(w), 1.0),
        )
    )

    def value_and_gradient(flat):
        value, gradient = value_and_gradient_at((flat * width).astype(dtype), fixed, moments, *data)
        return float(value) + constant, np.asarray(gradient, "float64") * width

    start = np.concatenate([numpy_of(w).astype("float64").ravel() for w in variables]) / width
    found = optimize.minimize(
        value_and_gradient,
        start,
        jac=True,
        bounds=list(zip(low / width, high / width, strict=True)),
        method="L-BFGS-B",
        options={"maxiter": steps, "maxcor": 20, "ftol": 1e-9},
    )
    best = found.x if found.fun <= value_and_gradient(start)[0] else start
    for variable, value in zip(variables, _parts(best * width, variables), strict=True):
        assign(variable, value)


def _error_of(layer):
    """What a layer's outputs leave unexplained, but for a constant, by its weights in one vector.

    The weights and the data are arguments, so layers that differ in these alone can share it.
    """
    variables, others = layer.trainable_variables, layer.non_trainable_variables

    def error(flat, fixed, moments, variance, covariance, wanted, weight):
        values = zip([*variables, *others], [*_parts(flat, variables), *fixed], strict=True)
        with keras.StatelessScope(state_mapping=list(values)):
            scale, shift = layer.coefficients(moments, False)
        around = scale * scale * variance - 2.0 * scale * covariance
        return ops.sum(weight * (around + ops.square(shift - wanted)))

    return error


def _parts(flat, variables):
    """A vector as the values of variables."""
    shapes = [tuple(variable.shape) for variable in variables]
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    return [
        flat[start:end].reshape(shape)
        if isinstance(flat, np.ndarray)
        else ops.reshape(flat[start:end], shape)
        for start, end, shape in zip([0, *ends], ends, shapes, strict=False)
    ]


def _own_arguments(layer):
    """A layer's arguments but for its name, as text."""
    config = keras.saving.serialize_keras_object(layer)["config"]
    return repr({key: config[key] for key in sorted(config) if key != "name"})


def _set_moving(layer, statistics):
    """Moving statistics as one step with momentum 0 on all of the data leaves them."""
    momentum, layer.momentum = layer.momentum, 0.0
    try:
        layer.coefficients(_moments(layer, statistics), True)
    finally:
        layer.momentum = momentum


def _moments(layer, statistics):
    """Statistics as a layer takes them."""
    dtype = "float64" if layer.compute_dtype == "float64" else "float32"
    mean, variance, count = (
        ops.convert_to_tensor(part, dtype)
        for part in (statistics.mean, statistics.variance, statistics.positions)
    )
    even = bool((statistics.positions == statistics.positions[0]).all())
    return Moments(mean, variance, None if even else count)


def _scipy_optimize():
    try:
        return importlib.import_module("scipy.optimize")
    except ImportError as error:
        raise ImportError(
            "convert needs SciPy to fit norms with more weights than gamma and beta. Needed: "
            "`pip install scipy`, or `pip install 'kerasnorm[convert]'`."
        ) from error
