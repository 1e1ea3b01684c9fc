"""Sphinx extension: formulas as MathML, which browsers draw without a script or a network."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# the empty group keeps a formula that begins with "[" from being read as the environment's option
LINES = r"\begin{{split}}{{}}{}\end{{split}}"


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write an inline formula."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a displayed formula; a line break inside it aligns its lines."""
    latex = node.astext()
    if r"\\" in latex and r"\begin" not in latex:
        latex = LINES.format(latex)
    translator.body.append('<div class="formula">' + convert(latex, display="block") + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
