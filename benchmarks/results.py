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
    write(path, [*runs, run])


def write(path: Path, runs: list[Run], about: dict[str, Any] | None = None) -> None:
    """Write a file anew.

    Args:
        path: of the file.
        runs: its runs.
        about: what else it holds, under other names than "version" and "runs".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(_text(runs, about or {}))
    part.replace(path)


def _kind(run: Run) -> tuple:
    return run["command"], run["backend"], run["device_kind"], run["dtype"]


def _text(runs: list[Run], about: dict[str, Any]) -> str:
    """JSON with one measurement per line, so that files can be compared."""
    blocks = [" {\n" + ",\n".join(_fields(run, "  ")) + "\n }" for run in runs]
    head = ",\n".join([f'{{"version": {VERSION}', *_fields(about, " ")])
    return f'{head}, "runs": [\n' + ",\n".join(blocks) + "\n]}\n"


def _fields(values: dict[str, Any], indent: str) -> list[str]:
    fields = []
    for key, value in values.items():
        if isinstance(value, list):
            lines = f",\n{indent} ".join(json.dumps(item) for item in value)
            text = f"[\n{indent} {lines}\n{indent}]" if value else "[]"
        else:
            text = json.dumps(value)
        fields.append(f'{indent}"{key}": {text}')
    return fields
