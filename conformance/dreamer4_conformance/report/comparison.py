"""Comparison of several reports: what differs from each report to the next, clause by clause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.terminal import STYLES
from dreamer4_conformance.report.wording import number, reading, readings
from dreamer4_conformance.verdicts import Result, Status, printable

CONDITIONS = ("k_max", "device", "dtype", "profile", "seed")
"""Entries of a report's environment that decide what is judged."""


@dataclass(frozen=True)
class Difference:
    """A text that differs between two reports."""

    label: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.label}: {self.before or 'none'} → {self.after or 'none'}"


@dataclass(frozen=True)
class Change:
    """A clause that differs from the previous report.

    Attributes:
        clause: its id.
        report: name of the later report.
        before: verdict in the previous report; None if it lacks the clause.
        after: verdict in the later report; None if it lacks the clause.
        differences: in its readings, its mistakes and its cause.
    """

    clause: str
    report: str
    before: Status | None
    after: Status | None
    differences: tuple[Difference, ...] = ()


class Comparison:
    """Several reports, oldest first."""

    def __init__(self, reports: dict[str, Report]) -> None:
        """Compares reports by name, in order from the oldest to the newest."""
        self.names = list(reports)
        self.reports = reports
        self.results = {name: {r.id: r for r in report.results} for name, report in reports.items()}
        self.kinds = {r.id: r.kind for report in reports.values() for r in report.results}

    def changes(self) -> list[Change]:
        """Changes between consecutive reports, by clause."""
        return [
            change
            for clause in self.kinds
            for before, after in zip(self.names, self.names[1:], strict=False)
            if (change := self._change(clause, before, after)) is not None
        ]

    def _change(self, clause: str, before: str, after: str) -> Change | None:
        old, new = self.results[before].get(clause), self.results[after].get(clause)
        differences = _differences(_described(old), _described(new)) if old and new else ()
        verdicts = self._verdict(before, clause), self._verdict(after, clause)
        if verdicts[0] is verdicts[1] and not differences:
            return None
        return Change(clause, after, *verdicts, differences)

    def _verdict(self, name: str, clause: str) -> Status | None:
        result = self.results[name].get(clause)
        return None if result is None else result.status

    def regressions(self) -> list[str]:
        """Clauses, without quality, that pass in an earlier report and deviate in the last one."""
        *earlier, last = self.names
        return [
            clause
            for clause in self.results[last]
            if self._verdict(last, clause) in (Status.FAIL, Status.KNOWN_FAILURE)
            and self.kinds[clause] != "quality"
            and any(self._verdict(name, clause) is Status.PASS for name in earlier)
        ]

    def print(self, console: Console) -> None:
        """Prints what differs, the verdicts of the clauses that changed, and the regressions."""
        numbers = {name: position for position, name in enumerate(self.names, 1)}
        for name, position in numbers.items():
            adapter = self.reports[name].adapter
            _print(console, f"[{position}] {name}: {adapter['name']} {adapter['version']}")
        for before, after in zip(self.names, self.names[1:], strict=False):
            for difference in _differences(_conditions(self.reports[before]), _conditions(self.reports[after])):
                _print(console, f"changed in [{numbers[after]}]: {difference}")
        changes = self.changes()
        for change in changes:
            words = _word(change.before) if change.before is change.after else _words(change.before, change.after)
            _print(console, f"changed in [{numbers[change.report]}]: {change.clause}: {words}")
            for difference in change.differences:
                _print(console, f"  {difference}")
        changed = list(dict.fromkeys(change.clause for change in changes if change.before is not change.after))
        if changed and len(self.names) > 2:
            console.print(self._matrix(changed))
        same = len(self.kinds) - len({change.clause for change in changes})
        _print(console, f"The same in all reports: {number(same, 'clause')}.")
        regressions = ", ".join(self.regressions()) or "none"
        _print(console, f"Passed before and deviate in [{len(self.names)}]: {regressions}")

    def _matrix(self, clauses: list[str]) -> Table:
        """Verdicts of some clauses; columns are headed by numbers to save width."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("clause", no_wrap=True)
        for position in range(1, len(self.names) + 1):
            table.add_column(f"\\[{position}]")
        for clause in clauses:
            row = [self._verdict(name, clause) for name in self.names]
            cells = (Text(_word(verdict), style=STYLES[verdict] if verdict else "") for verdict in row)
            table.add_row(Text(printable(clause)), *cells)
        return table


def _differences(before: dict[str, str], after: dict[str, str]) -> tuple[Difference, ...]:
    return tuple(Difference(label, before[label], after[label]) for label in before if before[label] != after[label])


def _described(result: Result) -> dict[str, str]:
    return {
        "reading": reading(result),
        "behaves like": ", ".join(result.behaves_like),
        "follows from": result.follows_from or "",
    }


def _conditions(report: Report) -> dict[str, str]:
    environment: dict[str, Any] = report.environment
    return {
        "adapter": f"{report.adapter['name']} {report.adapter['version']}",
        "level": str(report.adapter["level"]),
        "readings": readings(report.adapter["readings"]),
        **{key: str(environment.get(key, "")) for key in CONDITIONS},
    }


def _print(console: Console, text: str) -> None:
    console.print(Text(printable(text)), soft_wrap=True)


def _word(status: Status | None) -> str:
    return "absent" if status is None else str(status)


def _words(before: Status | None, after: Status | None) -> str:
    return f"{_word(before)} → {_word(after)}"
