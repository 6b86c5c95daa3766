"""Time a training step of `ConsistentModel`: all transforms in one pass, or each in its own.

The first two are the same computation; the third is as many steps of the same network with batch
normalization, one for each transform. In interleaved rounds in one process, of ResNet-8.
"""

import statistics
import time

HELP = "time Consistent Normalization's branches in one pass and in several"


def add_arguments(parser):
    parser.add_argument("--branches", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--side", type=int, default=16, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=25)


def environment(options):
    return {}


def run(options):
    import keras
    import numpy as np

    import kerasnorm

    def compiled(model):
        jit = keras.backend.backend() != "torch"
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit)
        return model

    def network(norm):
        return kerasnorm.models.ResNet8((options.side, options.side, 3), 10, norm=norm)

    def consistent(concatenate):
        inner = network({"name": "consistent", "norm": "batch", "branches": options.branches})
        noise = [kerasnorm.transforms.Noise(0.1) for _ in range(options.branches - 1)]
        model = kerasnorm.ConsistentModel(inner, [None, *noise], concatenate=concatenate)
        return compiled(model)

    x = np.random.default_rng(0).normal(size=(options.batch_size, options.side, options.side, 3))
    y = np.zeros((options.batch_size, 10))
    models = {
        "one pass": consistent(True),
        "a pass each": consistent(False),
        "plain": compiled(network("batch")),
    }
    times = {name: [] for name in models}
    for turn in range(options.rounds + 2):
        for name, model in models.items():
            begin = time.perf_counter()
            model.train_on_batch(x, y)
            if turn >= 2:  # The first ones compile.
                times[name].append(1000 * (time.perf_counter() - begin))
    medians = {name: statistics.median(values) for name, values in times.items()}
    medians["a plain step each"] = options.branches * medians.pop("plain")
    print(
        f"{keras.backend.backend()}, {options.branches} branches, batch {options.batch_size}, "
        f"{options.side}x{options.side}: "
        + ", ".join(f"{name} {median:.1f} ms" for name, median in medians.items())
        + f"; one pass is {medians['one pass'] / medians['a pass each']:.2f} of a pass each, "
        f"{medians['one pass'] / medians['a plain step each']:.2f} of a plain step each"
    )
    return 0
