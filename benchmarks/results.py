"""Result files: JSON with one run per backend, device, dtype and command."""

import json
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError

Run = dict[str, Any]

VERSION = 1


def read(path: Path) -> list[Run]:
    """The runs of a file.

    Raises:
        BenchmarkError: if it is no result file of this version.
    """
    document = json.loads(path.read_text())
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise BenchmarkError(f"{path} is no result file of version {VERSION}.")
    return document["runs"]


def add(path: Path, run: Run) -> None:
    """Write a run into a file; it replaces one of the same kind, the others stay."""
    runs = read(path) if path.exists() else []
    runs = [other for other in runs if _kind(other) != _kind(run)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text([*runs, run]))


def _kind(run: Run) -> tuple:
    return run["command"], run["backend"], run["device_kind"], run["dtype"]


def _text(runs: list[Run]) -> str:
    """JSON with one measurement per line, so that files can be compared."""
    blocks = []
    for run in runs:
        fields = []
        for key, value in run.items():
            if isinstance(value, list):
                lines = ",\n   ".join(json.dumps(item) for item in value)
                fields.append(f'  "{key}": [\n   {lines}\n  ]' if value else f'  "{key}": []')
            else:
                fields.append(f'  "{key}": {json.dumps(value)}')
        blocks.append(" {\n" + ",\n".join(fields) + "\n }")
    return f'{{"version": {VERSION}, "runs": [\n' + ",\n".join(blocks) + "\n]}\n"
