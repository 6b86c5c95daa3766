"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib

from search.errors import CannotWrite

# What is written aside has this before its name until it is whole.
ASIDE = "part_"


def write(path, data):
    """Write a file aside, bring it to the disk, and only then give it its name.

    Whoever reads the file, after whatever crash, finds the old contents or the new ones.

    Args:
        path: of the file; its folder is made if need be.
        data: bytes, or text, which is written as UTF-8.

    Raises:
        CannotWrite: there is no room or no right to write; the old contents stay.

    Example:
        >>> import pathlib, tempfile
        >>> from search.files import write
        >>> path = pathlib.Path(tempfile.mkdtemp(), "new", "best_norm.json")
        >>> write(path, "{}")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('{}', 1)
    """
    path = pathlib.Path(path)
    part = path.with_name(f"{ASIDE}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise CannotWrite.of(path, error) from error
    _bring_to_disk(path.parent)


def _bring_to_disk(folder):
    """Bring the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
