"""Benchmark of every workload, judged by the guard."""

from typing import Any

import pytest

from benchmarks.session import Session
from benchmarks.timing import CLOCK
from benchmarks.workloads import find, workloads

pytestmark = [
    pytest.mark.benchmark(timer=CLOCK),
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),  # raised by torch while it compiles
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),  # if the workload is skipped or wrong
]


@pytest.mark.parametrize("name", workloads())
def bench(name: str, session: Session, benchmark: Any) -> None:
    try:
        faults = session.judge(find(name), benchmark)
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    assert not faults, "\n".join(faults)
