"""What an answer is measured by: names, directions, values per example, and what speaks of it."""

import dataclasses
import sys

import keras
import numpy as np
import pytest

import kerasnorm
from kerasnorm.sites import norm_layer
from measured_models import COUNT, given, measured
from search import answer as answers
from search import evaluation, examples, measuring, report, running
from search.data import load
from search.data.parts import Data, Form, Part
from search.data.splits import Splits
from search.errors import BadInput
from search.fitting import check_model, task_of_model
from search.measure import Measure
from search_rows import manifest, run_rows
from small_search import ONE_TRIAL


def largest_miss(model, test):
    return np.max(np.abs(model.predict(test.x, verbose=0) - test.y))


def with_values(model, test):
    miss = np.abs(model.predict(test.x, verbose=0) - test.y).mean(axis=1)
    return miss.mean(), miss


def of_another_mean(model, test):
    return 1.0, np.zeros(len(test))


def in_words(model, test):
    return "good"


def raises(model, test):
    raise KeyError("nothing")


def test_functions_measure_too(rng):
    y, outputs = rng.normal(size=(2, COUNT, 1)).astype("float32")
    value, values = measured((largest_miss, "min"), outputs, y)
    assert (value, values) == (pytest.approx(np.abs(y - outputs).max()), None)
    _, values = measured((with_values, "min"), outputs, y)
    np.testing.assert_allclose(values, np.abs(y - outputs)[:, 0], rtol=1e-5)
    value, _ = measured(f"{__file__}:largest_miss:min", outputs, y)
    assert value == pytest.approx(np.abs(y - outputs).max())
    for function, message in (
        (of_another_mean, "with that mean"),
        (in_words, "gave 'good'. Needed: a number"),
        (raises, "raised KeyError"),
    ):
        measure, by = measuring.chosen((function, "max"), "regression")
        part = Part(np.zeros((COUNT, 1), "float32"), y)
        data = Data("given", part, part, part, None, task="regression")
        with pytest.raises(BadInput, match=message):
            measuring.Test(Splits(data), measure, by).check(given(outputs))


