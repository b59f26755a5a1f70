"""Extension of Sphinx: writes the generated pages, draws figures, shows code, and renders formulas as MathML."""

from __future__ import annotations

import re
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

from docutils import nodes
from docutils.parsers.rst import directives
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.generator.docstrings import as_rst
from docs.generator.figures import FIGURES
from docs.generator.generation import FOLDERS, expanded, generated_pages
from docs.generator.repository import code, link_to

logger = logging.getLogger(__name__)
WIDE = 500
"""Width above which a figure scrolls on a phone instead of being scaled down."""


class Drawing(SphinxDirective):
    """A figure of `docs.generator.figures`, inline, so that it takes the page's colours.

    The option `widget` names a figure that can be dragged: `draggable.js` replaces the picture where scripts run.
    """

    required_arguments = 1
    option_spec: ClassVar = {"widget": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return the figure as HTML with its text alternative and caption."""
        name = self.arguments[0]
        figure = FIGURES[name]
        widget = f' data-widget="{escape(self.options["widget"])}"' if "widget" in self.options else ""
        svg = figure.draw()
        described = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alternative)}" ', 1)
        caption = re.sub("`([^`]+)`", r"<code>\1</code>", escape(figure.caption))
        wide = " wide" if float(re.findall(r'width="([\d.]+)', svg)[0]) > WIDE else ""
        html = (
            f'<figure class="drawing{wide}" id="figure-{name}-{self.env.new_serialno("drawing")}"{widget}>'
            f'<div class="picture" tabindex="0" role="group" aria-label="Figure">{described}</div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
        return [nodes.raw("", html, format="html")]


class CodeOf(SphinxDirective):
    """Source of functions, `MODULE.NAME …` of the reference or of a dotted module, without docstrings."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the code and links to the page of the module and to the file."""
        result: list[nodes.Node] = []
        for name in self.arguments[0].split():
            module, _, member = name.rpartition(".")
            subject = getattr(import_module(module if "." in module else f"dreamer4_reference.{module}"), member)
            text = code(subject, requirements=False)
            block = nodes.literal_block(text, text, language="python", classes=["of-the-reference"])
            link = nodes.reference("", name, refuri=link_to(subject))
            result += [block, nodes.paragraph("", "", link, classes=["source"])]
        return result


def mathml(node: nodes.Node, display: Literal["inline", "block"]) -> str:
    """MathML of a formula; warns where the converter left LaTeX in its output."""
    formula = convert(node.astext(), display=display)
    if re.search(r">(&amp;|&#x00026;|\\\w+|\[\d+pt\])<", formula):
        logger.warning("LaTeX that is not converted to MathML: %s", node.astext(), location=node)
    return formula


def visit_inline_math(translator: Any, node: nodes.Node) -> None:
    """Write a formula within a line."""
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_displayed_math(translator: Any, node: Any) -> None:
    """Write a displayed formula with its number."""
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    identifier = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    formula = mathml(node, "block")
    translator.body.append(f'<div class="formula" tabindex="0" role="group"{identifier}>{formula}{number}</div>')
    raise nodes.SkipNode


def write_pages(app: Sphinx) -> None:
    """Write the generated pages where they have changed, and remove those that are no longer generated."""
    source = Path(app.srcdir)
    pages = generated_pages()
    for folder in FOLDERS:
        for path in sorted((source / folder).rglob("*.md")):
            if path.relative_to(source).as_posix() not in pages:
                path.unlink()
    for name, text in pages.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def expand_page(app: Sphinx, name: str, content: list[str]) -> None:
    """Insert the sections of the repository's Markdown files that a page names."""
    content[0] = expanded(content[0])


def escape_docstring(app: Sphinx, kind: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: escape what reStructuredText would interpret."""
    lines[:] = as_rst(lines)


def make_accessible(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Give captions of the navigation their level, and let the keyboard reach code and tables that scroll."""
    if "furo_navigation_tree" in context:
        navigation = context["furo_navigation_tree"]
        context["furo_navigation_tree"] = navigation.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        body = context["body"].replace("<pre>", '<pre tabindex="0">')
        table = '<div class="table-wrapper'
        context["body"] = body.replace(table, f'<div tabindex="0" role="group" aria-label="Table"{table[4:]}')


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, the renderer and the events."""
    app.add_directive("drawing", Drawing)
    app.add_directive("code-of", CodeOf)
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_displayed_math, None))
    app.connect("builder-inited", write_pages)
    app.connect("source-read", expand_page)
    app.connect("autodoc-process-docstring", escape_docstring, priority=100)
    app.connect("html-page-context", make_accessible, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
