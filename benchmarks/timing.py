"""Timing that is robust on a busy machine: minima of processor time of runs that alternate in one process.

Wall-clock time includes the work of other processes. For two processes with the same code, twelve alternating rounds
each, on two cores with four other busy processes, the ratio of the minima was wrong by up to

    clock            in seconds   in units of a matrix product
    wall clock          59 %               110 %
    processor time      16 %                27 %

Times are therefore processor times of one thread. A matrix product is the unit only for runs that do not alternate.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch

#: Executes the measured call once; the result is ignored.
Run = Callable[[], object]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: Width of the calibrator's matrices: they fill a GPU, or fit into the caches of a CPU core.
WIDTH = 8192 if DEVICE.type == "cuda" else 512
#: Bootstrap resamples of an interval.
RESAMPLES: Final = 2000


class Interleaved:
    """Calls every run once per round and records the times; a temporary slowdown affects all runs alike."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self.runs = runs
        self.times: dict[str, list[float]] = {name: [] for name in runs}

    def __call__(self) -> None:
        for name, run in self.runs.items():
            self.times[name].append(once(run))

    @property
    def minima(self) -> dict[str, float]:
        """Shortest time of every run in seconds, infinite before the first round."""
        return {name: min(times, default=math.inf) for name, times in self.times.items()}


class Ratio(NamedTuple):
    """Ratio of two medians, with the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Ratio of the medians of times of the same rounds; rounds are resampled, both times of a round together.

    >>> print(ratio([2.0, 2.0, 2.0], [4.0, 4.0, 4.0]))
    0.500 [0.500, 0.500]
    """
    rounds = np.array([times, reference])
    drawn = np.random.default_rng(0).integers(rounds.shape[1], size=(RESAMPLES, rounds.shape[1]))
    numerator, denominator = np.median(rounds[:, drawn], axis=-1)
    low, high = np.quantile(numerator / denominator, [0.025, 0.975])
    value = np.median(times) / np.median(reference)
    return Ratio(float(value), float(low), float(high))


#: Processor time does not include the work of a GPU, which no other process is assumed to use.
CLOCK = time.perf_counter if DEVICE.type == "cuda" else time.process_time


def once(run: Run) -> float:
    """Seconds of one call, the device's work included."""
    wait()
    start = CLOCK()
    run()
    wait()
    return CLOCK() - start


def calibrator() -> Run:
    """Run of one product of two square matrices of `WIDTH`."""
    left, right, out = (torch.ones(WIDTH, WIDTH, device=DEVICE) for _ in range(3))
    return lambda: torch.matmul(left, right, out=out)


def copy() -> Run:
    """Run of one copy of 64 MiB, which exceeds the caches."""
    source = torch.ones(2**24, device=DEVICE)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def ceilings(minima: Mapping[str, float]) -> tuple[float, float]:
    """Operations and bytes per second of this machine, from the minima named "calibrator" and "copy"."""
    return 2 * WIDTH**3 / minima["calibrator"], 2 * 2**26 / minima["copy"]


def wait() -> None:
    """Block until the device has finished all queued work."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
