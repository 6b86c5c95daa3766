"""No norm at all: what a norm did at inference, in the weights of the layer before it."""

import dataclasses

import keras
import numpy as np

from kerasnorm.core.keras_internals import calls_in, operation_of
from kerasnorm.core.standardization import assign, numpy_of
from kerasnorm.surgery.compare import channel_axis_of
from kerasnorm.surgery.find import is_graph

# Layers whose outputs are linear in a kernel and a bias, and the weight that has a factor for each
# output channel: its last axis, or the last two for a depthwise kernel.
KERNELS = {
    keras.layers.Dense: "kernel",
    keras.layers.Conv1D: "kernel",
    keras.layers.Conv2D: "kernel",
    keras.layers.Conv3D: "kernel",
    keras.layers.DepthwiseConv1D: "kernel",
    keras.layers.DepthwiseConv2D: "kernel",
    keras.layers.SeparableConv1D: "pointwise_kernel",
    keras.layers.SeparableConv2D: "pointwise_kernel",
}


@dataclasses.dataclass(frozen=True)
class Before:
    """A layer whose outputs go to a norm and nowhere else; `new` is its copy with a bias."""

    old: keras.layers.Layer
    new: keras.layers.Layer

    def take(self, slope, shift):
        """Multiply the outputs by a slope and add a shift, an entry per channel."""
        kernel = getattr(self.new, KERNELS[type(self.new)])
        value = numpy_of(kernel).astype("float64")
        by_channel = slope if value.shape[-1] == len(slope) else slope.reshape(value.shape[-2:])
        assign(kernel, value * by_channel)
        bias = numpy_of(self.new.bias).astype("float64")
        assign(self.new.bias, bias * slope + shift)


def layers_before(model, norms):
    """The layers that norms can go into: a `Before` by the norm's id.

    Args:
        model: a functional or Sequential model.
        norms: layers in it.
    """
    wanted = {id(norm) for norm in norms}
    nodes = [node for graph in _graphs(model) for node in calls_in(graph)]
    outputs = {id(tensor) for graph in _graphs(model) for tensor in graph.outputs}
    called: dict[int, int] = {}
    taken: dict[int, int] = {}
    for node in nodes:
        called[id(node.operation)] = called.get(id(node.operation), 0) + 1
        for tensor in node.input_tensors:
            taken[id(tensor)] = taken.get(id(tensor), 0) + 1
    found = {}
    for node in nodes:
        if id(node.operation) not in wanted or called[id(node.operation)] > 1:
            continue
        tensor = node.input_tensors[0]
        layer = operation_of(tensor)
        if (
            type(layer) in KERNELS
            and called.get(id(layer)) == 1
            and taken[id(tensor)] == 1
            and id(tensor) not in outputs
            and layer.activation is keras.activations.linear
            and _channel_axis(layer, len(tensor.shape)) == _norm_axis(node.operation, tensor)
            and layer.quantization_mode is None
        ):
            source = next(one for one in nodes if one.operation is layer)
            found[id(node.operation)] = Before(layer, _with_bias(layer, source.input_tensors[0]))
    return found


def line_through(statistics):
    """The slope and shift per channel with which `slope*x + shift` is nearest to the outputs."""
    weight = statistics.positions / statistics.positions.sum()
    mean, wanted = ((weight * part).sum(0) for part in (statistics.mean, statistics.wanted))
    apart, wanted_apart = statistics.mean - mean, statistics.wanted - wanted
    variance = (weight * (statistics.variance + apart**2)).sum(0)
    covariance = (weight * (statistics.covariance + apart * wanted_apart)).sum(0)
    slope = np.where(variance > 0, covariance / np.where(variance > 0, variance, 1.0), 0.0)
    return slope, wanted - slope * mean


def _graphs(model):
    yield model
    for layer in model.layers:
        if is_graph(layer):
            yield from _graphs(layer)


def _channel_axis(layer, rank):
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 1 if first else rank - 1


def _norm_axis(norm, tensor):
    return channel_axis_of(norm, len(tensor.shape)) % len(tensor.shape)


def _with_bias(layer, inputs):
    """A copy of a layer, with a bias of zeros where it had none."""
    new = type(layer).from_config({**layer.get_config(), "use_bias": True})
    new.build(inputs.shape)
    values = {weight.name: weight for weight in layer.weights}
    for weight in new.weights:
        if weight.name in values:
            assign(weight, values[weight.name])
        elif weight.name == "bias":
            assign(weight, np.zeros(tuple(weight.shape)))
    new.trainable = layer.trainable
    return new
