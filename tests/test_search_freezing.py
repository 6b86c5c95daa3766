"""Frozen epochs: the norms of a trained model train alone, then all that trained before."""

import keras
import numpy as np
import pytest

import kerasnorm
from daily import ON_TORCH, on_torch_daily
from kerasnorm import transforms
from kerasnorm.core.keras_internals import layers_in
from search.batches import Batches
from search.data import Part
from search.errors import BadInput
from search.hypermodel import NormHyperModel
from search.task import Task
from search.trial import Runner
from small_search import OBJECTIVE, arrays, build

GROUP = {"name": "group"}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RATES = keras.optimizers.schedules.PiecewiseConstantDecay([3, 6, 9], [0.01, 0.02, 0.03, 0.04])


def trained_model(optimizer=None, **options):
    """A model that is compiled, whose first convolution and first norm the user froze."""
    keras.utils.set_random_seed(0)
    model = build("keras_batch")
    for layer in model.layers[1:3]:
        layer.trainable = False
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, LOSS, metrics=["accuracy"], **options)
    return model


def inputs(task):
    x, y = arrays()
    batches = Batches(Part(x, y), 32, task.seed, None, task.initial_epoch)
    # Keras would draw the order of the batches anew in each `fit`.
    return (batches,), {
        "validation_data": (x[:32], y[:32]),
        "shuffle": False,
        "callbacks": task.callbacks,
    }


class Training(Task):
    """A task with callbacks."""

    callbacks = ()


def task(number=0, epochs=4, spec=GROUP, callbacks=(), **options):
    made = Training(number, spec, "a norm", options.pop("values", {}), 0, epochs, **options)
    object.__setattr__(made, "callbacks", list(callbacks))
    return made


def go_on(epoch, logs):
    """Report nothing."""


class Seeing(keras.callbacks.Callback):
    """Keeps what each epoch leaves, and what trains in it."""

    def __init__(self):
        super().__init__()
        self.weights, self.trains, self.seen = [], [], []

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, logs=None):
        self.names = [weight.path for weight in self.model.weights]
        self.weights.append(self.model.get_weights())
        self.before = self.model

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())
        self.trains.append([weight.path for weight in self.model.trainable_weights])
        self.seen.append((epoch, int(self.model.optimizer.iterations)))

    def changed(self, epoch):
        """The weights that an epoch changed."""
        pairs = zip(self.names, *self.weights[epoch : epoch + 2], strict=True)
        return [name for name, old, new in pairs if not np.array_equal(old, new)]


def flags(model):
    return [layer.trainable for layer in layers_in(model)], [w.trainable for w in model.weights]


def run(hypermodel, one):
    row = Runner(hypermodel, inputs, OBJECTIVE)(one, go_on)
    assert row["status"] == "completed", row["traceback"]
    return row


@pytest.mark.parametrize("spec", [GROUP, None], ids=["norms", "as it is"])
def test_the_norms_train_first_then_all_that_did_before(spec):
    # Traced: a function of the first epochs would go on training the norms alone.
    optimizer = keras.optimizers.SGD(RATES, momentum=0.9)
    hypermodel = NormHyperModel(
        trained_model(optimizer, jit_compile=False), norms="group,batch", frozen_epochs=2
    )
    before = flags(hypermodel.model_of(spec, {}))
    seeing = Seeing()
    run(hypermodel, task(spec=spec, callbacks=[seeing]))
    norm = seeing.before.layers[5]
    moving = [f"{norm.name}/moving_{what}" for what in ("mean", "variance")]
    first = [w.path for w in norm.trainable_weights]
    # The first norm was frozen, and the second is all that is left to train.
    assert seeing.trains[0] == seeing.trains[1] == first
    assert seeing.changed(0) == seeing.changed(1) == first + (moving if spec is None else [])
    assert seeing.trains[2] == [w.path for w in seeing.before.trainable_weights]
    assert {*seeing.trains[2], *moving[: 2 * (spec is None)]} == set(seeing.changed(2))
    assert len(seeing.trains[2]) == len(first) + 4
    assert flags(seeing.before) == before
    # Epochs and steps go on, and with them the schedule.
    assert seeing.seen == [(0, 3), (1, 6), (2, 9), (3, 12)]


