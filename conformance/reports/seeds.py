"""Judge the bundled implementation at many seeds: every clause, in mixed order, in one process.

`python conformance/reports/seeds.py` appends a line for each seed to `seeds.txt`, and one for each verdict that is not
`pass`; seeds that the file has are left out, so that a run may be interrupted. The exit status is 1 if the file has a
verdict that is not `pass`. 300 seeds with the profile `dev` and 50 with `nightly` take several hours of one core.
"""

import argparse
import random
import sys
import time
from importlib.metadata import version
from pathlib import Path

from dreamer4_conformance.adapters.bundled import Bundled
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Profile
from dreamer4_conformance.runner import checkable, judge
from dreamer4_conformance.threads import single_thread
from dreamer4_conformance.verdicts import Status

SUITE = version("dreamer4-conformance")
LOG = Path(__file__).with_name("seeds.txt")


def main() -> int:
    """Judge the seeds that the log does not have; returns 1 if the log has a verdict that is not `pass`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", type=int, default=300, help="number of seeds with the profile dev (default: 300)")
    parser.add_argument("--nightly", type=int, default=50, help="the same with the profile nightly (default: 50)")
    chosen = parser.parse_args()
    log = LOG.read_text().splitlines() if LOG.exists() else []
    with LOG.open("a") as file, single_thread():
        subject = examine(Bundled())
        for profile, seed in runs(chosen.dev, chosen.nightly):
            if not any(line.startswith(f"{profile} {seed}: ") for line in log):
                for line in judgements(subject, profile, seed):
                    print(line, file=file, flush=True)
                    print(line, flush=True)
                    log.append(line)
    return any(" not pass: " in line for line in log)


def runs(dev: int, nightly: int) -> list[tuple[Profile, int]]:
    """Profile and seed of each run, the profiles in mixed order."""
    every: list[tuple[Profile, int]] = [("dev", seed) for seed in range(dev)]
    every += [("nightly", seed) for seed in range(nightly)]
    random.Random(0).shuffle(every)
    return every


def judgements(subject: Subject, profile: Profile, seed: int) -> list[str]:
    """Verdicts that are not `pass`, and a summary, as lines of the log."""
    clauses = checkable()
    random.Random(seed).shuffle(clauses)
    began = time.process_time()
    results = [judge(subject, clause, profile=profile, seed=seed, minimal=False) for clause in clauses]
    deviant = [result for result in results if result.status is not Status.PASS]
    seconds = time.process_time() - began
    passed = f"{len(results) - len(deviant)} of {len(results)} pass, {seconds:.0f} s of CPU"
    return [
        *(f"{profile} {seed} not pass: {result.id}, {result.status}: {result.message}" for result in deviant),
        f"{profile} {seed}: {passed}, {SUITE}",
    ]


if __name__ == "__main__":
    sys.exit(main())
