"""Look at the data sets for other tasks than classification: a picture, and what networks reach.

Writes docs/data.png and docs/data.md, in about ten minutes on two cores. Run it from the root of
the repository:

    python examples/task_sets.py

With names of data sets it trains the networks of these alone, and keeps what the page says of the
others:

    python examples/task_sets.py reversal
"""

import pathlib
import re
import statistics
import sys
from typing import NamedTuple

import keras
import numpy as np
from PIL import Image, ImageDraw
from sklearn.linear_model import RidgeCV

from search.data import diabetes, edges2photos, reversal, shapes
from search.data.splits import Splits
from search.hypermodel import NormHyperModel
from search.measuring import Test, chosen

DOCS = pathlib.Path("docs")
# Pictures of each set, and how much each is enlarged.
COUNT, SCALE = 12, 2
COLOURS = np.array([[0, 0, 0], [0, 0.5, 0.8], [0.9, 0.6, 0], [0, 0.6, 0.4], [0.8, 0.4, 0.7]])
# One for each token.
HUES = [f"hsl({36 * number}, 80%, 75%)" for number in range(11)]
SEEDS = 3
SETS = (diabetes, shapes, edges2photos, reversal)


class Network(NamedTuple):
    """The network of a set: an architecture, its arguments, its epochs and its norm."""

    name: str
    arguments: dict
    epochs: int
    norm: str = "batch"


NETWORKS = {
    "diabetes": Network("mlp", {"width": 16, "depth": 1}, 60),
    "shapes": Network("pix2pixgenerator", {"width": 16, "dropout": 0.0}, 80),
    "edges2photos": Network("pix2pixgenerator", {"width": 16, "dropout": 0.0}, 80),
    "reversal": Network("transformer", {"width": 32, "dropout": 0.0}, 30, "layer"),
}
# On the page, what was measured: its networks' mean, lowest and highest error.
MEASURED = re.compile(r"^\| `(\w+)` .* ([\d.]+) \(([\d.]+) to ([\d.]+)\) \|", re.MULTILINE)


def picture():
    """Rows of inputs with the rows of their labels below."""
    one, other = shapes().train, edges2photos().train
    rows = [
        one.x,
        COLOURS[one.y],
        np.repeat(other.x[..., :1], 3, axis=-1),
        other.x[..., 1:],
        other.y,
    ]
    pixels = [
        np.concatenate([np.pad(x, ((1, 1), (1, 1), (0, 0))) for x in row[:COUNT]], axis=1)
        for row in rows
    ]
    image = Image.fromarray((255 * np.concatenate(pixels)).astype("uint8"))
    image = image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.NEAREST)
    below = tokens(reversal().train, image.width)
    both = Image.new("RGB", (image.width, image.height + below.height))
    both.paste(image)
    both.paste(below, (0, image.height))
    return both


