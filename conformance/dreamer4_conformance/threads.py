"""Number of torch's CPU threads while the suite runs.

The suite's tensors are tiny. With several threads, most of the CPU time is spent on synchronisation: next to two busy
processes on two cores, several times the time of the computation itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_thread(device: str = "cpu", *, guest: bool = True) -> Iterator[None]:
    """Run torch in one thread, and restore the number of threads afterwards.

    The number is unchanged if `OMP_NUM_THREADS` is set or the device is not a CPU. A number that the user's code sets
    inside the context, for example when an adapter is imported, stays.

    Args:
        device: device of the operations, as in `Adapter.device`.
        guest: whether the user's code may have run before; a number that differs from torch's default is then the
            user's choice and stays.
    """
    torch = sys.modules.get("torch")
    if torch is None:  # code in NumPy or JAX, which does not need the second that an import takes
        yield
        return
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
    """True if operations on this device do not use torch's CPU threads.

    Example:
        >>> on_gpu("cpu"), on_gpu("cuda:1")
        (False, True)
    """
    return device.partition(":")[0] != "cpu"


def _is_default(count: int) -> bool:
    """True for torch's own choices: the number of physical cores, or of the cores that the process may use."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return count in (torch.get_num_interop_threads(), usable)
