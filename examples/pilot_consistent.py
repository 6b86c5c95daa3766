"""The pilot experiment of Consistent Normalization (sections 3 and 5.1.1) on scikit-learn's digits.

Each network sees the digits, and with the transformation also copies scaled to half their size and
padded with zeros; it is tested on the digits as they are. Five ways: without a norm and with batch
norm, each without and with the copies, which then share every batch with the originals; and with
Consistent Normalization, whose copies have statistics and parameters of their own. Each way has the
learning rate of four that does best on a fifth of the training part, held out, with another seed.

    KERAS_BACKEND=jax python examples/pilot_consistent.py --json pilot.json --plot pilot.png

The figures in docs/ are of one such run.
"""

import argparse
import json
import platform
import time

import keras
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import kerasnorm
from kerasnorm import models, transforms
from search.statistics import holm

# Name, norm, and whether the scaled and padded copies are seen.
ARMS = {
    "no norm": (None, False),
    "BN": ("batch", False),
    "no norm, copies": (None, True),
    "BN, copies": ("batch", True),
    "CN, copies": ({"name": "consistent", "norm": "batch", "branches": 2}, True),
}
RATES = (0.01, 0.03, 0.1, 0.3)


def digits(examples):
    """Training and test parts, the same for every seed."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 8 - 1).astype("float32")
    return train_test_split(images, labels, train_size=examples, random_state=0, stratify=labels)


def train(norm, copies, rate, seed, parts, epochs, batch_size):
    """The accuracy on the test part, of the digits as they are."""
    x, x_test, y, y_test = parts
    keras.utils.set_random_seed(seed)
    model = models.ResNet8((8, 8, 1), 10, norm=norm, classifier_activation=None)
    transform = transforms.ScaleAndPad(0.5)
    steps = -(-len(x) // batch_size) * epochs
    if isinstance(norm, dict):
        model = kerasnorm.ConsistentModel(model, [None, transform])
    elif copies:
        # Batches twice as large: as many steps, on as many images, as with Consistent Norm.
        x = np.concatenate([x, keras.ops.convert_to_numpy(transform(x))])
        y = np.concatenate([y, y])
        batch_size *= 2
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
    return model.evaluate(x_test, y_test, batch_size=256, verbose=0, return_dict=True)["accuracy"]


def interval(values):
    """Mean and half the width of its 95 % confidence interval."""
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(half)


def plot(results, path):
    """Every seed as a point, every mean with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.5, 3.2), layout="constrained")
    for row, accuracies in enumerate(results.values()):
        values = 100 * np.array(accuracies)
        mean, half = interval(values)
        axes.plot(values, [row] * len(values), "o", color="0.7")
        axes.errorbar(mean, row, xerr=half, fmt="s", color="C0", capsize=4)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on the test digits, %: seeds, mean and 95 % interval")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--examples", type=int, default=500, help="in the training part")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--plot", help="write the picture here")
    options = parser.parse_args()
    parts = digits(options.examples)
    begin = time.perf_counter()
    x, _, y, _ = parts
    held_out = train_test_split(x, y, train_size=0.8, random_state=1, stratify=y)
    sizes = options.epochs, options.batch_size
    results, rates = {}, {}
    for name, (norm, copies) in ARMS.items():
        tried = [train(norm, copies, rate, 100, held_out, *sizes) for rate in RATES]
        rates[name] = RATES[int(np.argmax(tried))]
        results[name] = [
            train(norm, copies, rates[name], seed, parts, *sizes) for seed in range(options.seeds)
        ]
        mean, half = interval(100 * np.array(results[name]))
        print(f"{name:16} {mean:6.2f} +- {half:.2f} %   rate {rates[name]}")
    differences = {}
    others = list(ARMS)[:-1]
    consistent = np.array(results["CN, copies"])
    p_values = holm([stats.ttest_rel(consistent, results[name]).pvalue for name in others])
    for name, p_value in zip(others, p_values, strict=True):
        mean, half = interval(100 * (consistent - np.array(results[name])))
        differences[name] = {"mean": mean, "half interval": half, "p, Holm": p_value}
        print(
            f"CN, copies - {name:16} {mean:+6.2f} +- {half:.2f} points, paired by seed; p with "
            f"Holm's correction {p_value:.2g}"
        )
    if options.json:
        record = {
            "accuracies": results,
            "learning rates": rates,
            "CN minus, in points, paired by seed": differences,
            "settings": {
                key: vars(options)[key] for key in ("seeds", "epochs", "examples", "batch_size")
            },
            "versions": {
                "keras": keras.__version__,
                "kerasnorm": kerasnorm.__version__,
                "backend": keras.backend.backend(),
                "python": platform.python_version(),
            },
            "seconds": round(time.perf_counter() - begin),
        }
        with open(options.json, "w") as file:
            json.dump(record, file, indent=1)
            file.write("\n")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
