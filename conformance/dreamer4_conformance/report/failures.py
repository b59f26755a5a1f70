"""Texts of failures, for all formats: a full block for each cause, a line for each failure that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.report import DEVIATING, Report
from dreamer4_conformance.report.wording import number, reading, short
from dreamer4_conformance.verdicts import Result, Status, printable
from dreamer4_conformance.zoo.catalogue import catalogue

VERBATIM = ("call", "run again", "see")
"""Labels of fields that are copied: no format wraps them."""
PASTED = ("reproduce",)
"""Labels of code: its lines start at the first column, so that they can be pasted."""
DESCRIBED = 3
"""Number of mistakes that are printed with their description."""


@dataclass(frozen=True)
class Block:
    """A failure that is printed in full, and the failures that have the same cause."""

    result: Result
    followers: list[Result] = field(default_factory=list)


def blocks(report: Report) -> list[Block]:
    """Deviations by cause: conformance before quality, then causes that explain more failures first.

    A failure whose cause is a known failure has a block of its own, because it decides the exit status.
    """
    deviating = [result for result in report.results if result.status in DEVIATING]
    identifiers = {result.id for result in deviating}
    leaders = [result for result in deviating if result.follows_from not in identifiers]
    unsorted = [Block(lead, [result for result in deviating if result.follows_from == lead.id]) for lead in leaders]
    return sorted(unsorted, key=lambda block: (block.result.kind == "quality", -len(block.followers)))


def known_failures(report: Report) -> list[Result]:
    """Failures that the adapter declares."""
    return [result for result in report.results if result.status is Status.KNOWN_FAILURE]


def failure_title(result: Result) -> str:
    """Clause, section of the paper and verdict."""
    clause = BY_ID.get(result.id)
    where = "" if clause is None else f"{clause.where}: "
    note = " (quality, not part of conformance)" if result.kind == "quality" else ""
    return printable(f"{result.id} — {where}{result.status}{note}")


def follower_line(result: Result) -> str:
    """Clause and verdict of a failure that has the cause of another one.

    >>> follower_line(Result("eq07.finite", 7, "must", Status.FAIL, follows_from="eq04.grid"))
    'eq07.finite — fail, follows from eq04.grid'
    """
    return printable(f"{result.id} — {result.status}, follows from {result.follows_from}")


def failure_fields(result: Result, rerun_command: str = "", followers: Sequence[Result] = ()) -> list[tuple[str, str]]:
    """Labelled texts of a failure: requirement, call, values, what to do, how to run it again, where it is documented.

    Empty fields are omitted.

    Args:
        result: the failure.
        rerun_command: as in `Report`.
        followers: failures that follow from this one.

    Returns:
        Pairs (label, text); a text may have several lines.
    """
    clause = BY_ID.get(result.id)
    fields = [
        ("requires", "" if clause is None else clause.requirement),
        ("reading", reading(result)),
        ("found", result.message),
        ("call", result.call),
        ("got", "" if result.got is None else short(result.got)),
        ("expected", "" if result.expected is None else short(result.expected)),
        ("error", _error(result)),
        ("behaves like", _names(result.behaves_like)),
        ("follows from", result.follows_from or ""),
        ("explains", _explained(followers)),
        ("what to do", "\n".join(result.advice)),
        ("run again", rerun_command.replace("{clause}", result.id)),
        ("see", "" if clause is None else clause.address),
        ("reproduce", result.reproduce),
    ]
    return [(label, printable(text)) for label, text in fields if text]


def _explained(followers: Sequence[Result]) -> str:
    """Number of the clauses that follow from a failure, and a line for each."""
    return "\n".join([number(len(followers), "clause"), *map(follower_line, followers)]) if followers else ""


def _names(names: list[str]) -> str:
    """Names on the first line; then the descriptions of the mistakes, if they are few."""
    described = [name for name in names if name in catalogue()] if len(names) <= DESCRIBED else []
    lines = [catalogue()[name][1] if names == [name] else f"{name}: {catalogue()[name][1]}" for name in described]
    return "\n".join([", ".join(names), *lines])


def _error(result: Result) -> str:
    if result.status is Status.UNEXPECTED_PASS or result.worst_error is None:
        return ""
    return f"{result.worst_error:.3g}" + ("" if result.bound is None else f" (bound {result.bound:.3g})")


def failure_text(result: Result, rerun_command: str = "") -> str:
    """A failure in full as plain text, one line per line of a field."""
    lines = [failure_title(result)]
    for label, text in failure_fields(result, rerun_command):
        if label in PASTED:
            lines += [f"  {label}:", text]
        else:
            lines.append(f"  {label + ':':<14}" + text.replace("\n", "\n" + " " * 16))
    return "\n".join(lines)
