"""The pages of docs: their code runs, with less work, and no option of the search is left out."""

import re
import shlex

import numpy as np
import pytest

from readme import ROOT, blocks
from search import cli

DOCS = ROOT / "docs"
SEARCHING = DOCS / "searching.md"
# What comes last on a command line counts.
LITTLE = ["--trials", "1", "--epochs", "1", "--seeds", "0", "--placements", "all", "--no-jit"]
# What a page's code does, and what the test does instead, which takes less time.
LESS_WORK = {
    "searching.md": {
        "trials=10": "trials=1, seeds=0, console=False",
        "epochs=10": "epochs=1",
    },
    "surgery.md": {
        "keras.applications.ResNet50(weights=None)": "kerasnorm.models.ResNet8((8, 8, 3), 2)",
    },
    "convert.md": {"(64, 28, 28, 1)": "(16, 28, 28, 1)"},
    "models.md": {"models.ResNet50(": "models.ResNet18("},
}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_python_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("python", page))
    assert bool(code) == (page.name in LESS_WORK)
    for much, little in LESS_WORK.get(page.name, {}).items():
        assert code.count(much) == 1
        code = code.replace(much, little)
    names = {}
    exec(code, names)
    if page == SEARCHING:
        (row,) = names["result"].rows
        assert row["status"] == "completed", row["traceback"]


def test_the_commands_of_the_search_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line) for block in blocks("sh", SEARCHING) for line in block.splitlines()]
    install, searching, regression, segmentation, reporting, planning = lines
    assert install[:2] == ["pip", "install"]
    assert (searching[0], reporting[:2]) == ("kerasnorm-search", ["kerasnorm-search", "report"])
    assert cli.main([*searching[1:], *LITTLE]) == 0
    assert cli.main(reporting[1:]) == 0
    assert "report.html" in capsys.readouterr().out
    pictures = np.random.default_rng(0).uniform(size=(40, 8, 8, 1))
    np.savez("my_masks.npz", x=pictures, y=pictures[..., 0] > 0.5)
    for other in (regression, segmentation):
        assert cli.main([*other[1:], *LITTLE]) == 0
    assert planning[:2] == ["kerasnorm-search", "plan"]
    # So little work has no answer to plan from.
    assert cli.main(planning[1:]) == 2
    assert "no plain norm that finished its trainings" in capsys.readouterr().err


def test_every_option_is_in_the_table():
    text = SEARCHING.read_text()
    for action in cli.parser()._actions:
        for flag in action.option_strings:
            assert flag in ("-h", "--help") or f"`{flag}`" in text, flag


def test_the_picture_is_small():
    picture = DOCS / re.search(r"!\[.*?\]\((.*?)\)", SEARCHING.read_text())[1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (DOCS / target).exists(), target
