"""What the site needs beyond Sphinx: formulas, tabs of backends, a report, docstrings."""

import inspect
import pathlib
import re
import shutil

import keras
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.inspect import stringify_signature
from sphinx_design.shared import create_component

BACKENDS = ("TensorFlow", "JAX", "PyTorch")
# The picture of a report, and the search that it is of. On the site the report itself is shown.
PICTURE = "report.png"
SEARCH = pathlib.Path(__file__).parent / "sample_search"
REPORT = "_static/sample_search/report.html"


def backend_of(node):
    """The backend that the first line of a block of code names in a comment, if it does."""
    if not isinstance(node, nodes.literal_block):
        return None
    first = node.astext().partition("\n")[0].removeprefix("# ")
    return first if first in BACKENDS else None


class BackendTabs(SphinxPostTransform):
    """Blocks of code for one backend each, which follow each other, become tabs.

    On GitHub they are three blocks. A reader who chooses a backend chooses it on all pages.
    """

    # Before sphinx-design makes its tabs.
    default_priority = 150
    formats = ("html",)

    def run(self, **kwargs):
        """Replace each run of such blocks."""
        starts = [
            block
            for block in self.document.findall(nodes.literal_block)
            if backend_of(block) and not backend_of(block.previous_sibling())
        ]
        for start in starts:
            blocks = [start]
            while backend_of(following := blocks[-1].next_node(descend=False, siblings=True)):
                blocks.append(following)
            tabs = create_component("tab-set", classes=["sd-tab-set"])
            for block in blocks:
                name = backend_of(block)
                label = nodes.rubric(name, name, classes=["sd-tab-label"])
                label["sync_id"], label["sync_group"] = name, "backend"
                content = create_component(
                    "tab-content", classes=["sd-tab-content"], children=[block.deepcopy()]
                )
                item = create_component(
                    "tab-item", classes=["sd-tab-item"], selected=False, children=[label, content]
                )
                tabs += item
            start.replace_self(tabs)
            for block in blocks[1:]:
                block.parent.remove(block)


class ReportInPlace(SphinxPostTransform):
    """The picture of a report becomes the report, in a frame, where it is a paragraph of its own.

    On GitHub it is a picture.
    """

    # Before Sphinx collects the pictures.
    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs):
        """Replace the picture."""
        for picture in list(self.document.findall(nodes.image)):
            alone = isinstance(picture.parent, nodes.paragraph) and len(picture.parent) == 1
            if not alone or pathlib.PurePosixPath(picture["uri"]).name != PICTURE:
                continue
            up = "../" * self.env.docname.count("/")
            # A page of 5 MB is loaded when a reader comes to it.
            frame = (
                f'<iframe class="report" src="{up}{REPORT}" title="{picture["alt"]}" '
                'loading="lazy"></iframe>\n'
                f'<p><a href="{up}{REPORT}">Open this report</a> in the whole '
                "window.</p>"
            )
            picture.parent.replace_self(nodes.raw("", frame, format="html"))


def write_report(app, exception):
    """Write the report of the committed search, with its tables and plots, beside the pages."""
    if exception is not None or app.builder.format != "html":
        return
    from search.report import live

    folder = (pathlib.Path(app.outdir) / REPORT).parent
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SEARCH, folder)
    live.rebuild(folder)


def inline_formula(writer, node):
    """A formula in a sentence."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display_formula(writer, node):
    """A formula by itself, which scrolls where the screen is narrow."""
    formula = convert(node.astext(), display="block")
    writer.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def as_restructured_text(app, what, name, value, options, lines):
    """A docstring's formulas, which are indented, become blocks of code."""
    # Sections such as "Args:" indent what is theirs, and they come after the formulas.
    section = re.compile(r"(Args|Attributes|Example|Reference|Returns|Raises|Yields):$")
    end = next((n for n, line in enumerate(lines) if section.match(line)), len(lines))
    text = re.sub(
        r"\n\n((?: {4}.*\n?)(?:\n? {4}.*\n?)*)",
        lambda found: f"\n\n.. code-block:: text\n\n{found[1].rstrip()}\n\n",
        "\n".join(lines[:end]) + "\n",
    )
    # "`Site`s" ends no code here, without a mark between.
    lines[:] = [
        re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", line) for line in [*text.split("\n"), *lines[end:]]
    ]


def of_the_constructor(app, what, name, value, options, signature, returned):
    """A layer's signature is its constructor's; Keras hides it behind one of its own."""
    if what != "class" or not issubclass(value, keras.layers.Layer):
        return None
    constructor = inspect.signature(value.__init__)
    parameters = list(constructor.parameters.values())[1:]
    return stringify_signature(
        constructor.replace(parameters=parameters), show_annotation=False
    ), returned


def setup(app):
    """Tell Sphinx."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline_formula, None), block_renderers=(display_formula, None)
    )
    app.add_post_transform(BackendTabs)
    app.add_post_transform(ReportInPlace)
    app.connect("build-finished", write_report)
    # Before napoleon.
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("autodoc-process-signature", of_the_constructor)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
