"""Tables of committed results, for lines `% results NAME` of a page: their numbers cannot differ from the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from docs.generator.repository import ROOT

ROOMS = ROOT / "studies/rooms/results"
HORIZONS = (1, 4, 8)
STAGES = ("data", "tokenizer", "dynamics", "agent", "imagine", "evaluation")
RETURNS = {
    "game.random": "random play",
    "game.prior": "cloned policy",
    "game.policy": "policy after imagination",
    "returns.real": "sum of rewards of 12 frames, real",
    "returns.imagined": "the same, imagined",
    "returns.ratio": "imagined ÷ real",
}
"""Measure of an evaluation → its row."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        header: titles of the columns.
        rows: cells.
    """
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def interval(measure: dict[str, float | None], digits: int = 3) -> str:
    """Value and 95 % interval of a measure.

    Args:
        measure: with value, low and high; None where a file has null, which is no number.
        digits: after the decimal point.

    Example:
        >>> interval({"value": 0.5, "low": 0.25, "high": None}, 2)
        '0.50 [0.25, –]'
    """
    numbers = (measure["value"], measure["low"], measure["high"])
    value, low, high = ("–" if number is None else f"{number:.{digits}f}" for number in numbers)
    return f"{value} [{low}, {high}]"


def cells() -> dict[str, dict[str, Any]]:
    """Results of `studies.rooms.cells` on the room whose goal moves, by the stem of their file."""
    files = sorted(ROOMS.glob("moving-goal*cells*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def sequences() -> list[dict[str, Any]]:
    """Evaluated runs of `dreamer4-train all` on the room whose goal moves, by seed."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ROOMS.glob("*.json"))]
    runs = [file for file in files if file.get("format") == "dreamer4-sequence" and file.get("evaluation")]
    return sorted((run for run in runs if run["game"].endswith("MovingGoal-v0")), key=lambda run: run["seed"])


def bug_versions() -> str:
    """The versions of the tutorial on finding a bug: loss at the end, distance of samples to the data."""
    results = json.loads((ROOT / "docs/finding_a_bug.json").read_text(encoding="utf-8"))
    rows = [
        [name, f"{result['losses'][0]:.3f}", f"{result['losses'][-1]:.3f}"]
        + [f"{result['distances'][steps]:.3f}" for steps in ("1", "4", "64")]
        for name, result in results.items()
    ]
    return table(["version", "loss, steps 1–100", "last 100", "distance at K = 1", "K = 4", "K = 64"], rows)


def cell_table() -> str:
    """Share of clips whose agent is in the right cell, 1, 4 and 8 frames ahead, for every measured model."""
    measured = cells()
    newest = list(measured.values())[-1]["measures"]
    rows = [_cell_row("reconstruction", newest, "reconstruction")]
    rows += [_cell_row(f"`{name}`", file["measures"], "model") for name, file in measured.items()]
    rows.append(_cell_row("copy of the last observed frame", newest, "copy"))
    return table(["agent in the right cell", *(f"h = {h}" for h in HORIZONS)], rows)


def _cell_row(title: str, measures: dict[str, Any], source: str) -> list[str]:
    return [title, *(interval(measures[f"{source}.agent.h{h}"]) for h in HORIZONS)]


def return_table() -> str:
    """Figure and table of the returns of the committed runs, one column per seed; a sentence where there are none."""
    runs = sequences()
    if not runs:
        return (
            "No whole run of the command is committed yet. What the parts reached when they were trained one by one "
            "stands in the [study of rooms](/project/rooms.md)."
        )
    measures = [run["evaluation"]["measures"] for run in runs]
    rows = [
        [title, *(interval(measured[name], 2) if name in measured else "–" for measured in measures)]
        for name, title in RETURNS.items()
    ]
    return "```{drawing} rooms-returns\n```\n\n" + table(["", *(f"seed {run['seed']}" for run in runs)], rows)


def time_table() -> str:
    """Processor time of every stage of the committed runs; nothing where there are none."""
    runs = sequences()
    rows = [[stage, *(_time(run["stages"].get(stage)) for run in runs)] for stage in STAGES]
    return table(["processor time", *(f"seed {run['seed']}" for run in runs)], rows) if runs else ""


def _time(stage: dict[str, Any] | None) -> str:
    return str(timedelta(seconds=round(stage["cpu_seconds"]))) if stage else "–"


TABLES: dict[str, Callable[[], str]] = {
    "bug-versions": bug_versions,
    "rooms-cells": cell_table,
    "rooms-returns": return_table,
    "rooms-time": time_table,
}
"""Name → Markdown of its table."""
