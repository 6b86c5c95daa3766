"""Each private thing of Keras and of the backends that is used: whether it is still there."""

import keras
import numpy as np
import pytest

from backend_tools import BACKEND
from kerasnorm.core import keras_internals


def network():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="inner")
    inputs = keras.Input((4,))
    half = keras.layers.Lambda(lambda x: x / 2, output_shape=(3,))
    return keras.Model(inputs, half(inner(inputs)))


@pytest.mark.smoke
def test_layers_and_calls():
    model = network()
    found = keras_internals.layers_in(model, include_self=False)
    assert {"Lambda", "Sequential", "Dense"} <= {type(layer).__name__ for layer in found}
    assert len(keras_internals.layers_in(model, False, recursive=False)) == len(model.layers)
    assert len(keras_internals.calls_in(keras.Sequential())) == 0
    inner = model.get_layer("inner")
    assert inner.layers[0] in [call.operation for call in keras_internals.calls_in(inner)]
    assert isinstance(keras_internals.first_layer_of(inner), keras.layers.InputLayer)
    (call,) = [c for c in keras_internals.calls_in(model) if c.operation is model.layers[-1]]
    assert call.output_tensors[0] is model.outputs[0]
    assert call.input_tensors[0] is call.arguments.args[0]
    assert keras_internals.operation_of(model.inputs[0]) is model.layers[0]
    assert keras_internals.output_shape_of(model.layers[-1]) == (3,)
    operation = call.operation
    assert hasattr(operation, "output")
    keras_internals.forget_calls(operation)
    assert not hasattr(operation, "output")


@pytest.mark.smoke
def test_layers_in_attributes():
    class Holder(keras.layers.Layer):
        def build(self, shape):
            self.one = keras.layers.Dense(2)
            self.one.build(shape)
            self.many = [keras.layers.Dense(2)]
            self.many[0].build(shape)

        def call(self, x):
            return self.one(x) + self.many[0](x)

    holder = Holder()
    x = np.ones((1, 3), "float32")
    holder(x)
    one, (first,) = holder.one, holder.many
    assert keras_internals.attributes_of(holder) == {"one": one, "many": [first]}
    new = [keras.layers.Dense(2), keras.layers.Dense(2)]
    for layer in new:
        layer.build((None, 3))
    keras_internals.put_layer(holder, holder, "one", one, new[0])
    keras_internals.put_layer(holder, holder.many, 0, first, new[1])
    assert keras_internals.layers_in(holder, include_self=False, recursive=False) == new
    assert [id(v) for v in holder.weights] == [id(v) for layer in new for v in layer.weights]
    wanted = new[0](x) + new[1](x)
    assert keras.ops.all(holder(x) == wanted)
    masked = keras.layers.Masking()(keras.Input((4, 3)))
    assert keras_internals.has_mask(masked)
    assert not keras_internals.has_mask(keras.Input((4, 3)))


@pytest.mark.smoke
def test_compiled():
    model = network()
    assert keras_internals.compile_arguments_of(model) == {}
    assert keras_internals.compiled_loss_of(model) is None
    loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.Adam(), loss)
    assert keras_internals.compile_arguments_of(model)["loss"] is loss
    model.optimizer.build(model.trainable_variables)
    own, trained = keras_internals.optimizer_lists(model.optimizer)
    assert [id(v) for v in trained] == [id(v) for v in model.trainable_variables]
    # The count of steps, the learning rate, and two lists of moments.
    assert len(own) >= 2 + 2 * len(trained)
    x, y = np.ones((2, 4), "float32"), np.ones((2, 3), "float32")
    model.test_on_batch(x, y)
    value = keras_internals.compiled_loss_of(model)(y, model(x))
    assert keras.ops.shape(keras_internals.additional_loss(model, value)) == ()


@pytest.mark.smoke
def test_torch():
    if BACKEND != "torch":
        pytest.skip("of torch")
    import torch
    from torch.autograd import forward_ad
    from torch.utils._python_dispatch import TorchDispatchMode

    from kerasnorm.core.backends import internals_torch

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    def seen(x):
        found.append(internals_torch.is_transformed())
        return x

    found = []
    seen(torch.ones(2))
    torch.func.vmap(seen)(torch.ones(2))
    with Watching():
        seen(torch.ones(2))
    with forward_ad.dual_level():
        seen(torch.ones(2))
    seen(torch.ones(2))
    assert found == [False, True, True, True, False]
    passes = []
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda gradient: passes.append(internals_torch.backward_pass()))
    for _ in range(2):
        x.sum().backward()
    assert len(set(passes)) == 2
    out = torch.empty(2)
    internals_torch.squared_difference(torch.full((2,), 5.0), torch.ones(2), out)
    assert out.tolist() == [16.0, 16.0]


@pytest.mark.smoke
def test_tensorflow():
    if BACKEND != "tensorflow":
        pytest.skip("of TensorFlow")
    import tensorflow as tf

    from kerasnorm.core.backends import internals_tensorflow

    def in_xla():
        found.append(internals_tensorflow.is_in_xla())

    found = []
    tf.function(in_xla)()
    tf.function(in_xla, jit_compile=True)()
    assert found == [False, True]

    def creator(next_creator, **kwargs):
        return next_creator(**kwargs)

    with tf.variable_creator_scope(creator):
        assert internals_tensorflow.variable_creators()[-1] is creator

    @tf.custom_gradient
    def identity(x):
        return x, lambda upstream: upstream

    before = set(internals_tensorflow.gradient_register())
    tf.function(identity)(tf.ones(()))
    (new,) = set(internals_tensorflow.gradient_register()) - before
    assert new.startswith("CustomGradient-")


@pytest.mark.smoke
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_a_part_of_the_weights_is_trained(scaled):
    layers = [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse", jit_compile=False)
    optimizer.build(model.trainable_variables)
    x, y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
    state = len(optimizer.variables)
    first = model.layers[0]
    keras_internals.set_own_trainable(first, False)
    assert not first.trainable
    assert all(weight.trainable for weight in first.weights)
    for weight in first.weights:
        weight.trainable = False
    widen = keras_internals.narrow_optimizer(optimizer, model.trainable_variables)

    def steps():
        before = [layer.get_weights()[0] for layer in model.layers]
        model.fit(x, y, epochs=1, verbose=0, callbacks=[switch])
        after = [layer.get_weights()[0] for layer in model.layers]
        return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]

    class Switch(keras.callbacks.Callback):
        function = None

        def on_epoch_begin(self, epoch, logs=None):
            self.function = keras_internals.train_by(model, self.function)

    switch = Switch()
    assert steps() == [False, True]
    widen()
    first.trainable = True
    switch.function = None
    assert steps() == [True, True]
    assert len(optimizer.variables) == state
