"""Judge at many seeds: every clause, in mixed order, in one process.

`python conformance/reports/seeds.py` judges the bundled implementation, which must pass, and appends a line for each
seed to `seeds.txt`, and one for each other verdict. 300 seeds with the profile `dev` and 50 with `nightly` take
several hours of one core. `python conformance/reports/seeds.py --peers 'nicklashansen/*'` judges implementations of
other projects, from checkouts that `DREAMER4_PEERS` points to, at 20 seeds each; their verdicts must be those of the
committed reports. These lines go to `peer-seeds.txt`. What the files have is left out, so that a run may be
interrupted; each line ends with the commit that judged. The exit status is 1 if the file has a verdict that differs.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters.bundled import Bundled
from dreamer4_conformance.adapters.importing import load
from dreamer4_conformance.adapters.peers import PEERS, Peer
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.judging.check import Profile
from dreamer4_conformance.report.document import read
from dreamer4_conformance.runner import checkable, verdict
from dreamer4_conformance.threads import single_thread
from dreamer4_conformance.verdicts import Status

FOLDER = Path(__file__).parent
COMMIT = ["git", "rev-parse", "--short=9", "HEAD"]


def main() -> int:
    """Judge the seeds that the log does not have; returns 1 if the log has a verdict that differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", type=int, default=300, help="number of seeds with the profile dev (default: 300)")
    parser.add_argument("--nightly", type=int, default=50, help="the same with the profile nightly (default: 50)")
    parser.add_argument("--peers", metavar="OWNER/NAME", nargs="+", help="judge these in place of the bundled one")
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds of each of --peers (default: 20)")
    chosen = parser.parse_args()
    if chosen.peers is None:
        log = Log(FOLDER / "seeds.txt")
        judge_at(log, "", Bundled(), runs(chosen.dev, chosen.nightly), {})
        return int(log.has_differences())
    log = Log(FOLDER / "peer-seeds.txt")
    for name in chosen.peers:
        peers = [peer for peer in PEERS if fnmatch(peer.project, name)]
        if not peers:
            parser.error(
                f"--peers: no implementation is called {name}; there are {', '.join(p.project for p in PEERS)}"
            )
        for peer in peers:
            judge_at(log, f"{peer.project} {peer.commit} ", load(peer.adapter), runs(chosen.seeds, 0), reported(peer))
    return int(log.has_differences())


class Log:
    """A text file of lines that are appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text().splitlines() if path.exists() else []

    def has(self, run: str) -> bool:
        """True if a run has its summary."""
        return any(line.startswith(f"{run}: ") for line in self.lines)

    def append(self, lines: Sequence[str]) -> None:
        """Append lines, all or none of them, and print them."""
        self.lines += lines
        text = "\n".join(lines)
        with self.path.open("a") as file:
            print(text, file=file)
        print(text, flush=True)

    def has_differences(self) -> bool:
        """True if a verdict differs from the expected one."""
        return any(" not pass: " in line or " differs: " in line for line in self.lines)


def reported(peer: Peer) -> dict[str, Status]:
    """Verdicts of the committed report."""
    return {result.id: result.status for result in read(FOLDER / f"{peer.report}.json").results}


def runs(dev: int, nightly: int) -> list[tuple[Profile, int]]:
    """Profile and seed of each run, the profiles in mixed order."""
    every: list[tuple[Profile, int]] = [("dev", seed) for seed in range(dev)]
    every += [("nightly", seed) for seed in range(nightly)]
    random.Random(0).shuffle(every)
    return every


def judge_at(
    log: Log,
    name: str,
    adapter: Adapter | type[Adapter],
    runs: Iterable[tuple[Profile, int]],
    expected: Mapping[str, Status],
) -> None:
    """Append what the log lacks: for each run the verdicts that differ, then a summary.

    Args:
        log: of earlier runs.
        name: with which each line begins.
        adapter: the implementation.
        runs: profiles and seeds.
        expected: verdicts by clause; `pass` for a clause that it lacks.
    """
    suite = subprocess.run(COMMIT, cwd=FOLDER, check=True, capture_output=True, text=True).stdout.strip()
    with single_thread():
        subject = examine(adapter)
        for profile, seed in runs:
            run = f"{name}{profile} {seed}"
            if log.has(run):
                continue
            clauses = checkable()
            random.Random(seed).shuffle(clauses)
            began = time.process_time()
            results = [verdict(subject, clause, profile=profile, seed=seed) for clause in clauses]
            seconds = time.process_time() - began
            different = [result for result in results if result.status is not expected.get(result.id, Status.PASS)]
            lines = [f"{run} differs: {result.id}, {result.status}: {result.message}" for result in different]
            right = f"{len(results) - len(different)} of {len(results)} {'as reported' if expected else 'pass'}"
            log.append([*lines, f"{run}: {right}, {seconds:.0f} s of CPU, {suite}"])


if __name__ == "__main__":
    sys.exit(main())
