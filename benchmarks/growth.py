"""Growth of attention time with the number of tokens and of frames, for every backend: data, table and plot.

    python -m benchmarks.growth measure    # takes minutes; adds the missing rows to the data, then draws
    python -m benchmarks.growth draw       # table and plot from the data

The unit of time is a product of two 512×512 matrices, timed alternately with each backend, on one thread.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.attention_workloads import AttentionCase, attention_workload, contenders
from benchmarks.counting import count
from benchmarks.timing import DEVICE, Interleaved, calibrator

RESULTS: Final = Path(__file__).parent / "results"
LENGTHS: Final = (16, 32, 64, 128, 256, 512)
AXES: Final = {"space": "tokens of a frame, S", "time": "frames, T"}
DIRECTIONS: Final = ("forward", "forward + backward")


def growth_cases() -> Iterator[tuple[int, AttentionCase]]:
    """(length, case) with few heads: 4 frames over space; 4 positions and a window of 192 frames over time."""
    for direction in DIRECTIONS:
        gradient = direction == "forward + backward"
        for length in LENGTHS:
            space = AttentionCase(direction, "space", time=4, space=length)
            time = AttentionCase(direction, "time", time=length, space=4, window=192)
            yield from ((length, replace(case, heads=4, kv_heads=1, gradient=gradient)) for case in (space, time))


def measure(path: Path) -> None:
    """Measure every contender at every length, and write the data after every row.

    Rows already in the file are kept; contenders that do not support a case get no row.
    """
    torch.set_num_threads(1)
    data = json.loads(path.read_text()) if path.exists() else _environment() | {"rows": []}
    measured = [tuple(row[name] for name in ("axis", "direction", "length", "contender")) for row in data["rows"]]
    for length, case in growth_cases():
        for name in contenders():
            if (case.axis, case.name, length, name) in measured:
                continue
            try:
                row = _row(case, name)
            except NotImplementedError:
                continue
            data["rows"].append({"axis": case.axis, "direction": case.name, "length": length} | row)
            path.write_text(json.dumps(data, indent=1) + "\n")


def _environment() -> dict[str, Any]:
    capability = torch.cuda.get_device_name() if DEVICE.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"machine": f"{os.cpu_count()} cores, {capability}", "torch": str(torch.__version__)}


def _row(case: AttentionCase, contender: str) -> dict[str, Any]:
    workload = attention_workload(case, contender)
    workload.require_correct()
    peak = count(workload.build).peak_bytes
    run = workload.build()
    run()
    turn = Interleaved({"run": run, "calibrator": calibrator()})
    for _ in range(12):
        turn()
    products = turn.minima["run"] / turn.minima["calibrator"]
    return {"contender": contender, "products": round(products, 3), "peak_bytes": peak}


def table(data: dict[str, Any]) -> str:
    """Markdown page with one table per axis and direction, one row per contender and one column per length."""
    parts = [
        f"Time of attention in units of one 512×512 matrix product; one thread, {data['machine']}, torch "
        f"{data['torch']}. Generated from growth.json by `python -m benchmarks.growth draw`.\n\n![plot](growth.svg)\n"
    ]
    for axis, label in AXES.items():
        for direction in DIRECTIONS:
            series = _series(data, axis, direction)
            parts.append(f"\n{axis}, {direction}\n\n| {label} | {' | '.join(map(str, LENGTHS))} |")
            parts.append("|---" * (1 + len(LENGTHS)) + "|")
            for name, times in series.items():
                cells = (f"{times[length]:.2f}" if length in times else "–" for length in LENGTHS)
                parts.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def plot(data: dict[str, Any], path: Path) -> None:
    """Write the times of `table` as curves on logarithmic axes, in SVG format."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"  # makes the file reproducible
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(10, 8), sharey=True, layout="constrained")
    for row, direction in zip(panels, DIRECTIONS, strict=True):
        for panel, (axis, label) in zip(row, AXES.items(), strict=True):
            for name, times in _series(data, axis, direction).items():
                panel.plot(times.keys(), times.values(), marker="o", markersize=3, label=name)
            panel.set(title=f"{axis}, {direction}", xlabel=label, ylabel="time / product of 512×512 matrices")
            panel.set(xscale="log", yscale="log", xticks=LENGTHS, xticklabels=LENGTHS)
            panel.minorticks_off()
    panels[0, 0].legend()
    figure.savefig(path, metadata={"Date": None})


def _series(data: dict[str, Any], axis: str, direction: str) -> dict[str, dict[int, float]]:
    series: dict[str, dict[int, float]] = {}
    for row in data["rows"]:
        if (row["axis"], row["direction"]) == (axis, direction):
            series.setdefault(row["contender"], {})[row["length"]] = row["products"]
    return series


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "draw"))
    data_path = RESULTS / "growth.json"
    RESULTS.mkdir(exist_ok=True)
    if parser.parse_args().what == "measure":
        measure(data_path)
    data = json.loads(data_path.read_text())
    (RESULTS / "growth.md").write_text(table(data))
    plot(data, RESULTS / "growth.svg")


if __name__ == "__main__":
    main()
