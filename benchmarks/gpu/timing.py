"""Timing of calls: on a GPU with events in a queue that is kept full, on a CPU with the clock.

Times are medians over inputs that rotate, so that no input is still in the L2 cache when it is used again.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeAlias

import torch
from torch import Tensor

#: One set of arguments.
Arguments: TypeAlias = tuple[Tensor, ...]

#: Three times the L2 cache of an H200.
ROTATED_BYTES = 180 * 2**20
#: Least duration in seconds of a timed sequence of calls, so that the cost of the events is negligible.
RUN = 1e-3
#: Longest delay in seconds before a sequence while the host fills the queue, and the assumed clock rate of the GPU.
WAIT, CYCLES_PER_SECOND = 0.05, 2e9


def rotated(make: Callable[[], Arguments]) -> list[Arguments]:
    """Draw sets of arguments that together exceed the L2 cache, at least two; on a CPU one.

    >>> len(rotated(lambda: (torch.zeros(8),)))
    1
    """
    first = make()
    size = sum(tensor.numel() * tensor.element_size() for tensor in first)
    number = max(2, math.ceil(ROTATED_BYTES / size)) if first[0].is_cuda else 1
    return [first, *(make() for _ in range(number - 1))]


def median_ms(calls: Sequence[Callable[[], Any]], device: str, samples: int = 20) -> float:
    """Median milliseconds of one call; on a GPU after warm-up calls.

    Args:
        calls: the same call on different sets of arguments, made in rotation.
        device: device of the arguments, "cuda" or "cpu".
        samples: number of timed samples.

    >>> median_ms([lambda: None, lambda: None], "cpu", samples=3) < 1
    True
    """
    return median((_by_events if device == "cuda" else _by_clock)(calls, samples))


def _by_events(calls: Sequence[Callable[[], Any]], samples: int) -> list[float]:
    for call in calls[:3]:
        call()
    host, duration = _once(calls[0])
    number = max(1, math.ceil(RUN / duration))
    cycles = int(min(WAIT, 1.5 * host * number) * CYCLES_PER_SECOND)
    events = [(_event(), _event()) for _ in range(samples)]
    turn = itertools.cycle(calls)
    for start, end in events:
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]
        start.record()
        for call in itertools.islice(turn, number):
            call()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / number for start, end in events]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _once(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds until the host has queued one call, and until the device has finished it."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    queued = time.perf_counter()
    torch.cuda.synchronize()
    return queued - began, time.perf_counter() - began


def _by_clock(calls: Sequence[Callable[[], Any]], samples: int) -> list[float]:
    times = []
    for call in itertools.islice(itertools.cycle(calls), samples):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return times
