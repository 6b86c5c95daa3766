"""Look at the data set "multidomain": a picture of it, and the accuracy of linear classifiers.

Writes docs/multidomain.png and docs/multidomain.md. Run it from the root of the repository:

    python examples/multidomain.py
"""

import pathlib

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from search.data import DOMAINS, multidomain

DOCS = pathlib.Path("docs")
# How many pictures of each digit, and how much each is enlarged.
COPIES, SCALE = 2, 3


def picture(data):
    """Rows of domains, columns of digits."""
    rows = []
    for domain in range(len(DOMAINS)):
        columns = []
        for digit in range(10):
            places = np.flatnonzero(data.train.y == 10 * domain + digit)[: 40 * COPIES : 40]
            columns += [np.pad(x, ((1, 1), (1, 1), (0, 0))) for x in data.train.x[places]]
        rows.append(np.concatenate(columns, axis=1))
    pixels = (255 * np.concatenate(rows)).astype("uint8")
    image = Image.fromarray(pixels)
    size = (SCALE * image.width, SCALE * image.height)
    return image.resize(size, Image.Resampling.NEAREST)


def train(data, domain=None, steps=300):
    """A linear classifier of pixels, trained on the ten classes of a domain or on all 40."""
    chosen = data.train.y // 10 == domain if domain is not None else slice(None)
    probe = LogisticRegression(C=0.1, max_iter=steps)
    return probe.fit(flat(data.train.x[chosen]), data.train.y[chosen])


def accuracy(probe, data, domain):
    """The accuracy of a probe on the test part of a domain."""
    chosen = data.test.y // 10 == domain
    return probe.score(flat(data.test.x[chosen]), data.test.y[chosen])


def flat(images):
    return images.reshape(len(images), -1)


def page(data, accuracies):
    """The text of docs/multidomain.md.

    Args:
        data: the data set.
        accuracies: for each domain, that of the probe for all classes and that of its own probe.
    """
    lines = [
        "# The data set multidomain",
        "",
        "This data set has four visually different domains with ten classes each. It is made from "
        "scikit-learn's digits and sample photographs, without a download:",
        "",
        "![two pictures of each digit in each domain](multidomain.png)",
        "",
        f"There are {len(data.train):,} training, {len(data.validation):,} validation and "
        f"{len(data.test):,} test pictures of 16x16 pixels. No digit of the source and no region "
        "of a photograph is used in more than one of these parts.",
        "",
        "The table shows the accuracy of logistic regression on the pixels of the test part. "
        "Chance is 2.5 % among 40 classes and 10 % among 10. `python examples/multidomain.py` "
        "wrote this file.",
        "",
        "| domain | one probe for all 40 classes | a probe for this domain's 10 |",
        "| --- | --- | --- |",
    ]
    for domain, (joint, alone) in zip(DOMAINS, accuracies, strict=True):
        lines.append(f"| {domain} | {100 * joint:.1f} % | {100 * alone:.1f} % |")
    return "\n".join(lines) + "\n"


def main():
    data = multidomain()
    picture(data).save(DOCS / "multidomain.png", optimize=True)
    joint = train(data)
    accuracies = [
        (accuracy(joint, data, domain), accuracy(train(data, domain), data, domain))
        for domain in range(len(DOMAINS))
    ]
    text = page(data, accuracies)
    (DOCS / "multidomain.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
