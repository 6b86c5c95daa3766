"""Forward passes that stop anywhere in a model and go on from there.

A conversion looks at one norm after the other. If each norm had its own pass from the start, the
time would grow with the square of their number. So the tensors that a batch has at the place where
it stopped are kept, as far as the memory allows it; other batches start again.
"""

import dataclasses
import inspect
import math
from typing import Any

import keras

from kerasnorm.core import backends
from kerasnorm.core.keras_internals import calls_in, filled_in, layers_in
from kerasnorm.surgery.find import is_graph


class Room:
    """Memory for kept tensors.

    Args:
        size: in bytes.
    """

    def __init__(self, size):
        self.size = size
        self.used = 0

    def take(self, size):
        """Whether there is so much left; it is used from then on."""
        if self.used + size > self.size:
            return False
        self.used += size
        return True

    def give_back(self, size):
        """So much is free again."""
        self.used -= size


class Passes:
    """A model's forward passes, as at inference, over some batches.

    Args:
        model: a functional or Sequential model.
        batches: of inputs, structured as the model's.
        room: `Room`, which may be shared.
    """

    def __init__(self, model, batches, room):
        self._steps = steps_of(model)
        self._batches = batches
        self._room = room
        # For each batch: the step that is next, the tensors that are needed from there on, and
        # their size.
        self._kept: list[tuple | None] = [None] * len(batches)

    def __len__(self):
        """How many batches there are."""
        return len(self._batches)

    def steps_with(self, layers):
        """The numbers of the steps that call one of some layers, the first first."""
        wanted = {id(layer) for layer in layers}
        return [n for n, step in enumerate(self._steps) if not wanted.isdisjoint(step.layers)]

    def before(self, batch, number):
        """The tensors that a batch has before a step; kept for the next time."""
        start, values, size = self._kept[batch] or (0, None, 0)
        self._kept[batch] = None
        self._room.give_back(size)
        if values is None or start > number:
            start, values = 0, dict(enumerate(keras.tree.flatten(self._batches[batch])))
        self.run(values, start, number)
        size = sum(_size_of(value) for value in values.values())
        if self._room.take(size):
            self._kept[batch] = number, dict(values), size
        return values

    def run(self, values, start, stop):
        """Do the steps from one number to before another one."""
        with backends.without_gradients():
            for step in self._steps[start:stop]:
                step.do(values)


@dataclasses.dataclass
class Step:
    """A call in a model, from tensors by their number to others.

    Attributes:
        function: from the arguments to tensors.
        inputs: the numbers of the tensors that it takes, by their keys in the model's graph.
        outputs: the numbers of those that it gives.
        node: the call in the graph; None for what a nested model does to its inputs.
        layers: the ids of the layers that it calls.
        training: whether it is to be told that this is no training.
        last: the numbers of the tensors that no later step takes.
    """

    function: Any
    inputs: dict
    outputs: list
    node: Any = None
    layers: frozenset = frozenset()
    training: bool = False
    last: list = dataclasses.field(default_factory=list)

    def do(self, values):
        """Replace tensors that are not needed any more by those that are made of them."""
        given = {key: values[number] for key, number in self.inputs.items()}
        if self.node is None:
            outputs = self.function(list(given.values()))
        else:
            args, kwargs = filled_in(self.node, given)
            if self.training:
                kwargs = {**kwargs, "training": False}
            outputs = self.function(*args, **kwargs)
        values.update(zip(self.outputs, keras.tree.flatten(outputs), strict=False))
        for number in self.last:
            values.pop(number, None)


def steps_of(model):
    """The calls that a model consists of, those in nested models too, in a possible order.

    The tensors with the first numbers are the model's inputs.
    """
    steps: list[Step] = []
    count = 0

    def new_numbers(tensors):
        nonlocal count
        count += len(tensors)
        return list(range(count - len(tensors), count))

    def add(graph, given):
        """The steps of a graph; the numbers of its outputs."""
        numbers = dict(zip(map(id, graph.inputs), new_numbers(graph.inputs), strict=True))
        entrance = dict(enumerate(given))
        steps.append(Step(_entrance_of(graph), entrance, list(numbers.values())))
        for node in calls_in(graph):
            tensors = {id(tensor): tensor for tensor in node.input_tensors}
            if not tensors or not tensors.keys() <= numbers.keys():
                continue  # An input, or a call that does not depend on the inputs.
            operation = node.operation
            if _is_open(node):
                made = add(operation, [numbers[id(tensor)] for tensor in node.input_tensors])
            else:
                made = new_numbers(node.output_tensors)
                is_layer = isinstance(operation, keras.layers.Layer)
                inner = layers_in(operation) if is_layer else []
                steps.append(
                    Step(
                        operation,
                        {key: numbers[key] for key in tensors},
                        made,
                        node,
                        frozenset(map(id, inner)),
                        is_layer and "training" in inspect.signature(operation.call).parameters,
                    )
                )
            numbers.update(zip(map(id, node.output_tensors), made, strict=True))
        return [numbers[id(tensor)] for tensor in graph.outputs]

    add(model, new_numbers(model.inputs))
    later: set[int] = set()
    for step in reversed(steps):
        here = {*step.inputs.values(), *step.outputs}
        step.last = sorted(here - later)
        later |= here
    return steps


def _is_open(node):
    """Whether a call is that of a nested model whose calls can be made one by one."""
    model = node.operation
    return (
        is_graph(model)
        and type(model).call.__module__.startswith("keras.")
        and len(node.arguments.args) == 1
        and not isinstance(node.arguments.args[0], dict)
        and not isinstance(getattr(model, "input", None), dict)
        and len(node.input_tensors) == len(model.inputs)
        and not any(
            isinstance(part, keras.KerasTensor)
            for part in keras.tree.flatten(node.arguments.kwargs)
        )
    )


def _entrance_of(model):
    """What a functional or Sequential model does to its inputs before all else."""

    def enter(values):
        return [_entering(model, *pair) for pair in zip(values, model.inputs, strict=True)]

    return enter


def _entering(model, value, wanted):
    if isinstance(model, keras.Sequential):
        value = model.dtype_policy.convert_input(
            keras.ops.convert_to_tensor(value), model.autocast, model.input_dtype
        )
    value = keras.ops.convert_to_tensor(value, dtype=wanted.dtype)
    rank = len(wanted.shape)
    if len(value.shape) == rank + 1 and value.shape[-1] == 1:
        return keras.ops.squeeze(value, -1)
    if len(value.shape) == rank - 1 and wanted.shape[-1] == 1:
        return keras.ops.expand_dims(value, -1)
    return value


def _size_of(value):
    """In bytes."""
    if not hasattr(value, "shape"):
        return 0
    digits = keras.backend.standardize_dtype(value.dtype).lstrip("abcdefghijklmnopqrstuvwxyz")
    return math.prod(value.shape) * max(int(digits or 8) // 8, 1)
