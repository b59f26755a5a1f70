"""Which known mistakes and readings reproduce what an implementation does.

Each operation has signatures: what it does on a fixed set of calls on which the mistakes and the readings differ. A failure is named after every
mistake, and every reading that was not declared, with a signature that is the implementation's and not the correct textbook's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided

if TYPE_CHECKING:
    from dreamer4_conformance.textbook import Textbook


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


SIGNATURES: dict[str, list[Signature]] = {}


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
        SIGNATURES.setdefault(operation, []).append(Signature(function, tolerance, observe, drawn))
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
            for index, sign in enumerate(SIGNATURES.get(operation, [])):
                found.extend(_matching(subject, operation, index, sign))
    return list(dict.fromkeys(found))


def _matching(subject: Subject, operation: str, index: int, sign: Signature) -> Iterator[str]:
    declared = tuple(sorted(subject.adapter.readings.items()))
    observed = _outcome(lambda: (None, sign.function(subject)) if sign.observe is None else sign.observe(subject))
    if observed is None:
        return
    inputs, seen = observed

    def expected(name: str | None) -> np.ndarray | None:
        if sign.observe is None:
            return _cached(operation, index, name, subject.k_max, declared)
        return _outcome(lambda: sign.function(_candidate(name, subject.k_max, declared), inputs))

    tolerance = max(sign.tolerance, 4 * subject.eps)
    correct = expected(None)
    if _alike(seen, correct, tolerance):
        return
    for name in _names(operation, declared, sign.drawn):
        candidate = expected(name)
        if _alike(seen, candidate, tolerance) and not _alike(candidate, correct, sign.tolerance):
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


def _names(operation: str, declared: tuple[tuple[str, str], ...], drawn: bool) -> Iterator[str]:
    from dreamer4_conformance.mistakes import MISTAKES

    mistakes = [mistake for mistake in MISTAKES.values() if operation in mistake.operations]
    yield from (one.id for one in mistakes if not (drawn and f"{operation}_at" in one.operations))
    if drawn:
        return
    for reading in READINGS:
        if reading.clause is not None:
            chosen = dict(declared).get(reading.id, reading.default)
            yield from (f"reading {reading.id} = {option}" for option in reading.options if option != chosen)


@cache
def _cached(
    operation: str, index: int, name: str | None, k_max: int, declared: tuple[tuple[str, str], ...]
) -> np.ndarray | None:
    return _outcome(lambda: SIGNATURES[operation][index].function(_candidate(name, k_max, declared)))


def _candidate(name: str | None, k_max: int, declared: tuple[tuple[str, str], ...]) -> Subject:
    """The textbook with a mistake, with another reading, or as it stands, in float64."""
    from dreamer4_conformance.mistakes import MISTAKES
    from dreamer4_conformance.textbook import Textbook

    readings, adapter_type, level = dict(declared), Textbook, "signal"
    if name in MISTAKES:
        adapter_type, level = MISTAKES[name].adapter, MISTAKES[name].levels[0]
    elif name is not None:
        reading, _, option = name.removeprefix("reading ").partition(" = ")
        readings[reading] = option
    adapter = adapter_type(level, **readings)
    adapter.k_max, adapter.dtype = k_max, "float64"
    return Subject(adapter)
