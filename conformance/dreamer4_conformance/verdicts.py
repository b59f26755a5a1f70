"""Verdicts: the exceptions by which checks and operations report them, and the result per clause."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

OWN_FAULT = "a fault of this suite, not of the implementation; please report it:"
"""Prefix of the message of a result whose check raised an unexpected exception; such a result is inconclusive."""


class Status(StrEnum):
    """Verdict on one clause; only PASS counts as conforming."""

    PASS = "pass"
    FAIL = "fail"
    KNOWN_FAILURE = "known-failure"
    UNEXPECTED_PASS = "unexpected-pass"
    NOT_PROVIDED = "not-provided"
    INCONCLUSIVE = "inconclusive"


class Deviation(AssertionError):
    """The implementation violates the clause.

    Args:
        message: what deviates.
        call: the smallest call that shows it, as Python.
        got: result of the implementation.
        expected: result of the reference.
        error: largest error.
        bound: its bound.
    """

    def __init__(
        self,
        message: str,
        *,
        call: str = "",
        got: object = None,
        expected: object = None,
        error: float | None = None,
        bound: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.call, self.got, self.expected = message, call, got, expected
        self.error, self.bound = error, bound


class OperationFailed(Deviation):
    """An operation raised on valid arguments, or returned a result of the wrong type or shape."""


class NotProvided(Exception):
    """The adapter does not provide what a check needs; operations may raise it with the reason as message."""


class Inconclusive(Exception):
    """The clause does not apply to this adapter or cannot be decided for it; the message is the reason."""


class AdapterError(Exception):
    """The adapter is unusable; the message tells its author what to change."""


@dataclass
class Result:
    """Verdict on one clause with the evidence: call, values, error and bound.

    Attributes:
        needs: operations whose absence makes the clause not provided; alternatives in one string, "encode or decode".
        behaves_like: mistakes of the zoo and undeclared readings that reproduce the failure.
        follows_from: id of the failing clause that has the same cause; None for the first of a cause.
        passes_given: quantities such that the clause passes once each is taken from the implementation as it is.
        advice: sentences on what to change in the adapter or its declarations.
        reproduce: Python that repeats the failing call and prints its result; empty without a failure.
    """

    id: str
    equation: int | None
    kind: str
    status: Status
    reading: dict[str, str] = field(default_factory=dict)
    cases: int = 0
    worst_error: float | None = None
    bound: float | None = None
    call: str = ""
    got: Any = None
    expected: Any = None
    behaves_like: list[str] = field(default_factory=list)
    message: str = ""
    seconds: float = 0.0
    needs: list[str] = field(default_factory=list)
    follows_from: str | None = None
    passes_given: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    reproduce: str = ""
