"""Layers leave Keras: exported models predict the same. What works where: docs/export.md."""

import contextlib
import io

import keras
import numpy as np
import pytest

from daily import daily
from layer_table import KINDS
from small_models import (
    BACKEND,
    CHANNELS,
    EVERY_NAME,
    IMAGE,
    NAMES,
    PARTS,
    assert_same,
    call,
    images,
    model_of_all,
    names_for_rank,
    new_layer,
    numpy,
    randomize,
    weight_values,
)

# Batch sizes that an exported model must take; 1 is what exporters like to fix.
COUNTS = (1, 5)

only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="needs TensorFlow")
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="needs JAX")
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="needs torch")
slow_on_jax = pytest.mark.slow if BACKEND == "jax" else lambda test: test
not_torch = pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot: docs/export.md")

# Exporters and compilers are full of warnings of their own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=PARTS)
def model(request):
    """Layers side by side, trained weights."""
    return called(randomize(model_of_all(names=request.param, head=False)))


@pytest.fixture(scope="module", params=PARTS)
def dynamic_model(request):
    """The same for images of any size, which ConvNorm does not take."""
    names = [name for name in request.param if name != "ConvNorm"]
    return called(randomize(model_of_all((None, None, CHANNELS), names, head=False)))


def called(model):
    """The model, after the first call, without which Keras does not export."""
    model(images())
    return model


def agrees(exported, model, sides=(IMAGE,)):
    """What was exported gives what the model gives, for all sizes of batches and images."""
    for image in sides:
        batch = images(max(COUNTS), image=image)
        # Outputs are those of each image, whatever is beside it.
        outputs = call(model, batch)
        for count in COUNTS:
            results = exported(batch[:count])
            for name, actual, expected in zip(model.output_names, results, outputs, strict=True):
                message = f"{name}, {count} images of {image}"
                assert actual.shape == expected[:count].shape, message
                np.testing.assert_allclose(actual, expected[:count], 1e-4, 1e-4, err_msg=message)


def saved_model(path):
    """The function that a SavedModel serves."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda batch: [np.array(output) for output in loaded.serve(batch)]


def onnx(path):
    """The function of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda batch: session.run(None, {entry.name: batch})


def torch_function(function):
    """A function of torch tensors as one of numpy arrays."""
    import torch

    def run(batch):
        with torch.no_grad():
            return [numpy(output) for output in function(torch.tensor(batch))]

    return run


# -----------------------------------------------------------------------------
# Formats


@not_torch
def test_tf_saved_model(model, tmp_path):
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    agrees(saved_model(tmp_path / "model"), model)


@not_torch
@slow_on_jax  # Its own export of images of any size is tested below.
def test_tf_saved_model_of_images_of_any_size(dynamic_model, tmp_path):
    dynamic_model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    exported = saved_model(tmp_path / "model")
    agrees(exported, dynamic_model, sides=[IMAGE, (7, 1)])


def test_onnx(model, tmp_path):
    model.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)
    agrees(onnx(tmp_path / "model.onnx"), model)


