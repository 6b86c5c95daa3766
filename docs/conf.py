"""The site: `make docs` builds it into build/site. Its pages also read well on GitHub."""

import pathlib
import sys

DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import kerasnorm  # noqa: E402

project = "kerasnorm"
author = "The kerasnorm developers"
project_copyright = author
version = release = kerasnorm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "site_extension",
]
exclude_patterns = ["_*"]

# `$$` is mathematics on GitHub too.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Formulas are MathML, which browsers show by themselves: no script is loaded from elsewhere.
html_math_renderer = "mathml"

autodoc_typehints = "none"
# Docstrings write code between single backticks.
default_role = "code"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

pygments_style = "tango"
pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = "kerasnorm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

# A prompt is not copied.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

linkcheck_timeout = 20
linkcheck_retries = 2
