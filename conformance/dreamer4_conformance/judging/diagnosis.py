"""Diagnosis: the known mistakes and readings that reproduce the behaviour of an implementation.

A signature evaluates an operation on fixed calls for which mistakes and readings give different results. A failure is
named after every mistake, and every undeclared reading, whose signature equals the implementation's and differs from
the correct textbook's.
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
    """Behaviour of an operation as one vector of values of order one.

    Attributes:
        function: from the subject, or from a candidate and observed inputs, to the vector.
        tolerance: absolute and relative, for rounding and for random draws.
        observe: for an operation that draws its inputs: returns the inputs that the implementation drew and its vector.
        drawn: whether the vector depends only on what is drawn inside. Mistakes that also affect the operation's
            variant without draws (`…_at`) are then no candidates.
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
    """Register a signature of an operation: a function from the subject to a vector, with NaN for calls that raise.

    Args:
        operation: name of the operation.
        tolerance: as in `Signature`.
        observe: as in `Signature`; the function then takes a candidate and the observed inputs.
        drawn: as in `Signature`.

    Returns:
        A decorator that returns the function unchanged.
    """

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        SIGNATURES.setdefault(operation, {})[qualified_name(function)] = Signature(function, tolerance, observe, drawn)
        return function

    return register


def attempt(probe: Callable[[], Any], size: int) -> np.ndarray:
    """Values of a probe, float64 (size,); NaN if it raises or returns another number of values."""
    try:
        values = np.asarray(probe(), np.float64).ravel()
    except Exception:
        return np.full(size, np.nan)
    return values if values.size == size else np.full(size, np.nan)


def behaves_like(subject: Subject, operations: tuple[str, ...]) -> list[str]:
    """Names of the mistakes and readings that reproduce a signature of one of the operations, without duplicates.

    Without torch, in which the zoo is written, there are none.
    """
    names: list[str] = []
    if not _zoo_is_importable():
        return names
    with np.errstate(all="ignore"):
        for operation in filter(subject.provides, operations):
            for key, signature in SIGNATURES.get(operation, {}).items():
                names.extend(_matching(subject, operation, key, signature))
    return list(dict.fromkeys(names))


@cache
def _zoo_is_importable() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


class Declarations(NamedTuple):
    """Declarations of the implementation, which the candidates share."""

    readings: tuple[tuple[str, str], ...]
    k_max: int
    context_level: float
    d_min_share: float | None

    @classmethod
    def from_subject(cls, subject: Subject) -> Declarations:
        """Read the declarations of a subject's adapter."""
        adapter = subject.adapter
        readings = tuple(sorted(adapter.readings.items()))
        return cls(readings, adapter.k_max, adapter.context_level, adapter.d_min_share)


def _matching(subject: Subject, operation: str, key: str, signature: Signature) -> Iterator[str]:
    declared, function, observe = Declarations.from_subject(subject), signature.function, signature.observe
    observation = _outcome(lambda: (None, function(subject)) if observe is None else observe(subject))
    if observation is None:
        return
    inputs, observed = observation

    def expected(name: str | None) -> np.ndarray | None:
        if observe is None:
            return _cached(operation, key, name, declared)
        return _outcome(lambda: function(candidate(name, declared), inputs))

    tolerance = max(signature.tolerance, 4 * subject.eps)
    correct = expected(None)
    if _close(observed, correct, tolerance):
        return
    for name in _names(operation, declared, signature.drawn):
        wrong = expected(name)
        if _close(observed, wrong, tolerance) and not _close(wrong, correct, signature.tolerance):
            yield name


def _outcome(evaluate: Callable[[], Any]) -> Any:
    """The value; None, which equals nothing, if an operation fails or its calls cannot be matched."""
    try:
        return evaluate()
    except (Deviation, Inconclusive, NotProvided, UnsatisfiedAssumption):
        return None


def _close(first: np.ndarray | None, second: np.ndarray | None, tolerance: float) -> bool:
    if first is None or second is None or first.shape != second.shape:
        return False
    return bool(np.allclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True))


def _names(operation: str, declared: Declarations, drawn: bool) -> Iterator[str]:
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    mistakes = [mistake for mistake in MISTAKES.values() if operation in mistake.operations]
    yield from (mistake.id for mistake in mistakes if not (drawn and f"{operation}_at" in mistake.operations))
    if drawn:
        return
    for reading in READINGS:
        if reading.clause in decided_by(operation):
            chosen = dict(declared.readings).get(reading.id, reading.default)
            yield from (f"reading {reading.id} = {option}" for option in reading.options if option != chosen)


@cache
def decided_by(operation: str) -> frozenset[str]:
    """Clauses with a check that needs the operation."""
    return frozenset(check.clause for check in CHECKS.values() if operation in (*check.needs, *check.needs_one))


@cache
def _cached(operation: str, key: str, name: str | None, declared: Declarations) -> np.ndarray | None:
    return _outcome(lambda: SIGNATURES[operation][key].function(candidate(name, declared)))


def candidate(name: str | None, declared: Declarations) -> Subject:
    """The textbook in float64: with the named mistake or reading, or correct if `name` is None."""
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
    """Values of relations, each a truth value or a small number; NaN for those that raise."""
    return np.concatenate([attempt(relation, 1) for relation in relations])
