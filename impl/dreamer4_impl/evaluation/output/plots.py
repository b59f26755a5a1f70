"""Plots of the measures as SVG."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.output.tables import GAINS, Table, horizons, label, predictors, tables
from dreamer4_impl.evaluation.sections.open_loop import shown_steps

#: `matplotlib.axes.Axes`; matplotlib has no type information.
Axes: TypeAlias = Any

#: Colours by predictor, distinguishable with colour blindness (Okabe and Ito).
_COLOURS: Final[Mapping[str, str]] = {
    "reconstruction": "#009e73",
    "model": "#0072b2",
    "shuffled": "#cc79a7",
    "pca": "#56b4e9",
    "copy": "#d55e00",
    "mean_frame": "#777777",
}
_METRICS: Final = {"psnr": "PSNR, dB", "ssim": "SSIM"}


def plots(measures: Mapping[str, Measure]) -> dict[str, str]:
    """Plot the rollouts; a plot without measures is left out.

    Args:
        measures: measures by name.

    Returns:
        SVG elements by title.
    """
    drawn: dict[str, Callable[[Axes], None]] = {
        f"{unit} by frames ahead": partial(_by_horizon, measures=measures, metric=metric)
        for metric, unit in _METRICS.items()
        if predictors(measures, "rollout", metric)
    }
    if drawn:
        drawn["Gains of the model, paired, dB"] = partial(_gains, measures=measures)
        drawn["PSNR by number of sampling steps K"] = partial(_by_steps, measures=measures)
    return {title: _svg(title, draw) for title, draw in drawn.items()}


def dots(measures: Mapping[str, Measure], section: str) -> str:
    """Plot the first column of a section's table, or imagined and real return, as dots with intervals.

    Args:
        measures: measures by name.
        section: name of the section.

    Returns:
        SVG element; empty if the section has no finite values, or is "reward", whose rows differ in unit.
    """
    rows = [row for table in tables(measures) if table.section == section for row in _dot_rows(table)]
    shown = [(name, cell) for name, cell in rows if cell and cell.unit != "nats" and np.isfinite(cell.value)]
    if section == "reward" or not shown:
        return ""

    def _draw(axes: Axes) -> None:
        for y, (_, cell) in enumerate(shown):
            _dot(axes, y, cell)
        axes.set_yticks(range(len(shown)), [name for name, _ in shown])
        axes.invert_yaxis()
        axes.set_xlabel("PSNR, dB" if section == "tokenizer" else "return")

    return _svg(section, _draw, height=1 + 0.35 * len(shown))


def _dot_rows(table: Table) -> list[tuple[str, Measure | None]]:
    if table.section == "returns":
        return list(zip(table.columns, table.rows[0][1], strict=True))[:2]
    return [(name, cells[0]) for name, cells in table.rows]


def _by_horizon(axes: Axes, measures: Mapping[str, Measure], metric: str) -> None:
    for name in _with_single_sampler(predictors(measures, "rollout", metric)):
        colour = _COLOURS.get(name, _COLOURS["model"])
        _curve(axes, measures, f"rollout.{name}.{metric}.h{{}}", horizons(measures), colour, label(name))
    axes.set_xlabel("frames ahead")
    axes.set_ylabel(_METRICS[metric])


def _gains(axes: Axes, measures: Mapping[str, Measure]) -> None:
    for name, colour in {"over_copy": "copy", "over_mean_frame": "mean_frame", "shuffle_gap": "shuffled"}.items():
        if f"rollout.{name}.psnr.h{horizons(measures)[0]}" in measures:
            _curve(axes, measures, f"rollout.{name}.psnr.h{{}}", horizons(measures), _COLOURS[colour], GAINS[name])
    axes.axhline(0, color="black", lw=1)
    axes.set_xlabel("frames ahead")
    axes.set_ylabel("dB")


def _by_steps(axes: Axes, measures: Mapping[str, Measure]) -> None:
    steps, ahead = _steps(predictors(measures, "rollout", "psnr")), horizons(measures)
    for shade, h in enumerate(ahead):
        colour = matplotlib.colormaps["viridis"](shade / len(ahead))
        _curve(axes, measures, f"rollout.k{{}}.psnr.h{h}", steps, colour, f"{h} ahead", band=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(k) for k in steps])
    axes.minorticks_off()
    axes.set_xlabel("K, evaluations of a frame")
    axes.set_ylabel("PSNR, dB")


def _curve(
    axes: Axes,
    measures: Mapping[str, Measure],
    template: str,
    xs: Sequence[int],
    colour: Any,
    name: str,
    band: bool = True,
) -> None:
    """Plot the measures `template.format(x)` over x, with their intervals as a band."""
    points = [measures[template.format(x)] for x in xs]
    values, low, high = (_finite([getattr(point, field) for point in points]) for field in ("value", "low", "high"))
    axes.plot(xs, values, "o-", color=colour, label=name, markersize=4)
    if band:
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xticks(xs)


def _dot(axes: Axes, y: int, measure: Measure) -> None:
    axes.plot(_finite([measure.low, measure.high]), [y] * 2, color=_COLOURS["model"], lw=2)
    axes.plot(_finite([measure.value]), [y], "o", color=_COLOURS["model"])


def _with_single_sampler(names: Sequence[str]) -> list[str]:
    """Drop all samplers but the one of `shown_steps`, because their curves overlap."""
    sampler = f"k{shown_steps(_steps(names))}"
    return [name for name in names if not name[1:].isdigit() or name == sampler]


def _steps(names: Sequence[str]) -> list[int]:
    return [int(name[1:]) for name in names if name[1:].isdigit()]


def _finite(values: Sequence[float]) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _svg(title: str, draw: Callable[[Axes], None], height: float = 3.6) -> str:
    figure = Figure(figsize=(5.4, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    draw(axes)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(fontsize=8, frameon=False, ncols=2, loc="outside lower center")
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
