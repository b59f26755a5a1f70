"""Texts shared by all formats of the report: values, counts, failures."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.report import DEVIATING, UNDECIDED, Report, counts
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
    return ", ".join(f"{name} = {option}" for name, option in result.reading.items())


def share_of_bound(result: Result) -> str:
    """Largest error divided by its bound; empty if nothing was compared."""
    if result.worst_error is None or not result.bound:
        return ""
    return f"{result.worst_error / result.bound:.2g}"


def remark(result: Result) -> str:
    """Text of a table's last column."""
    return "; ".join(text for text in (reading(result), _reason(result)) if text)


def _reason(result: Result) -> str:
    if result.status is Status.PASS:
        return ""
    if result.status in UNDECIDED:
        return " ".join(result.message.split())
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


def failures(report: Report) -> list[Result]:
    """Results that are printed in full: every deviation, including known failures and quality."""
    return [r for r in report.results if r.status in (*DEVIATING, Status.KNOWN_FAILURE)]


def failure_title(result: Result) -> str:
    """Clause, section of the paper and verdict."""
    clause = BY_ID.get(result.id)
    where = "" if clause is None else f"{clause.where}: "
    note = " (quality, not part of conformance)" if result.kind == "quality" else ""
    return f"{result.id} — {where}{result.status}{note}"


def failure_fields(result: Result, rerun_command: str = "") -> list[tuple[str, str]]:
    """Labelled lines of a failure: requirement, call, values, how to run it again. Empty ones are omitted."""
    clause = BY_ID.get(result.id)
    fields = [
        ("requires", "" if clause is None else clause.requirement),
        ("reading", reading(result)),
        ("found", result.message),
        ("call", result.call),
        ("got", "" if result.got is None else short(result.got)),
        ("expected", "" if result.expected is None else short(result.expected)),
        ("error", _error(result)),
        ("behaves like", ", ".join(result.behaves_like)),
        ("run again", rerun_command.replace("{clause}", result.id)),
    ]
    return [(label, text) for label, text in fields if text]


def _error(result: Result) -> str:
    if result.status is Status.UNEXPECTED_PASS or result.worst_error is None:
        return ""
    return f"{result.worst_error:.3g}" + ("" if result.bound is None else f" (bound {result.bound:.3g})")


def failure_text(result: Result, rerun_command: str = "") -> str:
    """A failure in full as plain text."""
    lines = [failure_title(result)]
    for label, text in failure_fields(result, rerun_command):
        lines.append(f"  {label + ':':<14}" + text.replace("\n", "\n" + " " * 16))
    return "\n".join(lines)


def conclusion(report: Report) -> str:
    """Overall verdict in one sentence."""
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
    if report.unchecked:
        yield f"Clauses of the selection without any check yet: {report.unchecked}."
    ran = report.environment
    yield f"Profile {ran['profile']}, seed {ran['seed']}, {ran['dtype']} on {ran['device']}."
    if report.laws:
        yield f"Probability that random draws raised any false alarm: at most {report.false_alarm:.1e}."


TALLIED = (
    ("failed", "failed", "failed"),
    ("known_failures", "known failure", "known failures"),
    ("unexpected_passes", "unexpected pass", "unexpected passes"),
    ("inconclusive", "inconclusive", "inconclusive"),
    ("not_provided", "not provided", "not provided"),
)


def _tally(count: dict[str, int]) -> str:
    rest = [f"{count[key]} {single if count[key] == 1 else plural}" for key, single, plural in TALLIED if count[key]]
    return ", ".join([f"{count['conforming']} of {count['provided']} provided clauses pass", *rest]) + "."
