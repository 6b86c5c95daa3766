"""The README's Python code runs."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.mark.smoke
@pytest.mark.usefixtures("quick_compilation")
def test_readme_examples_run():
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    exec("\n".join(blocks), {})