def test_a_training_goes_on_in_the_middle_of_either_part(tmp_path):
    def path(number):
        return str(tmp_path / f"{number}.weights.h5")

    hypermodel = NormHyperModel(trained_model(run_eagerly=True), norms="group", frozen_epochs=2)
    whole = run(hypermodel, task())["curve"]
    for number, epoch in enumerate((1, 2, 3) if ON_TORCH else (2,)):
        first = task(number, epochs=epoch, save=path(number))
        curve = run(hypermodel, first)["curve"]
        rest = run(hypermodel, task(9, initial_epoch=epoch, parent=first))["curve"]
        losses = [[entry["loss"] for entry in entries] for entries in (curve + rest, whole)]
        np.testing.assert_allclose(*losses, rtol=1e-5)
    # It matters when all begins to train.
    other = NormHyperModel(trained_model(run_eagerly=True), norms="group", frozen_epochs=1)
    assert run(other, task())["curve"][2]["loss"] != pytest.approx(losses[1][2], rel=1e-4)


@on_torch_daily
def test_trainings_that_share_a_model_are_the_same(tmp_path):
    model = trained_model(jit_compile=False)
    hypermodel = NormHyperModel(model, norms="group", frozen_epochs=[0, 2])
    arm = {"arm": "group norm", "role": "candidate"}
    values = {"norm": "group", "frozen_epochs": 2}
    runner = Runner(hypermodel, inputs, OBJECTIVE)
    rows = [runner(task(n, arm=arm, values=values), go_on) for n in range(2)]
    assert rows[0]["curve"] == rows[1]["curve"], rows[1]["traceback"]
    alone = run(hypermodel, task(values=values))
    without = run(hypermodel, task(values={**values, "frozen_epochs": 0}))
    losses = [[entry["loss"] for entry in row["curve"]] for row in (rows[0], alone, without)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[2] != pytest.approx(losses[1], rel=1e-4)


@on_torch_daily
def test_branches_train_first_too():
    two = [None, transforms.ScaleAndPad(0.5)]
    hypermodel = NormHyperModel(
        trained_model(run_eagerly=True), norms="group", transforms=two, frozen_epochs=1
    )
    values = {"norm": "group", "branches": 2}
    spec = hypermodel.space.spec_from(values)
    seeing = Seeing()
    run(hypermodel, task(epochs=2, spec=spec, values=values, callbacks=[seeing]))
    assert isinstance(seeing.before, kerasnorm.ConsistentModel)
    assert 0 < len(seeing.trains[0]) < len(seeing.trains[1])
    assert set(seeing.changed(0)) <= set(seeing.trains[0])


def test_a_training_that_ends_before_leaves_all_to_train():
    hypermodel = NormHyperModel(trained_model(run_eagerly=True), norms="group", frozen_epochs=3)
    before = flags(hypermodel.model_of(GROUP, {}))
    seeing = Seeing()
    run(hypermodel, task(epochs=2, callbacks=[seeing]))
    assert flags(seeing.before) == before
    # Norms without weights to train leave nothing to train alone.
    frozen = trained_model(run_eagerly=True)
    frozen.layers[5].trainable = False
    seeing = Seeing()
    run(NormHyperModel(frozen, norms="group", frozen_epochs=1), task(1, 2, callbacks=[seeing]))
    assert len(seeing.trains[0]) == len(seeing.trains[1]) == 4


def averaging():
    return trained_model(keras.optimizers.SGD(0.1, use_ema=True))


@on_torch_daily
@pytest.mark.parametrize(
    ("network", "frozen", "message"),
    [
        (build, 1, "frozen_epochs=1 and a network that is no Keras model"),
        (build, [0, 2], "frozen_epochs=2 and a network that is no Keras model"),
        (trained_model, [0, 4], "frozen_epochs=4 of 4 epochs. Needed: fewer than"),
        (trained_model, 1.5, "frozen_epochs=1.5. Needed: an integer of at least 0"),
        (trained_model, [], r"frozen_epochs=\[\]. Needed: an integer of at least 0"),
        (trained_model, [0, -1], r"frozen_epochs=\[0, -1\]. Needed: an integer of at least 0"),
        (averaging, [0, 1], "frozen epochs and an optimizer with use_ema=True"),
    ],
)
def test_what_is_refused(network, frozen, message):
    model = network if network is build else network()

    def made():
        found = NormHyperModel(model, norms="group", frozen_epochs=frozen)
        found.check_frozen_epochs(4)
        found.fingerprint()

    with pytest.raises(BadInput, match=message):
        made()


@on_torch_daily
def test_the_fingerprint_knows_a_fixed_number():
    model = trained_model()
    found = [
        NormHyperModel(model, norms="group", frozen_epochs=n).fingerprint().get("frozen_epochs")
        for n in (0, 2, [0, 2])
    ]
    assert found == [None, 2, None]
