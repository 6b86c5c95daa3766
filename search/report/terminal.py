"""What a search prints when it has ended: a table, the answer, and where the rest lies."""

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search import answer as answers
from search import formats
from search.report import tables
from search.rows import Status

Row = Mapping[str, Any]
MOST = 10
# In a narrower terminal the tables have no columns for size and time.
WIDE = 100


def show(
    console: Console,
    trial_rows: Sequence[Row],
    run_rows: Sequence[Row],
    manifest: Row,
    answer: answers.Answer,
    folder: pathlib.Path,
) -> None:
    """Print the leaderboard, or the best trials where nothing was compared, and the answer."""

    def line(text, **options):
        console.print(Text(text), highlight=False, **options)

    wide = console.width >= WIDE
    table = _arms(answer, wide) if answer.arms else _trials(trial_rows, manifest, answer, wide)
    console.print(table)
    line(_work(trial_rows, run_rows))
    console.print()
    line(answer.sentence, style="bold")
    for note in answer.notes:
        line(f"- {note}")
    console.print()
    for path, what in paths(answer, folder):
        console.print(Text(f"{path}  {what}"), highlight=False, soft_wrap=True)


def paths(answer: answers.Answer, folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """The files to look at, and what they are."""
    found = [(folder / "report.html", "the report; open it in a browser")]
    if answer.best_spec is not None:
        what = (
            "the norm to use" if answer.rests_on == answers.COMPARED else "the best by validation"
        )
        found.append((folder / "best_norm.json", f"{what}, for kerasnorm.get and replace_norms"))
    return found


def _table(*heads):
    table = Table(box=box.SIMPLE, pad_edge=False)
    for head, numeric in heads:
        table.add_column(
            head,
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=head == "",
            ratio=1 if head == "norm" else None,
        )
    return table


COSTS = (("parameters", True), ("step", True))


def _costs(row):
    return formats.number(row["parameters"]), formats.seconds(row["step_seconds"])


def _arms(answer, wide):
    """The leaderboard."""
    unit = "%" if answer.percent else ""
    table = _table(
        ("#", True), ("", False), ("norm", False), (f"{answer.measure.said} {unit}".strip(), True),
        ("verdict", False), *(COSTS if wide else ()),
    )  # fmt: skip
    for row in tables.leaderboard(answer).rows:
        show = (lambda value: f"{100 * value:.2f}") if answer.percent else formats.number
        error = formats.NONE if row["error"] is None else show(row["error"])
        if row["low"] is not None:
            error += f"\n{show(row['low'])} to {show(row['high'])}"
        table.add_row(
            str(row["place"]),
            tables.MARK if row["recommended"] else "",
            Text(row["arm"]),
            error,
            row["verdict"] or row["role"],
            *(_costs(row) if wide else ()),
            style="bold green" if row["recommended"] else "",
        )
    if answer.rests_on == answers.COMPARED:
        table.caption = f"{tables.MARK} the norm to use"
    return table


def _trials(trial_rows, manifest, answer, wide):
    """The best trials by validation."""
    objective = str(manifest.get("objective", "score"))
    table = _table(
        ("trial", True), ("", False), ("norm", False), (objective, True), *(COSTS if wide else ())
    )  # fmt: skip
    ranked = answers.ranked(trial_rows, manifest.get("direction", "min"))
    for row in ranked[:MOST]:
        best = row is ranked[0]
        table.add_row(
            str(row["trial"]),
            tables.MARK if best else "",
            Text(row["words"]),
            formats.score(row["score"], objective, answer.percent),
            *(_costs(row) if wide else ()),
            style="bold green" if best else "",
        )
    if len(ranked) > MOST:
        table.caption = f"The best {MOST} of {formats.count(len(ranked), 'completed trial')}."
    return table


def _work(trial_rows, run_rows):
    counts = Counter(row["status"] for row in trial_rows)
    ended = ", ".join(f"{counts[s]:,} {s}" for s in Status if counts[s])
    text = (
        f"{formats.count(len(trial_rows), 'trial')} ({ended}), "
        f"{formats.count(sum(row['epochs'] for row in trial_rows), 'epoch')}"
    )
    if run_rows:
        text += (
            f"; {formats.count(len(run_rows), 'training')} for the answer, "
            f"{formats.count(sum(row['epochs'] for row in run_rows), 'epoch')}"
        )
    return f"{text}."
