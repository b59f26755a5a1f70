"""Plots as SVG: positions of curves, axes and ticks, for the template that draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dreamer4_conformance.gallery.curves import Curve
from dreamer4_conformance.gallery.entries import Entry
from dreamer4_conformance.report.wording import short
from dreamer4_conformance.verdicts import Result

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 44

CLAUSES = {
    "ramp": ("eq08.value", "eq08.elementwise"),
    "weights": ("eq08.applied",),
    "steps": ("eq04.step-law", "eq04.step-support"),
    "levels": ("eq04.grid", "eq04.grid-law", "eq04.grid-range"),
    "levels by frame": ("eq06.iid-levels", "eq04.granularity"),
    "labels": ("eq02.calls",),
    "sampler": ("eq02.step", "eq02.endpoint"),
    "loss": ("eq07.bootstrap-value", "eq07.flow-only-at-dmin", "eq07.absolute", "eq07.gradient"),
    "returns": ("eq10.value", "eq10.terminal", "eq10.limits"),
}
"""Name of a curve → the clauses that it illustrates."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis, in pixels, with its text."""

    position: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A curve in pixels of a drawing of `WIDTH` × `HEIGHT`.

    Attributes:
        curve: the values.
        theirs: points (x, y) of the implementation, in runs without gaps.
        paper: points of the paper, likewise.
        x_ticks: marks of the abscissa.
        y_ticks: marks of the ordinate.
        bar: width of a bar; 0 for lines and points.
        floor: y of the value 0, which every plot shows.
    """

    curve: Curve
    theirs: list[list[tuple[float, float]]]
    paper: list[list[tuple[float, float]]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bar: float
    floor: float

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Texts of abscissa, implementation and paper, for the table of values."""
        columns = zip(self.curve.x, self.curve.theirs, self.curve.paper, strict=True)
        return [(short(x), _text(theirs), _text(paper)) for x, theirs, paper in columns]


def _text(value: float | None) -> str:
    return "" if value is None else short(value)


def plots(entry: Entry, clauses: Sequence[str]) -> list[Plot]:
    """Plots that show the failures of some clauses.

    Args:
        entry: an implementation.
        clauses: ids of clauses that fail.

    Returns:
        Plots of its recorded curves and of the values in its report.
    """
    curves = dict(entry.curves)
    for result in filter(None, map(entry.result, clauses)):
        curves |= dict(_of_result(result, entry.report.environment["k_max"]))
    return [draw(curves[name]) for name, ids in CLAUSES.items() if name in curves and not set(ids).isdisjoint(clauses)]


def _of_result(result: Result, k_max: int) -> Iterator[tuple[str, Curve]]:
    """Curves in the values of a report."""
    got, expected = result.got, result.expected
    if not (_is_numbers(got) and _is_numbers(expected) and len(got) == len(expected)):
        return
    if result.id == "eq04.step-law":
        steps = tuple("1" if power == 0 else f"1/{2**power}" for power in range(k_max.bit_length()))
        yield "steps", Curve("Law of the step size", "d", "share of draws", steps, tuple(got), tuple(expected), "bars")
    if result.id == "eq08.applied":
        # w = 0.9 τ + 0.1 of the paper gives the level of each timestep.
        rows = sorted(
            (round((weight - 0.1) / 0.9, 6), value, weight) for value, weight in zip(got, expected, strict=True)
        )
        x, theirs, paper = zip(*rows, strict=True)
        title = "Weight that the loss applies, up to a common factor"
        yield "weights", Curve(title, "τ", "weight", x, theirs, paper, "points")
    if result.id == "eq06.iid-levels":
        frames = tuple(map(float, range(len(got))))
        title = "Mean level by frame, in standard deviations of the law of τ given d"
        yield "levels by frame", Curve(title, "frame", "mean level", frames, tuple(got), tuple(expected))


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, int | float) for item in value)


def draw(curve: Curve) -> Plot:
    """Place a curve on its axes; values that are not finite are gaps.

    Args:
        curve: at least one value.

    Returns:
        The plot.
    """
    xs = [float(position if isinstance(x, str) else x) for position, x in enumerate(curve.x)]
    gap = min((b - a for a, b in pairwise(xs)), default=1.0)
    margin = gap / 2 if curve.kind == "bars" else 0.0
    left, right = min(xs) - margin, max(xs) + margin
    values = [0.0, *(y for y in (*curve.theirs, *curve.paper) if y is not None and math.isfinite(y))]
    y_marks = ticks(min(values), max(values))
    across = _scale(left, right, LEFT, WIDTH - RIGHT)
    up = _scale(y_marks[0], y_marks[-1], HEIGHT - BOTTOM, TOP)
    return Plot(
        curve,
        _runs(xs, curve.theirs, across, up),
        _runs(xs, curve.paper, across, up),
        [Tick(across(x), text) for x, text in _x_marks(curve, xs, left, right)],
        [Tick(up(y), short(y)) for y in y_marks],
        0.38 * (across(gap) - across(0)) if curve.kind == "bars" else 0.0,
        up(0.0),
    )


def _x_marks(curve: Curve, xs: Sequence[float], left: float, right: float) -> list[tuple[float, str]]:
    """Abscissae with their texts: the categories, or round numbers."""
    if isinstance(curve.x[0], str):
        return [(x, str(text)) for x, text in zip(xs, curve.x, strict=True)]
    return [(x, short(x)) for x in ticks(left, right) if left <= x <= right]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about five of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 5 * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: round(start + (value - low) / span * (end - start), 2)


def _runs(
    xs: Sequence[float],
    values: Sequence[float | None],
    across: Callable[[float], float],
    up: Callable[[float], float],
) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(xs, values, strict=True):
        if y is None or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append((across(x), up(y)))
    return [run for run in runs if run]
