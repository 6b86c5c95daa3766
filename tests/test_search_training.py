"""Training in a user's own way: train steps, callbacks, schedules, several optimizers."""

import json
from typing import ClassVar

import keras
import numpy as np
import pytest

import kerasnorm
from daily import ON_TORCH, on_torch_daily
from kerasnorm import transforms
from search import running
from search.callbacks import Callbacks
from search.data import edges2photos
from search.errors import BadInput, OtherSearch
from search.fitting import evaluates, own_training
from search.hypermodel import NormHyperModel
from search.trial import Runner, load_weights, save_weights
from small_search import OBJECTIVE, arrays, build, compile_eagerly, short_search
from test_examples import module_of
from test_search_trial import BATCH, go_on, hypermodel, inputs, task

BACKEND = keras.backend.backend()


class Doubled(keras.Model):
    """Trains on twice the loss, in a train_step of its own, and says so."""

    def train_step(self, *given):
        logs = super().train_step(*given)
        if BACKEND == "jax":
            return {**logs[0], "own": 2 * logs[0]["loss"]}, logs[1]
        return {**logs, "own": 2 * logs["loss"]}


def doubled(norm):
    """The small network as a subclass, which compiles itself and accumulates gradients."""
    plain = build(norm)
    model = Doubled(plain.input, plain.output)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5, gradient_accumulation_steps=3)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def trained(network, given=None, epochs=2, report=go_on, objective=OBJECTIVE, **options):
    """The row of a training with callbacks, and the model."""
    models = []

    class Kept(NormHyperModel):
        def fit(self, hp, model, *args, **kwargs):
            models.append(model)
            return super().fit(hp, model, *args, **kwargs)

    def fed(one):
        args, kwargs = inputs(one)
        return args, {**kwargs, "callbacks": Callbacks(given)}

    kept = Kept(network, norms=["batch"], compile=compile_eagerly)
    row = Runner(kept, fed, objective)(task(epochs=epochs, **options), report)
    assert row["status"] != "failed", row["traceback"]
    return row, models[0]


@pytest.mark.parametrize("network", [doubled, doubled("batch")], ids=["function", "model"])
def test_a_model_with_its_own_train_step_keeps_it_and_its_optimizer(network):
    row, model = trained(network)
    assert [entry["own"] for entry in row["curve"]] == pytest.approx(
        [2 * entry["loss"] for entry in row["curve"]], rel=1e-3
    )
    # Three batches in each of two epochs make an update an epoch.
    assert model.optimizer.gradient_accumulation_steps == 3
    assert int(model.optimizer.iterations) == 2
    assert "val_error" in row["curve"][0]


@on_torch_daily
def test_branches_keep_the_accumulation_too():
    def plain(norm):
        model = build(norm)
        compile_eagerly(model, {})
        model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=3), model.loss)
        return model

    found = hypermodel(plain, transforms=[None, transforms.ScaleAndPad(0.5)])
    values = {"norm": "batch", "branches": 2}
    built = found.model_of(found.space.spec_from(values), values)
    assert isinstance(built, kerasnorm.ConsistentModel)
    assert built.optimizer.gradient_accumulation_steps == 3


@on_torch_daily
def test_a_network_may_return_a_consistent_model():
    def branches(norm):
        spec = {"name": "consistent", "norm": norm, "branches": 2}
        inner = kerasnorm.replace_norms(build("batch"), spec)
        return kerasnorm.ConsistentModel(inner, [None, transforms.ScaleAndPad(0.5)])

    row, model = trained(branches, epochs=1)
    assert type(model) is kerasnorm.ConsistentModel
    assert "branch_1_loss" in row["curve"][0]


@pytest.fixture
def pix2pix(monkeypatch):
    """The example's module."""
    return module_of("pix2pix_search", monkeypatch)


def few(count=8):
    """A few pictures of each part."""
    data = edges2photos()
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {name: (part.x[:count], part.y[:count]) for name, part in parts.items()}


