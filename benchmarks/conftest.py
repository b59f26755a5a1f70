"""Options of the benchmarks, the session that judges them, and the table at its end."""

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
    group.addoption("--base", metavar="REV", help="a commit; fail what takes 15 %% longer than there, measured in turn")
    group.addoption("--record", action="store_true", help="record all counters anew instead of judging them")


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
    found = config.stash.get(SESSION, None)
    if found is None:
        return
    Console(width=150).print(table(found.rows))
    for note in (*found.record.notes(), *found.notes):
        terminalreporter.write_line(note)
    if found.base is None:
        terminalreporter.write_line("no --base: counters were judged, times were not")
