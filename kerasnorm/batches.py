"""Data in the forms that Keras takes, as batches of arrays."""

import itertools

import keras
import numpy as np


def are_inputs(data):
    """Whether data are inputs, as an array or several, and not batches."""
    if isinstance(data, dict):
        return all(map(are_inputs, data.values()))
    parts = data if isinstance(data, (list, tuple)) else [data]
    return all(hasattr(part, "shape") for part in parts)


def each_batch(data):
    """Pairs of the inputs and the labels of each batch; labels are None where there are none.

    Args:
        data: as `each_weighted_batch` takes them.
    """
    for x, y, _ in each_weighted_batch(data):
        yield x, y


def each_weighted_batch(data):
    """Inputs, labels and weights of the examples of each batch; None for what there is not.

    Args:
        data: a `keras.utils.PyDataset`, or an iterable such as a `tf.data.Dataset`, a `DataLoader`
            or a generator, of the inputs `x`, or of `(x, y)`, or of `(x, y, sample_weight)`.
    """
    if isinstance(data, keras.utils.PyDataset):
        known = data.num_batches
        data = map(data.__getitem__, itertools.count() if known is None else range(known))
    for batch in data:
        yield keras.utils.unpack_x_y_sample_weight(batch)


def as_arrays(data):
    """Nested tensors, of whichever library, as NumPy arrays; None stays."""
    return None if data is None else keras.tree.map_structure(_array, data)


def _array(value):
    if hasattr(value, "detach"):  # A tensor of torch, which may lie on a GPU.
        value = value.detach().cpu()
    return np.asarray(value)


def size_of(inputs):
    """How many examples there are in a batch."""
    return len(keras.tree.flatten(inputs)[0])


def as_taken(model, inputs):
    """Inputs in the structure of a functional model's own, about which Keras does not warn."""
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    wanted, given = keras.tree.flatten(structure), keras.tree.flatten(inputs)
    if len(wanted) != len(given):
        raise ValueError(
            f"the data have {len(given)} arrays for each example. Needed: {len(wanted)}, as many "
            f"as model '{model.name}' has inputs; or batches."
        )
    if isinstance(inputs, dict) and not isinstance(structure, dict):
        names = [one.name for one in model.inputs]
        if set(names) == set(inputs):
            given = [inputs[name] for name in names]
    return keras.tree.pack_sequence_as(structure, given)
