"""What a check can say: a deviation, no decision, or nothing; and the result that the runner makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

OWN_FAULT = "a fault of this suite, not of the implementation; please report it:"
"""How the message of a result begins whose check itself raised. It is inconclusive, and never skipped over in silence."""


class Status(StrEnum):
    """Verdict on one clause. Only PASS counts as conforming."""

    PASS = "pass"
    FAIL = "fail"
    KNOWN_FAILURE = "known-failure"
    UNEXPECTED_PASS = "unexpected-pass"
    NOT_PROVIDED = "not-provided"
    INCONCLUSIVE = "inconclusive"


class Deviation(AssertionError):
    """The implementation departs from the clause; carries the smallest call that shows it."""

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
        self.message, self.call, self.got, self.expected, self.error, self.bound = (
            message,
            call,
            got,
            expected,
            error,
            bound,
        )


class OperationFailed(Deviation):
    """An operation raised, or returned something of another shape, on a valid call."""


class NotProvided(Exception):
    """The adapter does not offer what the check needs; an operation may raise it with its reason."""


class Inconclusive(Exception):
    """The clause does not apply to this adapter or cannot be decided for it; the reason is the message."""


class AdapterError(Exception):
    """The adapter itself is unusable; the message is a sentence for whoever wrote it."""


@dataclass
class Result:
    """Verdict on one clause, with what a reader needs to see it for themselves."""

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
