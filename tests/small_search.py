"""Small networks, planted results and a fake executor, for the tests of the search."""

import keras
import keras_tuner
import numpy as np

from kerasnorm.sites import Specs, norm_layer
from planted_runs import error_of, planted
from search import running
from search.driver import Driver
from search.executors.base import Executor, Lost
from search.executors.inline import InlineExecutor
from search.oracle import Asker, make
from search.space import NormSpace
from search.store import Store
from search.tasks import task_for

OBJECTIVE = keras_tuner.Objective("val_error", "min")


def build(norm):
    """Two norms in two stages, on images of 8x8."""
    specs = Specs(norm)
    features = inputs = keras.Input((8, 8, 1))
    for site in range(2):
        features = keras.layers.Conv2D(8, 3, strides=2, padding="same")(features)
        features = norm_layer(specs.at(site, site))(features)
        features = keras.layers.ReLU()(features)
    features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(inputs, keras.layers.Dense(3)(features))


def compile_eagerly(model, values):
    """Compiled to run without tracing: most of a short training would be that."""
    del values
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=True)


def arrays(count=96, seed=0):
    """Images of three classes that differ in their brightness, and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.normal(size=(count, 8, 8, 1)) * 0.3 + labels[:, None, None, None]
    return images.astype("float32"), labels


# What makes a search a matter of seconds.
OPTIONS = {
    "norms": "batch,mode",
    "placements": "all",
    "trials": 3,
    "epochs": 1,
    "batch_size": 32,
    "compile": compile_eagerly,
    "console": False,
}

# Of one trial, with a network of the package's.
ONE_TRIAL = {
    "norms": "layer",
    "placements": "all",
    "trials": 1,
    "epochs": 1,
    "seeds": 2,
    "jit_compile": False,
    "console": False,
}


def short_search(out, network=build, data=None, **options):
    """A whole search with the small network on the arrays."""
    data = arrays(60) if data is None else data
    return running.run(network, data, out=out, **{**OPTIONS, "seeds": 2, **options})


class Quick(InlineExecutor):
    """The inline executor, without collecting the garbage of the whole process for each search."""

    def start(self, run, on_report):
        Executor.start(self, run, on_report)


class FakeConcurrent(Executor):
    """Holds several tasks, ends them in another order, and lets some of their workers die."""

    def __init__(self, capacity=3, crashes=()):
        self.capacity = capacity
        self.crashes = crashes
        self.submitted = []
        self.most = 0
        self._tasks = []

    def submit(self, task):
        self.submitted.append(task.number)
        self._tasks.append(task)
        self.most = max(self.most, len(self._tasks))

    def poll(self):
        # The youngest first; now and then nobody has ended.
        if len(self.submitted) % 4 == 1 and self._tasks[-1].number % 2:
            self.submitted.append(None)
            return []
        task = self._tasks.pop()
        if task.number in self.crashes:
            return [Lost(task.number, "its worker died")]

        def report(epoch, logs):
            return self.on_report(task.number, epoch, logs)

        return [self.run(task, report)]

    def close(self):
        self._tasks = []


# Of searches with planted results.
SPACE = NormSpace([16, 32, 64])
EPOCHS = 9


def driver_of(folder, run=None, executor=None, oracle="tpe", trials=12, rule=None, **options):
    """The driver of a search in a folder whose results are planted."""
    store = Store(folder, {"oracle": oracle}, resume=None)
    asker = Asker(make(oracle, OBJECTIVE, trials, 0, EPOCHS), SPACE, SPACE.paper_defaults(), trials)
    return Driver(
        asker,
        executor or Quick(),
        store,
        run or planted(error_of),
        lambda number, values_of: task_for(number, values_of, SPACE, 0, EPOCHS, store),
        OBJECTIVE,
        rule,
        **options,
    )


def searched(driver):
    """The rows of a whole search."""
    with driver.store:
        return driver.search()


def told(rows):
    """What a row is, without times."""
    return [(r["trial"], r["spec"], r["status"], r["score"], r["epochs"]) for r in rows]