def test_a_module_of_the_folder_that_one_is_in_measures(tmp_path, monkeypatch):
    (tmp_path / "my_measures.py").write_text("def half(model, test):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    _, half = measuring.chosen("my_measures:half:min", "regression")
    assert half(None, None) == 0.5


@pytest.mark.parametrize(
    ("measure", "task", "message"),
    [
        ("my_score", "regression", "not well known.*Needed: my_score:min or my_score:max"),
        ("mean_squares_error", "regression", "is unknown. Needed: one of error, accuracy"),
        ("error", "regression", "is for classification, and the data are for regression"),
        ("mean_iou", "classification", "is for segmentation"),
        ("precision_at_recall", "classification", "needs arguments|is unknown"),
        ("nowhere.py:f:max", "regression", "No such file|there is no"),
        ("json:nothing:max", "regression", "there is no function nothing"),
        (3, "regression", "measure=3. Needed: a name"),
        ((largest_miss, "more"), "regression", "less or more"),
    ],
)
def test_measures_that_are_refused(measure, task, message):
    with pytest.raises(BadInput, match=message):
        measuring.chosen(measure, task)


@pytest.mark.parametrize(
    ("text", "name", "direction", "said"),
    [
        ("MeanSquaredError", "mean_squared_error", "min", "test mean squared error"),
        ("mae", "mean_absolute_error", "min", "test mean absolute error"),
        ("AUC", "auc", "max", "test AUC"),
        ("MeanIoU", "mean_iou", "max", "test mean IoU"),
        ("poisson", "poisson", "min", "test poisson"),
        ("mine.py:dice_of:max", "mine.py:dice_of", "max", "test dice of"),
        ("accuracy:min", "accuracy", "min", "test accuracy"),
    ],
)
def test_names_of_measures(text, name, direction, said):
    measure = Measure.of(text)
    assert (measure.name, measure.direction, measure.said) == (name, direction, said)
    assert Measure.found({"measure": measure.described()}) == measure


# The answer in any direction and unit.


LEVELS = {"a": 0.2, "b": 0.4, "batch": 0.3, "group": 0.35}


def conclusion(rng, sign, **measure):
    shape = (5, 60)
    chance = {arm: rng.normal(level, 0.05, shape) for arm, level in LEVELS.items()}
    values = {arm: list(sign * one) for arm, one in chance.items()}
    errors = {arm: [float(one.mean()) for one in values[arm]] for arm in values}
    roles = {arm: "candidate" if arm in "ab" else "baseline" for arm in LEVELS}
    rows = [
        {**row, "test_values": examples.packed(values[row["arm"]][row["seed"] % 5])}
        for row in run_rows(errors, roles)
    ]
    said = manifest(objective="val_loss", data={"task": "regression"})
    said["measure"] = Measure(**measure).described()
    return answers.conclude([], rows, said), rows, said


def test_more_is_better_mirrors_less_is_better():
    less, _, _ = conclusion(np.random.default_rng(0), 1, name="loss", share=False)
    more, rows, said = conclusion(
        np.random.default_rng(0), -1, name="r2_score", direction="max", share=False
    )
    assert less.verdict == more.verdict == "better"
    assert less.best == more.best == "a"
    assert [arm.name for arm in less.arms] == [arm.name for arm in more.arms]
    assert less.pareto == more.pareto
    for one, other in zip(less.arms, more.arms, strict=True):
        assert (one.mean, one.low, one.high) == pytest.approx(
            (-other.mean, -other.high, -other.low)
        )
    for one, other in zip(less.comparisons, more.comparisons, strict=True):
        assert one.verdict == other.verdict
        assert one.adjusted_p == pytest.approx(other.adjusted_p)
        mirrored = (-other.difference, -other.high, -other.low, -other.here_high, -other.here_low)
        assert (one.difference, one.low, one.high, one.here_low, one.here_high) == pytest.approx(
            mirrored
        )
    assert "test loss, 0.1982" in less.sentence
    assert "is lower than" in less.sentence
    assert "test R2 score, \N{MINUS SIGN}0.1982" in more.sentence
    assert "is higher than" in more.sentence
    by = [text.partition(" by ")[2].partition(" p ")[0] for text in (less.sentence, more.sentence)]
    assert by[0] == by[1]
    assert "%" not in more.sentence.replace("95 % confidence", "")
    page = report.all_tables([], rows, said, more)
    assert "test_R2_score" in page["runs"].rows[0]
    assert [column.title for column in page["leaderboard"].columns][3] == "test R2 score"


def test_the_report_speaks_of_the_measure(tmp_path):
    answer, rows, said = conclusion(
        np.random.default_rng(0), -1, name="r2_score", direction="max", share=False
    )
    text = report.write(tmp_path, [], rows, said, answer).read_text()
    own = text.partition("<script")[0] + text.rpartition("</script>")[2]
    assert "R2 score" in own
    assert "error" not in own
    assert "test_R2_score" in (tmp_path / "tables" / "runs.csv").read_text()


def test_shares_are_shown_in_percent():
    found, _, _ = conclusion(np.random.default_rng(0), 1, name="mean_iou", direction="max")
    assert found.percent
    assert found.best == "b"
    assert "mean IoU" in found.sentence
    assert "%" in found.sentence


def test_an_answer_of_an_early_version_is_an_error():
    answer = answers.conclude([], run_rows({"a": [0.1] * 5}, {"a": "baseline"}), manifest())
    assert answer.measure == Measure()
    assert answer.percent


# What fits a task.


def network(*outputs, activation=None, loss=None, inputs=(4, 4, 1)):
    x = keras.Input(inputs)
    y = keras.layers.Conv2D(outputs[-1], 1, activation=activation)(x)
    if len(outputs) == 1:
        y = keras.layers.GlobalAveragePooling2D()(y)
    model = keras.Model(x, y, name="net")
    if loss is not None:
        model.compile("sgd", loss)
    return model


NUMBERS = Form((4, 4, 1), (2,), None, "regression")
PIXELS = Form((4, 4, 1), (4, 4, 3), 3, "segmentation")


@pytest.mark.parametrize(
    ("model", "form", "message"),
    [
        (network(3), NUMBERS, r"outputs of shape \(3,\), and the data targets of shape \(2,\)"),
        (network(4, 4, 2), NUMBERS, r"outputs of shape \(4, 4, 2\)"),
        (network(2, loss="binary_crossentropy"), NUMBERS, "a loss for regression"),
        (network(3), PIXELS, "one output for each class of each pixel"),
        (network(4, 4, 2), PIXELS, "2 outputs, and the data 3 classes"),
        (network(4, 4, 3, activation="sigmoid"), PIXELS, "ends in sigmoid.*--task compiled"),
        (network(4, 4, 3, loss=keras.losses.Dice()), PIXELS, "Dice, for one-hot labels"),
        (network(4, 4, 3, loss="mse"), PIXELS, "MeanSquaredError, for regression"),
        (network(3), Form((4, 4, 1), (3,), None, "compiled"), "is not compiled"),
        (network(4, 4, 3), Form((4, 4, 1), (3,), 3), "--task segmentation"),
    ],
)
def test_models_that_do_not_fit(model, form, message):
    with pytest.raises(BadInput, match=message):
        check_model(model, form)


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (network(2, loss="mse"), NUMBERS),
        (network(2, loss=keras.losses.Huber()), NUMBERS),
        (network(2, loss=lambda y, z: keras.ops.mean(z)), NUMBERS),
        (network(4, 4, 3, activation="softmax"), PIXELS),
        (network(4, 4, 5), PIXELS),
        (network(None, None, 3, inputs=(None, None, 1)), PIXELS),
        (network(1, activation="sigmoid", loss="mse"), Form((4, 4, 1), (7,), None, "compiled")),
    ],
)
def test_models_that_fit(model, form):
    check_model(model, form)


