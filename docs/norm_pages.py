"""Writes the pages of the norms, with pictures, and their table in the README: `make readme`."""

import os
import pathlib
import re

from benchmarks import results, tables
from kerasnorm import norms

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = ROOT / "docs" / "norms"
BLOCK = re.compile(r"(?<=<!-- norms -->\n).*?(?=\n<!-- /norms -->)", re.DOTALL)
CHANNELS = 64

PAGE = """# {name}

{summary}

![How the data flow through the layer]({key}.svg)

## Formula

{formulas}

n is an example, p a position and c a channel. The arguments, and how masks are treated,
stand in the [API reference](../api.md#norms) and in `help(kerasnorm.{name})`.

## When to use it

{when}

## Example

```python
import keras
import numpy as np

import kerasnorm

model = keras.Sequential(
    [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(16, 3, use_bias=False),
        kerasnorm.{name}({arguments}),
        keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss)
images = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
model.fit(images, np.arange(64) % 10, epochs=2)
```

In a network that exists:

```python
model = kerasnorm.replace_norms(model, "{spec}")
```

## Facts

| | |
| --- | --- |
{facts}

## Cost

{cost}

Training reads the input twice and writes the output once, as every norm here does.
Inference reads the input {reads}.

## Numerics

Statistics are float32 for half-precision inputs, and no variance is the difference of two large
numbers. [Numerics](../numerics.md) says what tests hold every norm to.

## Reference

{reference}
"""


def paged(rows=norms.ROWS):
    """The rows that have a page."""
    return [row for row in rows if row.formulas]


def arguments(row):
    """What its example gives the layer."""
    if row.auto:
        return dict.fromkeys(row.auto, "auto")
    return next(iter(row.labels.values()))


def facts(row):
    """What the row says of the layer, a line of a table each."""
    by_batch = row.scope == "batch"
    names = ", ".join(f'`"{name}"`' for name in (row.name, *row.aliases))
    inputs = "images of a fixed size" if row.ranks == (4,) else "any number of axes from 2"
    yield "norm spec", names
    if row.statistics == "learned":
        yield "statistics", "predicted from each example"
    else:
        yield "statistics", "of the batch" if by_batch else "of each example"
    yield "at inference", "moving averages for the batch's" if by_batch else "as in training"
    yield "inputs", f"{inputs}, channels first or last, masks"
    choices = ", ".join(f"`{argument.name}`" for argument in row.arguments)
    yield "what a search chooses", choices or "nothing but where it is used"
    yield f"weights for {CHANNELS} channels", weights(row)


def weights(row):
    """The shapes of its weights."""
    layer = row.layer_class(**arguments(row))
    layer.build((None, 32, 32, CHANNELS))
    shapes = [
        f"`{weight.name}` {'x'.join(map(str, weight.shape)) or '1'}" for weight in layer.weights
    ]
    return ", ".join(shapes)


def cost(row, table):
    """The rows of the benchmark's overview that are of this norm."""
    names = {label.replace("(32)", "") for label in row.labels}
    lines = [line for line in table.rows if line[0] in names]
    if not lines:
        return (
            f"`python -m benchmarks layers --layers {row.class_name}` times it on your machine. "
            "The committed benchmark has no row of it."
        )
    return (
        "A training step as a part of that with `keras.layers.BatchNormalization`, on two CPU "
        "cores:\n\n"
        + table.__class__("", table.columns, lines).markdown().partition("\n\n")[2]
        + "\n\n`python -m benchmarks layers` and `networks` measured it; "
        "[Benchmarks](../benchmarks.md) has the conditions."
    )


def page(row, table):
    """The text of a norm's page."""
    given = ", ".join(f"{name}={value!r}" for name, value in arguments(row).items())
    reads = "once" if row.inference_reads == 1 else "twice"
    return PAGE.format(
        name=row.class_name,
        key=row.name,
        spec=row.name,
        summary=f"{row.words[0].upper()}{row.words[1:]}: {row.summary}.",
        formulas="\n\n".join(f"$$\n{formula}\n$$" for formula in row.formulas),
        when=row.when,
        arguments=given.replace("'", '"'),
        facts="\n".join(f"| {key} | {value} |" for key, value in facts(row)),
        cost=cost(row, table),
        reads=reads,
        reference=f"{norms.linked(row)}.",
    )


# The picture. Its boxes have paper of their own, so that it can be read on light and on dark.

WIDTH, BOX, GAP, STEP = 450, 370, 22, 38
LARGE, SMALL = ("#c7d2fe", "#3730a3"), ("#fef3c7", "#92400e")


def _box(y, text, colors):
    paper, ink = colors
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<rect x="2" y="{y}" width="{BOX}" height="{STEP}" rx="6" fill="{paper}" '
        f'stroke="{ink}"/>\n<text x="{2 + BOX / 2}" y="{y + 25}" fill="{ink}">{text}</text>'
    )


def picture(row):
    """The way from x to y: full-size arrays are blue, small ones yellow."""
    steps = [
        ("x (N, ..., C)", LARGE),
        ("moments of each channel: mean, variance (N, C)", SMALL),
        *((step, SMALL) for step in row.flow),
        ("scale and shift of each channel (N, C)", SMALL),
        ("y = (x - mean) * scale + shift", LARGE),
    ]
    height = len(steps) * (STEP + GAP) - GAP + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="13" text-anchor="middle">',
        '<g fill="none" stroke="#8a94a6" stroke-width="2">',
    ]
    middle = 2 + BOX / 2
    for number in range(1, len(steps)):
        y = 2 + number * (STEP + GAP)
        parts.append(f'<path d="M{middle} {y - GAP}V{y - 3}m-5 -6l5 6l5 -6"/>')
    first, last = 2 + STEP / 2, height - 2 - STEP / 2
    parts.append(f'<path d="M{BOX + 2} {first}H{WIDTH - 30}V{last}H{BOX + 5}m6 -5l-6 5l6 5"/>')
    parts.append("</g>")
    parts += [_box(2 + n * (STEP + GAP), *step) for n, step in enumerate(steps)]
    return "\n".join([*parts, "</svg>\n"])


INDEX = """# The norms

{table}

`AssocNorm` is another name for `AssociateNorm`. The page of `ConsistentNorm` is
[Consistent Normalization](../consistent.md).

```{{toctree}}
:hidden:

{names}
```
"""


def index():
    """The table of the README, whose names lead to the pages."""
    text = norms.markdown()
    for row in paged():
        text = text.replace(f"| `{row.class_name}` |", f"| [`{row.class_name}`]({row.name}.md) |")
    return INDEX.format(table=text, names="\n".join(row.name for row in paged()))


def files():
    """What is written, by its path."""
    table = tables.overview(results.read(ROOT / "benchmarks" / "results" / "cpu.json"))
    written = {PAGES / "index.md": index()}
    for row in paged():
        written[PAGES / f"{row.name}.md"] = page(row, table)
        written[PAGES / f"{row.name}.svg"] = picture(row)
    written[README] = BLOCK.sub(lambda _: norms.markdown(), README.read_text())
    return written


if __name__ == "__main__":
    os.makedirs(PAGES, exist_ok=True)
    for path, text in files().items():
        path.write_text(text)
