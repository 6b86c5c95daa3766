"""Time a conversion of a deep network: ResNet50 of `keras.applications`, with random weights.

It prints the seconds for each norm, beside those of a prediction of the same examples, and the time
of a training step as a part of that with group norm. Random weights cost what trained ones do, but
how well the norms fit says nothing.
"""

import time

from benchmarks.convert import BATCH_SIZE
from benchmarks.convert_training import compile_for_training, interleaved
from benchmarks.tables import Table

HELP = "time a conversion of ResNet50"


def add_arguments(parser):
    parser.add_argument("--norm", default="ilm_layer", help="what it is converted to")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--size", type=int, default=64, help="height and width of the images")
    parser.add_argument("--steps", type=int, default=5, help="training steps of each model")
    parser.add_argument("--memory", type=float, default=1024, help="as in `convert`, in MB")


def environment(options):
    return {}


def run(options):
    import keras
    import numpy as np

    import kerasnorm

    shape = (options.size, options.size, 3)
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, input_shape=shape, classes=100)
    x = np.random.default_rng(0).normal(size=(options.examples, *shape)).astype("float32")
    kerasnorm.reestimate(model, x)
    began = time.perf_counter()
    model.predict(x, batch_size=64, verbose=0)
    passed = time.perf_counter() - began
    new = kerasnorm.convert(model, options.norm, x, memory=options.memory, verbose=0)
    report = kerasnorm.report_of(new)
    sites = len(report.sites)
    pair = [kerasnorm.replace_norms(model, "group"), new]
    for one in pair:
        compile_for_training(one)
    seconds = interleaved(pair, x[:BATCH_SIZE], np.zeros(BATCH_SIZE, "int32"), rounds=options.steps)
    table = Table(
        f"ResNet50, {shape}, {options.examples} examples, {keras.backend.backend()}",
        [
            "norm",
            "norms",
            "seconds",
            "seconds per norm",
            "a prediction of all examples, seconds",
            "time of a training step, of that with group norm",
        ],
    )
    table.rows.append(
        [
            options.norm,
            str(sites),
            f"{report.seconds:.0f}",
            f"{report.seconds / sites:.2f}",
            f"{passed:.1f}",
            f"{np.median(seconds[1] / seconds[0]):.2f}",
        ]
    )
    print(table.markdown())
    return 0
