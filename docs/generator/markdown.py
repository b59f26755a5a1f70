"""Docstrings as Markdown: preformatted equations stay as they are, everything else is escaped."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator


def escaped(text: str) -> str:
    """Escape the characters that Markdown would interpret, outside of code in backticks.

    Args:
        text: plain text with code in single backticks.

    Example:
        >>> escaped("p_{k+1} < |x|, see `a_b`")
        'p\\\\_{k+1} \\\\< \\\\|x\\\\|, see `a_b`'
    """
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(
        piece if number % 2 else re.sub(r"([\\*_<>|$\[\]])", r"\\\1", piece) for number, piece in enumerate(pieces)
    )


def paragraphs(docstring: str) -> list[str]:
    """Paragraphs of a docstring, separated by empty lines; indented ones keep their indentation.

    Args:
        docstring: as in the source.
    """
    return [text for text in re.split(r"\n\s*\n", inspect.cleandoc(docstring)) if text.strip()]


def prose(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring as Markdown.

    Args:
        docstring: as in the source.
    """
    yield from map(paragraph_as_markdown, paragraphs(docstring))


def paragraph_as_markdown(paragraph: str) -> str:
    """One paragraph as Markdown: indented ones are preformatted, as equations are in docstrings.

    Args:
        paragraph: with its indentation.

    Example:
        >>> paragraph_as_markdown("    w = 1").splitlines()
        ['```text', 'w = 1', '```']
    """
    return preformatted(textwrap.dedent(paragraph)) if paragraph.startswith("  ") else escaped(paragraph)


def preformatted(text: str, language: str = "text") -> str:
    """A fenced block.

    Args:
        text: the block's content.
        language: that it is highlighted in.
    """
    return f"```{language}\n{text.rstrip()}\n```"


def dropdown(title: str, content: str) -> str:
    """A block that the reader opens.

    Args:
        title: always visible.
        content: Markdown.
    """
    return f":::::{{dropdown}} {title}\n{content}\n:::::"


def label(name: str) -> str:
    """A target for links, before a heading or paragraph; its identifier in HTML is `identifier(name)`."""
    return f"({name})="


def identifier(name: str) -> str:
    """Identifier in HTML of a label, as Docutils derives it.

    Args:
        name: of the label.

    Example:
        >>> identifier("eq07.teacher-state"), identifier("A17.rewards")
        ('eq07-teacher-state', 'a17-rewards')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def reading_label(reading: str) -> str:
    """Label of a reading.

    Args:
        reading: its id.

    Example:
        >>> reading_label("A17.rewards")
        'reading-a17.rewards'
    """
    return f"reading-{reading.lower()}"
