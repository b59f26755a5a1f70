"""Times that survive a noisy machine: minima, in units of a matrix product that ran between them in the same process."""

import math
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import torch

#: Does what is measured once; the result is dropped.
Run = Callable[[], object]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Sample(NamedTuple):
    """The shortest time of something and of the calibrator beside it, in seconds."""

    minimum: float
    calibrator: float

    def pooled(self, other: "Sample") -> "Sample":
        """What both samples would have been as one."""
        return Sample(min(self.minimum, other.minimum), min(self.calibrator, other.calibrator))

    @property
    def calibrated(self) -> float:
        """The time in units of the calibrator."""
        return self.minimum / self.calibrator


class Interleaved:
    """Runs everything once a round, so that a slow spell of the machine meets all alike, and keeps the minima."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self.runs = runs
        self.minima = dict.fromkeys(runs, math.inf)

    def __call__(self) -> None:
        for name, run in self.runs.items():
            self.minima[name] = min(self.minima[name], once(run))


class Ceilings(NamedTuple):
    """What the machine reaches, measured: operations per second of a matrix product, bytes per second of a copy."""

    flops: float
    bytes: float


def once(run: Run) -> float:
    """Seconds that one call takes, the device's work included."""
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def calibrator(device: torch.device = DEVICE) -> Run:
    """A product of 512×512 matrices in float32."""
    left, right, out = (torch.ones(512, 512, device=device) for _ in range(3))
    return lambda: torch.matmul(left, right, out=out)


def sample(run: Run, rounds: int) -> Sample:
    """Minima over `rounds` rounds."""
    both = Interleaved({"run": run, "calibrator": calibrator()})
    for _ in range(rounds):
        both()
    return Sample(both.minima["run"], both.minima["calibrator"])


@cache
def ceilings(dtype: torch.dtype = torch.float32) -> Ceilings:
    """Of this machine, from the minima of ten products of 1024×1024 matrices and ten copies of 64 MiB."""
    width = 8192 if DEVICE.type == "cuda" else 1024
    left, right = (torch.randn(width, width, device=DEVICE, dtype=dtype) for _ in range(2))
    source = torch.zeros(2**24, device=DEVICE)
    target = torch.empty_like(source)
    both = Interleaved({"product": lambda: left @ right, "copy": lambda: target.copy_(source)})
    for _ in range(10):
        both()
    return Ceilings(2 * width**3 / both.minima["product"], 2 * source.nbytes / both.minima["copy"])


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
