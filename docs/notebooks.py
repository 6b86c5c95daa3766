"""Writes the tutorials as notebooks: `make readme`."""

import json
import pathlib
import re

TUTORIALS = pathlib.Path(__file__).parent / "tutorials"
BEFORE = """## Install

The next cell installs kerasnorm where it is missing. On Colab, first write into `SOURCE` where it
comes from:

- the address of its repository, as `git+https://...`
- or a wheel, which you upload with the folder symbol at the left. `make dist` in a clone builds it.

Colab has Keras with TensorFlow, JAX and PyTorch. Keras uses TensorFlow unless you name another
one in `BACKEND`.
"""
# Plain Python, so that a test can run it.
INSTALL = """import importlib
import importlib.util
import os
import subprocess
import sys

SOURCE = ""
BACKEND = ""

if BACKEND:
    os.environ["KERAS_BACKEND"] = BACKEND
if importlib.util.find_spec("kerasnorm") is None:
    if not SOURCE:
        raise SystemExit("kerasnorm is missing: write into SOURCE where it comes from.")
    extras = "[search,convert]"
    package = f"kerasnorm{extras} @ {SOURCE}" if "://" in SOURCE else f"{SOURCE}{extras}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package], check=True)
    importlib.invalidate_caches()
"""
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def cell(number, kind, text):
    """A cell of a notebook, without outputs."""
    lines = text.strip().splitlines(keepends=True)
    fields = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines}
    return fields | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(page):
    """The text of a page's notebook."""
    text = re.sub(r"\s\[As a notebook\]\([^)]+\), it also runs on Colab\.", "", page.read_text())
    title, *parts = CODE.split(text)
    cells = [("markdown", title), ("markdown", BEFORE), ("code", INSTALL)]
    cells += [("markdown" if n % 2 else "code", text) for n, text in enumerate(parts)]
    # Links to other pages lead nowhere in it.
    plain = [
        (kind, re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text) if kind == "markdown" else text)
        for kind, text in cells
        if text.strip()
    ]
    content = {
        "cells": [cell(number, kind, text) for number, (kind, text) in enumerate(plain)],
        "metadata": METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def files():
    """What is written, by its path."""
    return {page.with_suffix(".ipynb"): notebook(page) for page in sorted(TUTORIALS.glob("*.md"))}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
