"""The gallery as a self-contained HTML page, whose script only filters and moves the focus."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import takewhile

from jinja2 import ChoiceLoader, PackageLoader

from dreamer4_conformance.clauses import BY_ID, CLAUSES, Clause
from dreamer4_conformance.gallery import plots
from dreamer4_conformance.gallery.derivations import Derivation
from dreamer4_conformance.gallery.entries import Entry, Verdict
from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.report import failures, page, wording
from dreamer4_conformance.verdicts import Result

REPOSITORY = "https://github.com/dreamer4-conformance/dreamer4-conformance"
MARKS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.KNOWN_FAILURE: "!",
    Verdict.UNEXPECTED_PASS: "‼",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_TESTABLE: "⊘",
    Verdict.NOT_PROVIDED: "–",
    Verdict.NOT_JUDGED: "·",
}
MEANINGS = {
    Verdict.PASS: "the code does what the clause requires",
    Verdict.FAIL: "a counterexample is shown below",
    Verdict.KNOWN_FAILURE: "a failure that the adapter declares",
    Verdict.UNEXPECTED_PASS: "a declared failure that passes",
    Verdict.INCONCLUSIVE: "cannot be decided for this code; the reason is given",
    Verdict.NOT_TESTABLE: "the code has it inside a larger function and it cannot be called from outside",
    Verdict.NOT_PROVIDED: "the code has no function for it; this is no verdict",
    Verdict.NOT_JUDGED: "the report is older than the clause",
}
OMITTED = ("what to do", "reproduce", "run again")
"""Fields of a failure that are for the author of an adapter, or are shown in another way."""
_READINGS = {reading.id: reading for reading in READINGS}


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: its state, a sentence on it, and the place on the page that says more."""

    verdict: Verdict
    text: str
    target: str


@dataclass(frozen=True)
class Row:
    """One clause: its cells in the order of the entries, and (reading, projects) where readings were declared."""

    clause: Clause
    cells: list[Cell]
    readings: list[tuple[str, str]]


@dataclass(frozen=True)
class History:
    """States of one project, oldest first, and the rows of the clauses that fail in at least one of them."""

    project: str
    entries: list[Entry]
    rows: list[Row]


def to_html(entries: Sequence[Entry]) -> str:
    """Render the gallery.

    Args:
        entries: implementations with their reports and derivations, in the order of the columns.

    Returns:
        HTML document that loads nothing from other addresses; the same for the same entries.
    """
    rows = [_row(clause, entries) for clause in CLAUSES if any(entry.result(clause.id) for entry in entries)]
    shown = {cell.verdict for row in rows for cell in row.cells}
    return _PAGES.get_template("gallery.html").render(
        entries=entries,
        groups=_groups(rows),
        histories=list(_histories(entries)),
        verdicts=[verdict for verdict in Verdict if verdict in shown],
        marks=MARKS,
        meanings=MEANINGS,
        repository=REPOSITORY,
        reference_pages=page.REFERENCE_PAGES,
        paper_page=page.PAPER_PAGE,
        code_bases=len({entry.peer.origin or entry.peer.project for entry in entries}),
        clauses=BY_ID,
        size=(plots.WIDTH, plots.HEIGHT),
        frame=(plots.LEFT, plots.RIGHT, plots.TOP, plots.BOTTOM),
    )


def _row(clause: Clause, entries: Sequence[Entry]) -> Row:
    declared: dict[str, list[str]] = {}
    for entry in entries:
        result = entry.result(clause.id)
        if result is not None and result.reading and entry.verdict(clause.id) is not Verdict.NOT_PROVIDED:
            for name, option in result.reading.items():
                declared.setdefault(f"{name} = {option}", []).append(_short_name(entry, entries))
    readings = [(reading, ", ".join(names)) for reading, names in declared.items()]
    return Row(clause, [_cell(entry, clause.id) for entry in entries], readings)


def _short_name(entry: Entry, entries: Sequence[Entry]) -> str:
    """The owner, with the commit if several states of the project are shown."""
    states = sum(shown.peer.project == entry.peer.project for shown in entries)
    return entry.peer.project.partition("/")[0] + (f" {entry.peer.commit}" if states > 1 else "")


def _cell(entry: Entry, clause: str) -> Cell:
    verdict, result = entry.verdict(clause), entry.result(clause)
    anchors = {
        Verdict.FAIL: f"{entry.peer.report}-{clause}",
        Verdict.KNOWN_FAILURE: f"{entry.peer.report}-{clause}",
        Verdict.UNEXPECTED_PASS: f"{entry.peer.report}-{clause}",
        Verdict.INCONCLUSIVE: f"{entry.peer.report}-undecided",
        Verdict.NOT_TESTABLE: f"{entry.peer.report}-not-testable",
    }
    text = "" if result is None else wording.remark(result)
    if verdict is Verdict.NOT_TESTABLE and result is not None:
        text = "; ".join(f"{name}: {reason}" for name, reason in _sealed(entry, result))
    return Cell(verdict, text, anchors.get(verdict, ""))


