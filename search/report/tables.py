"""The tables of a report: made once, then written as HTML, CSV, Markdown and LaTeX."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search import answer as answers
from search import formats

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the value in a row.
        title: its head.
        show: how a value is shown.
        numeric: whether it is a number.
        ends: the keys of an interval, shown behind the value.
        full: whether it is for the files only: the page shows it elsewhere, or not at all.
    """

    key: str
    title: str
    show: Callable[[Any], str] = str
    numeric: bool = False
    ends: tuple[str, ...] = ()
    full: bool = False

    def text(self, row: Row) -> str:
        """What a cell says."""
        interval = self.interval(row)
        return f"{self.value(row)} ({interval})" if interval else self.value(row)

    def value(self, row: Row) -> str:
        """What a cell says, but for the interval."""
        return formats.NONE if row[self.key] is None else self.show(row[self.key])

    def interval(self, row: Row) -> str:
        """The ends of the interval; empty if there is none."""
        if row[self.key] is None or not self.ends or row[self.ends[0]] is None:
            return ""
        low, high = (self.show(row[end]) for end in self.ends)
        unit = low.rpartition(" ")[2]
        if unit != low and high.endswith(f" {unit}"):
            low = low.removesuffix(f" {unit}")
        return f"{low} to {high}"


@dataclass(frozen=True)
class Table:
    """A table with raw values; columns say how to show them."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    @property
    def shown(self) -> list[Column]:
        """The columns that the page shows."""
        return [column for column in self.columns if not column.full]


MARK = "★"


def _mark_column() -> Column:
    return Column("recommended", "use", lambda is_it: MARK if is_it else "")


def leaderboard(answer: answers.Answer) -> Table:
    """The candidates and baselines, the best mean first."""
    compared = {comparison.name: comparison for comparison in answer.comparisons}
    places = {arm.name: place for place, arm in enumerate(answer.arms, 1)}
    rows = []
    for place, arm in enumerate(answer.arms, 1):
        comparison = compared.get(arm.name)
        verdict = comparison.verdict if comparison else arm.role
        if arm.name == answer.reference:
            verdict = "best baseline"
        rows.append(
            {
                "place": place,
                "recommended": answer.rests_on == answers.COMPARED and arm.name == answer.best,
                "arm": arm.name,
                "role": arm.role,
                "error": arm.mean,
                "low": arm.low,
                "high": arm.high,
                "seeds": f"{len(arm.errors)} of {arm.seeds}",
                **_difference(comparison),
                "verdict": verdict,
                "step_seconds": arm.step_seconds,
                "step_low": arm.step_low,
                "step_high": arm.step_high,
                "parameters": arm.parameters,
                "pareto": _pareto(arm, answer, places),
            }
        )
    columns = [
        Column("place", "#", str, True),
        _mark_column(),
        Column("arm", "norm"),
        _error_column(answer),
        *_difference_columns(answer, "best baseline"),
        Column("verdict", "verdict"),
        Column("role", "role", full=True),
        Column("seeds", "seeds", str, True, full=len({len(arm.errors) for arm in answer.arms}) < 2),
        Column("step_seconds", "train step", formats.seconds, True, ("step_low", "step_high")),
        Column("parameters", "parameters", formats.number, True),
        Column("pareto", "Pareto front"),
    ]
    new = "new seeds and splits" if answer.splits > 1 else "new seeds"
    caption = (
        f"{formats.capital(answer.measure.said)} on {new}, with 95 % confidence intervals that "
        "hold at once. "
        f"{MARK}: the norm to use."
    )
    return Table("leaderboard", caption, columns, rows)


def _pareto(arm: answers.Arm, answer: answers.Answer, places: Mapping[str, int]) -> str:
    """Whether an arm is on the Pareto front, or else what beats it."""
    if arm.name in answer.pareto:
        return "yes"
    if arm.name not in answer.beaten:
        return "not known"
    other, better_in = answer.beaten[arm.name]
    advantages = {
        "error": f"has a {answer.measure.better} {answer.measure.words}",
        "time": "takes less time",
        "parameters": "has fewer parameters",
    }
    return f"no: # {places[other]} {' and '.join(advantages[one] for one in better_in)}"


def ablation(answer: answers.Answer) -> Table:
    """The winner with one hyperparameter changed at a time."""
    arms = {arm.name: arm for arm in answer.ablation_arms}
    rows = []
    for comparison in answer.ablation:
        arm = arms[comparison.name]
        rows.append(
            {
                "changed": ", ".join(f"{key} = {value}" for key, value in arm.changed.items())
                or arm.name,
                "error": arm.mean,
                "low": arm.low,
                "high": arm.high,
                "seeds": f"{len(arm.errors)} of {arm.seeds}",
                **_difference(comparison),
                "verdict": comparison.verdict,
            }
        )
    columns = [
        Column("changed", "changed"),
        _error_column(answer),
        *_difference_columns(answer, "unchanged"),
        Column("verdict", "verdict"),
        Column("seeds", "seeds", str, True),
    ]
    caption = (
        f"One hyperparameter changed at a time, around {answer.ablated}; with 95 % confidence "
        "intervals."
    )
    return Table("ablation", caption, columns, rows)


def trials(trial_rows: Sequence[Row], manifest: Row, answer: answers.Answer) -> Table:
    """Every trial of the search, in the order of their numbers."""
    objective = str(manifest.get("objective", "score"))
    columns = [
        Column("trial", "trial", str, True),
        _mark_column(),
        Column("words", "norm"),
        Column("status", "status"),
        Column("score", objective, lambda v: formats.score(v, objective, answer.percent), True),
        Column("epochs", "epochs", formats.number, True),
        Column("seed", "seed", str, True, full=True),
        Column("step_seconds", "train step", formats.seconds, True),
        Column("parameters", "parameters", formats.number, True),
        Column("seconds", "time", formats.seconds, True),
        *_worker_column(trial_rows),
        Column("values", "hyperparameters", values_in_words, full=True),
        Column("spec", "spec", compact_json, full=True),
        Column("reason", "remark"),
    ]
    caption = (
        "Every trial of the search, scored on the validation part. "
        f"{MARK}: trained with the norm to use."
    )
    rows = [
        {
            "worker": None,
            **row,
            "recommended": answer.rests_on is not None
            and (row["spec"], row["values"]) == (answer.best_spec, answer.best_values),
            "reason": _remark(row),
        }
        for row in sorted(trial_rows, key=lambda row: row["trial"])
    ]
    return Table("trials", caption, columns, rows)


def _remark(row: Row) -> str | None:
    """What else must be known of a row: why it ended early, and what looks wrong in it."""
    remarks = [row.get("reason"), row.get("warning")]
    if row.get("lost") and row["status"] != "failed":
        remarks.append(f"begun again: {'; '.join(row['lost'])}")
    return "; ".join(str(remark) for remark in remarks if remark) or None


def _worker_column(rows: Sequence[Row]) -> list[Column]:
    """Which worker ran what, where there were workers."""
    there = any(row.get("worker") is not None for row in rows)
    return [Column("worker", "worker")] if there else []


def runs(run_rows: Sequence[Row], answer: answers.Answer) -> Table:
    """Every run that the answer rests on."""
    said = answer.measure.said
    measured = re.sub(r"\W+", "_", said)
    columns = [
        Column("arm", "norm"),
        Column("role", "role"),
        Column("seed", "seed", str, True),
        *([Column("split", "split", str, True)] if answer.splits > 1 else []),
        Column(measured, said, lambda value: formats.error(value, answer.percent), True),
        Column("status", "status"),
        Column("step_seconds", "train step", formats.seconds, True),
        Column("seconds", "time", formats.seconds, True),
        *_worker_column(run_rows),
        Column("spec", "spec", compact_json, full=True),
        Column("reason", "remark"),
    ]
    filled = [
        {"worker": None, **row, measured: row.get("test_error"), "reason": _remark(row)}
        for row in run_rows
    ]
    return Table("runs", "Every training for the answer, on the test part.", columns, filled)


def importance(answer: answers.Answer) -> Table:
    """How much each hyperparameter matters."""
    rows = [
        {"hyperparameter": name, "share": share} for name, share in answer.importance.shares.items()
    ]
    columns = [
        Column("hyperparameter", "hyperparameter"),
        Column("share", "importance", lambda value: f"{value:.0%}".replace("%", " %"), True),
    ]
    return Table("importance", answer.importance.note, columns, rows)


def values_in_words(values: Row) -> str:
    """Hyperparameters with their values.

    >>> values_in_words({"norm": "mode", "learning_rate": 0.001234567})
    'norm = mode, learning_rate = 0.001235'
    """
    return ", ".join(f"{name} = {formats.number(value)}" for name, value in values.items())


def compact_json(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def as_csv(table: Table) -> str:
    r"""A table with its raw values, for programs.

    >>> as_csv(Table("t", "", [Column("a", "A"), Column("b", "B")], [{"a": 0.1, "b": None}]))
    'a,b\n0.1,\n'
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [key for column in table.columns for key in (column.key, *column.ends)]
    writer.writerow(keys)
    for row in table.rows:
        values = [row[key] for key in keys]
        writer.writerow(
            [compact_json(v) if isinstance(v, (dict, list, tuple)) else v for v in values]
        )
    return out.getvalue()


