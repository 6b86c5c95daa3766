"""A fingerprint tells two networks apart, and says the same on every backend."""

import functools

import keras
import pytest

from daily import on_torch_daily
from search import fingerprint
from search.errors import OtherSearch
from search.hypermodel import NormHyperModel
from small_search import build, compile_eagerly, short_search


def network(filters=8, activation="relu", rate=0.5, seed=None):
    keras.layers.Dense(1)  # Names of later layers count on.
    inputs = keras.Input((8, 8, 1))
    features = keras.layers.Conv2D(filters, 3, activation=activation)(inputs)
    features = keras.layers.Dropout(rate, seed=seed)(keras.layers.BatchNormalization()(features))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(features)))


def test_the_same_network_has_the_same_fingerprint_everywhere():
    found = fingerprint.of_network(network())
    assert found == fingerprint.of_network(network())
    assert found["parameters"] == 963
    # In this process and in others, on this backend and on others.
    assert found["configuration"] == "13b488a3d08045f6"
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = network()
    finally:
        keras.config.set_dtype_policy("float32")
    for other in (network(9), network(activation="gelu"), network(rate=0.4), mixed):
        assert fingerprint.of_network(other) != found


class Mine(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def doubled(inputs):
    return 2 * inputs


def tripled(inputs):
    return 3 * inputs


def test_code_and_weights_of_the_users_count():
    def of(layer):
        return fingerprint.of_network(keras.Sequential([keras.Input((4,)), layer]))

    mine = of(Mine())
    assert mine == of(Mine())
    assert mine["code"]
    Other = type("Mine", (Mine,), {"__module__": "elsewhere"})
    assert of(Other())["class"] == mine["class"]
    assert of(keras.layers.Activation(doubled)) != of(keras.layers.Activation(tripled))
    assert "code" not in of(keras.layers.Activation("relu"))
    model = network()
    before = fingerprint.of_network(model, weights=True)
    assert before == fingerprint.of_network(model, weights=True)
    model.layers[1].bias.assign(model.layers[1].bias + 1)
    after = fingerprint.of_network(model, weights=True)
    assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_how_a_model_is_trained():
    def of(optimizer="adam", loss="mse", **options):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer, loss, **options)
        return fingerprint.of_training(model)

    def loss(true, predicted):
        return true - predicted

    same = {"optimizer": keras.optimizers.SGD(0.5), "jit_compile": False}
    assert of(**same) == of(**{**same, "optimizer": keras.optimizers.SGD(0.5)})
    ways = [
        of(),
        of("sgd"),
        of(keras.optimizers.SGD(0.5)),
        of(loss="mae"),
        of(loss=loss),
        of(loss=lambda true, predicted: predicted - true),
        of(metrics=["accuracy"]),
        of(run_eagerly=True),
    ]
    assert all(a != b for index, a in enumerate(ways) for b in ways[:index])


@on_torch_daily
def test_an_edited_network_or_training_is_refused(tmp_path):
    def edited(norm, filters=8):
        model = build(norm)
        if filters != 8:
            outputs = keras.layers.Dense(3)(keras.layers.Dense(filters)(model.output))
            model = keras.Model(model.input, outputs)
        return model

    edited.__module__, edited.__qualname__ = build.__module__, build.__qualname__

    def slower(model, values):
        compile_eagerly(model, values)
        model.optimizer.learning_rate = 0.5

    short_search(tmp_path, seeds=0)
    more = {"seeds": 0, "resume": True, "trials": 5}
    other = functools.wraps(build)(functools.partial(edited, filters=9))
    with pytest.raises(OtherSearch, match=r"network.parameters: 723 there, 789 here"):
        short_search(tmp_path, other, **more)
    with pytest.raises(OtherSearch, match=r"training.optimizer.*learning_rate: 0.001.* there, 0.5"):
        short_search(tmp_path, compile=slower, **more)
    with pytest.raises(OtherSearch, match="deterministic: false there, true here"):
        short_search(tmp_path, deterministic=True, **more)


def test_other_weights_of_a_model_are_another_network():
    first, second = (
        NormHyperModel(build("batch"), compile=compile_eagerly).fingerprint() for _ in range(2)
    )
    assert first["training"] == second["training"]
    differ = {key for key in first["network"] if first["network"][key] != second["network"][key]}
    assert differ == {"weights"}
