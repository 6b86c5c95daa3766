"""Writes the table of norms into the README: `make readme`."""

import pathlib
import re

from kerasnorm import norms

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?<=<!-- norms -->\n).*?(?=\n<!-- /norms -->)", re.DOTALL)

if __name__ == "__main__":
    README.write_text(BLOCK.sub(norms.markdown(), README.read_text()))
