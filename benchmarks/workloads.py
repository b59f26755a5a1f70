"""All workloads by name."""

from functools import cache

from benchmarks.attention_workloads import attention_workloads
from benchmarks.model_workloads import model_workloads
from benchmarks.workload import Workload

#: What others of the same case are compared with.
BASELINE = "eager"


@cache
def workloads() -> dict[str, Workload]:
    """Every workload that this machine can be asked for."""
    return {workload.name: workload for source in (attention_workloads, model_workloads) for workload in source()}


def find(name: str) -> Workload:
    """One of them.

    >>> find("time forward / eager").case
    'time forward'
    """
    if name not in workloads():
        raise ValueError(f"name must be one of {', '.join(workloads())}; got {name!r}")
    return workloads()[name]


def baseline(workload: Workload) -> Workload | None:
    """What this one is compared with, None for the baseline itself and where there is none."""
    name = f"{workload.case} / {BASELINE}"
    return None if name == workload.name else workloads().get(name)
