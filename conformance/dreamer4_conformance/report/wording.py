"""Texts shared by all formats of the report: values, counts, what is undecided or missing."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

from dreamer4_conformance.report import UNDECIDED, Report, counts
from dreamer4_conformance.report.document import plain
from dreamer4_conformance.verdicts import Result, Status

SHOWN = 6
"""Number of elements of a list that are printed."""


def short(value: Any) -> str:
    """A value on one line; long lists are shortened to their first elements.

    >>> short([0.1, 2, [1 / 3] * 9])
    '[0.1, 2, [0.333333, 0.333333, 0.333333, 0.333333, 0.333333, 0.333333, … 3 more]]'
    """
    value = plain(value)
    if isinstance(value, list):
        shown = [short(item) for item in value[:SHOWN]]
        return "[" + ", ".join(shown + ([f"… {len(value) - SHOWN} more"] if len(value) > SHOWN else [])) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {short(item)}" for key, item in value.items()) + "}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def reading(result: Result) -> str:
    """The non-default readings under which the clause was judged.

    >>> reading(Result("eq10.value", 10, "reading", Status.PASS, reading={"A13": "v_same"}))
    'A13 = v_same'
    """
    return readings(result.reading)


def readings(declared: dict[str, str]) -> str:
    """Declared readings on one line; empty if there are none."""
    return ", ".join(f"{name} = {option}" for name, option in declared.items())


def share_of_bound(result: Result) -> str:
    """Largest error divided by its bound; empty if nothing was compared."""
    if result.worst_error is None or not result.bound:
        return ""
    return f"{result.worst_error / result.bound:.2g}"


def remark(result: Result) -> str:
    """Text of a table's last column."""
    return "; ".join(text for text in (reading(result), _reason(result)) if text)


def _reason(result: Result) -> str:
    if result.status in (Status.PASS, *UNDECIDED):
        return " ".join(result.message.split())
    if result.follows_from:
        return f"follows from {result.follows_from}"
    if result.status is Status.FAIL and result.behaves_like:
        return "behaves like " + ", ".join(result.behaves_like)
    # The full message is printed with the failure.
    return shorten(result.message, 60, placeholder=" …")


def heading(equation: int | None) -> str:
    """Heading of a group of clauses."""
    return f"Eq. {equation}" if equation is not None else "Architecture and training"


def groups(results: list[Result]) -> list[tuple[str, list[Result]]]:
    """Results by equation, in the order of the clauses."""
    grouped: dict[int | None, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.equation, []).append(result)
    return [(heading(equation), members) for equation, members in grouped.items()]


def equation_lines(report: Report) -> list[tuple[str, str]]:
    """Counts of each equation that has a provided clause, then the number of other clauses by equation.

    >>> rows = [Result("eq01.swap", 1, "must", Status.NOT_PROVIDED), Result("eq08.value", 8, "must", Status.PASS)]
    >>> equation_lines(Report({}, {}, rows))
    [('Eq. 8', '1 of 1 pass'), ('Not provided', '1 clause: Eq. 1 (1)')]
    """
    lines, absent, total = [], [], 0
    for name, group in groups(report.conformance):
        count = counts(group)
        if count["provided"]:
            lines.append((name, ", ".join([f"{count['conforming']} of {count['provided']} pass", *_remainder(count)])))
        else:
            absent.append(f"{name} ({len(group)})")
            total += len(group)
    return [*lines, ("Not provided", f"{number(total, 'clause')}: {', '.join(absent)}")] if absent else lines


def undecided(report: Report) -> list[tuple[str, list[str]]]:
    """Reasons of inconclusive clauses, each with the ids of its clauses."""
    reasons: dict[str, list[str]] = {}
    for result in report.results:
        if result.status is Status.INCONCLUSIVE:
            reasons.setdefault(" ".join(result.message.split()), []).append(result.id)
    return list(reasons.items())


ADDITIONS = 3
"""Number of additions that are suggested."""


