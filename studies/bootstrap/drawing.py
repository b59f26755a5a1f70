"""Plots of the results as SVG files."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bootstrap"  # makes the file reproducible
from matplotlib import pyplot  # noqa: E402

NAMES = ("flow, d = 1/K", "flow, d_min", "bootstrap")


def draw(results: dict[str, Any], folder: Path) -> None:
    """Write distances.svg and stability.svg to a folder; a section without rows is skipped."""
    _distances(results["acceptance"], folder / "distances.svg")
    _losses(results["stability"], folder / "stability.svg")


def _distances(rows: list[dict[str, Any]], path: Path) -> None:
    data = sorted({row["data"] for row in rows})
    if not data:
        return
    figure, panels = pyplot.subplots(1, len(data), figsize=(4 * len(data), 3.5), squeeze=False, layout="constrained")
    for panel, name in zip(panels[0], data, strict=True):
        for index, kind in enumerate(NAMES):
            points = [(int(k), v) for row in rows if row["data"] == name for k, v in row[kind].items() if v is not None]
            x, y = [k * 1.06 ** (index - 1) for k, _ in points], [max(v, 1e-3) for _, v in points]
            panel.scatter(x, y, label=kind, s=14, alpha=0.7)
        panel.set(title=name, xlabel="K", xscale="log", yscale="log", xticks=(1, 2, 4), xticklabels=(1, 2, 4))
        panel.minorticks_off()
    panels[0, 0].set_ylabel("energy distance to the data, each seed")
    panels[0, 0].legend()
    _save(figure, path)


def _losses(rows: list[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(row["variant"] for row in rows))
    if not names:
        return
    figure, panel = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for index, name in enumerate(names):
        for seed, row in enumerate(row for row in rows if row["variant"] == name):
            steps = [4 * i for i in range(len(row["losses"]))]
            panel.plot(steps, row["losses"], color=f"C{index}", label=None if seed else name, linewidth=1)
    panel.set(xlabel="step", ylabel="loss", yscale="log", title="ring, K_max = 64")
    panel.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
