"""The README's Python code runs, in a folder of its own."""

import pytest

from readme import blocks


@pytest.mark.smoke
@pytest.mark.usefixtures("quick_compilation")
def test_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert code
    exec("\n".join(code), {})
