"""Comparison of several reports: a matrix of clauses and reports, and the changes between consecutive reports."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.terminal import STYLES
from dreamer4_conformance.verdicts import Status


@dataclass(frozen=True)
class Change:
    """A clause whose verdict differs from the previous report; None if a report lacks the clause."""

    clause: str
    report: str
    before: Status | None
    after: Status | None


class Comparison:
    """Several reports, oldest first."""

    def __init__(self, reports: dict[str, Report]) -> None:
        """Compares reports by name, in order from the oldest to the newest."""
        self.names = list(reports)
        self.verdicts = {name: {r.id: r.status for r in report.results} for name, report in reports.items()}
        self.kinds = {r.id: r.kind for report in reports.values() for r in report.results}

    def changes(self) -> list[Change]:
        """Changes between consecutive reports."""
        return [
            Change(clause, after, self.verdicts[before].get(clause), self.verdicts[after].get(clause))
            for before, after in zip(self.names, self.names[1:], strict=False)
            for clause in self.kinds
            if self.verdicts[before].get(clause) is not self.verdicts[after].get(clause)
        ]

    def regressions(self) -> list[str]:
        """Clauses, without quality, that pass in an earlier report and deviate in the last one."""
        last = self.verdicts[self.names[-1]]
        deviating = [clause for clause in last if last[clause] in (Status.FAIL, Status.KNOWN_FAILURE)]
        earlier = [self.verdicts[name] for name in self.names[:-1]]
        return [
            clause
            for clause in deviating
            if self.kinds[clause] != "quality" and any(verdicts.get(clause) is Status.PASS for verdicts in earlier)
        ]

    def print(self, console: Console) -> None:
        """Prints matrix, changes and regressions. Columns are headed by numbers to save width."""
        for number, name in enumerate(self.names, 1):
            console.print(Text(f"[{number}] {name}"), soft_wrap=True)
        console.print(self._matrix())
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        for change in self.changes():
            verdicts = f"{_word(change.before)} → {_word(change.after)}"
            console.print(Text(f"changed in [{numbers[change.report]}]: {change.clause}: {verdicts}"))
        regressions = ", ".join(self.regressions()) or "none"
        console.print(Text(f"Passed before and deviate in [{len(self.names)}]: {regressions}"))

    def _matrix(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("clause", no_wrap=True)
        for number in range(1, len(self.names) + 1):
            table.add_column(f"\\[{number}]")
        for clause in self.kinds:
            row = [self.verdicts[name].get(clause) for name in self.names]
            table.add_row(Text(clause), *(Text(_word(x), style=STYLES[x] if x else "") for x in row))
        return table


def _word(status: Status | None) -> str:
    return "absent" if status is None else str(status)
