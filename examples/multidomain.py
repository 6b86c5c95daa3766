"""Look at the data set "multidomain": a picture of it, and what a linear probe makes of it.

Writes docs/multidomain.png and docs/multidomain.md. Run it from the root of the repository:

    python examples/multidomain.py
"""

import pathlib

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from search.data import DOMAINS, multidomain

DOCS = pathlib.Path("docs")
# Pictures of each digit, and how many times larger than they are.
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


def probe_accuracies(data):
    """The accuracy of a linear classifier of pixels, on the test part of each domain.

    Returns:
        One trained on all 40 classes, and one trained on the domain's ten classes alone.
    """

    def flat(part, chosen):
        return part.x[chosen].reshape(chosen.sum(), -1), part.y[chosen]

    everything = [np.ones(len(part), bool) for part in (data.train, data.test)]
    joint = LogisticRegression(C=0.1, max_iter=300).fit(*flat(data.train, everything[0]))
    rows = []
    for number, domain in enumerate(DOMAINS):
        train, test = (part.y // 10 == number for part in (data.train, data.test))
        alone = LogisticRegression(C=0.1, max_iter=300).fit(*flat(data.train, train))
        rows.append(
            (domain, joint.score(*flat(data.test, test)), alone.score(*flat(data.test, test)))
        )
    return rows


def main():
    data = multidomain()
    picture(data).save(DOCS / "multidomain.png", optimize=True)
    lines = [
        "# The data set multidomain",
        "",
        "Four visually different domains of ten classes each, made offline of scikit-learn's "
        "digits and sample photographs:",
        "",
        "![two pictures of each digit in each domain](multidomain.png)",
        "",
        f"{len(data.train):,} training, {len(data.validation):,} validation and "
        f"{len(data.test):,} test pictures of 16x16 pixels; no digit of the source, and no part of "
        "a photograph, is in two of them.",
        "",
        "Accuracy of logistic regression on the pixels, test part; chance is 2.5 % among 40 "
        "classes, 10 % among 10. `python examples/multidomain.py` wrote this file.",
        "",
        "| domain | one probe for all 40 classes | a probe for this domain's 10 |",
        "| --- | --- | --- |",
    ]
    for domain, joint, alone in probe_accuracies(data):
        lines.append(f"| {domain} | {100 * joint:.1f} % | {100 * alone:.1f} % |")
    (DOCS / "multidomain.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