def test_a_pix2pix_is_searched_and_answered_by_a_measure(tmp_path, pix2pix):
    def small(norm):
        return pix2pix.build(norm, width=2)

    found = running.run(
        small,
        few(),
        norms="batch",
        placements="all",
        trials=1,
        epochs=2,
        # Its train_step is another one on each backend; what follows is not.
        seeds=2 if ON_TORCH else 0,
        batch_size=4,
        measure=(pix2pix.detail, "min"),
        out=tmp_path / "s",
        console=False,
    )
    assert found.manifest["objective"] == "val_measure"
    (row,) = found.rows
    assert row["status"] == "completed"
    first, last = row["curve"]
    assert {"generator_loss", "discriminator_loss", "val_measure"} <= set(first)
    # Both networks learn.
    assert last["generator_loss"] < first["generator_loss"]
    assert last["discriminator_loss"] < first["discriminator_loss"]
    assert last["val_measure"] == row["score"] != first["val_measure"]
    assert len({run["test_error"] for run in found.runs}) == (2 if ON_TORCH else 0)
    assert "test detail" in found.answer.sentence or not ON_TORCH


class Two(keras.Model):
    """Two networks with an optimizer each, as it is often written; for TensorFlow and torch."""

    def __init__(self, first, second):
        super().__init__()
        self.first = first
        self.second = second
        self.of_second = None
        self.built = True

    def compile(self, optimizer, of_second):
        super().compile(optimizer)
        self.of_second = of_second

    def call(self, x, training=False):
        return self.first(x, training=training)

    def train_step(self, data):
        for part, optimizer in ((self.first, self.optimizer), (self.second, self.of_second)):
            variables = part.trainable_variables
            optimizer.apply([keras.ops.ones_like(v) for v in variables], variables)
        return {"apart": keras.ops.sum(self.second.trainable_variables[0])}


def two(norm):
    model = Two(build(norm), build(norm))
    # With momentum a step depends on the ones before.
    model.compile(keras.optimizers.Adam(0.1), keras.optimizers.SGD(0.2, momentum=0.9))
    return model


@pytest.mark.skipif(BACKEND == "jax", reason="JAX's trainer knows one optimizer")
@on_torch_daily
def test_further_optimizers_go_on_where_they_were(tmp_path):
    model = two("batch")
    assert (evaluates(model), own_training(model)) == (False, ["train_step"])
    x, y = arrays(8)
    model.fit(x, y, batch_size=4, verbose=0)
    path = tmp_path / "two.weights.h5"
    save_weights(model, path)
    again = two("batch")
    load_weights(again, path)
    for name in ("optimizer", "of_second"):
        old, new = getattr(model, name).variables, getattr(again, name).variables
        assert len(old) == len(new) > 2
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))


@pytest.mark.skipif(BACKEND == "jax", reason="JAX's trainer knows one optimizer")
@on_torch_daily
def test_no_state_of_ones_own_goes_from_training_to_training():
    objective = running.objective_of("apart:min")
    runner = Runner(hypermodel(two, norms=["batch"]), inputs, objective)
    arm = {"arm": "batch norm", "role": "candidate"}
    first, second = (runner(task(seed=1, arm=arm), go_on) for _ in range(2))
    assert first["status"] == "completed", first["traceback"]
    assert first["curve"] == second["curve"]


class Noting(keras.callbacks.Callback):
    """Notes the epochs that it sees, and learning rates."""

    seen: ClassVar[list] = []

    def __init__(self):
        super().__init__()
        self.epochs = []
        self.rates = []
        self.seen.append(self)

    def __deepcopy__(self, memo):
        return type(self)()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        assert "val_loss" in logs
        self.rates.append(float(self.model.optimizer.learning_rate))
        logs["said"] = "not a number"


@pytest.fixture
def noting(monkeypatch):
    monkeypatch.setattr(Noting, "seen", [])
    return Noting


def noted():
    return [Noting()]


@on_torch_daily
@pytest.mark.parametrize("kind", ["list", "function"])
def test_callbacks_see_every_epoch_of_each_training_and_are_new(tmp_path, noting, kind):
    given = [Noting()] if kind == "list" else noted
    found = short_search(tmp_path, trials=2, epochs=2, callbacks=given)
    trainings = len(found.rows) + len(found.runs)
    epochs = [one.epochs for one in Noting.seen if one.epochs]
    assert epochs == [[0, 1]] * trainings
    assert trainings >= 4


