"""Command behind run.sh: measure all stages or one of them, or print the page of results without figures."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.plan import CARD, SECONDS, STAGES, Step
from benchmarks.gpu.report import FAILED, Row, markdown
from benchmarks.gpu.rows import planned
from benchmarks.gpu.run import Run

RESULTS = Path(__file__).parents[1] / "results"
#: Environment of a smoke run, set before torch and Triton are imported: interpreted kernels, no compilation, no GPU.
SMOKE = {"TRITON_INTERPRET": "1", "TORCHDYNAMO_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
#: Heading of the page of results before any measurement.
NOT_YET = {
    "measured": "nothing yet; `benchmarks/gpu/run.sh card` writes a separate page with these tables filled in",
    "predicted": "estimates for one H200, computed before any measurement; milliseconds or frames per second",
    "paper": "table 2 of arXiv:2509.24527, one H100",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: command-line arguments; None for those of the process.

    Returns:
        Exit status: 1 if an attempt at a row failed, or if the command is `check` and a row was not reached; else 0.
    """
    options = _parser().parse_args(arguments)
    if options.command == "plan":
        print(_plan())
        return 0
    if options.smoke:
        os.environ |= SMOKE
    options.out.mkdir(parents=True, exist_ok=True)
    steps = CARD if options.command == "card" else [Step(options.command, options.only)]
    run = Run(steps, options.smoke, options.seconds, options.out / f"{options.command}.log")
    results = run.measure(options.out)
    print(markdown(results.document), f"Written to {results.path}", sep="\n", flush=True)
    rows = results.document["rows"]
    unchecked = options.command == "check" and any(row["status"] in ("not reached", "cut off") for row in rows)
    return int(unchecked or any(row["status"] in FAILED or "note" in row for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("run.sh", description=__doc__)
    parser.add_argument(
        "command", choices=["card", *STAGES, "plan"], help="card: every stage, the most valuable rows first"
    )
    parser.add_argument("out", nargs="?", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="rows of a stage, by 'group: name'; default: *")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"limit of the run; default: {SECONDS:.0f}")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU, to test that every row runs")
    return parser


def _plan() -> str:
    """Page of results without figures; rows of tiles are left out, because they change with the kernels."""
    rows: list[Row] = []
    for stage in STAGES:
        listed = planned(stage, importlib.import_module(f"benchmarks.gpu.{stage}").rows(False))
        rows += [{**row, "status": "not measured"} for row in listed if "ranked" not in row]
    return markdown({"environment": NOT_YET, "ceilings": {}, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
