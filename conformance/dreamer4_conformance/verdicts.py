"""Verdicts: the exceptions by which checks and operations report them, and the result per clause."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

OWN_FAULT = "a fault of this suite, not of the implementation; please report it:"
"""Prefix of the message of a result whose check raised an unexpected exception; such a result is inconclusive."""

TIME_LIMIT = 120.0
"""Seconds that one call of an operation may take by default; compilation of a model takes tens."""

_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def printable(text: str) -> str:
    r"""Escape control characters, except newlines and tabs, marks of direction, and lone surrogates.

    A terminal would execute the first, a reader would be misled by the second, and a file cannot hold the third.

    Args:
        text: any text, of a subclass of str too.

    Returns:
        The text as an exact str.

    Example:
        >>> print(printable("\x1b[2J \ud800 τ"))
        \x1b[2J \ud800 τ
    """
    exact = str.join("", ("", text))  # a subclass may override everything else
    return _NOT_PRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), exact)


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
    """The adapter is unusable; the message, in printable characters, says what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@dataclass
class Result:
    """Verdict on one clause with the evidence: call, values, error and bound.

    Attributes:
        needs: operations whose absence makes the clause not provided; alternatives in one string, "encode or decode".
        behaves_like: mistakes of the zoo and undeclared readings that reproduce the failure.
        in_pairs: whether each name of `behaves_like` reproduces it only together with another one.
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
    in_pairs: bool = False
