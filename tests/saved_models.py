"""Small models of every layer: saving them, and predicting with what was saved.

Run as a script, in a process of its own for each backend:

    python tests/saved_models.py OWN RESULT.npz FOLDER ...

It writes into the folder OWN a `.keras` file per layer with random weights, and `expected.npz` with
the inputs and what each model makes of them at inference and in training. Then it says "saved",
and waits for a line, so that the other backends have saved too. With what lies in the folders it
predicts, and writes that to RESULT.npz.
"""

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
}


def make_layer(name):
    """A layer by name."""
    if name == "ConsistentNorm":
        return kerasnorm.ConsistentNorm(kerasnorm.BatchNorm(), branches=2)
    return getattr(kerasnorm, name)(**LAYERS[name])


def small_model(name):
    """A functional model around a layer, its weights random."""
    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, make_layer(name)(inputs))
    generator = np.random.default_rng(len(name))
    for weight in model.weights:
        values = generator.normal(scale=0.5, size=weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    return model


def results_of(name, model, inputs, infer):
    """What a model makes of the inputs; at inference, what the function `infer` says it makes."""
    inference = infer(model, inputs)  # first, since training moves the statistics
    training = model(inputs, training=True)
    return {
        f"{name}/inference": keras.ops.convert_to_numpy(inference),
        f"{name}/training": keras.ops.convert_to_numpy(training),
    }


def compiled(model, inputs):
    """As users predict."""
    return model.predict(inputs, verbose=0)


def called(model, inputs):
    """Without a compilation, of which there would be one for each model of each folder."""
    return model(inputs, training=False)


def save(folder):
    """Write a model per layer and what to expect of it."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = np.random.default_rng(0).normal(1.0, 2.0, SHAPE).astype("float32")
    expected = {"inputs": inputs}
    for name in [*LAYERS, "ConsistentNorm"]:
        model = small_model(name)
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