def tokens(part, width):
    """Sequences with their translations below, a colour for each token; padding has none."""
    side, gap = 22, 24
    per_sequence = part.x.shape[1] * side + gap
    image = Image.new("RGB", (width, 3 * side), "white")
    draw = ImageDraw.Draw(image)
    for number in range(width // per_sequence):
        for row, sequence in enumerate((part.x[number], part.y[number])):
            for place, token in enumerate(sequence[sequence > 0]):
                left, top = number * per_sequence + place * side + gap // 2, row * side + side // 2
                box = (left, top, left + side - 3, top + side - 3)
                draw.rectangle(box, fill=HUES[token], outline="black")
    return image


def guess(data):
    """The error on the test part of what says the same of each example."""
    train, test = data.train.y, data.test.y
    if data.task == "segmentation":
        return float(np.mean(test != np.bincount(train.ravel()).argmax()))
    if data.task == "tokens":
        wrong = (test != np.bincount(train[train > 0]).argmax()) & (test > 0)
        return float(np.mean(wrong.sum(axis=1) / (test > 0).sum(axis=1)))
    return float(np.mean((test - train.mean(axis=0)) ** 2))


def simple(data):
    """The error of what needs no network; None where there is nothing of the kind.

    Of a table that is ridge regression, which chooses its penalty by the training part; of edges
    with colours the colours as they are.
    """
    if data.name == "edges2photos":
        return float(np.mean((data.test.x[..., 1:] - data.test.y) ** 2))
    if data.name != "diabetes":
        return None
    model = RidgeCV(np.logspace(-2, 4, 25)).fit(data.train.x, data.train.y)
    return float(np.mean((model.predict(data.test.x) - data.test.y.ravel()) ** 2))


def test_of(data):
    """What measures a network on the test part."""
    return Test(Splits(data), *chosen(None, data.task))


def trained(data, seed, epochs=None):
    """The network of a set, trained from a seed."""
    network = NETWORKS[data.name]
    hypermodel = NormHyperModel(
        network.name, form=data.form, arguments=network.arguments, placements=["all"]
    )
    keras.utils.set_random_seed(seed)
    model = hypermodel.model_of(network.norm, {"learning_rate": 0.003})
    epochs = epochs or network.epochs
    model.fit(data.train.x, data.train.y, batch_size=32, epochs=epochs, verbose=0)
    return model


def errors_of(data, epochs=None, seeds=SEEDS):
    """The errors of the network of a set on some seeds."""
    test = test_of(data)
    return [test(trained(data, seed, epochs))[0] for seed in range(seeds)]


def errors_on(page):
    """The errors that a page has, by the names of the sets: numbers of that mean and range."""
    found = {}
    for name, *ends in MEASURED.findall(page):
        mean, low, high = map(float, ends)
        found[name] = [low, high, 3 * mean - low - high]
    return found


def page(found):
    """The text of docs/data.md.

    Args:
        found: for each set, the error of a guess, that of `simple`, and those of the
            network.
    """
    lines = [
        "# Data sets for other tasks",
        "",
        "These data sets are included. They are made from scikit-learn's data and photographs, "
        "without a download. `reversal` is made of random",
        "numbers. `kerasnorm-search --data shapes` searches the norms of the network that fits the "
        "task; the other names work in the same way.",
        "",
        "![pictures with objects and their masks; edges and the photographs they are of; sequences "
        "and their translations](data.png)",
        "",
        "| `--data` | task | examples: training, validation, test | input | output |",
        "| --- | --- | --- | --- | --- |",
    ]
    sets = {data.name: data for data in (load() for load in SETS)}
    for name, data in sets.items():
        counts = ", ".join(str(len(part)) for part in (data.train, data.validation, data.test))
        forms = ("x".join(map(str, one)) for one in (data.input_shape, data.output_shape))
        lines.append(f"| `{name}` | {data.task} | {counts} | {' | '.join(forms)} |")
    lines += [
        "",
        "`diabetes` has the measurements of patients, and how their disease was a year later, "
        "standardized. `shapes` has discs, squares, triangles and rings, filled with other pieces "
        "of photographs; each pixel has one of five classes. `edges2photos` asks for a photograph "
        "from its edges and from its colours at 4x4 pixels. No region of a photograph is used in "
        "more than one part. `reversal` has sequences of 3 to 8 tokens, which it asks to be mapped "
        "one for one and reversed; 0 is padding, and no sequence is in two parts.",
        "",
        "The table shows the error on the test part: the share of wrong pixels for `shapes`, of "
        "wrong tokens for `reversal`, and the mean squared error for the others. A guess says the "
        "same of each example: the mean, or the commonest class. Of the networks, the mean and "
        f"the range of {SEEDS} seeds are shown. What needs no network is ridge regression for "
        "`diabetes`, and the colours as they are for `edges2photos`. "
        "`python examples/task_sets.py` wrote this file.",
        "",
        "| `--data` | a guess | without a network | a network | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, (guessed, easy, errors) in found.items():
        network = NETWORKS[name]
        said = ", ".join(f"{key} {value}" for key, value in network.arguments.items())
        ends = f"{statistics.mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})"
        shown = "" if easy is None else f"{easy:.4f}"
        about = f"`{network.name}`, {network.norm} norm, {said}, {network.epochs} epochs"
        lines.append(f"| `{name}` | {guessed:.4f} | {shown} | {ends} | {about} |")
    return "\n".join([*lines, ""])


def main():
    """Write both files."""
    named = sys.argv[1:]
    known = errors_on((DOCS / "data.md").read_text()) if named else {}
    found = {}
    for data in (load() for load in SETS):
        again = not named or data.name in named
        errors = errors_of(data) if again else known[data.name]
        found[data.name] = (guess(data), simple(data), errors)
    picture().save(DOCS / "data.png")
    (DOCS / "data.md").write_text(page(found))


if __name__ == "__main__":
    main()
