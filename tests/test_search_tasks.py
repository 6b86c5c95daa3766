"""Other tasks than classification, on each backend: measures, and a search in short."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from sklearn import metrics

import kerasnorm
from daily import on_torch_daily
from measured_models import COUNT, measured
from search import running
from search.data import reversal
from search.data.parts import Part
from search.errors import OtherSearch
from search.evaluation import warning_of
from search.fitting import usual_compilation
from search.hypermodel import NormHyperModel
from small_search import ONE_TRIAL


def test_numbers_are_measured_as_by_scikit_learn(rng):
    y, outputs = rng.normal(size=(2, COUNT, 3)).astype("float32")
    value, values = measured("mse", outputs, y)
    assert value == pytest.approx(metrics.mean_squared_error(y, outputs), rel=1e-5)
    np.testing.assert_allclose(values, ((y - outputs) ** 2).mean(axis=1), rtol=1e-5)
    value, values = measured("mean_absolute_error", outputs, y)
    assert value == pytest.approx(metrics.mean_absolute_error(y, outputs), rel=1e-5)
    value, values = measured("R2Score", outputs, y)
    assert value == pytest.approx(metrics.r2_score(y, outputs), rel=1e-4)
    assert values is None
    # Not the mean of one of each example.
    value, values = measured("root_mean_squared_error", outputs, y)
    assert value == pytest.approx(metrics.root_mean_squared_error(y.ravel(), outputs.ravel()))
    assert values is None


class Root(keras.metrics.MeanMetricWrapper):
    """Of the mean of a function, but not the mean itself."""

    def result(self):
        return keras.ops.sqrt(super().result())


def test_what_is_made_of_a_mean_has_no_values_per_example(rng):
    y, outputs = rng.normal(size=(2, COUNT, 3)).astype("float32")
    metric = Root(keras.losses.mean_squared_error, name="root_error")
    value, values = measured(metric, outputs, y)
    assert value == pytest.approx(np.sqrt(((y - outputs) ** 2).mean()), rel=1e-5)
    assert values is None


def test_classes_are_measured_as_by_scikit_learn(rng):
    y, logits = rng.integers(0, 4, COUNT).astype("int32"), rng.normal(size=(COUNT, 4))
    right = metrics.accuracy_score(y, logits.argmax(1))
    for name, expected in (("error", 1 - right), ("accuracy", right)):
        value, values = measured(name, logits, y, "classification")
        assert value == pytest.approx(expected)
        assert set(values) <= {0, 1}
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    logits = np.log(chances)
    value, values = measured("sparse_categorical_accuracy", logits, y, "classification")
    assert value == pytest.approx(right)
    value, _ = measured("categorical_accuracy", logits, np.eye(4, dtype="int32")[y], "compiled")
    assert value == pytest.approx(right)


def test_pixels_are_measured_as_by_scikit_learn(rng):
    y = rng.integers(0, 3, (COUNT, 4, 5)).astype("int32")
    logits = rng.normal(size=(COUNT, 4, 5, 3)) + 2 * np.eye(3)[y]
    found = logits.argmax(-1)
    value, values = measured("pixel_error", logits, y, "segmentation")
    assert value == pytest.approx((found != y).mean())
    np.testing.assert_allclose(values, (found != y).mean((1, 2)))
    value, values = measured("mean_iou", logits, y, "segmentation")
    pairs = zip(y, found, strict=True)
    expected = [metrics.jaccard_score(a.ravel(), b.ravel(), average="macro") for a, b in pairs]
    np.testing.assert_allclose(values, expected)


def test_tokens_are_measured_without_padding(rng):
    y = rng.integers(1, 5, (COUNT, 6)).astype("int32")
    y[:, 2:] *= rng.integers(0, 2, (COUNT, 1), dtype="int32")
    logits = rng.normal(size=(COUNT, 6, 5)) + 2 * np.eye(5)[y]
    found = logits.argmax(-1)
    value, values = measured("token_error", logits, y, "tokens")
    expected = [
        np.mean(one[one > 0] != other[one > 0]) for one, other in zip(y, found, strict=True)
    ]
    np.testing.assert_allclose(values, expected)
    assert value == pytest.approx(np.mean(expected))
    # In training, over all tokens of the validation part.
    loss, (metric,) = usual_compilation("tokens", logits=True)
    metric.update_state(y, logits)
    assert float(metric.result()) == pytest.approx((found == y)[y > 0].mean(), rel=1e-5)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    right = np.take_along_axis(chances, y[..., None], -1)[..., 0]
    assert float(loss(y, logits)) == pytest.approx(-np.log(right[y > 0]).mean(), rel=1e-4)


@on_torch_daily
def test_a_translation_is_searched(tmp_path):
    whole = reversal()
    some = Part(whole.train.x[:256], whole.train.y[:256])
    found = running.run(
        "transformer",
        dataclasses.replace(whole, train=some),
        baselines="batch",
        batch_size=64,
        arguments={"width": 8, "blocks": 1, "heads": 2},
        out=tmp_path / "s",
        **ONE_TRIAL,
    )
    answer, manifest = found.answer, found.manifest
    assert (manifest["objective"], manifest["data"]["task"]) == ("val_error", "tokens")
    assert answer.measure.name == "token_error"
    assert answer.percent
    assert all(len(values) == 300 for arm in answer.arms for values in arm.values_of.values())
    for row in found.runs:
        # Nine of ten tokens are wrong by chance; with padding it would be six.
        assert row["test_error"] == pytest.approx(0.85, abs=0.1)


def test_an_untrained_translation_is_at_chance_level():
    data = reversal()
    model = NormHyperModel("transformer", form=data.form, arguments={"width": 8}).model_of(
        "layer", {}
    )
    x, y = data.validation.x, data.validation.y
    error = model.evaluate(x, y, verbose=0, return_dict=True)
    said = warning_of(model, None, (x, y), {"val_error": 1 - error["accuracy"]})
    assert said.startswith("error at chance level")
    # Padding left out, naming the commonest token is wrong for nine of ten.
    assert warning_of(model, None, (x, y), {"val_error": 0.8}) is None


def test_regression_is_measured_in_its_own_unit(tmp_path):
    found = running.run(
        "mlp",
        "diabetes",
        batch_size=64,
        arguments={"width": 8, "depth": 1},
        out=tmp_path / "s",
        **{**ONE_TRIAL, "norms": "batch"},
    )
    answer, manifest = found.answer, found.manifest
    assert (manifest["objective"], manifest["data"]["task"]) == ("val_loss", "regression")
    assert answer.measure.name == "mean_squared_error"
    assert not answer.percent
    assert "test mean squared error" in answer.sentence
    assert all(len(values) == 88 for arm in answer.arms for values in arm.values_of.values())
    for row in found.runs:
        assert row["test_error"] == pytest.approx(1, abs=3)
    settings = json.loads((tmp_path / "s" / "journal.jsonl").read_text().splitlines()[0])
    assert settings["settings"]["measure"]["name"] == "mean_squared_error"
    norm = json.loads((tmp_path / "s" / "best_norm.json").read_text())
    kerasnorm.models.MLP((10,), 1, norm)
    # Gone on with, it is the same measure; asked for another one, it is another search.
    again = running.run(out=tmp_path / "s", resume=True, data="diabetes", console=False)
    assert again.answer.sentence == answer.sentence
    with pytest.raises(OtherSearch, match=r"measure\.name"):
        running.run(out=tmp_path / "s", resume=True, measure="r2_score", console=False)
