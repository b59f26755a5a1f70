"""Study of bootstrap training: its benefit, and why it can diverge in small networks. Trains, judges and plots.

Every finished training is written to results/bootstrap.json at once and is not repeated.

examples:
  python -m studies.bootstrap                                  all missing trainings, then the plots
  python -m studies.bootstrap --only acceptance --data ring    one section, one data set
  python -m studies.bootstrap --only draw                      plots and table from the existing results
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
#: One training: section of the results, key of its row, number of steps, and the function that makes the row.
Task = tuple[str, dict[str, Any], int, Callable[[Callable[[int, float], None]], dict[str, Any]]]
STABILITY_SEEDS: Final = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the missing trainings, plot and judge.

    Args:
        arguments: command line without the program's name; None reads sys.argv.

    Returns:
        Exit status: 0 if every bound of `acceptance` is met, 1 otherwise.

    Raises:
        SystemExit: with status 2 for wrong usage, or with a message if matplotlib is missing for the plots.
    """
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
    """Yield the trainings that the options select."""
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
    """Run every task and write the results after each of them."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3g}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        for section, key, steps, work in todo:
            bar = progress.add_task(", ".join(map(str, key.values())), total=steps, loss=float("nan"))
            results[section].append(work(_progress_callback(progress, bar)))
            path.write_text(json.dumps(results, indent=1) + "\n")


def _progress_callback(progress: Progress, bar: TaskID) -> Callable[[int, float], None]:
    return lambda step, loss: progress.update(bar, completed=step, loss=loss)


def judge(results: dict[str, Any], console: Console) -> int:
    """Print a table of the distances and the exceeded bounds; return the exit status."""
    table = Table("data", "seed", "K", "bootstrap", "flow, d = 1/K", "flow, d_min", "ratio", "at most")
    for row in results["acceptance"]:
        for num_steps, ratio in acceptance.ratios(row).items():
            cells = [_number(row[name][str(num_steps)]) for name in ("bootstrap", "flow, d = 1/K", "flow, d_min")]
            bound = f"{acceptance.BOUNDS[num_steps]:g}"
            table.add_row(row["data"], str(row["seed"]), str(num_steps), *cells, f"{ratio:.3f}", bound)
    console.print(table)
    messages = [message for row in results["acceptance"] for message in acceptance.failures(row)]
    for message in messages:
        console.print(message)
    return 1 if messages else 0


def _done(results: dict[str, Any], task: Task) -> bool:
    section, key, _, _ = task
    return any(all(row[name] == value for name, value in key.items()) for row in results[section])


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
    parser.add_argument("--only", choices=("acceptance", "stability", "draw"), help="section to run (default: all)")
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA), help="data sets (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--steps", type=int, default=acceptance.SPLIT.steps, help="steps of each training")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results and figures")
    return parser
