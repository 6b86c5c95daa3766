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


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """What a link into a page may name: its headings, as GitHub and the site spell them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lost_links(page):
    """The links of a page that lead to no file or to no heading; those to elsewhere aside."""
    lost = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        path = page.parent / target if target else page
        if target.startswith("https://"):
            continue
        if not path.exists() or (anchor and anchor not in anchors(path)):
            lost.append(f"{target}#{anchor}" if anchor else target)
    return lost


def broken_tables(page):
    """The first lines of those tables of a page that no renderer takes for one."""
    tables = (rows.splitlines() for rows in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE))
    return [
        rows[0] for rows in tables if not re.fullmatch(r"\|( *:?-+:? *\|)+", "".join(rows[1:2]))
    ]


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
