"""The code blocks of the README and the guides, for the tests that run them."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(DOCS)): page for page in sorted(DOCS.rglob("*.md"))}
# What a page's code does, and what tests do instead, which takes less time.
LESS_WORK = {
    "searching.md": {
        "trials=10": "trials=1, seeds=0, console=False",
        "epochs=10": "epochs=1",
        "trials=4": "trials=1, seeds=0, console=False",
        "epochs=5": "epochs=1",
    },
    "surgery.md": {
        "keras.applications.ResNet50(weights=None)": "kerasnorm.models.ResNet8((8, 8, 3), 2)",
    },
    "keras_hub.md": {
        "trials=5": "trials=1, seeds=0, console=False",
        "epochs=5": "epochs=1",
    },
    "first_steps.md": {"slice(0, 1400), slice(1400, None)": "slice(0, 64), slice(64, 128)"},
    "tutorials/swap.md": {
        "slice(0, 1200), slice(1200, None)": "slice(0, 64), slice(64, 128)",
        "epochs=15": "epochs=1",
        "slice(0, 200)": "slice(0, 8)",
    },
    "tutorials/search.md": {
        "trials=6": "trials=1, console=False",
        "epochs=4": "epochs=1",
        "seeds=3": "seeds=0",
    },
    "tutorials/consistent.md": {
        "slice(0, 500), slice(500, None)": "slice(0, 64), slice(64, 128)",
        "epochs=10": "epochs=1",
    },
    "convert.md": {"(64, 28, 28, 1)": "(16, 28, 28, 1)"},
    "models.md": {"models.ResNet50(": "models.ResNet18("},
}


def blocks(language, page=README):
    """The blocks of a language, in their order."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), re.DOTALL | re.MULTILINE)


def code_of(name):
    """The Python code of a page of docs, with less work; empty where it has none."""
    code = "\n".join(blocks("python", PAGES[name]))
    for much, little in LESS_WORK.get(name, {}).items():
        assert code.count(much) == 1
        code = code.replace(much, little)
    return code


def commands():
    """The lines of all shell blocks of the README."""
    return [line for block in blocks("sh") for line in block.splitlines()]


def write_files(folder):
    """Write each block of the README that begins with a file name into that file."""
    for block in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (folder / name[1]).write_text(block)
