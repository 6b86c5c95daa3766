"""Leaving Keras: SavedModel, ONNX, torch.export, torch.compile, jax.export; int8 and LoRA around.

What works where stands in docs/export.md.
"""

import warnings

import keras
import numpy as np
import pytest

from saved_models import LAYERS, SHAPE, small_model

BACKEND = keras.backend.backend()
NAMES = [*LAYERS, "ConsistentNorm"]
on = {name: pytest.mark.skipif(name != BACKEND, reason=f"of {name}") for name in ("jax", "torch")}


def batch(size, seed=0):
    """Inputs for `size` examples."""
    values = np.random.default_rng(seed).normal(1.0, 2.0, (size, *SHAPE[1:]))
    return values.astype("float32")


def check(name, exported, model, sizes=(1, 3)):
    """An exported function gives what the model predicts, for several batch sizes."""
    for size in sizes:
        inputs = batch(size)
        expected = keras.ops.convert_to_numpy(model(inputs, training=False))
        np.testing.assert_allclose(exported(inputs), expected, atol=1e-5, err_msg=name)


@pytest.fixture
def quiet():
    """The exporters' own deprecations are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot export torch models to SavedModel")
@pytest.mark.parametrize("name", NAMES)
def test_saved_model(name, tmp_path, quiet):
    import tensorflow as tf

    model = small_model(name)
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    check(name, lambda inputs: served.serve(tf.constant(inputs)).numpy(), model)


@pytest.mark.skipif(BACKEND == "jax", reason="Keras needs jax2onnx for it, which is not pinned")
@pytest.mark.parametrize("name", NAMES)
def test_onnx(name, tmp_path, quiet):
    import onnxruntime

    model = small_model(name)
    model(batch(2))  # The exporter reads the inputs' signature off a call.
    file = tmp_path / "model.onnx"
    model.export(file, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    check(name, lambda inputs: session.run(None, {source: inputs})[0], model)


@on["torch"]
@pytest.mark.parametrize("name", NAMES)
def test_torch_export(name, quiet):
    import torch

    model = small_model(name).eval()
    exported = torch.export.export(
        model, (torch.tensor(batch(3)),), dynamic_shapes=(({0: torch.export.Dim("batch")},),)
    ).module()
    check(name, lambda inputs: exported(torch.tensor(inputs)).detach().numpy(), model)


@on["torch"]
@pytest.mark.parametrize("name", NAMES)
def test_torch_compile(name, quiet):
    import torch

    torch._dynamo.reset()
    model = small_model(name)
    compiled = torch.compile(
        lambda inputs: model(inputs, training=False), dynamic=True, backend="aot_eager"
    )
    check(name, lambda inputs: compiled(torch.tensor(inputs)).detach().numpy(), model, (3, 5))


@on["jax"]
@pytest.mark.parametrize("name", NAMES)
def test_jax_export(name, quiet):
    import jax

    model = small_model(name)

    def function(inputs):
        return model(inputs, training=False)

    (size,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((size, *SHAPE[1:]), "float32")
    exported = jax.export.export(jax.jit(function))(shape)
    check(name, exported.call, model)


def test_int8_and_lora_leave_the_layers_as_they_are(quiet):
    inputs = keras.Input((12,))
    layers = [keras.layers.Dense(16), *(norm_of(name) for name in NAMES if name != "ConvNorm")]
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(outputs))
    norms = layers[1:]
    before = [(norm.get_config(), [w.numpy() for w in norm.weights]) for norm in norms]
    model.layers[1].enable_lora(2)
    model.quantize("int8")
    assert model.layers[1].quantization_mode == "int8"
    for norm, (config, weights) in zip(norms, before, strict=True):
        assert norm.get_config() == config
        for weight, value in zip(norm.weights, weights, strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    assert np.isfinite(model.predict(np.ones((2, 12), "float32"), verbose=0)).all()


def norm_of(name):
    """A layer for 16 channels."""
    from saved_models import make_layer

    return make_layer(name)
