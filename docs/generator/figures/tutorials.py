"""Figures of the tutorials, from their committed results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from docs.generator.figures.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, panels, to_svg
from docs.generator.repository import ROOT
from docs.generator.results import HORIZONS, cells, sequences

SERIES = ((ORANGE, "--", "s"), (BLUE, "-", "o"), (GREEN, "-.", "^"), (PURPLE, ":", "D"))
"""Colour, line and marker of the series of a plot."""

ROOM_SEED = 3
ROOM_EPISODE = (
    ("start", (1, 1), 0, (2, 3)),
    ("forward", (2, 1), 0, (2, 3)),
    ("right", (2, 1), 1, (2, 3)),
    ("forward", (2, 2), 1, (2, 3)),
    ("forward", (2, 3), 1, (2, 1)),
)
"""Beginning of an episode of the room: action, the agent's cell and direction, and the goal's cell after it."""


def results(name: str) -> dict[str, Any]:
    """Committed results of a tutorial.

    Args:
        name: stem of the file in `docs`.
    """
    return json.loads((ROOT / f"docs/{name}.json").read_text(encoding="utf-8"))


def tutorial_paths(name: str) -> str:
    """Paths of the networks of shortcut forcing on numbers.

    Args:
        name: "flow matching" or "shortcut forcing".
    """
    with panels(3, 7.6, 2.7, sharey=True) as (figure, axes):
        for axis, (num_steps, states) in zip(axes, results("shortcut_forcing")[name]["paths"].items(), strict=True):
            _paths(axis, num_steps, states)
        axes[0].set_ylabel("state")
        return to_svg(figure, f"tutorial-{name.split()[0]}")


def _paths(axis: Any, num_steps: str, states: Sequence[Sequence[float]]) -> None:
    marker = "o" if int(num_steps) <= 4 else None
    axis.plot(np.linspace(0, 1, len(states)), states, color=BLUE, linewidth=1, marker=marker, markersize=3)
    axis.scatter([1, 1], [-1, 1], marker="D", s=45, facecolors="none", edgecolors=ORANGE, zorder=3, linewidths=2)
    axis.set(title=f"K = {num_steps}", xlabel="signal level τ")


def tutorial_distances() -> str:
    """Energy distance of samples to the data against K, of flow matching and shortcut forcing."""
    return _distances("tutorial-distances", results("shortcut_forcing"))


def bug_versions() -> str:
    """Energy distance of samples to the data against K, before and after each repair."""
    return _distances("bug-versions", results("finding_a_bug"))


def _distances(name: str, measured: dict[str, Any]) -> str:
    with panels(1, 5.6, 2.8) as (figure, (axis,)):
        order = SERIES if len(measured) == 2 else (SERIES[0], SERIES[2], SERIES[1])
        for (title, result), (colour, line, marker) in zip(measured.items(), order, strict=False):
            steps = [int(num_steps) for num_steps in result["distances"]]
            values = list(result["distances"].values())
            axis.plot(steps, values, color=colour, linestyle=line, marker=marker, label=title)
        axis.set(xscale="log", yscale="log", xlabel="steps K", ylabel="energy distance", xticks=steps)
        axis.set_xticklabels(steps)
        axis.minorticks_off()
        axis.legend(fontsize=9)
        return to_svg(figure, name)


def bug_found() -> str:
    """The symptom: loss of the wrong implementation, and the paths of its samples with 1 and 64 steps."""
    result = results("finding_a_bug")["as found"]
    with panels(3, 7.8, 2.7) as (figure, (loss, single, many)):
        loss.plot(np.arange(len(result["losses"])) * 100 + 50, result["losses"], color=BLUE)
        loss.set(title="loss", xlabel="step", ylim=(0, None))
        for axis, num_steps in ((single, "1"), (many, "64")):
            _paths(axis, num_steps, result["paths"][num_steps])
            axis.set_ylim(-2.2, 2.2)
        return to_svg(figure, "bug-found")


def room() -> str:
    """Five frames of the room: the agent reaches the goal, which moves."""
    with panels(5, 8.0, 1.9) as (figure, axes):
        for axis, (action, agent, direction, goal) in zip(axes, ROOM_EPISODE, strict=True):
            _room(axis, agent, direction, goal)
            axis.set_title(action)
        return to_svg(figure, "room")


def _room(axis: Any, agent: tuple[int, int], direction: int, goal: tuple[int, int]) -> None:
    """Walls, goal and agent, whose triangle points right, down, left or up for directions 0 to 3."""
    axis.bar(goal[0], 0.9, 0.9, bottom=goal[1] - 0.45, color=GREEN, hatch="///", edgecolor=INK, linewidth=0.5)
    axis.plot(*agent, color=ORANGE, marker=">v<^"[direction], markersize=11, markeredgecolor=INK, linestyle="none")
    axis.plot([0.5, 4.5, 4.5, 0.5, 0.5], [0.5, 0.5, 4.5, 4.5, 0.5], color=INK, linewidth=3)
    axis.set(xlim=(0.3, 4.7), ylim=(4.7, 0.3), xticks=np.arange(1.5, 4), yticks=np.arange(1.5, 4), aspect="equal")
    axis.tick_params(length=0, labelbottom=False, labelleft=False)
    axis.spines[:].set_visible(False)


def rooms_cells() -> str:
    """Share of clips whose agent is in the right cell, over the frames ahead, with 95 % intervals."""
    files = cells()
    curves = [(name, file["measures"], "model") for name, file in files.items()]
    curves.append(("copy of the last observed frame", curves[-1][1], "copy"))
    with panels(1, 5.8, 2.8) as (figure, (axis,)):
        for number, (title, measures, source) in enumerate(curves):
            colour, line, marker = SERIES[number % 4] if source == "model" else (FAINT, ":", "x")
            points = [measures[f"{source}.agent.h{h}"] for h in HORIZONS]
            _with_intervals(axis, HORIZONS, points, color=colour, linestyle=line, marker=marker, label=title)
        axis.set(xlabel="frames ahead", ylabel="agent in the right cell", ylim=(0, 1.05), xticks=HORIZONS)
        axis.legend(fontsize=9)
        return to_svg(figure, "rooms-cells")


def rooms_returns() -> str:
    """Returns in the game of random play, cloned policy and policy, one column per committed run."""
    names = {"game.random": "random", "game.prior": "cloned", "game.policy": "after imagination"}
    runs = sequences()
    with panels(1, 5.8, 2.8) as (figure, (axis,)):
        for number, (name, title) in enumerate(names.items()):
            colour, _, marker = SERIES[number]
            measured = [run["evaluation"]["measures"].get(name, {"value": None}) for run in runs]
            points = [(i + 0.15 * (number - 1), m) for i, m in enumerate(measured) if None not in m.values()]
            _with_intervals(
                axis, [x for x, _ in points], [measure for _, measure in points], color=colour, linestyle="none",
                marker=marker, label=title,
            )  # fmt: skip
        axis.set(ylabel="goals an episode", ylim=(0, None), xlim=(-0.5, len(runs) - 0.5), xticks=range(len(runs)))
        axis.set_xticklabels([f"seed {run['seed']}" for run in runs])
        axis.legend(fontsize=9)
        return to_svg(figure, "rooms-returns")


def _with_intervals(axis: Any, x: Sequence[float], measures: Sequence[dict[str, float]], **style: Any) -> None:
    values = np.array([[measure["value"], measure["low"], measure["high"]] for measure in measures]).reshape(-1, 3)
    errors = np.abs(values[:, 1:] - values[:, :1]).T
    axis.errorbar(x, values[:, 0], yerr=errors, capsize=3, elinewidth=1, **style)
