"""Small models of all that is saved: saving them, and predicting with what was saved.

Run as a script, in a process of its own for each backend:

    python tests/saved_models.py OWN RESULT.npz FOLDER ...

It writes into the folder OWN a `.keras` file per model with random weights, and `expected.npz` with
the inputs and what each model makes of them at inference and in training. Then it says "saved",
and waits for a line, so that the other backends have saved too. With what lies in the folders it
predicts, and writes that to RESULT.npz. `tests/golden_files.py` keeps what a version saves.
"""

import functools
import pathlib
import sys

import keras
import numpy as np

import kerasnorm

SHAPE = (3, 4, 6, 8)
LAYERS = {
    "BatchNorm": {},
    "GroupNorm": {"groups": 4},
    "InstanceNorm": {},
    "LayerNorm": {},
    "ILMGroupNorm": {"groups": 4, "key_group_size": 2},
    "ILMInstanceNorm": {"key_group_size": 2},
    "ILMLayerNorm": {"key_group_size": 4},
    "AssociateNorm": {"groups": 4},
    "ModeNorm": {"modes": 3},
    "ModeGroupNorm": {"modes": 3},
    "ConvNorm": {},
    "LearnedStatsNorm": {},
    "SwitchableNorm": {},
    "BatchInstanceNorm": {},
    "BatchRenorm": {"r_max": keras.optimizers.schedules.PolynomialDecay(1.0, 4, 3.0)},
    "FilterResponseNorm": {"learned_epsilon": True},
    "ThresholdedLinearUnit": {},
    "ConsistentNorm": {"norm": "batch", "branches": 2},
}


def of_layer(name):
    """A functional model around a layer."""
    inputs = keras.Input(SHAPE[1:])
    return with_random_weights(
        keras.Model(inputs, getattr(kerasnorm, name)(**LAYERS[name])(inputs)), seed=len(name)
    )


def network(norm):
    """A convolution with a norm."""
    layers = [keras.Input(SHAPE[1:]), keras.layers.Conv2D(4, 1), kerasnorm.get(norm)]
    return with_random_weights(keras.Sequential(layers), seed=0)


def converted():
    """A network that had Keras's batch norm."""
    examples = np.random.default_rng(1).normal(1.0, 2.0, (16, *SHAPE[1:])).astype("float32")
    return kerasnorm.convert(network("keras_batch"), "ilm_layer", examples, verbose=0)


def consistent():
    """A network that trains over transformations."""
    return kerasnorm.ConsistentModel(
        network({"name": "consistent", "norm": "mode", "branches": 2}),
        [None, kerasnorm.transforms.ScaleAndPad(0.5)],
    )


MODELS = {
    **{name: functools.partial(of_layer, name) for name in LAYERS},
    "ConsistentModel": consistent,
    "converted": converted,
}


def with_random_weights(model, seed):
    """The model, its weights random; what must be above zero is."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = generator.normal(scale=0.5, size=weight.shape)
        if weight.name == "step":
            values = 2
        elif weight.name.endswith(("variance", "stddev")):
            values = np.abs(values) + 0.5
        weight.assign(values)
    return model


def results_of(name, model, inputs, infer):
    """What a model makes of the inputs; at inference, what the function `infer` says it makes."""
    inference = infer(model, inputs)  # first, since training moves the statistics
    training = model(inputs, training=True)
    return {f"{name}/inference": array_of(inference), f"{name}/training": array_of(training)}


def array_of(outputs):
    """An output as an array; the branches of a `ConsistentModel` one after another."""
    return np.concatenate([keras.ops.convert_to_numpy(o) for o in keras.tree.flatten(outputs)])


def compiled(model, inputs):
    """As users predict."""
    return model.predict(inputs, verbose=0)


def called(model, inputs):
    """Without a compilation, of which there would be one for each model of each folder."""
    return model(inputs, training=False)


def save(folder):
    """Write each model and what to expect of it."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = np.random.default_rng(0).normal(1.0, 2.0, SHAPE).astype("float32")
    expected = {"inputs": inputs}
    for name, made in MODELS.items():
        model = made()
        model.save(folder / f"{name}.keras")
        expected |= results_of(name, model, inputs, compiled)
    np.savez_compressed(folder / "expected.npz", **expected)


def predict(result, *folders):
    """Load every model of the folders and write what it makes of their inputs."""
    found = {}
    for folder in folders:
        with np.load(folder / "expected.npz") as expected:
            inputs = expected["inputs"]
        for file in sorted(folder.glob("*.keras")):
            results = results_of(file.stem, keras.saving.load_model(file), inputs, called)
            found |= {f"{folder.name}/{key}": values for key, values in results.items()}
    np.savez_compressed(result, **found)


if __name__ == "__main__":
    own, *others = map(pathlib.Path, sys.argv[1:])
    save(own)
    sys.stdout.write("saved\n")
    sys.stdout.flush()
    sys.stdin.readline()
    predict(*others)
