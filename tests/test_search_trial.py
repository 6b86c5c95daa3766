"""A trial by itself: what becomes of models that fail, diverge, leak, or are stopped."""

import gc
import os

import keras
import keras_tuner
import numpy as np
import psutil
import pytest

import kerasnorm
from daily import on_torch_daily
from kerasnorm import transforms
from kerasnorm.sites import norm_layer
from search.batches import Batches
from search.data import Part
from search.errors import BadInput, CannotWrite
from search.hypermodel import NormHyperModel
from search.jsonable import jsonable
from search.rows import TrialRow
from search.task import Task
from search.trial import Runner, load_weights, save_weights
from small_search import OBJECTIVE, arrays, build, compile_eagerly

BATCH = {"name": "batch"}


def hypermodel(network=build, **options):
    return NormHyperModel(network, **{"compile": compile_eagerly, **options})


def inputs(task):
    x, y = arrays()
    return (x, y), {"batch_size": 32, "validation_data": (x[:32], y[:32])}


def task(number=0, seed=0, epochs=1, **options):
    return Task(number, BATCH, "batch norm", {"norm": "batch"}, seed, epochs, **options)


def with_dropout(norm):
    """The small network, with a random part of its own."""
    model = build(norm)
    outputs = keras.layers.Dropout(0.5)(model.layers[-2].output)
    return keras.Model(model.input, keras.layers.Dense(3)(outputs))


def go_on(epoch, logs):
    """Report nothing."""


def test_a_trained_model_starts_as_it_is_asked_to():
    old, (x, _) = build("batch"), arrays()
    generator = np.random.default_rng(3)
    for weight in old.weights:
        if weight.name == "kernel":
            weight.assign(0.3 * generator.normal(size=weight.shape))
    for layer in old.layers:
        if isinstance(layer, kerasnorm.BatchNorm):
            layer.gamma.assign(np.linspace(0.5, 2, layer.channels))
    kerasnorm.reestimate(old, x)
    wanted = old.predict_on_batch(x)
    apart, found = {}, {}
    for start in ("fresh", "preserved", "converted"):
        model = hypermodel(old, start=start, start_data=x, start_examples=64)
        new = model.model_of("layer", {})
        apart[start] = np.square(new.predict_on_batch(x) - wanted).mean()
        found[start] = model.fingerprint().get("start")
    assert apart["converted"] < 0.8 * min(apart["fresh"], apart["preserved"])
    assert found == {
        "fresh": None,
        "preserved": {"norms": "preserved"},
        "converted": {"norms": "converted", "examples": 64},
    }
    assert np.array_equal(old.predict_on_batch(x), wanted)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (build, {"start": "converted", "start_data": np.ones((4, 8, 8, 1))}, "is no Keras model"),
        (None, {"start": "converted"}, "without start_data"),
        (None, {"start": "convert"}, "start 'convert' is unknown. Near it: converted"),
        (
            None,
            {"start": "converted", "start_data": np.ones((4, 8, 8, 1)), "start_examples": 1},
            "start_examples=1. Needed: an integer of at least 2",
        ),
    ],
)
def test_a_start_that_cannot_be_is_refused(network, options, message):
    with pytest.raises(BadInput, match=message):
        hypermodel(network or build("batch"), **options)


def test_a_row_says_all_of_a_trial():
    row = Runner(hypermodel(), inputs, OBJECTIVE)(task(epochs=3), go_on)
    assert row["status"] == "completed", row["traceback"]
    assert row["score"] == row["curve"][-1]["val_error"]
    assert [entry["epoch"] for entry in row["curve"]] == [1, 2, 3]
    assert row["curve"][0]["val_error"] == pytest.approx(1 - row["curve"][0]["val_accuracy"])
    model = build("batch")
    assert row["parameters"] == sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert 0 < row["step_seconds"] < row["fit_seconds"] < row["seconds"]


@on_torch_daily
def test_a_compiled_network_keeps_its_way_of_training_with_branches():
    def compiled(norm):
        model = build(norm)
        compile_eagerly(model, {})
        model.optimizer.learning_rate = 0.25
        return model

    three = [None, transforms.ScaleAndPad(0.5), transforms.Noise(0.5, seed=0)]
    model = hypermodel(compiled, transforms=three)
    assert {"name": "branches", "values": [1, 2, 3]}.items() <= model.space.rows()[-1].items()
    values = {"norm": "batch", "branches": 2}
    built = model.model_of(model.space.spec_from(values), values)
    assert built.branches == 2
    assert float(built.optimizer.learning_rate) == 0.25
    assert built.run_eagerly


