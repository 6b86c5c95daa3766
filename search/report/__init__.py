"""The report of a search: one HTML page, and its tables and plots as files.

The page is drawn by Plotly, whose code is written into it: of the libraries at hand it alone has
parallel coordinates whose axes can be dragged and brushed, and every other plot needed besides. It
makes each page 5 MB large; in exchange the page opens from disk, without a network, on any browser.
Pictures for papers are Matplotlib's, since Plotly needs a browser for them. Both draw the same data
(`plots`), as the page and the files write the same tables (`tables`).
"""

import json
import pathlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from search import answer as answers
from search import files, formats
from search.report import pictures, plots, tables, usage
from search.report.json_files import write_json
from search.rows import Status

Row = Mapping[str, Any]

# Seconds after which the page of a search that runs loads itself anew.
RELOAD = 15

TONES = {
    answers.BETTER: "shown",
    answers.EQUAL: "shown",
    answers.NO_DIFFERENCE: "unsure",
}


@dataclass(frozen=True)
class Running:
    """What the page of a search that still runs says about it.

    Attributes:
        done: how far it is, in words.
        at: the time of day.
    """

    done: str
    at: str


def write(
    out: str | pathlib.Path,
    trial_rows: Sequence[Row],
    run_rows: Sequence[Row],
    manifest: Mapping[str, Any],
    answer: answers.Answer,
    running: Running | None = None,
) -> pathlib.Path:
    """Write the report into a folder.

    The folder gets `report.html`; `tables/` with each table as CSV, Markdown and LaTeX; `plots/`
    with each plot as PNG and SVG; `best_norm.json`, the norm spec to use, if any is known;
    `answer.json` and `manifest.json`. Each file is replaced as a whole.

    Args:
        out: the folder; made if it is not there.
        trial_rows: the trials of the search.
        run_rows: the runs that the answer rests on.
        manifest: what was searched, and how.
        answer: what `search.answer.conclude` makes of them.
        running: what to say about a search that still runs: its page reloads itself, and the
            pictures in `plots/` wait for the end.

    Returns:
        The path of `report.html`.

    >>> import tempfile
    >>> from search.answer import conclude
    >>> manifest = {"objective": "val_error", "direction": "min", "command": ["make", "search"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(folder, [], [], manifest, conclude([], [], manifest))
    ...     path.name, sorted(path.name for path in path.parent.iterdir())
    ('report.html', ['answer.json', 'manifest.json', 'report.html', 'tables'])
    """
    out = pathlib.Path(out)
    (out / "tables").mkdir(parents=True, exist_ok=True)
    made = all_tables(trial_rows, run_rows, manifest, answer)
    for table in made.values():
        for suffix, render in (
            ("csv", tables.as_csv),
            ("md", tables.as_markdown),
            ("tex", tables.as_latex),
        ):
            files.write(out / "tables" / f"{table.name}.{suffix}", render(table))
    drawn = plots.all_plots(trial_rows, run_rows, manifest, answer)
    if running is None:
        pictures.write(out / "plots", drawn)
    if answer.best_spec is not None:
        write_json(out / "best_norm.json", answer.best_spec)
    write_json(out / "answer.json", answer.as_dict())
    write_json(out / "manifest.json", manifest)
    text = page(trial_rows, run_rows, manifest, answer, made, drawn, running)
    files.write(out / "report.html", text)
    return out / "report.html"


def all_tables(
    trial_rows: Sequence[Row],
    run_rows: Sequence[Row],
    manifest: Mapping[str, Any],
    answer: answers.Answer,
) -> dict[str, tables.Table]:
    """The tables of a report by their names."""
    made = [
        tables.leaderboard(answer),
        tables.ablation(answer),
        tables.importance(answer),
        tables.trials(trial_rows, manifest, answer),
        tables.runs(run_rows, answer),
    ]
    return {table.name: table for table in made}