def _sealed(entry: Entry, result: Result) -> list[tuple[str, str]]:
    """Operations that a clause needs and the adapter declares as not testable, with the reasons."""
    needed = " or ".join(result.needs).split(" or ")
    return [(name, reason) for name, reason in entry.report.adapter["not_testable"].items() if name in needed]


def _groups(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    grouped: dict[int | None, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.clause.equation, []).append(row)
    return [(wording.heading(equation), members) for equation, members in grouped.items()]


def _histories(entries: Sequence[Entry]) -> Iterator[History]:
    for project in dict.fromkeys(entry.peer.project for entry in entries):
        states = [entry for entry in entries if entry.peer.project == project]
        rows = [_row(clause, states) for clause in CLAUSES]
        failing = [row for row in rows if any(cell.verdict is Verdict.FAIL for cell in row.cells)]
        if len(states) > 1:
            yield History(project, states, failing)


# Filters of the template


def label(entry: Entry) -> str:
    """Name of an implementation in texts: the project with its commit or version."""
    return f"{entry.peer.project} {entry.peer.commit}"


def address(entry: Entry) -> str:
    """Page of the judged version."""
    project, commit, package = entry.peer.project, entry.peer.commit, entry.peer.package
    return f"https://pypi.org/project/{package}/{commit}/" if package else f"https://github.com/{project}/tree/{commit}"


def source_address(location: str, entry: Entry) -> str:
    """Address of "path:line" in the judged commit; empty for a package, whose files have no page."""
    path, _, line = location.partition(":")
    if entry.peer.package:
        return ""
    anchor = f"#L{line.replace('-', '-L')}" if line else ""
    return f"https://github.com/{entry.peer.project}/blob/{entry.peer.commit}/{path}{anchor}"


def adapter_address(entry: Entry) -> str:
    """Page of the source of the adapter."""
    module = entry.peer.adapter.partition(":")[0].replace(".", "/")
    return f"{REPOSITORY}/blob/main/conformance/{module}.py"


def command(entry: Entry, clause: str = "") -> str:
    """Command that judges an implementation, or one of its clauses, again."""
    return f"dreamer4-conformance run {entry.peer.adapter}" + (f" --clause {clause}" if clause else "")


def declared_readings(entry: Entry) -> list[tuple[str, str, str]]:
    """Id, option and question of every reading that the adapter declares."""
    declared = entry.report.adapter["readings"]
    return [(name, option, _READINGS[name].question if name in _READINGS else "") for name, option in declared.items()]


def tally(entry: Entry) -> dict[Verdict, int]:
    """Number of clauses by state, without quality clauses, which are not in the paper."""
    verdicts = [entry.verdict(result.id) for result in entry.report.conformance]
    return {verdict: verdicts.count(verdict) for verdict in Verdict}


def fields(result: Result) -> list[tuple[str, str]]:
    """Labelled texts of a failure that readers of the page need, the equation first."""
    module = BY_ID[result.id].module if result.id in BY_ID else None
    texts = [("equation", formula(module) if module else ""), *failures.failure_fields(result)]
    return [(name, text) for name, text in texts if text and name not in OMITTED]


def formula(module: str) -> str:
    """The equations of a reference module: the indented lines at the start of its docstring.

    >>> formula("eq08_ramp_weight")
    'w(τ) = 0.9 τ + 0.1'
    """
    _, _, text = (inspect.getdoc(import_module(f"dreamer4_reference.{module}")) or "").partition("\n\n")
    return textwrap.dedent("\n".join(takewhile(lambda line: line.startswith(" "), text.splitlines())))


def equations(derivation: Derivation) -> str:
    """Headings of the equations of a derivation's clauses, for the filter, separated by "|"."""
    return "|".join(dict.fromkeys(wording.heading(BY_ID[clause].equation) for clause in derivation.clauses))


def points(run: list[tuple[float, float]]) -> str:
    """Points of a polyline of SVG."""
    return " ".join(f"{x:g},{y:g}" for x, y in run)


_PAGES = page.environment(ChoiceLoader([PackageLoader("dreamer4_conformance.gallery"), page.LOADER]))
_PAGES.filters |= {
    function.__name__: function
    for function in (label, address, source_address, adapter_address, command, tally, fields, equations, points)
} | {"readings": declared_readings, "plots": plots.plots, "undecided": wording.undecided, "heading": wording.heading}