def lagging(norm):
    """A network whose norm sees what is far from where moving statistics begin."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Rescaling(10.0, 200.0), norm_layer(norm)]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"], run_eagerly=True)
    return model


@on_torch_daily
def test_an_error_at_chance_is_warned_of_and_reestimated_statistics_mend_it():
    as_it_is, again = (
        Runner(hypermodel(lagging), inputs, OBJECTIVE, reestimate=reestimate)(task(epochs=5), go_on)
        for reestimate in (False, True)
    )
    assert as_it_is["score"] > 0.5
    assert "error at chance level, every example gets the same class" in as_it_is["warning"]
    assert "the moving statistics lag behind (0.0" in as_it_is["warning"]
    assert again["score"] < 0.1
    assert again["warning"] is None
    # Training itself is the same.
    losses = [[entry["loss"] for entry in row["curve"]] for row in (as_it_is, again)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_reestimating_needs_data_that_can_be_read_again():
    def once(task):
        args, kwargs = inputs(task)
        return (iter([args]),), kwargs

    with pytest.raises(BadInput, match="reestimate needs training data that can be read again"):
        Runner(hypermodel(), once, OBJECTIVE, reestimate=True)(task(), go_on)


def test_branches_need_transforms():
    with pytest.raises(BadInput, match="up to 3 branches are searched, and there are 2 transforms"):
        hypermodel(branches=[1, 3], transforms=[None, transforms.Blur()])


@on_torch_daily
def test_the_reason_to_stop_is_kept():
    row = Runner(hypermodel(), inputs, OBJECTIVE)(
        task(epochs=5), lambda epoch, logs: "enough" if epoch == 2 else None
    )
    assert (row["status"], row["reason"], row["epochs"]) == ("stopped", "enough", 2)


@pytest.mark.parametrize("kind", ["memory", "build", "fatal"])
def test_one_trial_fails_and_its_traceback_is_kept(kind):
    class Fatal(BaseException):
        pass

    error = {"memory": MemoryError("8 GB"), "build": ValueError("no"), "fatal": Fatal("no")}[kind]

    def broken(norm):
        raise error

    space = hypermodel().space
    row = Runner(hypermodel(broken, space=space), inputs, OBJECTIVE)(task(), go_on)
    assert row["status"] == "failed"
    assert type(error).__name__ in row["reason"]
    assert "in broken" in row["traceback"]


@on_torch_daily
def test_a_trial_that_raises_after_its_training_has_no_score():
    def test(model, task):
        raise ValueError("no test part")

    row = Runner(hypermodel(), inputs, OBJECTIVE, test)(task(test=True), go_on)
    assert (row.status, row.score, row.epochs) == ("failed", None, 1)
    assert TrialRow.check(jsonable(row))


def test_ctrl_c_is_no_failure():
    def interrupted(norm):
        raise KeyboardInterrupt

    runner = Runner(hypermodel(interrupted, space=hypermodel().space), inputs, OBJECTIVE)
    with pytest.raises(KeyboardInterrupt):
        runner(task(), go_on)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_ends_a_trial_at_once(value):
    def bad(task):
        (x, y), kwargs = inputs(task)
        x = x.copy()
        x[:] = value
        return (x, y), kwargs

    row = Runner(hypermodel(), bad, OBJECTIVE)(task(epochs=5), go_on)
    assert row["status"] == "failed"
    assert "loss became" in row["reason"]
    assert row["score"] is None
    assert row["epochs"] == 1


@on_torch_daily
def test_an_objective_that_is_not_measured_is_named():
    objective = keras_tuner.Objective("val_f1", "max")
    with pytest.raises(BadInput, match=r"'val_f1' is not among .*val_error"):
        Runner(hypermodel(), inputs, objective)(task(), go_on)


def test_the_users_dtype_policy_holds_in_every_trial():
    policies = []

    def noting(norm):
        policies.append(keras.config.dtype_policy().name)
        return build(norm)

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = hypermodel(noting, norms=["batch"])
        policies.clear()
        runner = Runner(model, inputs, OBJECTIVE)
        assert [runner(task(n), go_on)["status"] for n in range(2)] == ["completed"] * 2
        # KerasTuner's own tuners forget it before they build.
        keras.utils.clear_session()
        model.build(model_point(model))
    finally:
        keras.config.set_dtype_policy(before)
    assert policies == ["mixed_bfloat16"] * 3


def model_point(model):
    hp = keras_tuner.HyperParameters()
    model.declare_hyperparameters(hp)
    return hp


def test_the_users_distribution_holds_in_every_trial():
    if keras.backend.backend() != "jax":
        pytest.skip("keras.distribution is JAX's")
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        distribution = keras.distribution.distribution()
        row = Runner(hypermodel(), inputs, OBJECTIVE)(task(), go_on)
        assert row["status"] == "completed", row["traceback"]
        assert keras.distribution.distribution() is distribution
    finally:
        keras.distribution.set_distribution(None)


@on_torch_daily
def test_every_trial_has_its_own_log_folder(tmp_path):
    folders = []

    class Logger(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.log_dir = str(tmp_path)

        def on_train_begin(self, logs=None):
            folders.append(self.log_dir)

    def logging(task):
        args, kwargs = inputs(task)
        return args, {**kwargs, "callbacks": [logger]}

    logger = Logger()
    runner = Runner(hypermodel(), logging, OBJECTIVE)
    for number in range(2):
        runner(task(number), go_on)
    assert folders == [str(tmp_path / f"trial_{n:05d}") for n in range(2)]


@on_torch_daily
def test_a_seed_decides_and_sharing_a_model_changes_nothing():
    def ordered(task):
        (x, y), kwargs = inputs(task)
        batches = Batches(Part(x, y), 32, task.seed)
        return (batches,), {"validation_data": kwargs["validation_data"]}

    compiled = {"compile": None, "jit_compile": False}
    shared, alone = (
        Runner(hypermodel(with_dropout, **compiled), ordered, OBJECTIVE) for _ in range(2)
    )
    arm = {"arm": "batch norm", "role": "candidate"}
    together = [shared(task(seed=s, epochs=2, arm=arm), go_on) for s in (1, 2, 1)]
    assert shared._last[1] is not None
    separate = [alone(task(seed=s, epochs=2), go_on) for s in (1, 2)]
    losses = [[e["loss"] for e in row["curve"]] for row in (*together, *separate)]
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[:2], losses[3:], rtol=1e-5)


def test_weights_go_on_with_the_optimizer(tmp_path):
    path = tmp_path / "trial.weights.h5"
    runner = Runner(hypermodel(), inputs, OBJECTIVE)
    first = task(0, epochs=2, save=str(path))
    runner(first, go_on)
    model = hypermodel().model_of(BATCH, {})
    load_weights(model, path)
    assert int(model.optimizer.iterations) == 6
    row = runner(task(1, epochs=5, initial_epoch=2, parent=first), go_on)
    assert [entry["epoch"] for entry in row["curve"]] == [3, 4, 5]
    # Written whole or not at all.
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    save_weights(model, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@on_torch_daily
def test_a_parent_whose_weights_are_lost_is_trained_again(tmp_path):
    runner = Runner(hypermodel(with_dropout), inputs, OBJECTIVE)
    parent = task(0, epochs=1, save=str(tmp_path / "parent.weights.h5"))
    child = task(1, epochs=2, initial_epoch=1, parent=parent)
    runner(parent, go_on)
    curves = [runner(child, go_on)["curve"]]
    for damage in (os.remove, lambda path: os.truncate(path, 1000)):
        damage(parent.save)
        row = runner(child, go_on)
        assert row["status"] == "completed", row["traceback"]
        curves.append(row["curve"])
    assert curves[0] == curves[1] == curves[2]


@on_torch_daily
def test_a_training_that_exits_has_failed_and_one_that_cannot_save_ends_the_search(tmp_path):
    def exits(norm):
        raise SystemExit(3)

    space = hypermodel().space
    row = Runner(hypermodel(exits, space=space), inputs, OBJECTIVE)(task(), go_on)
    assert (row["status"], row["reason"]) == ("failed", "SystemExit: 3")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CannotWrite, match=r"trial.weights.h5 cannot be written: (Not a dir|File)"):
        Runner(hypermodel(), inputs, OBJECTIVE)(
            task(save=str(tmp_path / "file" / "trial.weights.h5")), go_on
        )


@on_torch_daily
def test_memory_does_not_grow():
    process = psutil.Process(os.getpid())
    runner = Runner(hypermodel(compile=None, jit_compile=False), inputs, OBJECTIVE)
    sizes = []
    for number in range(6):
        runner(task(number), go_on)
        gc.collect()
        sizes.append((process.memory_info().rss, len(gc.get_objects())))
    growth = (sizes[-1][0] - sizes[2][0]) / 3
    assert growth < 2 * 2**20
    # What one network's graph would be is a hundred times that.
    assert (sizes[-1][1] - sizes[2][1]) / 3 < 300
