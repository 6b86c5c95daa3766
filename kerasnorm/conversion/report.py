"""What a conversion did to each norm, and what is left of the model's function."""

import dataclasses
import importlib
import statistics as numbers

from kerasnorm.surgery.report import lines_of_table, wrapped


@dataclasses.dataclass(frozen=True)
class ConvertedSite:
    """A norm that was converted.

    Attributes:
        layer: its path in the model.
        old, new: the classes.
        chosen: the arguments that were left open, as they were chosen; empty where nothing was.
        before: the share of the variance of the old outputs that the new layer explains before it
            is fitted, on held-out examples, given what the norms before it pass on. Less than 0
            is worse than a constant; None where that is not known.
        after: the same when it was fitted; None where the norm could not be fitted.
        why_not: why it could not be fitted.
    """

    layer: str
    old: str
    new: str
    chosen: str
    before: float | None
    after: float | None
    why_not: str = ""


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert` did; `print` it for a table.

    Attributes:
        sites: a `ConvertedSite` for each norm, in the order in which the model calls them.
        agreement: for how many of the held-out examples both models predict the same class, from 0
            to 1; None where the output is no score per class.
        explained: the share of the variance of the old model's outputs that the new one's explain.
        scores: from each metric to its value for the old and for the new model, on held-out
            examples; empty without labels.
        examples: how many examples the norms were fitted on, and how many were held out.
        parameters: of the old and of the new model.
        steps: of distillation.
        seconds: all of it took.
        ranking: where several norms were tried: a name and what it keeps for each, the best first,
            before any distillation.
        notes: sentences about the model as a whole: its class, its compilation, its optimizer.
    """

    sites: tuple
    agreement: float | None
    explained: float
    scores: dict
    examples: tuple
    parameters: tuple
    steps: int
    seconds: float
    ranking: tuple = ()
    notes: tuple = ()

    def __str__(self):
        """A table of the norms, and a last line that sums it up."""
        alike = _alike(self.sites)
        rows = [
            (
                site.layer,
                site.old,
                site.new,
                ", ".join(
                    [part for part in _arguments(site) if part not in alike.get(site.new, ())]
                    + [site.why_not] * bool(site.why_not)
                ),
                _share(site.before),
                _share(site.after),
            )
            for site in self.sites
        ]
        lines = lines_of_table(("layer", "from", "to", "chosen", "before", "after"), rows)
        for new, arguments in alike.items():
            lines += wrapped(f"Each {new} has {', '.join(arguments)}.")
        if self.ranking:
            listed = ", ".join(f"{name} {_share(kept)}" for name, kept in self.ranking)
            lines += wrapped(f"Tried: {listed}.")
        for note in self.notes:
            lines += wrapped(note)
        return "\n".join([*lines, *wrapped(self.summary())])

    def summary(self):
        """One sentence on the whole."""
        after = [site.after for site in self.sites if site.after is not None]
        old, new = self.parameters
        more = f"{abs(new - old) / old:.1%} {'more' if new >= old else 'fewer'} parameters"
        parts = []
        if after:
            least, most = _share(min(after)), _share(max(after))
            span = f"{least} to {most} (median {_share(numbers.median(after))})"
            parts.append(
                f"The fitted norms explain {most if least == most else span} of the old outputs' "
                "variance"
            )
        if self.agreement is not None:
            parts.append(f"the predicted class is the old one for {self.agreement:.1%}")
        parts.append(f"the outputs explain {self.explained:.1%} of the old outputs' variance")
        for name, (before, now) in self.scores.items():
            parts.append(f"{name} was {before:.4g} and is {now:.4g}")
        steps = f", {self.steps} steps of distillation" if self.steps else ", no training"
        return (
            "; ".join(parts) + f". On {self.examples[1]} held-out examples, fitted on "
            f"{self.examples[0]}{steps}, with {more}."
        )

    def figure(self, path):
        """Draw what each norm explains before and after, and save the picture.

        Args:
            path: a file name, with the ending of a format that matplotlib knows.
        """
        try:
            figures = importlib.import_module("matplotlib.figure")
        except ImportError as error:
            raise ImportError(
                "figure: matplotlib is not installed. Needed: `pip install matplotlib`."
            ) from error
        picture = figures.Figure(figsize=(7, 1.2 + 0.28 * len(self.sites)), layout="constrained")
        axes = picture.add_subplot()
        rows = range(len(self.sites))
        for name, color, marker in (("before", "tab:gray", "o"), ("after", "tab:blue", "D")):
            values = [getattr(site, name) for site in self.sites]
            shares = [float("nan") if v is None else 100 * max(v, 0.0) for v in values]
            label = {"before": "swapped", "after": "fitted"}[name]
            axes.plot(shares, rows, marker, color=color, label=label)
        axes.set_yticks(rows, [site.layer for site in self.sites], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(-2, 102)
        axes.set_xlabel("variance of the old outputs explained, %")
        axes.grid(axis="x", alpha=0.3)
        title = "" if self.agreement is None else f"same class as before: {self.agreement:.1%}"
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8)
        picture.savefig(path, dpi=150)


def _arguments(site):
    """What was chosen for a norm, one by one."""
    return site.chosen.split(", ") if site.chosen else []


def _alike(sites):
    """From a class to the arguments that all of several norms of it were given."""
    alike = {}
    for new in dict.fromkeys(site.new for site in sites):
        several = [_arguments(site) for site in sites if site.new == new and not site.why_not]
        if len(several) > 1:
            alike[new] = [part for part in several[0] if all(part in one for one in several)]
    return {new: arguments for new, arguments in alike.items() if arguments}


def _share(value):
    return "-" if value is None else f"{value:.1%}"