@on_torch_daily
def test_changed_callbacks_are_noticed(tmp_path):
    def patient(patience, place):
        return [
            keras.callbacks.EarlyStopping(patience=patience),
            keras.callbacks.CSVLogger(str(tmp_path / place)),
        ]

    short_search(tmp_path / "s", seeds=0, callbacks=patient(3, "a.csv"))
    with pytest.raises(OtherSearch, match=r"callbacks.EarlyStopping.patience: 3 there, 4 here"):
        short_search(tmp_path / "s", seeds=0, resume=True, callbacks=patient(4, "a.csv"))
    with pytest.raises(OtherSearch, match=r"callbacks: \{.*there, null here"):
        short_search(tmp_path / "s", seeds=0, resume=True, callbacks=None)
    with pytest.raises(BadInput, match=r"the journal in .* does not hold callbacks"):
        running.run(out=tmp_path / "s", resume=True, data=arrays(60), console=False)
    # Where they write does not count.
    again = short_search(tmp_path / "s", seeds=0, resume=True, callbacks=patient(3, "b.csv"))
    assert len(again.rows) == 3


@on_torch_daily
def test_a_function_of_callbacks_is_resumed_by_its_name(tmp_path, noting):
    short_search(tmp_path / "s", seeds=0, trials=1, callbacks=noted)
    again = running.run(out=tmp_path / "s", resume=True, trials=2, data=arrays(60), console=False)
    assert len(again.rows) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "callbacks=3. Needed: a list"),
        ([keras.callbacks.EarlyStopping], "is none of Keras's. Needed: a list"),
        (lambda: 1 / 0, "callbacks raised ZeroDivisionError"),
    ],
)
@on_torch_daily
def test_callbacks_that_are_none_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        Callbacks(given).described()


@on_torch_daily
def test_every_training_writes_into_a_folder_of_its_own(tmp_path):
    def writing():
        return [
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
            keras.callbacks.ModelCheckpoint(
                str(tmp_path / "best.weights.h5"), save_weights_only=True
            ),
            keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False),
        ]

    trained(build, writing)
    arm = {"arm": "batch norm", "role": "candidate"}
    trained(build, writing, arm=arm)
    for name in ("trial_00000", "answer_00000"):
        assert (tmp_path / name / "log.csv").read_text().count("\n") == 3
        assert (tmp_path / name / "best.weights.h5").is_file()
        assert (tmp_path / "backup" / name / "latest.weights.h5").is_file()


@on_torch_daily
def test_schedules_are_followed(noting):
    def scheduled(norm):
        model = build(norm)
        compile_eagerly(model, {})
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([3, 6], [0.3, 0.2, 0.1])
        model.compile(keras.optimizers.SGD(rate), model.loss, metrics=["accuracy"])
        return model

    trained(scheduled, noted, epochs=3)
    # After three batches each.
    assert Noting.seen[-1].rates == pytest.approx([0.3, 0.2, 0.1])
    by_epoch = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    row, _ = trained(build, lambda: [by_epoch, *noted()], epochs=3)
    assert Noting.seen[-1].rates == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert row["curve"][1]["learning_rate"] == pytest.approx(0.25)
    with pytest.raises(BadInput, match=r"learning rates are searched, .* with a schedule. Needed"):
        hypermodel(scheduled, learning_rates=[0.1, 0.2])


class Ending(keras.callbacks.Callback):
    """Ends a training after its second epoch, with the weights that it began with."""

    def on_train_begin(self, logs=None):
        self.first = self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1

    def on_train_end(self, logs=None):
        self.model.set_weights(self.first)


