"""The README's Python code runs, in a folder of its own; so does that of the pages of docs."""

import pytest

from readme import PAGES, blocks, code_of


@pytest.mark.smoke
def test_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert code
    exec("\n".join(code), {})


@pytest.mark.slow
@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", [name for name in PAGES if code_of(name)])
def test_the_code_of_pages_runs(name, tmp_path, monkeypatch):
    """tests/once runs it on one backend."""
    monkeypatch.chdir(tmp_path)
    exec(code_of(name), {})
