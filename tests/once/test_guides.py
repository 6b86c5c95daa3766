"""The pages of docs: their code runs, with less work, and no option of the search is left out."""

import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess

import numpy as np
import pytest

import kerasnorm
import search
import walk
from docs import norm_pages, notebooks
from readme import DOCS, PAGES, README, blocks, broken_tables, code_of, commands, lost_links
from search import cli, early

NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
SEARCHING = DOCS / "searching.md"
# What comes last on a command line counts.
LITTLE = ["--trials", "1", "--epochs", "1", "--seeds", "0", "--placements", "all", "--no-jit"]


@pytest.mark.parametrize("name", [name for name in PAGES if code_of(name)])
@pytest.mark.usefixtures("restored")
def test_the_python_code_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code_of(name), names)
    if PAGES[name] == SEARCHING:
        (row,) = names["result"].rows
        assert row["status"] == "completed", row["traceback"]


def test_the_pages_of_the_norms_are_those_of_the_table():
    """They are written by `make readme`."""
    written = set(norm_pages.PAGES.iterdir())
    wanted = norm_pages.files()
    assert written == {path for path in wanted if path != README}
    for path in written:
        assert path.read_text() == wanted[path], path


def test_the_notebooks_are_those_of_the_tutorials():
    """They are written by `make readme`. Their code is that of the pages, which tests run."""
    wanted = notebooks.files()
    assert set(notebooks.TUTORIALS.glob("*.ipynb")) == set(wanted)
    for path, text in wanted.items():
        assert path.read_text() == text, path
        sources = [
            "".join(cell["source"]) + "\n"
            for cell in json.loads(text)["cells"]
            if cell["cell_type"] == "code"
        ]
        assert sources == [notebooks.INSTALL, *blocks("python", path.with_suffix(".md"))]
        # Nothing is installed where the package is.
        exec(sources[0], {})


@pytest.mark.parametrize(
    ("source", "package"),
    [
        (
            "git+https://example.org/k.git",
            "kerasnorm[search,convert] @ git+https://example.org/k.git",
        ),
        ("kerasnorm-1-py3-none-any.whl", "kerasnorm-1-py3-none-any.whl[search,convert]"),
    ],
)
def test_the_notebooks_install_the_package_from_where_it_is(source, package, monkeypatch):
    ran = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command[-1]))
    with pytest.raises(SystemExit, match="write into SOURCE"):
        exec(notebooks.INSTALL, {})
    exec(notebooks.INSTALL.replace('SOURCE = ""', f'SOURCE = "{source}"'), {})
    assert ran == [package]


def test_the_notebooks_choose_a_backend(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    exec(notebooks.INSTALL, {})
    assert os.environ == {}
    exec(notebooks.INSTALL.replace('BACKEND = ""', 'BACKEND = "jax"'), {})
    assert os.environ == {"KERAS_BACKEND": "jax"}


def test_the_reference_has_what_is_public_and_nothing_else():
    described = re.findall(r"^\.\. auto\w+:: (\S+)$", PAGES["api.md"].read_text(), re.MULTILINE)
    public = {"kerasnorm.models", "kerasnorm.transforms"}
    for module in (kerasnorm, kerasnorm.models, kerasnorm.transforms, search):
        public |= {f"{module.__name__}.{name}" for name in module.__all__}
    # Another name for AssociateNorm.
    assert sorted(described) == sorted(public - {"kerasnorm.AssocNorm"})


def test_the_commands_of_the_search_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line) for block in blocks("sh", SEARCHING) for line in block.splitlines()]
    install, searching, tuning, *others, pix2pix, splits, reporting, planning = lines
    assert [line[line.index("--data") + 1] for line in others] == [
        "diabetes",
        "reversal",
        "my_masks.npz",
    ]
    assert install[:2] == ["pip", "install"]
    assert (searching[0], reporting[:2]) == ("kerasnorm-search", ["kerasnorm-search", "report"])
    assert cli.main([*searching[1:], *LITTLE]) == 0
    assert cli.main(reporting[1:]) == 0
    assert "report.html" in capsys.readouterr().out
    pictures = np.random.default_rng(0).uniform(size=(40, 8, 8, 1))
    np.savez("my_masks.npz", x=pictures, y=pictures[..., 0] > 0.5)
    *sets, masks = others
    for other in (masks, splits):
        assert cli.main([*other[1:], *LITTLE]) == 0
    # The sets, the example and trained models have tests of their own.
    pix2pix = [word.replace("examples/", f"{DOCS.parent}/examples/") for word in pix2pix]
    pathlib.Path("trained.keras").touch()
    pathlib.Path("my_masks.npz").rename("my_data.npz")
    for other in (*sets, pix2pix, tuning):
        early.check(cli.parser().parse_args(other[1:]))
    assert planning[:2] == ["kerasnorm-search", "plan"]
    # So little work has no answer to plan from.
    assert cli.main(planning[1:]) == 2
    assert "no plain norm that finished its trainings" in capsys.readouterr().err


def test_the_commands_of_the_other_pages_are_the_readmes():
    """Tests run those of the README."""
    allowed = set(commands())
    for extra in ("tensorflow", "jax", "torch"):
        allowed |= {f"# {NAMES[extra]}", f"pip install '.[{extra}]'"}
        allowed.add(f"pip install '.[{extra},search]'")
        allowed.add(f"export KERAS_BACKEND={extra}")
    for name in ("install.md", "first_steps.md", "performance.md"):
        lines = [line for block in blocks("sh", PAGES[name]) for line in block.splitlines()]
        assert lines
        assert set(lines) <= allowed


@pytest.mark.parametrize("backend", NAMES)
def test_the_walk_finds_what_installs_each_backend(backend, tmp_path):
    """`make walk` needs the network."""
    wanted = [f"pip install '.[{backend},search]'", f"export KERAS_BACKEND={backend}"]
    assert walk.Walk(tmp_path, backend).installation() == wanted


def test_every_option_is_in_the_table():
    text = SEARCHING.read_text()
    for action in cli.parser()._actions:
        for flag in action.option_strings:
            assert flag in ("-h", "--help") or f"`{flag}`" in text, flag


def test_the_picture_is_small():
    picture = DOCS / re.search(r"!\[.*?\]\((.*?)\)", SEARCHING.read_text())[1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000


@pytest.mark.parametrize("page", PAGES.values(), ids=list(PAGES))
def test_links_lead_somewhere(page):
    assert lost_links(page) == []


@pytest.mark.parametrize("page", PAGES.values(), ids=list(PAGES))
def test_tables_are_tables(page):
    """A row after an empty line is text, with its bars."""
    assert broken_tables(page) == []
