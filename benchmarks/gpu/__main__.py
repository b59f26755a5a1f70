"""The command behind run.sh: measure one stage, row by row, or print the page of what would be measured."""

import argparse
import fnmatch
import importlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from benchmarks.gpu.report import FAILED, Row, markdown
from benchmarks.gpu.results import Results
from benchmarks.gpu.rows import Worker, planned

#: Stage → how many of its rows run at once: several only where nothing is timed.
STAGES = {"check": 4, "kernels": 1, "decode": 1}
#: Seconds for a stage, so that whoever ends it at nine minutes finds it done.
SECONDS = 510.0
#: With less than this left, no row is started.
LEAST = 5.0
RESULTS = Path(__file__).parents[1] / "results"
#: Set before torch and Triton are imported: kernels interpreted, nothing compiled, no GPU.
SMOKE = {"TRITON_INTERPRET": "1", "TORCHDYNAMO_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
#: What stands at the head of the page of results before there are any.
NOT_YET = {
    "measured": "nothing yet; `benchmarks/gpu/run.sh check`, `kernels` and `decode` fill these tables in a file of their own",
    "predicted": "arithmetic for one H200, made before; milliseconds, or frames a second",
    "paper": "table 2 of arXiv:2509.24527, one H100",
}


class Stage:
    """One run of one stage.

    Args:
        name: in `STAGES`.
        smoke: tiny sizes on a CPU.
        seconds: after which nothing goes on.
        only: pattern of "group: name"; rows of the group "ceilings" are always measured.
    """

    def __init__(self, name: str, smoke: bool, seconds: float, only: str) -> None:
        self.name, self.smoke, self.only = name, smoke, only
        self.deadline = time.monotonic() + seconds

    def run(self, directory: Path) -> Results:
        """Measure the chosen rows; the file in `directory` is up to date after each."""
        first = Worker(self.name, self.smoke)
        chosen = [index for index, row in enumerate(first.planned) if self._chosen(row)]
        results = Results(directory, self.name, first.environment(), [first.planned[index] for index in chosen])
        queue: SimpleQueue[tuple[int, int]] = SimpleQueue()
        for place, index in enumerate(chosen):
            queue.put((place, index))
        workers = 1 if self.smoke else min(STAGES[self.name], len(chosen))
        threads = [threading.Thread(target=self._empty, args=(queue, results, first))]
        threads += [threading.Thread(target=self._empty, args=(queue, results)) for _ in range(workers - 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def _chosen(self, row: Row) -> bool:
        return row["group"] == "ceilings" or fnmatch.fnmatch(f"{row['group']}: {row['name']}", self.only)

    def _empty(self, queue: "SimpleQueue[tuple[int, int]]", results: Results, worker: Worker | None = None) -> None:
        try:
            while self._left() > LEAST:
                place, index = queue.get_nowait()
                row = results.rows[place]
                try:
                    if worker is None or not worker.usable:
                        worker = Worker(self.name, self.smoke)
                    found = worker.measure(index, min(row["budget"], self._left()))
                except RuntimeError as error:
                    found = {"status": "died", "error": str(error)}
                results.put(place, found)
                print(f"{row['group']}: {row['name']}: {found['status']} after {found.get('seconds')} s", flush=True)
        except Empty:
            pass
        finally:
            if worker is not None and worker.usable:
                worker.end()

    def _left(self) -> float:
        return self.deadline - time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where a row failed, or where a check was not reached."""
    options = _parser().parse_args(arguments)
    if options.stage == "plan":
        print(_plan())
        return 0
    if options.smoke:
        os.environ |= SMOKE
    options.out.mkdir(parents=True, exist_ok=True)
    results = Stage(options.stage, options.smoke, options.seconds, options.only).run(options.out)
    print(markdown(results.document), f"Written to {results.path}", sep="\n", flush=True)
    refused = (*FAILED, "not reached") if options.stage == "check" else FAILED
    return int(any(row["status"] in refused for row in results.document["rows"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("run.sh", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "plan"])
    parser.add_argument("out", nargs="?", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="of 'group: name'; the default is every row")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for the whole stage; {SECONDS:.0f}")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU, to see that every row runs")
    return parser


def _plan() -> str:
    """The page of results before there are any; tiles are left out, because they change with the kernels."""
    rows: list[Row] = []
    for stage in STAGES:
        found = planned(importlib.import_module(f"benchmarks.gpu.{stage}").rows(False))
        rows += [{"stage": stage, **row, "status": "not measured"} for row in found if "ranked" not in row]
    return markdown({"environment": NOT_YET, "ceilings": {}, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
