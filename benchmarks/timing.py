"""Times that survive a noisy machine: minima of processor time, of things that take turns in one process.

Where others use the machine too, the wall clock counts their work as well. With four busy processes beside it on two cores,
ratios of minima between two processes with the same code, twelve rounds each in turn, were off by up to

    wall clock   59 %,   in units of a matrix product beside them  110 %
    processor    16 %,                                              27 %

so processor time it is, on one thread; and a matrix product is the unit only where what is compared takes no turns.
"""

import math
import time
from collections.abc import Callable, Mapping

import torch

#: Does what is measured once; the result is dropped.
Run = Callable[[], object]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: Of the calibrator's matrices: what fits into the caches of a core, and what fills a GPU.
WIDTH = 8192 if DEVICE.type == "cuda" else 512


class Interleaved:
    """Runs everything once a round, so that a slow spell of the machine meets all alike, and keeps the minima."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self.runs = runs
        self.minima = dict.fromkeys(runs, math.inf)

    def __call__(self) -> None:
        for name, run in self.runs.items():
            self.minima[name] = min(self.minima[name], once(run))


#: A GPU's work is not the processor's, and nobody else is on it.
CLOCK = time.perf_counter if DEVICE.type == "cuda" else time.process_time


def once(run: Run) -> float:
    """Seconds that one call takes, the device's work included."""
    wait()
    start = CLOCK()
    run()
    wait()
    return CLOCK() - start


def calibrator() -> Run:
    """A product of square matrices, 512 wide on a CPU."""
    left, right, out = (torch.ones(WIDTH, WIDTH, device=DEVICE) for _ in range(3))
    return lambda: torch.matmul(left, right, out=out)


def copy() -> Run:
    """A copy of 64 MiB, more than caches hold."""
    source = torch.ones(2**24, device=DEVICE)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def ceilings(minima: Mapping[str, float]) -> tuple[float, float]:
    """Operations and bytes per second that the machine reaches, from the minima of `calibrator` and `copy` under these names."""
    return 2 * WIDTH**3 / minima["calibrator"], 2 * 2**26 / minima["copy"]


def wait() -> None:
    """Until the device has done what it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