@on_torch_daily
def test_a_training_that_a_callback_ends_is_complete_and_its_score_is_of_its_weights():
    told = []

    def report(epoch, logs):
        told.append(epoch)
        return "enough" if epoch == 2 else None

    row, model = trained(build, lambda: [Ending()], epochs=5, report=report)
    assert (row["status"], row["reason"], row["epochs"], told) == ("completed", None, 2, [1, 2])
    x, y = arrays()
    found = model.evaluate(x[:32], y[:32], verbose=0, return_dict=True)
    assert row["score"] == pytest.approx(1 - found["accuracy"])
    assert row["metrics"]["val_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert row["curve"][-1]["val_loss"] != pytest.approx(found["loss"], rel=1e-3)
    # The search's own end is no completion.
    row, _ = trained(build, None, epochs=5, report=report)
    assert (row["status"], row["reason"], row["epochs"]) == ("stopped", "enough", 2)


@on_torch_daily
def test_weights_that_the_optimizer_averages_at_the_end_are_scored():
    def averaging(norm):
        model = build(norm)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
        return model

    row, model = trained(averaging)
    x, y = arrays()
    found = model.evaluate(x[:32], y[:32], verbose=0, return_dict=True)
    assert row["metrics"]["val_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert row["curve"][-1]["val_loss"] != pytest.approx(found["loss"], rel=1e-3)


@on_torch_daily
def test_a_training_goes_on_with_callbacks(tmp_path, noting):
    def plateau():
        slower = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=9)
        return [slower, *noted()]

    first = task(0, epochs=2, save=str(tmp_path / "first.weights.h5"))
    trained(build, plateau, save=first.save)
    before = Noting.seen[-1].rates
    trained(build, plateau, epochs=4, initial_epoch=2, parent=first)
    after = Noting.seen[-1]
    assert after.epochs == [2, 3]
    assert after.rates[0] <= before[-1] < before[0]


class Compiled(keras.Model):
    def compile(self, strength):
        super().compile("sgd", "mse", jit_compile=False)
        self.strength = strength


class Configured(Doubled):
    def __init__(self, norm):
        plain = build(norm)
        super().__init__(plain.input, plain.output)
        self.norm = norm

    def get_config(self):
        return {"norm": self.norm}


def own_compile():
    plain = build("batch")
    model = Compiled(plain.input, plain.output)
    model.compile(2)
    return model


@on_torch_daily
@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (own_compile, {"compile": None}, "has its own compile, .* Needed: compile=function"),
        (lambda: Configured("batch"), {}, "has its own train_step, which a copy with other norms"),
        (lambda: two("batch"), {}, "defined by its own call, .* Needed: a function of a norm"),
    ],
)
def test_a_model_that_no_copy_would_be_trained_as_is_refused(network, options, message):
    with pytest.raises(BadInput, match=message):
        hypermodel(network(), **options).model_of(BATCH, {})


@on_torch_daily
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no measure 'loss'. Needed: --measure FILE.py:FUNCTION:min"),
        ({"objective": "val_loss", "measure": (np.mean, "min")}, "--objective measure"),
        ({"learning_rates": [0.1, 0.2]}, "no measure 'loss'"),
    ],
)
def test_what_nothing_evaluates_is_refused_before_the_first_trial(tmp_path, options, message):
    x, y = arrays(60)
    if "measure" in options:
        options = {**options, "measure": (lambda model, test: 0.5, "min")}
    arguments = {"task": "compiled", "compile": None, "out": tmp_path / "s", "console": False}
    with pytest.raises(BadInput, match=message):
        running.run(two, (x, y.astype("float32")[:, None]), **arguments, **options)
    assert not (tmp_path / "s").exists()


@on_torch_daily
def test_a_schedule_of_the_searched_rates_is_the_users():
    def schedule(model, values):
        rate = keras.optimizers.schedules.ExponentialDecay(values["learning_rate"], 10, 0.5)
        model.compile(keras.optimizers.SGD(rate), "mse")

    found = hypermodel(compile=schedule, learning_rates=[0.1, 0.2])
    model = found.model_of(BATCH, {"learning_rate": 0.2})
    assert float(model.optimizer.learning_rate) == pytest.approx(0.2)


@on_torch_daily
def test_the_measure_is_the_objective_of_any_model(tmp_path):
    def brightness(model, test):
        return float(np.mean(model.predict(test.x, verbose=0)))

    found = short_search(
        tmp_path, seeds=0, objective="measure", measure=(brightness, "max"), reestimate=True
    )
    settings = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[0])["settings"]
    assert (settings["objective"], settings["direction"]) == ("val_measure", "max")
    best = max(found.rows, key=lambda row: row["curve"][-1]["val_measure"])
    assert best["score"] == best["curve"][-1]["val_measure"]
