"""Which known mistakes and readings reproduce what an implementation returns.

Each operation has a signature: what it returns on a fixed set of calls on which the mistakes and the readings differ. A failure is named after every
mistake, and every reading that was not declared, whose signature is that of the implementation and not that of the correct textbook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.subject import Subject
from dreamer4_conformance.verdicts import Deviation

if TYPE_CHECKING:
    from dreamer4_conformance.textbook import Textbook


@dataclass(frozen=True)
class Signature:
    """What an operation does, as one vector; `tolerance` is absolute beside values of order one, for laws and for rounding."""

    function: Callable[[Subject], np.ndarray]
    tolerance: float


SIGNATURES: dict[str, Signature] = {}


def signature(operation: str, *, tolerance: float = 1e-3) -> Callable[[Callable[[Subject], np.ndarray]], Callable[[Subject], np.ndarray]]:
    """Registers the signature of an operation: a function from the subject to a vector, NaN where a call raised (`attempt`)."""

    def register(function: Callable[[Subject], np.ndarray]) -> Callable[[Subject], np.ndarray]:
        SIGNATURES[operation] = Signature(function, tolerance)
        return function

    return register


def attempt(probe: Callable[[], np.ndarray], size: int) -> np.ndarray:
    """The probe's values, `size` of them; NaN in their place where it raised or returned another number of them."""
    try:
        values = np.asarray(probe(), np.float64).ravel()
    except Exception:
        return np.full(size, np.nan)
    return values if values.size == size else np.full(size, np.nan)


def behaves_like(subject: Subject, operations: tuple[str, ...]) -> list[str]:
    """Names of the mistakes and readings whose signature on one of `operations` is the subject's and not the textbook's."""
    found: list[str] = []
    for operation in operations:
        if operation not in SIGNATURES or not subject.provides(operation):
            continue
        seen = _evaluate(operation, subject)
        for name, expected in _candidates(operation, subject):
            if _alike(operation, seen, expected, 4 * subject.eps):
                found.append(name)
    return list(dict.fromkeys(found))


def _alike(operation: str, seen: np.ndarray, expected: np.ndarray, rounding: float = 0.0) -> bool:
    tolerance = max(SIGNATURES[operation].tolerance, rounding)
    return seen.shape == expected.shape and bool(np.allclose(seen, expected, rtol=tolerance, atol=tolerance, equal_nan=True))


def _evaluate(operation: str, subject: Subject) -> np.ndarray:
    """The signature; empty, and so like that of no correct textbook, where an operation raised."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(SIGNATURES[operation].function(subject), np.float64)
    except Deviation:
        return np.empty(0)


def _candidates(operation: str, subject: Subject) -> Iterator[tuple[str, np.ndarray]]:
    declared = tuple(sorted(subject.adapter.readings.items()))
    correct = _signature_of(None, operation, subject.k_max, declared)
    for name in _names(operation, declared):
        candidate = _signature_of(name, operation, subject.k_max, declared)
        if not _alike(operation, candidate, correct):
            yield name, candidate


def _names(operation: str, declared: tuple[tuple[str, str], ...]) -> Iterator[str]:
    from dreamer4_conformance.mistakes import MISTAKES

    yield from (mistake.id for mistake in MISTAKES.values() if operation in mistake.operations)
    for reading in READINGS:
        if reading.clause is not None:
            chosen = dict(declared).get(reading.id, reading.default)
            yield from (f"reading {reading.id} = {option}" for option in reading.options if option != chosen)


@cache
def _signature_of(name: str | None, operation: str, k_max: int, declared: tuple[tuple[str, str], ...]) -> np.ndarray:
    adapter = _adapter(name, dict(declared))
    adapter.k_max, adapter.dtype = k_max, "float64"
    return _evaluate(operation, Subject(adapter))


def _adapter(name: str | None, readings: dict[str, str]) -> Textbook:
    from dreamer4_conformance.mistakes import MISTAKES
    from dreamer4_conformance.textbook import Textbook

    if name is None:
        return Textbook(**readings)
    if name in MISTAKES:
        mistake = MISTAKES[name]
        return mistake.adapter(mistake.levels[0], **readings)
    reading, _, option = name.removeprefix("reading ").partition(" = ")
    return Textbook(**{**readings, reading: option})
