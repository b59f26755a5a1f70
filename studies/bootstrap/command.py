"""What bootstrap training is for, and why it diverges in small networks: trains, judges, and draws.

Every training is written to results/bootstrap.json as soon as it is done, and is not done again.

examples:
  python -m studies.bootstrap                                  everything that is missing, then the plots
  python -m studies.bootstrap --only acceptance --data ring    one part of it, one data set
  python -m studies.bootstrap --only draw                      the plots and the table from what is there
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from studies.bootstrap import acceptance, stability
from studies.bootstrap.data import DATA

RESULTS: Final = Path(__file__).parent / "results"
#: One thing to do: where its row belongs, what makes it unique, how many steps it takes, and what makes the row.
Task = tuple[str, dict[str, Any], int, Callable[[Callable[[int, float], None]], dict[str, Any]]]
STABILITY_SEEDS: Final = 3


def main(arguments: list[str] | None = None) -> int:
    """0 where bootstrap training is as much better as it must be, 1 where it is not, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    path, console = options.results / "bootstrap.json", Console()
    options.results.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {"acceptance": [], "stability": []}
    run([task for task in tasks(options) if not _done(results, task)], results, path, console)
    if options.only in (None, "draw"):
        _draw(results, options.results)
    return judge(results, console)


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Everything that was asked for."""
    if options.only in (None, "acceptance"):
        for seed in range(options.seeds):
            for name in options.data:
                yield _acceptance_task(name, seed, options.steps)
    if options.only in (None, "stability"):
        for seed in range(STABILITY_SEEDS):
            for name in stability.VARIANTS:
                yield _stability_task(name, seed)


def _acceptance_task(name: str, seed: int, steps: int) -> Task:
    key = {"data": name, "seed": seed, "steps": steps}
    return "acceptance", key, steps, lambda note: acceptance.compare(DATA[name], seed, steps, note)


def _stability_task(name: str, seed: int) -> Task:
    steps = stability.VARIANTS[name].steps
    return "stability", {"variant": name, "seed": seed}, steps, lambda note: stability.observe(name, seed, note)


def run(todo: list[Task], results: dict[str, Any], path: Path, console: Console) -> None:
    """Do every task, and write the results after each."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3g}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        for part, key, steps, work in todo:
            bar = progress.add_task(", ".join(map(str, key.values())), total=steps, loss=float("nan"))
            results[part].append(work(_noting(progress, bar)))
            path.write_text(json.dumps(results, indent=1) + "\n")


def _noting(progress: Progress, bar: TaskID) -> Callable[[int, float], None]:
    return lambda step, loss: progress.update(bar, completed=step, loss=loss)


def judge(results: dict[str, Any], console: Console) -> int:
    """Print a table of the distances, and what fails."""
    table = Table("data", "seed", "K", "bootstrap", "flow, d = 1/K", "flow, d_min", "ratio", "at most")
    for row in results["acceptance"]:
        for num_steps, ratio in acceptance.ratios(row).items():
            cells = [_number(row[name][str(num_steps)]) for name in ("bootstrap", "flow, d = 1/K", "flow, d_min")]
            bound = f"{acceptance.BOUNDS[num_steps]:g}"
            table.add_row(row["data"], str(row["seed"]), str(num_steps), *cells, f"{ratio:.3f}", bound)
    console.print(table)
    found = [sentence for row in results["acceptance"] for sentence in acceptance.failures(row)]
    for sentence in found:
        console.print(sentence)
    return 1 if found else 0


def _done(results: dict[str, Any], task: Task) -> bool:
    part, key, _, _ = task
    return any(all(row[name] == value for name, value in key.items()) for row in results[part])


def _draw(results: dict[str, Any], folder: Path) -> None:
    try:
        from studies.bootstrap.drawing import draw
    except ImportError as error:
        raise SystemExit("the plots need matplotlib: pip install 'dreamer4-conformance[train]'") from error
    draw(results, folder)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m studies.bootstrap", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("acceptance", "stability", "draw"), help="one part (default: all)")
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA), help="which (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--steps", type=int, default=acceptance.SPLIT.steps, help="of each training")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures are kept")
    return parser
