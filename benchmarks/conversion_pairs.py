"""Convert a small network from each of some norms to each of others.

A ResNet-8 is trained on digits with each of the norms to convert from; group norms have two groups
there. The table says what the
fitted norms explain of the old outputs' variance, for how many test images the class stays the
same, and what becomes of the accuracy.
"""

import statistics

from benchmarks.tables import Table

HELP = "convert a small network from each norm to each other"
FROM = "batch,group,layer,instance,keras_batch,keras_group"
# From batch norm to all of these, and from others to those that differ in their statistics alone.
TO_ALL = (
    "group,layer,instance,ilm_layer,ilm_group,ilm_instance,assoc,mode_group,switchable,"
    "batch_instance,filter_response,none"
)
TO_PLAIN = "batch,group,layer,instance,switchable,batch_instance"


def add_arguments(parser):
    parser.add_argument("--norms", default=FROM, help="what is converted, comma-separated")
    parser.add_argument("--to", help="what each is converted to (default: by the first)")
    parser.add_argument("--epochs", type=int, default=10, help="of training")
    parser.add_argument("--width", type=int, default=8, help="channels of the first stage")
    parser.add_argument("--examples", type=int, default=512, help="what a conversion may see")


def environment(options):
    return {}


def run(options):
    import keras
    import numpy as np

    import kerasnorm
    from benchmarks.convert import BATCH_SIZE, compile_for_training, predicted, train
    from kerasnorm import models
    from search import data as datasets

    data = datasets.load("digits")
    x, y = data.test.x, data.test.y
    chosen = np.random.default_rng(0).permutation(len(data.train))[: options.examples]
    table = Table(
        f"digits, ResNet8 of width {options.width}, {len(chosen)} unlabelled images",
        ["from", "to", "explained", "the least", "same class", "accuracy", "seconds"],
    )
    for origin in options.norms.split(","):
        keras.utils.set_random_seed(0)
        norm = {"name": origin, "groups": 2} if "group" in origin else origin
        old = models.ResNet8(
            data.input_shape,
            data.classes,
            norm=norm,
            width=options.width,
            classifier_activation="softmax",
        )
        compile_for_training(old)
        steps = options.epochs * (len(data.train) // BATCH_SIZE)
        falling = keras.optimizers.schedules.CosineDecay(2e-3, steps)
        train(old, data.train.x, data.train.y, steps, BATCH_SIZE, 0, rate=falling)
        classes = predicted(old, x)
        table.rows.append([origin, "-", "", "", "", f"{np.mean(classes == y):.1%}", ""])
        plain = origin if origin in TO_PLAIN.split(",") else origin.removeprefix("keras_")
        to = options.to or (TO_ALL if plain == "batch" else TO_PLAIN)
        for spec in to.split(","):
            if spec == origin:
                continue
            new = kerasnorm.convert(
                old, None if spec == "none" else spec, data.train.x[chosen], verbose=0
            )
            report = kerasnorm.report_of(new)
            shares = [site.after for site in report.sites if site.after is not None]
            now = predicted(new, x)
            row = [
                origin,
                spec,
                f"{statistics.median(shares):.1%}" if shares else "-",
                f"{min(shares):.1%}" if shares else "-",
                f"{np.mean(now == classes):.1%}",
                f"{np.mean(now == y):.1%}",
                f"{report.seconds:.1f}",
            ]
            print(*row, flush=True)
            table.rows.append(row)
    print(table.markdown())
    return 0