@only_tensorflow
def test_litert(model, tmp_path):
    import tensorflow as tf

    # Its interpreter prints its plans.
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(str(tmp_path / "model.tflite"), format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    runner = interpreter.get_signature_runner()
    (entry,) = runner.get_input_details()
    outputs = runner(**{entry: images()})
    expected = call(model, images())
    # output_0, output_1, ..., output_10, which sorted as words would come too early.
    in_order = sorted(outputs, key=lambda name: int(name.rpartition("_")[2]))
    for name, wanted in zip(in_order, expected, strict=True):
        assert_same(outputs[name], wanted, 1e-4)


@only_torch
def test_torch_export(model, tmp_path):
    import torch

    batch = {0: torch.export.Dim("batch", min=1)}
    path = str(tmp_path / "model.pt2")
    model.export(path, format="torch", verbose=False, dynamic_shapes=batch)
    agrees(torch_function(torch.export.load(path).module()), model)


@only_torch
@pytest.mark.parametrize(
    "name",
    [
        # In training all of them are compiled every day.
        pytest.param(name, marks=[] if name in (*KINDS, "ConsistentNorm") else pytest.mark.slow)
        for name in EVERY_NAME
    ],
)
def test_torch_compile(name):
    import torch

    layer = new_layer(name)
    layer.build((None, *IMAGE, CHANNELS))
    randomize(layer)
    # Dynamo does not know the context variable by which a branch is chosen.
    fullgraph = name != "ConsistentNorm"
    torch.compiler.reset()
    # What Dynamo makes of it is the layer's affair; what a compiler makes of that is not.
    function = torch.compile(lambda x: layer(x), fullgraph=fullgraph, dynamic=True, backend="eager")
    exported = torch_function(lambda batch: [function(batch)])
    for count in (*COUNTS, 7):
        batch = images(count)
        assert_same(exported(batch)[0], call(layer, batch), 1e-4)


@only_torch
@pytest.mark.parametrize("name", NAMES)
def test_torch_compile_in_training(name):
    """In one graph: outputs, moving statistics and gradients, as without."""
    import torch

    layer = new_layer(name)
    layer.build((None, *IMAGE, CHANNELS))
    randomize(layer)
    before = weight_values(layer)
    torch.compiler.reset()
    compiled = torch.compile(
        lambda x: layer(x, training=True), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for count in (3, 5):
        found = []
        for function in (compiled, lambda x: layer(x, training=True)):
            layer.set_weights(before)
            inputs = torch.tensor(images(count), requires_grad=True)
            outputs = function(inputs)
            sources = [inputs, *(weight.value for weight in layer.trainable_variables)]
            gradients = torch.autograd.grad(outputs.square().sum(), sources)
            found.append([numpy(outputs), *map(numpy, gradients), *weight_values(layer)])
        for actual, expected in zip(*found, strict=True):
            assert_same(actual, expected, 1e-3)


@only_torch
@pytest.mark.slow  # Each layer is compiled by itself above.
def test_torch_compile_of_a_model(model):
    """A whole functional model of Keras compiles in pieces only, whatever its layers are."""
    import torch

    torch.compiler.reset()
    agrees(torch_function(torch.compile(model, dynamic=True, backend="eager")), model)


@only_jax
def test_jax_export(model):
    import jax
    import jax.export

    shape = jax.export.symbolic_shape(f"batch, {IMAGE[0]}, {IMAGE[1]}, {CHANNELS}")
    function = jax.jit(lambda x: model(x, training=False))
    exported = jax.export.export(function)(jax.ShapeDtypeStruct(shape, "float32"))
    loaded = jax.export.deserialize(exported.serialize())
    agrees(lambda batch: [np.array(output) for output in loaded.call(batch)], model)


@only_jax
def test_jax_export_of_images_of_any_size(dynamic_model):
    import jax
    import jax.export

    shape = jax.export.symbolic_shape(f"batch, height, width, {CHANNELS}")
    function = jax.jit(lambda x: dynamic_model(x, training=False))
    exported = jax.export.export(function)(jax.ShapeDtypeStruct(shape, "float32"))
    agrees(
        lambda batch: [np.array(output) for output in exported.call(batch)],
        dynamic_model,
        sides=[IMAGE, (7, 1)],
    )


def test_what_keras_cannot_export(tmp_path):
    """The table of docs/export.md, with a model that has no layer of ours."""
    dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    dense(np.ones((1, 3), "float32"))
    refused = {
        "tensorflow": {"torch": "requires PyTorch backend"},
        "jax": {
            "torch": "requires PyTorch backend",
            "litert": "requires TensorFlow or PyTorch backend",
        },
        "torch": {"tf_saved_model": "mismatch between the structure|torch_xla"},
    }
    for format_name, message in refused[BACKEND].items():
        with pytest.raises(Exception, match=message):
            dense.export(tmp_path / "model", format=format_name, verbose=False)


# -----------------------------------------------------------------------------
# Quantization and adapters of the layers around


def quantized_neighbours(names=EVERY_NAME):
    """A model in which Dense layers, which can be quantized, stand around layers of ours."""
    inputs = keras.Input((5, CHANNELS))
    features = inputs
    for index, name in enumerate(names_for_rank(3, names)):
        features = keras.layers.Dense(CHANNELS, name=f"dense_{index}")(features)
        features = new_layer(name, name=name.lower())(features)
    return randomize(keras.Model(inputs, features))


@pytest.mark.parametrize("mode", ["int8", pytest.param("float8", marks=daily())])
@pytest.mark.parametrize("names", PARTS)
def test_quantizing_a_model_leaves_the_layers(names, mode, tmp_path):
    model = quantized_neighbours(names)
    layers = [model.get_layer(name.lower()) for name in names_for_rank(3, names)]
    batch = images(image=(5, 1))[:, :, 0]
    before = [(layer.get_config(), weight_values(layer), call(layer, batch)) for layer in layers]
    model.quantize(mode)
    assert model.get_layer("dense_0").quantization_mode == mode
    for layer, (config, weights, outputs) in zip(layers, before, strict=True):
        assert layer.get_config() == config
        assert layer.quantization_mode is None
        assert_same(weight_values(layer), weights, 0)
        assert_same(call(layer, batch), outputs, 0)
    predictions = call(model, batch)
    assert np.isfinite(predictions).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(call(loaded, batch), predictions, 1e-3)


def test_adapters_of_the_neighbours_leave_the_layers():
    model = quantized_neighbours()
    batch = images(image=(5, 1))[:, :, 0]
    expected = call(model, batch)
    names = [weight.path for layer in model.layers for weight in layer.weights]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(rank=2)
        elif hasattr(layer, "enable_lora"):
            raise AssertionError(f"{layer.name} is no layer that has adapters")
    assert_same(call(model, batch), expected, 1e-4)
    added = {w.path for w in model.weights} - set(names)
    assert added
    assert all("lora" in path for path in added)
