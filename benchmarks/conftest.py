"""Command-line options, session fixture and summary table of the benchmarks."""

from collections.abc import Iterator

import pytest
import torch
from rich.console import Console

from benchmarks.base import AgainstBase
from benchmarks.counting import visible_kernels
from benchmarks.guard import Record
from benchmarks.session import Session, version
from benchmarks.table import table

SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("guard")
    group.addoption("--base", metavar="REV", help="base commit; fail workloads that take over 15 %% longer")
    group.addoption("--record", action="store_true", help="record the measured counters instead of judging them")


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    torch.set_num_threads(1)
    record = Record(version(), overwrite=request.config.getoption("--record"))
    revision = request.config.getoption("--base")
    base = AgainstBase(revision).__enter__() if revision else None
    with visible_kernels():
        yield request.config.stash.setdefault(SESSION, Session(record, base))
    record.save()
    if base:
        base.__exit__()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    finished = config.stash.get(SESSION, None)
    if finished is None:
        return
    Console(width=150).print(table(finished.rows))
    for note in (*finished.record.notes(), *finished.notes):
        terminalreporter.write_line(note)
    if finished.base is None:
        terminalreporter.write_line("no --base: counters were judged, times were not")
