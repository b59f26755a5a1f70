"""Plots of an evaluation as SVG."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.open_loop import shown_steps
from dreamer4_impl.evaluation.tables import horizons, label, predictors, tables

#: matplotlib's, which has no types here.
Axes: TypeAlias = Any

#: Colours that people with the usual colour blindness tell apart (Okabe, Ito).
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
    """Plots that the measures fill, title → SVG."""
    drawn: dict[str, Callable[[Axes], None]] = {
        f"{unit} by frames ahead": partial(_by_horizon, measures=measures, metric=metric)
        for metric, unit in _METRICS.items()
        if predictors(measures, "rollout", metric)
    }
    if drawn:
        drawn["PSNR by number of sampling steps K"] = partial(_by_steps, measures=measures)
    if f"rollout.shuffle_gap.psnr.h{max(horizons(measures), default=0)}" in measures:
        drawn["What the right actions are worth, dB"] = partial(_gap, measures=measures)
    return {title: _svg(title, draw) for title, draw in drawn.items()}


def dots(measures: Mapping[str, Measure], section: str) -> str:
    """The first column of a section's table as dots with intervals; nothing where no interval is to be seen."""
    rows = [(name, cells[0]) for table in tables(measures) if table.section == section for name, cells in table.rows]
    shown = [(name, cell) for name, cell in rows if cell and cell.unit != "nats" and np.isfinite(cell.value)]
    if section == "reward" or not shown:
        return ""

    def draw(axes: Axes) -> None:
        for place, (_, cell) in enumerate(shown):
            _dot(axes, place, cell)
        axes.set_yticks(range(len(shown)), [name for name, _ in shown])
        axes.invert_yaxis()
        axes.set_xlabel("PSNR, dB" if section == "tokenizer" else "return")

    return _svg(section, draw, height=1 + 0.35 * len(shown))


def _by_horizon(axes: Axes, measures: Mapping[str, Measure], metric: str) -> None:
    ahead = horizons(measures)
    for name in _with_one_sampler(predictors(measures, "rollout", metric)):
        curve = [measures[f"rollout.{name}.{metric}.h{h}"] for h in ahead]
        colour = _COLOURS.get(name, _COLOURS["model"])
        axes.plot(ahead, _finite([m.value for m in curve]), "o-", color=colour, label=label(name), markersize=4)
        axes.fill_between(
            ahead, _finite([m.low for m in curve]), _finite([m.high for m in curve]), color=colour, alpha=0.15, lw=0
        )
    axes.set_xticks(ahead)
    axes.set_xlabel("frames ahead")
    axes.set_ylabel(_METRICS[metric])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _by_steps(axes: Axes, measures: Mapping[str, Measure]) -> None:
    steps = [int(name[1:]) for name in predictors(measures, "rollout", "psnr") if name[1:].isdigit()]
    for shade, h in enumerate(horizons(measures)):
        curve = [measures[f"rollout.k{k}.psnr.h{h}"] for k in steps]
        colour = matplotlib.colormaps["viridis"](shade / max(1, len(horizons(measures))))
        axes.plot(steps, _finite([m.value for m in curve]), "o-", color=colour, label=f"{h} ahead", markersize=4)
        axes.fill_between(
            steps, _finite([m.low for m in curve]), _finite([m.high for m in curve]), color=colour, alpha=0.15, lw=0
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(k) for k in steps])
    axes.minorticks_off()
    axes.set_xlabel("K, evaluations of a frame")
    axes.set_ylabel("PSNR, dB")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _gap(axes: Axes, measures: Mapping[str, Measure]) -> None:
    ahead = horizons(measures)
    for place, h in enumerate(ahead):
        _dot(axes, place, measures[f"rollout.shuffle_gap.psnr.h{h}"], upright=True)
    axes.axhline(0, color="#777777", lw=1)
    axes.set_xticks(range(len(ahead)), [str(h) for h in ahead])
    axes.set_xlabel("frames ahead")
    axes.set_ylabel("PSNR, own − another clip's actions, dB")


def _dot(axes: Axes, place: int, measure: Measure, *, upright: bool = False) -> None:
    ends = _finite([measure.low, measure.high])
    value = _finite([measure.value])
    line, dot = (([place] * 2, ends), ([place], value)) if upright else ((ends, [place] * 2), (value, [place]))
    axes.plot(*line, color=_COLOURS["model"], lw=2)
    axes.plot(*dot, "o", color=_COLOURS["model"])


def _with_one_sampler(names: Sequence[str]) -> list[str]:
    """K = 4 alone, or the nearest to it: the other curves would lie upon it."""
    steps = [int(name[1:]) for name in names if name[1:].isdigit()]
    return [name for name in names if not name[1:].isdigit() or int(name[1:]) == shown_steps(steps)]


def _finite(values: Sequence[float]) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _svg(title: str, draw: Callable[[Axes], None], height: float = 3.2) -> str:
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    draw(axes)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