def additions(report: Report) -> list[tuple[list[str], int]]:
    """Operations that the adapter could add, and how many more clauses they would have judged.

    Sets of operations that a clause needs, ranked by clauses per operation; a clause is counted once, and not at all if
    the adapter declares that it is not testable.

    >>> row = Result("eq02.calls", 2, "must", Status.NOT_PROVIDED, needs=["sample_frame"])
    >>> additions(Report({}, {}, [row]))
    [(['sample_frame'], 1)]
    """
    sealed = {result.id for result in report.not_testable}
    absent = (result for result in report.conformance if result.status is Status.NOT_PROVIDED)
    missing = [result.needs for result in absent if result.needs and result.id not in sealed]
    suggested: list[tuple[list[str], int]] = []
    while missing and len(suggested) < ADDITIONS:
        best = max(missing, key=lambda operations: _covered(operations, missing) / len(operations))
        suggested.append((best, _covered(best, missing)))
        missing = [needs for needs in missing if not _suffice(best, needs)]
    return suggested


def _covered(operations: list[str], missing: list[list[str]]) -> int:
    return sum(_suffice(operations, needs) for needs in missing)


def _suffice(operations: list[str], needs: list[str]) -> bool:
    """True if the operations meet the needs, in which alternatives are one string, "encode or decode"."""
    return all(not {need, *need.split(" or ")}.isdisjoint(operations) for need in needs)


def addition_line(report: Report) -> str:
    """The suggested additions in one sentence; empty if there are none.

    >>> row = Result("eq02.calls", 2, "must", Status.NOT_PROVIDED, needs=["sample_frame"])
    >>> addition_line(Report({}, {}, [row]))
    'add `sample_frame`: 1 more clause'
    """
    suggested = additions(report)
    if not suggested:
        return ""
    best, *alternatives = [(_listed(operations), clauses) for operations, clauses in suggested]
    first = f"add {best[0]}: {number(best[1], 'more clause')}"
    return "; ".join([first, *(f"{operations}: {clauses}" for operations, clauses in alternatives)])


def _listed(operations: list[str]) -> str:
    *first, last = [f"`{name}`".replace(" or ", "` or `") for name in operations]
    return f"{', '.join(first)} and {last}" if first else last


def number(count: int, noun: str) -> str:
    """A count with its noun.

    >>> number(1, "clause"), number(2, "clause")
    ('1 clause', '2 clauses')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def conclusion(report: Report) -> str:
    """Overall verdict in one sentence."""
    if report.unjudged:
        clauses = "1 more clause was" if report.unjudged == 1 else f"{report.unjudged} more clauses were"
        return f"Interrupted: {clauses} not judged."
    if report.missing:
        return "Does not meet what is required: " + ", ".join(f"{r.id} is {r.status}" for r in report.missing) + "."
    if report.exit_status:
        return "Does not conform."
    if not counts(report.conformance)["provided"]:
        return "Nothing was judged: the adapter provides no operation that these clauses need."
    if counts(report.conformance)["known_failures"]:
        return "Conforms, apart from its known failures."
    return "Everything provided and decided conforms."


def summary_lines(report: Report) -> Iterator[str]:
    """Counts, profile and probability of a false alarm, one sentence each."""
    yield _tally(counts(report.conformance))
    if report.quality:
        yield f"Quality, apart from conformance: {_tally(counts(report.quality))}"
    if report.not_testable:
        yield f"Of the clauses not provided, not testable from outside: {len(report.not_testable)}."
    if report.unchecked:
        yield f"Clauses of the selection without any check yet: {report.unchecked}."
    ran = report.environment
    chance = f"; chance of a false alarm at most {report.false_alarm:.1e}" if report.laws else ""
    yield f"Profile {ran['profile']}, seed {ran['seed']}, {ran['dtype']} on {ran['device']}{chance}."
    if str(ran.get("isolation", "")).startswith("none"):
        yield f"Worker process: {ran['isolation']}. An exit or a hang of the adapter's code ends or stops this run."


TALLIED = (
    ("failed", "failed", "failed"),
    ("known_failures", "known failure", "known failures"),
    ("unexpected_passes", "unexpected pass", "unexpected passes"),
    ("inconclusive", "inconclusive", "inconclusive"),
    ("not_provided", "not provided", "not provided"),
)


def _tally(count: dict[str, int]) -> str:
    return ", ".join([f"{count['conforming']} of {count['provided']} provided clauses pass", *_remainder(count)]) + "."


def _remainder(count: dict[str, int]) -> list[str]:
    return [f"{count[key]} {single if count[key] == 1 else plural}" for key, single, plural in TALLIED if count[key]]