def test_a_compiled_model_says_its_task():
    assert task_of_model(network(2, loss="mse")) == "regression"
    assert task_of_model(network(2, loss=keras.losses.Huber())) == "regression"
    for other in (network(2), network(2, loss="sparse_categorical_crossentropy"), "resnet8", None):
        assert task_of_model(other) is None


# Evaluations no better than a guess.


def warned(outputs, y, loss, metric, value):
    model = given(outputs)
    model.compile("sgd", loss)
    x = np.arange(len(y), dtype="float32")[:, None]
    return evaluation.warning_of(model, None, (x, y), {metric: value})


def test_a_regression_at_chance_level_is_told(rng):
    y = rng.normal(size=(COUNT, 1)).astype("float32")
    variance = float(y.var())
    same = warned(np.zeros((COUNT, 1)), y, "mse", "val_loss", variance * 1.01)
    assert same == "error at chance level, every example gets the same numbers"
    assert warned(rng.normal(size=(COUNT, 1)), y, "mse", "val_loss", 2.0) == evaluation.CHANCE
    assert warned(y, y, "mse", "val_loss", variance / 2) is None
    assert warned(y, y, "mae", "val_loss", 9.0) is None
    assert warned(y, y, "mse", "val_mean_absolute_error", 9.0) is None


def test_a_segmentation_at_chance_level_is_told():
    y = (np.arange(COUNT * 4).reshape(COUNT, 2, 2) % 4 == 0).astype("int32")
    outputs = np.tile([1.0, 0.0], (COUNT, 2, 2, 1))
    loss = "sparse_categorical_crossentropy"
    same = warned(outputs, y, loss, "val_error", 0.25)
    assert same == "error at chance level, every example gets the same class"
    assert warned(outputs, y, loss, "val_error", 0.05) is None


# Whole searches for other tasks.


OPTIONS = {
    "norms": "batch,group",
    "placements": "all",
    "trials": 2,
    "epochs": 1,
    "seeds": 3,
    "ablation": 0,
    "batch_size": 32,
    "jit_compile": False,
    "console": False,
}


