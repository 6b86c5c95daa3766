"""Look at the data sets for other tasks than classification: a picture, and what networks reach.

Writes docs/data.png and docs/data.md, in about ten minutes on two cores. Run it from the root of
the repository:

    python examples/task_sets.py
"""

import pathlib
import statistics

import keras
import numpy as np
from PIL import Image
from sklearn.linear_model import RidgeCV

from search.data import diabetes, edges2photos, shapes
from search.data.splits import Splits
from search.hypermodel import NormHyperModel
from search.measuring import Test, chosen

DOCS = pathlib.Path("docs")
# Pictures of each set, and how much each is enlarged.
COUNT, SCALE = 12, 2
COLOURS = np.array([[0, 0, 0], [0, 0.5, 0.8], [0.9, 0.6, 0], [0, 0.6, 0.4], [0.8, 0.4, 0.7]])
SEEDS = 3
# The network of each set, its arguments, and its epochs.
NETWORKS: dict[str, tuple[str, dict, int]] = {
    "diabetes": ("mlp", {"width": 16, "depth": 1}, 60),
    "shapes": ("pix2pixgenerator", {"width": 16, "dropout": 0.0}, 80),
    "edges2photos": ("pix2pixgenerator", {"width": 16, "dropout": 0.0}, 80),
}


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
    return image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.NEAREST)


def guess(data):
    """The error on the test part of what says the same of each example."""
    train, test = data.train.y, data.test.y
    if data.task == "segmentation":
        return float(np.mean(test != np.bincount(train.ravel()).argmax()))
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


def trained(data, epochs=None, seeds=SEEDS):
    """The errors of the network of a set, with batch norm, on some seeds."""
    name, arguments, usual = NETWORKS[data.name]
    test = Test(Splits(data), *chosen(None, data.task))
    hypermodel = NormHyperModel(name, form=data.form, arguments=arguments, placements=["all"])
    errors = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model = hypermodel.model_of("batch", {"learning_rate": 0.003})
        model.fit(data.train.x, data.train.y, batch_size=32, epochs=epochs or usual, verbose=0)
        errors.append(test(model)[0])
    return errors


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
        "without a download.",
        "",
        "![pictures with objects and their masks; edges and the photographs they are of](data.png)",
        "",
        "| `--data` | task | examples: training, validation, test | input | output |",
        "| --- | --- | --- | --- | --- |",
    ]
    sets = {data.name: data for data in (diabetes(), shapes(), edges2photos())}
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
        "more than one part.",
        "",
        "The table shows the error on the test part: the share of wrong pixels for `shapes`, the "
        "mean squared error for the others. A guess says the same of each example: the mean, or "
        f"the commonest class. The networks have batch norm; the mean and the range of {SEEDS} "
        "seeds are shown. What needs no network is ridge regression for `diabetes`, and the "
        "colours as they are for `edges2photos`. `python examples/task_sets.py` wrote this file.",
        "",
        "| `--data` | a guess | without a network | a network | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, (guessed, easy, errors) in found.items():
        network, arguments, epochs = NETWORKS[name]
        said = ", ".join(f"{key} {value}" for key, value in arguments.items())
        ends = f"{statistics.mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})"
        shown = "" if easy is None else f"{easy:.4f}"
        about = f"`{network}`, {said}, {epochs} epochs"
        lines.append(f"| `{name}` | {guessed:.4f} | {shown} | {ends} | {about} |")
    return "\n".join([*lines, ""])


def main():
    """Write both files."""
    found = {}
    for data in (diabetes(), shapes(), edges2photos()):
        found[data.name] = (guess(data), simple(data), trained(data))
    picture().save(DOCS / "data.png")
    (DOCS / "data.md").write_text(page(found))


if __name__ == "__main__":
    main()
