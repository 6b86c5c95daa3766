"""The code blocks of the README and the guides, for the tests that run them."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks(language, page=README):
    """The blocks of a language, in their order."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), re.DOTALL | re.MULTILINE)


def commands():
    """The lines of all shell blocks of the README."""
    return [line for block in blocks("sh") for line in block.splitlines()]


def write_files(folder):
    """Write each block of the README that begins with a file name into that file."""
    for block in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (folder / name[1]).write_text(block)
