"""The number of threads that torch computes in while the suite judges.

The suite's tensors are tiny. With more threads than one, most of the CPU time is threads that wait for each other: next to
two busy processes on two cores, several times the time of the computation itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_thread(device: str = "cpu", *, guest: bool = True) -> Iterator[None]:
    """Run torch in one thread, and restore the count of threads afterwards.

    Leaves the count alone where `OMP_NUM_THREADS` is set or the device is not a CPU. A count that the user's code sets
    inside, at the import of an adapter for example, stays.

    Args:
        device: where the operations run, as in `Adapter.device`.
        guest: whether the user's code may have run before; a count that differs from torch's default is then the user's
            and stays.
    """
    import torch

    count = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ or on_gpu(device) or (guest and not _is_default(count)):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() == 1:
            torch.set_num_threads(count)


def on_gpu(device: str) -> bool:
    """Whether operations on this device do not compute in torch's CPU threads.

    >>> on_gpu("cpu"), on_gpu("cuda:1")
    (False, True)
    """
    return device.partition(":")[0] != "cpu"


def _is_default(count: int) -> bool:
    """Whether torch takes this count by itself: every physical core, or those that the process may use."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return count in (torch.get_num_interop_threads(), usable)
