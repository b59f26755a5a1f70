"""One style for all figures: SVG that takes its colours from the page, so that it is readable in dark mode and print.

Text and axes have the page's text colour. Series differ in colour (a palette for colour-blind readers, `site.css`) and
in line style or marker, so that no figure needs colour to be read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

INK, FAINT = "#010203", "#a1a2a3"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--figure-faint, #8a8a8a)",
    BLUE: "var(--figure-blue, #0072b2)",
    ORANGE: "var(--figure-orange, #d55e00)",
    GREEN: "var(--figure-green, #009e73)",
    PURPLE: "var(--figure-purple, #aa4499)",
}
"""Colour in Matplotlib → colour in the page."""
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
}


@contextmanager
def panels(columns: int, width: float = 7.2, height: float = 2.6, **options: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield a figure and its panels in the style of the site.

    Args:
        columns: number of panels in a row.
        width: in inches.
        height: in inches.
        options: of `pyplot.subplots`.
    """
    with mpl.rc_context(SETTINGS):
        figure, axes = pyplot.subplots(1, columns, figsize=(width, height), squeeze=False, **options)
        yield figure, list(axes[0])
        pyplot.close(figure)


def to_svg(figure: Any, name: str) -> str:
    """SVG of a Matplotlib figure with the page's colours and with identifiers that are unique in the page.

    Args:
        figure: a Matplotlib figure.
        name: of the figure, the prefix of its identifiers.
    """
    stream = io.StringIO()
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return in_page_colours(re.sub(r"^.*?(?=<svg)", "", stream.getvalue(), flags=re.S), name)


def in_page_colours(svg: str, name: str) -> str:
    """Replace colours by those of the page, and make identifiers unique.

    Args:
        svg: text of an SVG element.
        name: of the figure.

    Example:
        >>> in_page_colours('<g id="a" style="fill: #010203"/>', "ramp")
        '<g id="ramp-a" style="fill: currentColor"/>'
    """
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font: (\S+) [^;\"]*", r"font: \1 sans-serif", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    return re.sub(r'(url\(|xlink:href=")#', rf"\1#{name}-", svg)
