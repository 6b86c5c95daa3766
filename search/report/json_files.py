"""JSON for readers and programs."""

import json
import pathlib
from typing import Any

from search import files


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    files.write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: pathlib.Path) -> Any:
    """What a file of JSON holds; None if it is not there or was torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
