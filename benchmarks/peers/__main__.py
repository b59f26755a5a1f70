"""Measure this implementation next to those of other projects, on a CPU, and write the table.

    python -m benchmarks.peers --checkout DIR                      # about four minutes
    python -m benchmarks.peers --checkout DIR --base REV           # also one cached frame next to that of a commit
    python -m benchmarks.peers --checkout DIR --smoke --out OUT    # tiny sizes: does it run?

nicklashansen/dreamer4 is looked for at DIR/nicklashansen/dreamer4. lucidrains' `dreamer4` is measured if it can be
imported: `nox -s peers` installs it, then PYTHONPATH=.nox/peers-site. Their code runs as it is.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.measure import measure
from benchmarks.peers.report import page
from benchmarks.peers.shape import TINY, Shape
from benchmarks.timing import DEVICE
from dreamer4_conformance.adapters.nicklashansen import COMMIT, PROJECT
from dreamer4_conformance.adapters.peers import CHECKOUTS, checkout

RESULTS: Final = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", metavar="DIR", help=f"folder of owner/name; ${CHECKOUTS} if left out")
    parser.add_argument("--seconds", type=float, default=130.0, help="time of all rounds (130)")
    parser.add_argument("--base", metavar="REV", help="commit whose cached frame is measured too")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one second")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of results.json and README.md")
    options = parser.parse_args(arguments)
    if options.checkout:
        os.environ[CHECKOUTS] = options.checkout
    if options.smoke and options.out == RESULTS:
        parser.error("--smoke says nothing about speed, so its results need a folder of their own: --out")
    if DEVICE.type != "cpu":
        parser.error("the comparison is about a CPU: hide the GPU with CUDA_VISIBLE_DEVICES=")
    try:
        checkout(PROJECT)
    except FileNotFoundError as error:
        parser.error(f"{error}; clone https://github.com/{PROJECT} there, at {COMMIT[:7]}, and name DIR by --checkout")
    shape, seconds = (TINY, 1.0) if options.smoke else (Shape(), options.seconds)
    results = measure(shape, seconds, options.base)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "README.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