def pictures(count=60, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.uniform(size=(count, 8, 8, 1)).astype("float32")
    return x, (x[..., 0] > 0.5).astype("int32")


def per_pixel(norm, outputs=2, activation=None, loss=None):
    """A network with an output at each pixel; compiled if there is a loss."""
    inputs = keras.Input((8, 8, 1))
    features = norm_layer(norm)(keras.layers.Conv2D(4, 1)(inputs))
    features = keras.layers.Activation("relu")(features)
    model = keras.Model(inputs, keras.layers.Conv2D(outputs, 1, activation=activation)(features))
    if loss is not None:
        model.compile("adam", loss)
    return model


def binary(norm):
    return per_pixel(norm, 1, "sigmoid", "binary_crossentropy")


def within_a_tenth(model, test):
    values = np.abs(model.predict(test.x, verbose=0) - test.y).mean(axis=1) < 0.1
    return values.mean(), values


def test_segmentation_and_a_measure_of_more_is_better(tmp_path):
    options = OPTIONS | {"measure": "mean_iou"}
    found = running.run(per_pixel, pictures(), out=tmp_path / "s", **options)
    assert found.manifest["data"]["task"] == "segmentation"
    assert found.manifest["objective"] == "val_error"
    assert found.answer.percent
    means = [arm.mean for arm in found.answer.arms]
    assert means == sorted(means, reverse=True)
    assert "mean IoU" in found.answer.sentence


@pytest.mark.parametrize(
    ("name", "network", "task", "measure"),
    [
        ("diabetes", "mlp", "regression", "mean_squared_error"),
        ("shapes", "pix2pixgenerator", "segmentation", "pixel_error"),
        ("edges2photos", "pix2pixgenerator", "regression", "mean_squared_error"),
    ],
)
def test_the_sets_of_other_tasks_are_searched(name, network, task, measure, tmp_path):
    whole = load(name)
    parts = {part: getattr(whole, part).rows(slice(12)) for part in ("train", "validation", "test")}
    found = running.run(
        network,
        dataclasses.replace(whole, **parts),
        baselines="batch",
        batch_size=6,
        arguments={"width": 4},
        out=tmp_path / "s",
        **ONE_TRIAL,
    )
    assert found.manifest["data"]["task"] == task
    assert found.answer.measure.name == measure
    assert [row["status"] for row in found.rows] == ["completed"]
    assert {arm.name for arm in found.answer.arms} == {"batch norm", "layer norm"}
    for row in found.runs:
        assert 0 < row["test_error"] < (1 if task == "segmentation" else 100)


def test_whatever_a_model_is_compiled_for(tmp_path):
    x, y = pictures()
    data = (x, y[..., None].astype("float32"))
    found = running.run(binary, data, task="compiled", out=tmp_path / "s", **OPTIONS)
    assert found.answer.measure.name == "loss"
    assert "test loss" in found.answer.sentence
    assert all("seeds alone" in note for note in found.answer.notes[-1:])
    with pytest.raises(BadInput, match="1 output, and the data 2 classes"):
        running.run(binary, data, out=tmp_path / "t", **OPTIONS)


def test_a_function_measures(tmp_path):
    model = kerasnorm.models.MLP((10,), 1, width=8, classifier_activation=None)
    model.compile("adam", "mse", jit_compile=False)
    x, y = np.random.default_rng(0).normal(size=(60, 10)).astype("float32"), np.arange(60) % 7
    options = OPTIONS | {"measure": (within_a_tenth, "max"), "executor": "processes"}
    # The labels alone look like those of a classification.
    found = running.run(model, (x, y), out=tmp_path / "s", **options)
    assert found.manifest["data"]["task"] == "regression"
    assert "test within a tenth" in found.answer.sentence
    assert all(comparison.examples == 12 for comparison in found.answer.comparisons)


def test_what_does_not_fit_is_refused_before_the_first_trial(tmp_path):
    for network, data, options, message in (
        ("resnet8", "shapes", {}, "Needed: Pix2PixGenerator"),
        ("pix2pixgenerator", "digits", {}, "architecture Pix2PixGenerator gives outputs"),
        ("mlp", "diabetes", {"task": "compiled"}, "are for a regression"),
        ("mlp", "diabetes", {"measure": "error"}, "is for classification"),
        ("mlp", "diabetes", {"objective": "val_mae"}, "not among what training measures"),
        (per_pixel, pictures(), {"augmentation": True}, "augmentation changes images"),
    ):
        with pytest.raises(BadInput, match=message):
            running.run(network, data, out=tmp_path / "s", **{**OPTIONS, **options})
