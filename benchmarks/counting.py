"""What running something costs in numbers that do not depend on how busy the machine is.

All come out the same every time, so any change is a change of the code or of torch.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import DEVICE, Run

#: An operator of any library, or a kernel that inductor wrote.
_LAUNCH = re.compile(r"^(?!autograd::)\w+::\w+|^graph_\d+_")
#: clone, contiguous, to and reshape come down to this one where they copy.
_COPY = "aten::copy_"


class Counters(NamedTuple):
    """Costs of one call.

    peak_bytes: most that was held at one time beyond what was there before.
    saved_bytes: kept from the forward pass for the backward pass, each storage once, inputs included.
    launches: calls of operators, views included, and of kernels that were compiled; on CUDA, kernels on the device.
    copies: how often a tensor is copied by an operator.
    graphs: compiled from a cold start over three calls; more than before is a recompilation.
    """

    peak_bytes: int
    saved_bytes: int
    launches: int
    copies: int
    graphs: int


def count(build: Callable[[], Run]) -> Counters:
    """Counters of the run that `build` makes, warm but for `graphs`.

    Everything that torch.compile holds is forgotten first, so that the order of measurements does not matter.
    """
    torch._dynamo.reset()
    before = _graphs()
    with visible_kernels():
        run = build()
        for _ in range(3):
            run()
        graphs = _graphs() - before
        profile = _profile(run)
    events = profile.events()
    names = [event.name() for event in events]
    launches = _kernels(events) if DEVICE.type == "cuda" else sum(bool(_LAUNCH.match(name)) for name in names)
    return Counters(
        _peak_bytes(profile.experimental_event_tree()), _saved_bytes(run), launches, names.count(_COPY), graphs
    )


@contextmanager
def visible_kernels() -> Iterator[None]:
    """Kernels that inductor compiles here name themselves to the profiler."""
    with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):
        yield


def _graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def _profile(run: Run) -> Any:
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (DEVICE.type == "cuda")
    # `acc_events` changes nothing in a profile of one cycle; without it torch 2.11 warns of events lost between cycles.
    with profile(activities=activities, profile_memory=True, acc_events=True) as measured:
        run()
    return measured.profiler.kineto_results


def _peak_bytes(tree: list[Any]) -> int:
    """Most that was held at one time of what was allocated here.

    What was there before and is freed here is left out by its address: to the profiler some of it has the size of what an
    earlier profile left at that address, and the rest has none.
    """
    allocations = [event for event in _flat(tree) if event.tag.name == "Allocation"]
    held: dict[int, int] = {}
    total = peak = 0
    for event in sorted(allocations, key=lambda event: event.start_time_ns):
        block = event.extra_fields
        if block.device.type != DEVICE.type:
            continue
        if block.alloc_size > 0:
            held[block.ptr] = block.alloc_size
            total += block.alloc_size
        else:
            total -= held.pop(block.ptr, 0)
        peak = max(peak, total)
    return peak


def _flat(tree: list[Any]) -> Iterator[Any]:
    for event in tree:
        yield event
        yield from _flat(event.children)


def _kernels(events: list[Any]) -> int:
    return sum(event.device_type().name == "CUDA" and event.name() != "[memory]" for event in events)


def _saved_bytes(run: Run) -> int:
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(storages.values())
