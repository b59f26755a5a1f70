"""The report for a terminal: failures by cause, one line per equation, what to add, and the summary.

Readable without colour, at 80 columns, and through a pipe; lines to copy are not wrapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from dreamer4_conformance.report import Report
from dreamer4_conformance.report.failures import (
    PASTED,
    VERBATIM,
    blocks,
    failure_fields,
    failure_title,
    follower_line,
    known_failures,
)
from dreamer4_conformance.report.wording import (
    addition_line,
    conclusion,
    equation_lines,
    groups,
    readings,
    remark,
    share_of_bound,
    summary_lines,
    undecided,
)
from dreamer4_conformance.verdicts import Result, Status, printable

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.KNOWN_FAILURE: "yellow",
    Status.UNEXPECTED_PASS: "bold red",
    Status.NOT_PROVIDED: "dim",
    Status.INCONCLUSIVE: "yellow",
}
NARROWEST, WIDEST = 40, 100
"""Bounds of the width at which prose is wrapped."""
LONGEST = 4
"""Number of lines of a field, without -v."""


def print_report(report: Report, console: Console, *, verbose: bool = False, in_full: bool = True) -> None:
    """Print the report.

    Args:
        report: the report.
        console: where to; its width decides where prose is wrapped.
        verbose: add the table of all clauses, what random draws detect, and known failures in full.
        in_full: False prints one line per failure, for callers that have already printed them.
    """
    width = min(max(console.width, NARROWEST), WIDEST)
    adapter = report.adapter
    _print(console, f"{adapter['name']} {adapter['version']} ({adapter['level']} levels)", "bold")
    if adapter["readings"]:
        for line in _wrapped(f"Declared readings: {readings(adapter['readings'])}", width):
            _print(console, line)
    if verbose:
        _print_tables(report, console, width)
    sections = [
        list(_failures(report, width, in_full, None if verbose else LONGEST)),
        list(_known_failures(report, width, verbose)),
        [] if verbose else [*_undecided(report, width), *_equations(report, width)],
        [(line, "") for text in summary_lines(report) for line in _wrapped(text, width)],
    ]
    for section in filter(None, sections):
        console.print()
        for line, style in section:
            _print(console, line, style)
    style = "bold red" if report.exit_status else "bold"
    for line in _wrapped(conclusion(report), width):
        _print(console, line, style)


Line = tuple[str, str]
"""Text of a line, and its style."""


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=True)


def _wrapped(
    text: str, width: int, indent: str = "", hanging: str | None = None, longest: int | None = None
) -> list[str]:
    """Lines of at most `width` columns; words are never broken, so that paths and names can be copied."""
    return wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=longest,
        placeholder=" … (-v)",
    )


def _failures(report: Report, width: int, in_full: bool, longest: int | None) -> Iterator[Line]:
    for position, block in enumerate(blocks(report)):
        if position and in_full:
            yield "", ""
        yield failure_title(block.result), STYLES[block.result.status]
        if in_full:
            yield from _fields(block.result, width, report.rerun_command, block.followers, longest)
        else:
            yield from (("  " + follower_line(follower), "") for follower in block.followers)


def _fields(
    result: Result, width: int, rerun_command: str, followers: Sequence[Result] = (), longest: int | None = None
) -> Iterator[Line]:
    hanging = " " * 16
    for label, text in failure_fields(result, rerun_command, followers):
        first = f"  {label + ':':<14}"
        if label in PASTED:
            yield first.rstrip(), ""
            yield from ((line, "") for line in text.splitlines() if line.strip())
            continue
        for line in text.splitlines():
            rows = [first + line] if label in VERBATIM else _wrapped(line, width, first, hanging, longest)
            yield from ((row, "") for row in rows)
            first = hanging


def _known_failures(report: Report, width: int, verbose: bool) -> Iterator[Line]:
    for result in known_failures(report):
        yield failure_title(result), STYLES[result.status]
        if verbose:
            yield from _fields(result, width, report.rerun_command)
        else:
            yield from ((row, "") for row in _wrapped(remark(result), width, "  "))


def _undecided(report: Report, width: int) -> Iterator[Line]:
    for reason, clauses in undecided(report):
        rows = _wrapped(f"{Status.INCONCLUSIVE}: {reason}", width, "", "  ", LONGEST)
        rows += _wrapped(", ".join(clauses), width, "  ", None, 2)
        yield from ((row, STYLES[Status.INCONCLUSIVE]) for row in rows)


def _equations(report: Report, width: int) -> Iterator[Line]:
    lines = equation_lines(report)
    longest = max((len(label) for label, _ in lines), default=0)
    for label, text in lines:
        yield from ((row, "") for row in _wrapped(text, width, f"{label:<{longest}}  ", " " * (longest + 2)))
    yield from ((row, "") for row in _wrapped(addition_line(report), width, "  ", "    "))


def _print_tables(report: Report, console: Console, width: int) -> None:
    for title, results in (("Conformance", report.conformance), ("Quality (apart)", report.quality)):
        if results:
            console.print()
            _print(console, title, "bold")
            _print_table(results, console, width)
    console.print()
    for clause, effect in report.laws.items():
        for line in _wrapped(f"{clause}, from random draws: {effect}", width):
            _print(console, line, "dim")


def _print_table(results: list[Result], console: Console, width: int) -> None:
    """Rows by equation. A remark that does not fit into its row follows below it, so that no word is broken."""
    longest = max(len(result.id) for result in results)
    _print(console, f"  {'clause':<{longest}}  {'verdict':<15}  cases  of bound  remark")
    for heading, group in groups(results):
        _print(console, heading, "bold")
        for result in group:
            note = printable(remark(result))
            start, status = f"  {printable(result.id):<{longest}}  ", f"{result.status:<15}"
            figures = f"  {result.cases or '':>5}  {share_of_bound(result):>8}  "
            fits = len(start + status + figures + note) <= width
            row = Text.assemble(start, (status, STYLES[result.status]), figures, note if fits else "")
            row.rstrip()
            console.print(row, soft_wrap=True)
            for line in [] if fits else _wrapped(note, width, " " * 6):
                _print(console, line)


def to_text(report: Report, width: int = 80, *, verbose: bool = False, in_full: bool = True) -> str:
    """The printed report as a string without colour."""
    stream = StringIO()
    console = Console(file=stream, width=width, color_system=None)
    print_report(report, console, verbose=verbose, in_full=in_full)
    return stream.getvalue()
