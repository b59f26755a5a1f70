"""The report for a terminal: tables by equation, quality separately, every failure in full, and the summary.

Readable without colour, at 80 columns, and through a pipe; lines to copy are not wrapped.
"""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.wording import (
    conclusion,
    failure_text,
    failures,
    groups,
    remark,
    share_of_bound,
    summary_lines,
)
from dreamer4_conformance.verdicts import Result, Status

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.KNOWN_FAILURE: "yellow",
    Status.UNEXPECTED_PASS: "bold red",
    Status.NOT_PROVIDED: "dim",
    Status.INCONCLUSIVE: "yellow",
}


def print_report(report: Report, console: Console, *, in_full: bool = True) -> None:
    """Prints the report; `in_full=False` omits the failures, for callers that have already printed them."""
    adapter = report.adapter
    console.print(Text(f"{adapter['name']} {adapter['version']} ({adapter['level']} levels)", style="bold"))
    for title, results in (("Conformance", report.conformance), ("Quality (apart)", report.quality)):
        if results:
            console.print(_table(title, results), "")
    for clause, effect in report.laws.items():
        console.print(Text(f"{clause}, from random draws: {effect}", style="dim"))
    for result in failures(report) if in_full else []:
        console.print(Text(failure_text(result, report.rerun_command)), soft_wrap=True)
        console.print()
    for line in summary_lines(report):
        console.print(Text(line))
    console.print(Text(conclusion(report), style="bold red" if report.exit_status else "bold"))


def _table(title: str, results: list[Result]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("clause", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("cases", justify="right", no_wrap=True)
    table.add_column("of bound", justify="right", no_wrap=True)
    table.add_column("remark")
    for heading, group in groups(results):
        table.add_row(Text(heading, style="bold"))
        for result in group:
            table.add_row(*_cells(result))
    return table


def _cells(result: Result) -> list[Text]:
    cases = str(result.cases) if result.cases else ""
    verdict = Text(str(result.status), style=STYLES[result.status])
    return [Text("  " + result.id), verdict, Text(cases), Text(share_of_bound(result)), Text(remark(result))]


def to_text(report: Report, width: int = 80, *, in_full: bool = True) -> str:
    """The printed report as a string without colour."""
    stream = StringIO()
    print_report(report, Console(file=stream, width=width, color_system=None), in_full=in_full)
    return stream.getvalue()
