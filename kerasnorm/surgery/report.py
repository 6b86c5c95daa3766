"""The report: what became of each norm, as data and as a table."""

import collections
import dataclasses
import itertools
import textwrap


@dataclasses.dataclass(frozen=True)
class Replacement:
    """One replaced layer.

    Attributes:
        layer: its path in the model, such as `"encoder/bn_1"`.
        stage: the number of its stage.
        old: the class that it was of.
        new: the class that it is of.
        carried: the weights and the unusual arguments that it took over.
        left_out: those of the old layer that it has no place for.
        chosen: what was left open in the spec and decided here, and other remarks.
        outputs: how its outputs relate to the old ones for the same inputs: `"same"`, `"same at
            inference"`, `"near"`, or `"other"`.
    """

    layer: str
    stage: int
    old: str
    new: str
    carried: tuple
    left_out: tuple
    chosen: str
    outputs: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What `replace_norms` did; `print` it for a table.

    Attributes:
        replacements: a `Replacement` for each replaced layer, in the order of `model.layers`.
        kept: the paths of the norms that `where` left as they were.
        notes: sentences about the model as a whole: its class, its compilation, its optimizer.
    """

    replacements: tuple
    kept: tuple
    notes: tuple

    def __str__(self):
        """A table of the layers, what was carried, and a last line that sums it up."""
        of = len(self.replacements)
        lines = lines_of_table(
            ("layer", "from", "to", "chosen", "outputs"),
            [(r.layer, r.old, r.new, r.chosen, r.outputs) for r in self.replacements],
        )
        for title, parts in (
            ("Carried", [r.carried for r in self.replacements]),
            ("Left out", [r.left_out for r in self.replacements]),
        ):
            counts = collections.Counter(itertools.chain.from_iterable(parts))
            if counts:
                texts = [n if count == of else f"{n} ({count})" for n, count in counts.items()]
                lines += wrapped(f"{title}: {', '.join(texts)}.")
        if self.kept:
            more = ", ..." if len(self.kept) > 8 else ""
            lines += wrapped(f"Not selected ({len(self.kept)}): {', '.join(self.kept[:8])}{more}.")
        for note in self.notes:
            lines += wrapped(note)
        return "\n".join([*lines, *wrapped(self._summary())])

    def _summary(self):
        """How many norms became what, and what that means for the outputs."""
        of = len(self.replacements)
        new = collections.Counter(r.new for r in self.replacements)
        outputs = collections.Counter(r.outputs for r in self.replacements)
        return (
            f"Replaced {of} of {of + len(self.kept)} norms: "
            f"{', '.join(f'{count} by {name}' for name, count in new.items())}. Outputs for the "
            f"same inputs: {', '.join(f'{count} {how}' for how, count in outputs.items())}."
        )


WIDTH = 100
# The columns of names: longer names go on in the next line.
WIDEST = {"layer": 34, "from": 20, "to": 20}


def wrapped(text):
    """A sentence as lines of the report."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def lines_of_table(head, rows):
    """A table in `WIDTH` columns, with long cells over several lines."""
    widths = [
        min(max(map(len, column)), WIDEST.get(name, WIDTH))
        for name, column in zip(head, zip(head, *rows, strict=True), strict=True)
    ]
    place = head.index("chosen")
    room = WIDTH - sum(widths) - 2 * (len(widths) - 1) + widths[place]
    widths[place] = min(widths[place], room)
    lines = []
    for row in (head, tuple("-" * width for width in widths), *rows):
        cells = [textwrap.wrap(cell, w) or [""] for cell, w in zip(row, widths, strict=True)]
        lines += [
            "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True)).rstrip()
            for parts in itertools.zip_longest(*cells, fillvalue="")
        ]
    return lines


def report_of(model):
    """The report on a model that `replace_norms` or `convert` returned; also `model.norm_report`.

    A `Report` or a `ConversionReport`. It is not saved with the model.

    >>> import keras
    >>> import kerasnorm
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.BatchNormalization(name="bn")], name="model"
    ... )
    >>> print(kerasnorm.report_of(kerasnorm.replace_norms(model, "batch")))
    layer  from                to         chosen  outputs
    -----  ------------------  ---------  ------  -------
    bn     BatchNormalization  BatchNorm          same
    Carried: gamma, beta, moving_mean, moving_variance, epsilon=0.001, momentum=0.99.
    Replaced 1 of 1 norms: 1 by BatchNorm. Outputs for the same inputs: 1 same.
    """
    report = getattr(model, "norm_report", None)
    if report is None:
        raise ValueError(
            f"report_of: model '{getattr(model, 'name', model)}' has no report. Needed: what "
            "`kerasnorm.replace_norms` or `convert` returned, before it was saved and loaded."
        )
    return report
