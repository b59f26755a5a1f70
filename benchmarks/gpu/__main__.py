"""The command behind run.sh: measure the plan of a card, or one stage, or print the page of what would be measured."""

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
#: Set before torch and Triton are imported: kernels interpreted, nothing compiled, no GPU.
SMOKE = {"TRITON_INTERPRET": "1", "TORCHDYNAMO_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
#: What stands at the head of the page of results before there are any.
NOT_YET = {
    "measured": "nothing yet; `benchmarks/gpu/run.sh card` fills these tables in a file of its own",
    "predicted": "arithmetic for one H200, made before; milliseconds, or frames a second",
    "paper": "table 2 of arXiv:2509.24527, one H100",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command line; None for those of the process.

    Returns:
        Exit status: 1 where an attempt at a row failed, or where a stage is `check` and a row of it was not reached.
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
    parser.add_argument("command", choices=["card", *STAGES, "plan"], help="card: every stage, the best rows first")
    parser.add_argument("out", nargs="?", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="of 'group: name', for a stage; every row")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for the whole run; {SECONDS:.0f}")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU, to see that every row runs")
    return parser


def _plan() -> str:
    """The page of results before there are any; tiles are left out, because they change with the kernels."""
    rows: list[Row] = []
    for stage in STAGES:
        listed = planned(stage, importlib.import_module(f"benchmarks.gpu.{stage}").rows(False))
        rows += [{**row, "status": "not measured"} for row in listed if "ranked" not in row]
    return markdown({"environment": NOT_YET, "ceilings": {}, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
