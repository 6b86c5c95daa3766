"""Time a conversion, and a training step of the converted network.

The networks are ResNet50 of `keras.applications` and those of `python -m benchmarks convert`, with
random weights. Random weights cost what trained ones do, but how well the norms fit says nothing.

The table has the seconds for each norm, beside those of a prediction of the same examples, and the
time of a training step as a part of that with group norm. An optimizer works on each weight of a
norm, and in small networks that counts. So steps are timed with Adam, which keeps two averages of
each weight, and with SGD, which keeps none.
"""

import os
import time

from benchmarks.convert import BATCH_SIZE, TASKS, Kept, unit_of
from benchmarks.convert_training import compile_for_training, interleaved
from benchmarks.tables import Table

HELP = "time a conversion, and a training step of the converted network"
DEEP = "ResNet50"


def add_arguments(parser):
    parser.add_argument(
        "--networks",
        default=DEEP,
        help=f"comma-separated: {DEEP}, or tasks of `convert` such as {next(iter(TASKS))} "
        f"(default: {DEEP})",
    )
    parser.add_argument("--norm", default="ilm_layer", help="what it is converted to")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument(
        "--size", type=int, default=64, help=f"height and width of the images of {DEEP}"
    )
    parser.add_argument("--steps", type=int, default=5, help="training steps of each model")
    parser.add_argument("--memory", type=float, default=1024, help="as in `convert`, in MB")
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="steps with XLA on TensorFlow, as Keras has it (JAX always has)",
    )


def environment(options):
    return {}


def run(options):
    import keras

    table = Table(
        f"{options.examples} examples, {keras.backend.backend()}",
        [
            "network",
            "norm",
            "norms",
            "seconds",
            "seconds per norm",
            "a prediction of all examples, seconds",
            "a step with Adam, of that with group norm",
            "a step with SGD",
        ],
    )
    for name in options.networks.split(","):
        table.rows.append(_row(name, options))
    print(table.markdown())
    return 0


def _row(name, options):
    """The times of a network."""
    import keras

    import kerasnorm

    keras.utils.set_random_seed(0)
    model, x, y = _network(name, options)
    kerasnorm.reestimate(model, x)
    began = time.perf_counter()
    model.predict(x, batch_size=BATCH_SIZE, verbose=0)
    passed = time.perf_counter() - began
    new = kerasnorm.convert(model, options.norm, x, memory=options.memory, verbose=0)
    report = kerasnorm.report_of(new)
    sites = len(report.sites)
    pair = [kerasnorm.replace_norms(model, "group"), new]
    ratios = [
        _ratio(pair, x[:BATCH_SIZE], y[:BATCH_SIZE], optimizer, options)
        for optimizer in (keras.optimizers.Adam, keras.optimizers.SGD)
    ]
    return [
        name,
        options.norm,
        str(sites),
        f"{report.seconds:.0f}",
        f"{report.seconds / sites:.2f}",
        f"{passed:.1f}",
        *(f"{ratio:.2f}" for ratio in ratios),
    ]


def _network(name, options):
    """A network with random weights, with examples and their classes."""
    import keras
    import numpy as np

    if name == DEEP:
        shape = (options.size, options.size, 3)
        model = keras.applications.ResNet50(weights=None, input_shape=shape, classes=100)
        x = np.random.default_rng(0).normal(size=(options.examples, *shape)).astype("float32")
        return model, x, np.zeros(options.examples, "int32")
    if not TASKS.get(name):
        known = ", ".join([DEEP, *(task for task, given in TASKS.items() if given)])
        raise SystemExit(f"--networks {name!r}. Needed: one of {known}.")
    unit = unit_of(name)(name, 0, Kept(os.devnull), None)
    x, y = unit.data.train.x, unit.data.train.y
    return unit.untrained("batch"), x[: options.examples], y[: options.examples]


def _ratio(pair, x, y, optimizer, options):
    """The time of a training step of the second model, as a part of that of the first."""
    import numpy as np

    for model in pair:
        compile_for_training(model, optimizer, "auto" if options.compiled else False)
    seconds = interleaved(pair, x, y, rounds=options.steps)
    return np.median(seconds[1] / seconds[0])
