"""Prints a result file as Markdown, or puts it into a document between two marks.

The marks are lines with `<!-- results -->` and `<!-- end of results -->`.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import BenchmarkError, results, tables

HELP = "print a result file as Markdown"
MARKS = ("<!-- results -->", "<!-- end of results -->")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, help="a result file")
    parser.add_argument("--summary", action="store_true", help="ratios to BatchNormalization only")
    parser.add_argument("--overview", action="store_true", help="one table for all that was timed")
    parser.add_argument("--into", type=Path, metavar="DOCUMENT", help="replace what it shows")


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Nothing is needed."""
    del options
    return {}


def run(options: argparse.Namespace) -> int:
    """Print, or replace."""
    try:
        runs = results.read(options.file)
        if options.overview:
            text = tables.overview(runs).markdown()
        else:
            text = markdown(runs, options.summary)
        if options.into is None:
            print(text)
        else:
            options.into.write_text(_replaced(options.into, text))
    except (OSError, BenchmarkError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def markdown(runs: list[results.Run], summary: bool = False) -> str:
    """The runs as a document."""
    overview = tables.ratio_summary(runs)
    parts = [overview.markdown()] if overview else []
    if summary:
        return "\n\n".join(parts)
    for run in runs:
        parts.append(f"### {run['backend']} on {run['machine']['device']}, {run['dtype']}")
        parts.append("\n".join(f"- {line}" for line in tables.machine(run)))
        parts += [table.markdown() for table in tables.of_run(run)]
    return "\n\n".join(parts)


def _replaced(path: Path, text: str) -> str:
    document = path.read_text()
    start, end = MARKS
    if document.count(start) != 1 or document.count(end) != 1:
        raise BenchmarkError(f"{path} needs the lines {start} and {end}, once each.")
    head, _, rest = document.partition(start)
    return f"{head}{start}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
