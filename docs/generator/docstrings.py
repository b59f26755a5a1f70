"""Docstrings for Sphinx: plain text with code in single backticks becomes valid reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Iterable


def as_rst(lines: Iterable[str]) -> list[str]:
    """Escape a docstring for reStructuredText.

    Args:
        lines: of the docstring, without the indentation of the code.

    Returns:
        The lines with code as literals, other special characters escaped, and indented paragraphs as literal blocks;
        examples and the sections of Google style are left as they are.

    Example:
        >>> as_rst(["Mean of |x| over `K_max` steps*."])
        ['Mean of \\\\|x\\\\| over ``K_max`` steps\\\\*.']
    """
    lines = "\n\n".join(map(_indented, re.split(r"\n[ ]*\n", "\n".join(lines)))).split("\n")
    result: list[str] = []
    literal = example = False
    previous = ""
    for line in lines:
        indented = line.startswith("    ")
        example = line.lstrip().startswith(">>>") or (example and line.strip() != "")
        starts = indented and not previous.strip() and not literal and not _in_section(result)
        if starts and not example:
            result += ["::", ""]
            literal = True
        elif line.strip() and not indented:
            literal = False
        result.append(line if literal or example else _escaped(line))
        previous = line
    return result


def _indented(paragraph: str) -> str:
    """Indent a paragraph whose lines are aligned, such as a table, so that it becomes preformatted."""
    first, *remainder = paragraph.split("\n")
    aligned = any(line.startswith(" ") for line in remainder) and not re.match(r"[A-Z]\w+:$|- | |>>>|\.\. ", first)
    return re.sub("(?m)^", "    ", paragraph) if aligned else paragraph


def _in_section(lines: list[str]) -> bool:
    """True inside a section such as `Args:`, whose entries are indented."""
    heads = [line for line in lines if line and not line.startswith(" ")]
    return bool(heads) and re.fullmatch(r"[A-Z]\w+:", heads[-1]) is not None


def _escaped(line: str) -> str:
    pieces = re.split(r"(``.+?``|`[^`]+`)", line)
    return "".join(
        (piece if piece.startswith("``") else f"`{piece}`")
        if number % 2
        else re.sub(r"([\\*|]|(?<=\w)_(?=\W|$))", r"\\\1", piece)
        for number, piece in enumerate(pieces)
    )
