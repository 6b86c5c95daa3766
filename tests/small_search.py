"""Small networks, planted results and a fake executor, for the tests of the search."""

import keras
import keras_tuner
import numpy as np

from kerasnorm.sites import Specs, norm_layer
from search import running
from search.executors.base import Executor
from search.trial import failed_row, new_row

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


def short_search(out, **options):
    """A whole search with the small network on the arrays."""
    return running.run(build, arrays(60), out=out, **{**OPTIONS, "seeds": 2, **options})


def row_of(task, curve, status="completed", reason=None):
    """A row as a trial writes it."""
    return {
        **new_row(task),
        "status": status,
        "reason": reason,
        "score": None if status == "failed" else curve[-1]["val_error"],
        "metrics": {},
        "curve": curve,
        "epochs": len(curve),
        "parameters": 10,
        "fit_seconds": 1.0,
        "seconds": 1.0,
    }


def planted(error_of):
    """A `run` whose errors are planted: `error_of(task, epoch)`."""

    def run(task, report):
        curve = []
        for epoch in range(task.initial_epoch + 1, task.epochs + 1):
            curve.append({"epoch": epoch, "val_error": error_of(task, epoch)})
            reason = report(epoch, curve[-1])
            if reason is not None:
                return row_of(task, curve, "stopped", reason)
        return row_of(task, curve)

    return run


class FakeConcurrent(Executor):
    """Holds several tasks, ends them in another order, and lets some of their workers die."""

    def __init__(self, capacity=3, crashes=()):
        self.capacity = capacity
        self.crashes = crashes
        self.submitted = []
        self.most = 0
        self._tasks = []
        self._cancelled = {}

    def submit(self, task):
        self.submitted.append(task.number)
        self._tasks.append(task)
        self.most = max(self.most, len(self._tasks))

    def poll(self, timeout=None):
        # The youngest first; now and then nobody has ended.
        if len(self.submitted) % 4 == 1 and timeout is None and self._tasks[-1].number % 2:
            self.submitted.append(None)
            return []
        task = self._tasks.pop()
        if task.number in self.crashes:
            return [failed_row(task, "its worker died")]

        def report(epoch, logs):
            return self._cancelled.get(task.number) or self.on_report(task.number, epoch, logs)

        return [self.run(task, report)]

    def cancel(self, number, reason):
        self._cancelled[number] = reason

    def close(self):
        self._tasks = []
