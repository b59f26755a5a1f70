"""Which known mistakes and readings reproduce what an implementation does.

Each operation has signatures: what it does on a fixed set of calls on which the mistakes and the readings differ. A failure is named after every
mistake, and every reading that was not declared, with a signature that is the implementation's and not the correct textbook's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.registry import qualified_name
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided


@dataclass(frozen=True)
class Signature:
    """What an operation does, as one vector of values of order one; `tolerance` is absolute and relative, for rounding and for laws.

    Where an operation draws its own inputs, `observe` recovers them from the implementation, with its vector; the candidates are then
    evaluated on the same inputs. `drawn`: it shows only what is drawn inside, so mistakes that the operation shares with one that draws nothing
    are no candidates.
    """

    function: Callable[..., np.ndarray]
    tolerance: float
    observe: Callable[[Subject], tuple[Any, np.ndarray]] | None = None
    drawn: bool = False


SIGNATURES: dict[str, dict[str, Signature]] = {}


def signature(
    operation: str,
    *,
    tolerance: float = 1e-3,
    observe: Callable[[Subject], tuple[Any, np.ndarray]] | None = None,
    drawn: bool = False,
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Registers a signature of an operation: a function from the subject to a vector, NaN where a call raised (`attempt`).

    With `observe`, a function from a candidate and the inputs that were observed.
    """

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        SIGNATURES.setdefault(operation, {})[qualified_name(function)] = Signature(function, tolerance, observe, drawn)
        return function

    return register


def attempt(probe: Callable[[], Any], size: int) -> np.ndarray:
    """The probe's values, `size` of them; NaN in their place where it raised or returned another number of them."""
    try:
        values = np.asarray(probe(), np.float64).ravel()
    except Exception:
        return np.full(size, np.nan)
    return values if values.size == size else np.full(size, np.nan)


def behaves_like(subject: Subject, operations: tuple[str, ...]) -> list[str]:
    """Names of the mistakes and readings whose signature on one of `operations` is the subject's and not the textbook's."""
    found: list[str] = []
    with np.errstate(all="ignore"):
        for operation in filter(subject.provides, operations):
            for where, sign in SIGNATURES.get(operation, {}).items():
                found.extend(_matching(subject, operation, where, sign))
    return list(dict.fromkeys(found))


class Declarations(NamedTuple):
    """What the implementation declares and a candidate therefore shares."""

    readings: tuple[tuple[str, str], ...]
    k_max: int
    context_level: float
    d_min_share: float | None

    @classmethod
    def from_subject(cls, subject: Subject) -> Declarations:
        """The declarations of a subject."""
        adapter = subject.adapter
        readings = tuple(sorted(adapter.readings.items()))
        return cls(readings, adapter.k_max, adapter.context_level, adapter.d_min_share)


def _matching(subject: Subject, operation: str, where: str, sign: Signature) -> Iterator[str]:
    declared = Declarations.from_subject(subject)
    observed = _outcome(lambda: (None, sign.function(subject)) if sign.observe is None else sign.observe(subject))
    if observed is None:
        return
    inputs, seen = observed

    def expected(name: str | None) -> np.ndarray | None:
        if sign.observe is None:
            return _cached(operation, where, name, declared)
        return _outcome(lambda: sign.function(candidate(name, declared), inputs))

    tolerance = max(sign.tolerance, 4 * subject.eps)
    correct = expected(None)
    if _alike(seen, correct, tolerance):
        return
    for name in _names(operation, declared, sign.drawn):
        would = expected(name)
        if _alike(seen, would, tolerance) and not _alike(would, correct, sign.tolerance):
            yield name


def _outcome(evaluate: Callable[[], Any]) -> Any:
    """The value; None, which is like nothing, where an operation failed or the calls could not be read."""
    try:
        return evaluate()
    except (Deviation, Inconclusive, NotProvided, UnsatisfiedAssumption):
        return None


def _alike(one: np.ndarray | None, other: np.ndarray | None, tolerance: float) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))


def _names(operation: str, declared: Declarations, drawn: bool) -> Iterator[str]:
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    mistakes = [mistake for mistake in MISTAKES.values() if operation in mistake.operations]
    yield from (one.id for one in mistakes if not (drawn and f"{operation}_at" in one.operations))
    if drawn:
        return
    for reading in READINGS:
        if reading.clause in decided_by(operation):
            chosen = dict(declared.readings).get(reading.id, reading.default)
            yield from (f"reading {reading.id} = {option}" for option in reading.options if option != chosen)


@cache
def decided_by(operation: str) -> frozenset[str]:
    """The clauses with a check that needs the operation."""
    return frozenset(check.clause for check in CHECKS.values() if operation in (*check.needs, *check.needs_one))


@cache
def _cached(operation: str, where: str, name: str | None, declared: Declarations) -> np.ndarray | None:
    return _outcome(lambda: SIGNATURES[operation][where].function(candidate(name, declared)))


def candidate(name: str | None, declared: Declarations) -> Subject:
    """The textbook with a mistake, with another reading, or as it stands, in float64."""
    from dreamer4_conformance.zoo.base import Book, Textbook
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    readings = dict(declared.readings)
    adapter_type: type[Book] = Textbook
    if name in MISTAKES:
        adapter_type = MISTAKES[name].adapter
    elif name is not None:
        reading, _, option = name.removeprefix("reading ").partition(" = ")
        readings[reading] = option
    adapter = adapter_type("signal", **readings)
    adapter.k_max, adapter.dtype = declared.k_max, "float64"
    adapter.context_level, adapter.d_min_share = declared.context_level, declared.d_min_share or adapter.d_min_share
    return Subject(adapter)


def pattern(*relations: Callable[[], object]) -> np.ndarray:
    """What each relation says, a truth or a small number; NaN where it could not be asked."""
    return np.concatenate([attempt(relation, 1) for relation in relations])
