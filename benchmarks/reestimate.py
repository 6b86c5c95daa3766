"""Compare short trainings with long ones, with moving statistics measured anew and without.

Each norm is trained on digits with a ResNet-8. The question is whether a short training ranks the
norms as a long one does. Validation errors are means over seeds.
"""

import itertools
import statistics

from benchmarks.tables import Table

HELP = "compare short trainings with long ones, with re-estimated moving statistics and without"
NORMS = ("batch", "mode", "conv", "group", "instance", "layer", "ilm_group", "mode_group")


def add_arguments(parser):
    parser.add_argument("--epochs", type=int, default=2, help="of a short training")
    parser.add_argument("--long", type=int, default=20, help="epochs of a long training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="channels of the first stage")
    parser.add_argument("--norms", default=",".join(NORMS), help="comma-separated")


def environment(options):
    return {}


def agreement(short, long):
    """The share of pairs that both put in the same order; equal ones count half."""
    same = [
        0.5
        if (short[a] == short[b] or long[a] == long[b])
        else float((short[a] < short[b]) == (long[a] < long[b]))
        for a, b in itertools.combinations(short, 2)
    ]
    return statistics.mean(same)


def trained(hypermodel, data, norm, seed, checkpoints):
    """Train once; the validation error after some epochs, as it is and re-estimated.

    A short training is the beginning of a long one, and re-estimating changes no training.
    """
    import keras
    import numpy as np

    from kerasnorm.moving_statistics import Estimator
    from search.batches import Batches
    from search.evaluation import BATCHES

    keras.utils.set_random_seed(seed)
    model = hypermodel.model_of(hypermodel.space.default_spec(norm), {})
    batches, estimator = Batches(data.train, 64, seed), Estimator(model)
    errors = {}

    def error():
        outputs = model.predict(data.validation.x, batch_size=512, verbose=0)
        return float(np.mean(np.argmax(outputs, -1) != data.validation.y))

    def measure(epoch, logs):
        if epoch + 1 not in checkpoints:
            return
        kept = [np.array(v) for v in map(keras.ops.convert_to_numpy, variables)]
        errors[epoch + 1, False] = error()
        estimator(batches, BATCHES)
        errors[epoch + 1, True] = error()
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)

    variables = model.non_trainable_variables
    callback = keras.callbacks.LambdaCallback(on_epoch_end=measure)
    model.fit(batches, epochs=max(checkpoints), callbacks=[callback], verbose=0)
    return errors


def run(options):
    import keras

    from search.data import load
    from search.hypermodel import NormHyperModel

    norms = options.norms.split(",")
    short, long = options.epochs, options.long
    data = load("digits")
    hypermodel = NormHyperModel(
        "resnet8",
        input_shape=data.input_shape,
        classes=data.classes,
        arguments={"width": options.width},
        norms=norms,
    )
    ways = ((short, False), (short, True), (long, False), (long, True))
    errors = {}
    for norm in norms:
        runs = [
            trained(hypermodel, data, norm, seed, (short, long)) for seed in range(options.seeds)
        ]
        errors[norm] = {way: statistics.mean(one[way] for one in runs) for way in ways}
        print(norm, *(f"{100 * errors[norm][way]:.1f}" for way in ways), flush=True)
    titles = (f"{epochs} epochs{', re-estimated' * again}" for epochs, again in ways)
    table = Table(
        f"Validation error in %, ResNet-8 on digits, {options.seeds} seeds, "
        f"{keras.backend.backend()}",
        ["norm", *titles],
    )
    for norm in sorted(norms, key=lambda norm: errors[norm][long, True]):
        table.rows.append([norm, *(f"{100 * errors[norm][way]:.1f}" for way in ways)])
    truth = {norm: errors[norm][long, True] for norm in norms}
    for again in (False, True):
        ranked = {norm: errors[norm][short, again] for norm in norms}
        table.notes.append(
            f"{short} epochs{', re-estimated,' * again} put {100 * agreement(ranked, truth):.0f} % "
            f"of the pairs of norms in the order of {long} epochs."
        )
    print()
    print(table.markdown())
    return 0
