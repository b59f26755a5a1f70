"""Registry of all workloads."""

from functools import cache

from benchmarks.attention_workloads import attention_workloads
from benchmarks.model_workloads import model_workloads
from benchmarks.workload import Workload

#: Contender that the others of a case are compared with.
BASELINE = "eager"


@cache
def workloads() -> dict[str, Workload]:
    """All workloads available on this machine, by name."""
    return {workload.name: workload for source in (attention_workloads, model_workloads) for workload in source()}


def find(name: str) -> Workload:
    """Workload of a name.

    Raises:
        ValueError: if there is no such workload.

    >>> find("time forward / eager").case
    'time forward'
    """
    if name not in workloads():
        raise ValueError(f"name must be one of {', '.join(workloads())}; got {name!r}")
    return workloads()[name]


def baseline(workload: Workload) -> Workload | None:
    """Workload of the same case by the baseline contender; None for the baseline itself or if there is none."""
    name = f"{workload.case} / {BASELINE}"
    return None if name == workload.name else workloads().get(name)