def page(
    trial_rows: Sequence[Row],
    run_rows: Sequence[Row],
    manifest: Mapping[str, Any],
    answer: answers.Answer,
    made: Mapping[str, tables.Table],
    drawn: Mapping[str, Any],
    running: Running | None = None,
) -> str:
    """The HTML page, with everything that it needs in it."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    measured = formats.capital(answer.measure.words)
    sections = [
        ("leaderboard", "Leaderboard", bool(made["leaderboard"].rows)),
        ("pareto", f"{measured}, time and size", "pareto" in drawn or "pareto_trials" in drawn),
        ("curves", "Learning curves", "curves_arms" in drawn or "curves_trials" in drawn),
        ("hyperparameters", "Hyperparameters", "parallel" in drawn or "importance" in drawn),
        ("ablation", "Ablation", bool(made["ablation"].rows)),
        ("trials", "Trials", True),
        ("runs", "Trainings for the answer", bool(made["runs"].rows)),
        ("manifest", "How it was made", True),
    ]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    data = manifest.get("data") or {}
    subject = [_network(manifest.get("architecture")), str(data.get("name") or "")]
    return environment.from_string(_own("page.html")).render(
        title=f"Which norm for {' on '.join(filter(None, subject))}?",
        tone=TONES.get(answer.verdict, ""),
        answer=answer,
        measured=formats.capital(answer.measure.said),
        running=running,
        reload=RELOAD,
        code=usage.code(answer),
        rests_on_validation=answer.rests_on == answers.VALIDATION,
        facts=_facts(trial_rows, run_rows, manifest, answer),
        sections=[(id, name) for id, name, there in sections if there],
        plots=drawn,
        outcome=_outcome(trial_rows),
        unimportant=_unimportant(answer),
        compact_json=tables.compact_json,
        values_in_words=tables.values_in_words,
        overhead=list(_flat(manifest.get("overhead") or {})),
        command=shlex.join(map(str, manifest.get("command") or [])),
        manifest=json.dumps(manifest, indent=2, ensure_ascii=False),
        style=Markup(_own("page.css")),
        script=Markup(_own("page.js")),
        plotly=Markup(get_plotlyjs()),
        # Within a script no character may end it.
        data=Markup(json.dumps(drawn, allow_nan=False).replace("<", "\\u003c")),
        **made,
    )


def _network(described: Mapping[str, Any] | None) -> str:
    """The manifest's network for a title.

    >>> _network({"name": "resnet20", "width": 8})
    'resnet20 (width 8)'
    """
    name, *others = (described or {"name": "this network"}).items()
    arguments = ", ".join(f"{key} {value}" for key, value in others if key != "parameters")
    return f"{name[1]} ({arguments})" if arguments else str(name[1])


def _own(name: str) -> str:
    return resources.files("search.report").joinpath(name).read_text(encoding="utf-8")


def _facts(trial_rows, run_rows, manifest, answer):
    data = manifest.get("data") or {}
    seeds = max((arm.seeds for arm in answer.arms), default=0)
    facts = [
        ("trials", formats.number(len(trial_rows))),
        ("seeds in the answer", seeds or None),
        ("splits of the data", answer.splits if answer.splits > 1 else None),
        (
            "smallest difference it would show",
            None
            if answer.detectable is None
            else formats.points(answer.detectable, answer.percent),
        ),
        ("objective", manifest.get("objective")),
        ("oracle", manifest.get("oracle")),
        ("frozen epochs", manifest.get("frozen_epochs")),
        ("task", data.get("task")),
        ("classes", data.get("classes")),
        ("backend", manifest.get("backend")),
        ("dtype policy", manifest.get("dtype_policy")),
        ("device", manifest.get("device")),
        ("time of the trials", formats.seconds(sum(row["seconds"] for row in trial_rows))),
        (
            "time of the answer",
            formats.seconds(sum(row["seconds"] for row in run_rows)) if run_rows else None,
        ),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _outcome(trial_rows):
    counts = Counter(row["status"] for row in trial_rows)
    parts = [f"{counts[status]:,} {status}" for status in Status]
    return f"{formats.count(len(trial_rows), 'trial')}: {', '.join(parts)}."


def _unimportant(answer):
    """What the plot of the importance leaves out."""
    left_out = sum(0 <= share < plots.LEAST_SHARE for share in answer.importance.shares.values())
    if not left_out or left_out == len(answer.importance.shares):
        return ""
    return f"{formats.count(left_out, 'other hyperparameter')} with less than 1 % left out."


def _flat(values, prefix=""):
    """The entries of nested dictionaries, with what they are in words."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
            continue
        words = name.removesuffix("_seconds").replace("_", " ")
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if known and name.endswith("seconds"):
            yield words, formats.seconds(value)
        elif known and name.endswith(("share", "fraction")):
            yield words, formats.error(value, percent=True)
        else:
            yield words, formats.number(value)