def as_markdown(table: Table) -> str:
    r"""A table in GitHub's Markdown.

    >>> table = Table("t", "All.", [Column("a", "A|B", str, True)], [{"a": "<b>_x_"}])
    >>> print(as_markdown(table), end="")
    All.
    <BLANKLINE>
    | A\|B |
    | ---: |
    | &lt;b&gt;\_x\_ |
    """
    lines = [
        [_markdown(column.title) for column in table.columns],
        ["---:" if column.numeric else "---" for column in table.columns],
        *([_markdown(column.text(row)) for column in table.columns] for row in table.rows),
    ]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{_markdown(table.caption)}\n\n{body}\n"


def as_latex(table: Table) -> str:
    r"""A table for LaTeX, with the rules of the package booktabs.

    >>> print(as_latex(Table("t", "50 %", [Column("a", "A_1", str, True)], [{"a": "x & y"}])))
    % \usepackage{booktabs}
    \begin{table}
      \centering
      \caption{50 \%}
      \label{tab:t}
      \begin{tabular}{r}
        \toprule
        A\_1 \\
        \midrule
        x \& y \\
        \bottomrule
      \end{tabular}
    \end{table}
    <BLANKLINE>
    """

    def line(cells):
        return f"    {' & '.join(cells)} \\\\"

    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex(table.caption)}}}",
            rf"  \label{{tab:{table.name}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if c.numeric else 'l' for c in table.columns)}}}",
            r"    \toprule",
            line(_latex(column.title) for column in table.columns),
            r"    \midrule",
            *(line(_latex(column.text(row)) for column in table.columns) for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _unit(percent: bool) -> tuple[str, Callable[[Any], str], Callable[[Any], str]]:
    """The unit of a column of errors, and how an error and a difference are shown without it."""
    if percent:
        return (
            ", %",
            lambda value: f"{100 * value:.2f}",
            lambda value: formats.points(value, True, sign=True).removesuffix(" points"),
        )
    return "", formats.number, lambda value: formats.error(value, False, sign=True)


def _error_column(answer: answers.Answer) -> Column:
    unit, show, _ = _unit(answer.percent)
    return Column("error", f"{answer.measure.said}{unit}", show, True, ("low", "high"))


def _difference_columns(answer: answers.Answer, reference: str) -> list[Column]:
    _, _, show = _unit(answer.percent)
    points = ", points" if answer.percent else ""
    units = "splits" if answer.splits > 1 else "seeds"
    return [
        Column(
            "difference",
            f"difference to {reference}{points}",
            show,
            True,
            ("difference_low", "difference_high"),
        ),
        Column("p", "p (of all)", lambda value: formats.p_value(value).removeprefix("= "), True),
        Column("wins", f"better on {units}", lambda value: f"{value:g}", True, full=True),
        Column("here_low", "on these very examples, from", show, True, full=True),
        Column("here_high", "to", show, True, full=True),
    ]


def _difference(comparison: answers.Comparison | None) -> dict[str, Any]:
    keys = {
        "difference": "difference",
        "difference_low": "low",
        "difference_high": "high",
        "p": "adjusted_p",
        "wins": "wins",
        "here_low": "here_low",
        "here_high": "here_high",
    }
    return {name: getattr(comparison, key) if comparison else None for name, key in keys.items()}


def _one_line(text: str) -> str:
    """A text without line breaks and control characters."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()


def _markdown(text: str) -> str:
    text = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    MARK: r"$\star$",
    "–": "--",
    formats.THIN: r"\,",
}


def _latex(text: str) -> str:
    # The space before "%" is a thin one; `_one_line` would make it a plain one.
    text = " ".join(part.strip() for part in re.split(r"[ \t\r\n\f\v\x00-\x1f\x7f]+", text))
    return "".join(_LATEX.get(char, char) for char in text).strip()
