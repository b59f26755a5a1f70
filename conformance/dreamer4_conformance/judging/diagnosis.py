"""Diagnosis: the known mistakes and readings that reproduce the behaviour of an implementation.

A signature evaluates an operation on fixed calls for which mistakes and readings give different results. A failure is
named after every mistake, and every undeclared reading, whose signature equals the implementation's and differs from
the correct textbook's. If there is none, two mistakes at once are tried: the textbook with both.

A name is dropped if another signature of the same operation contradicts it: the mistake would show there, and the
implementation is right. Names that no other operation contradicts are preferred: a decoder that is not causal, next to
an encoder that is, is named after mistakes of the decoder alone. What remains reproduces what was observed, and nothing
else is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.candidates import (
    Declarations,
    Names,
    candidate,
    candidate_names,
    compatible,
    other_operations,
    zoo_is_importable,
)
from dreamer4_conformance.registry import qualified_name
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided

PAIRS_EVALUATED = 24
"""Pairs of names that are evaluated for one signature."""
PAIR_SLACK = 20
"""A change below the tolerance that the second mistake of a pair multiplies by up to this factor."""
PAIRS_MATCHING = 2
"""Pairs that may reproduce one signature; more say nothing, because the signature is too coarse for pairs."""


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


def explanations(subject: Subject, operations: Iterable[str], *, raises: bool = False) -> list[Names]:
    """Candidates that reproduce a signature of one of the operations, without duplicates.

    Args:
        subject: the implementation.
        operations: their names; those that are not provided are skipped.
        raises: if True, only names for signatures in which every call raises; else only for the other signatures.

    Returns:
        Single names if any reproduces a signature, else pairs; nothing without torch, in which the zoo is written.
    """
    reproducing: list[Names] = []
    if not zoo_is_importable():
        return reproducing
    with np.errstate(all="ignore"):
        for operation in filter(subject.provides, operations):
            for key in SIGNATURES.get(operation, {}):
                names, all_raise = _explanations(subject, operation, key)
                reproducing.extend(names if all_raise == raises else [])
    return list(dict.fromkeys(reproducing))


_EXPLANATIONS: WeakKeyDictionary[Adapter, dict[tuple[object, ...], tuple[list[Names], bool]]] = WeakKeyDictionary()
_OUTCOMES: WeakKeyDictionary[Adapter, dict[tuple[object, ...], Any]] = WeakKeyDictionary()


def _explanations(subject: Subject, operation: str, key: str) -> tuple[list[Names], bool]:
    """`_search` and whether all calls raise, cached: several clauses of a run fail for the same operation."""
    cached, settings = _EXPLANATIONS.setdefault(subject.adapter, {}), _settings(subject, operation, key)
    if settings not in cached:
        observation = Observation.from_subject(subject, operation, key)
        raises = observation.observed is not None and bool(np.isnan(observation.observed).all())
        cached[settings] = _search(observation), raises
    return cached[settings]


def _settings(subject: Subject, operation: str, key: str) -> tuple[object, ...]:
    """What a signature of an adapter depends on."""
    adapter = subject.adapter
    return operation, key, Declarations.from_subject(subject), adapter.dtype, adapter.device, adapter.level


@dataclass
class Observation:
    """The vector of a signature that the implementation gives, to be compared with those of candidates."""

    subject: Subject
    operation: str
    key: str
    declared: Declarations
    observed: np.ndarray | None
    inputs: Any

    @classmethod
    def from_subject(cls, subject: Subject, operation: str, key: str) -> Observation:
        """Evaluate a signature of the implementation, once."""
        function, observe = SIGNATURES[operation][key].function, SIGNATURES[operation][key].observe
        cached, settings = _OUTCOMES.setdefault(subject.adapter, {}), _settings(subject, operation, key)
        if settings not in cached:
            cached[settings] = _outcome(lambda: (None, function(subject)) if observe is None else observe(subject))
        inputs, observed = (None, None) if cached[settings] is None else cached[settings]
        return cls(subject, operation, key, Declarations.from_subject(subject), observed, inputs)

    @property
    def signature(self) -> Signature:
        """Registered signature of the operation and key."""
        return SIGNATURES[self.operation][self.key]

    @property
    def tolerance(self) -> float:
        """Tolerance between the implementation and a candidate."""
        return max(self.signature.tolerance, 4 * self.subject.eps)

    def expected(self, names: Names) -> np.ndarray | None:
        """The vector of a candidate; None if it cannot be evaluated or has another length."""
        if self.signature.observe is None:
            vector = _cached(self.operation, self.key, names, self.declared)
        else:
            vector = _outcome(lambda: self.signature.function(candidate(names, self.declared), self.inputs))
        usable = vector is not None and self.observed is not None and vector.shape == self.observed.shape
        return vector if usable else None

    def names(self) -> Iterator[str]:
        """Names of the mistakes and readings that the signature can distinguish."""
        return candidate_names(self.operation, self.declared, drawn=self.signature.drawn)


def _search(observation: Observation) -> list[Names]:
    """Single names that reproduce the vector and are not contradicted by the operation's other signatures, else pairs.

    A name whose vector is the correct textbook's explains nothing.
    """
    correct = None if observation.observed is None else observation.expected(())
    if observation.observed is None or correct is None:
        return []
    agrees = _close(observation.observed, correct, observation.tolerance)
    if agrees.all():
        return []
    vectors = {name: observation.expected((name,)) for name in observation.names()}
    deviating = {
        name: vector
        for name, vector in vectors.items()
        if vector is not None and not _close(vector, correct, observation.signature.tolerance).all()
    }
    siblings = [
        Observation.from_subject(observation.subject, observation.operation, key)
        for key in SIGNATURES[observation.operation]
        if key != observation.key and SIGNATURES[observation.operation][key].observe is None
    ]
    singles: list[Names] = [
        (name,)
        for name, vector in deviating.items()
        if _close(observation.observed, vector, observation.tolerance).all()
        and not any(_contradicts(sibling, (name,)) for sibling in siblings)
    ]
    preferred = [names for names in singles if not _contradicted_elsewhere(observation, names)]
    return preferred or singles or _pairs(observation, correct, deviating)


def _contradicted_elsewhere(observation: Observation, names: Names) -> bool:
    """True if a mistake shows in another operation that it concerns, in which the implementation is right."""
    subject = observation.subject
    return any(
        _contradicts(Observation.from_subject(subject, operation, key), names)
        for operation, key in _without_draws(subject, other_operations(names, observation.operation))
    )


def _contradicts(observation: Observation, names: Names) -> bool:
    """True if a candidate deviates from the textbook in a signature in which the implementation does not."""
    if observation.observed is None:
        return False
    correct, wrong = observation.expected(()), observation.expected(names)
    if correct is None or wrong is None:
        return False
    agrees = _close(observation.observed, correct, observation.tolerance)
    return bool((agrees & ~_close(wrong, correct, 4 * observation.tolerance)).any())


def _pairs(observation: Observation, correct: np.ndarray, deviating: dict[str, np.ndarray]) -> list[Names]:
    """Pairs that reproduce the vector together.

    Where one name alone changes the textbook's value, the pair has that value too; where neither does, it has the
    textbook's. This leaves few pairs to evaluate: at most `PAIRS_EVALUATED`, first those with a name that alone
    reproduces another signature, then those that this explains best. If more than `PAIRS_MATCHING` reproduce the
    vector, none is returned.
    """
    observed, tolerance = observation.observed, observation.tolerance
    assert observed is not None
    changes = {name: ~_close(vector, correct, tolerance) for name, vector in deviating.items()}
    matches = {name: _close(observed, vector, PAIR_SLACK * tolerance) for name, vector in deviating.items()}
    unchanged = _close(observed, correct, PAIR_SLACK * tolerance)
    ranked: list[tuple[int, Names]] = []
    for pair in combinations(deviating, 2):
        first, second = pair
        alone = (changes[first] & ~changes[second], changes[second] & ~changes[first])
        neither = ~changes[first] & ~changes[second]
        fits = [matches[name] | ~where for name, where in zip(pair, alone, strict=True)]
        if (fits[0] & fits[1] & (unchanged | ~neither)).all():
            ranked.append((int((alone[0] | alone[1]).sum()), pair))
    ranked = [entry for entry in sorted(ranked, key=lambda entry: -entry[0]) if compatible(*entry[1])]
    if len(ranked) > PAIRS_EVALUATED:
        elsewhere = _named_elsewhere(observation, {name for _, pair in ranked for name in pair})
        ranked.sort(key=lambda entry: elsewhere.isdisjoint(entry[1]))
    plausible = [pair for _, pair in ranked][:PAIRS_EVALUATED]
    vectors = {pair: observation.expected(pair) for pair in plausible}
    matching = [pair for pair, v in vectors.items() if v is not None and _close(observed, v, tolerance).all()]
    return matching if len(matching) <= PAIRS_MATCHING else []


def _named_elsewhere(observation: Observation, names: Iterable[str]) -> set[str]:
    """Names that alone reproduce another signature, of the operation or of another one that they concern."""
    subject = observation.subject
    return {
        name
        for name in names
        for operation, key in _without_draws(
            subject, [observation.operation, *other_operations((name,), observation.operation)]
        )
        if key != observation.key and _reproduces(Observation.from_subject(subject, operation, key), (name,))
    }


def _without_draws(subject: Subject, operations: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Provided operations with the keys of their signatures on given inputs, of what is not drawn."""
    for operation in filter(subject.provides, operations):
        for key, entry in SIGNATURES.get(operation, {}).items():
            if entry.observe is None and not entry.drawn:
                yield operation, key


def _reproduces(observation: Observation, names: Names) -> bool:
    """True if the implementation deviates from the textbook, and as the candidate does."""
    correct, wrong = observation.expected(()), observation.expected(names)
    if observation.observed is None or correct is None or wrong is None:
        return False
    deviates = not _close(observation.observed, correct, observation.tolerance).all()
    return deviates and bool(_close(observation.observed, wrong, observation.tolerance).all())


def _outcome(evaluate: Callable[[], Any]) -> Any:
    """The value; None, which equals nothing, if an operation fails or its calls cannot be matched."""
    try:
        return evaluate()
    except (Deviation, Inconclusive, NotProvided, UnsatisfiedAssumption):
        return None


def _close(first: np.ndarray, second: np.ndarray, tolerance: float) -> np.ndarray:
    return np.isclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True)


@cache
def _cached(operation: str, key: str, names: Names, declared: Declarations) -> np.ndarray | None:
    vector = _outcome(lambda: SIGNATURES[operation][key].function(candidate(names, declared)))
    return None if vector is None else np.asarray(vector)


def pattern(*relations: Callable[[], object]) -> np.ndarray:
    """Values of relations, each a truth value or a small number; NaN for those that raise."""
    return np.concatenate([attempt(relation, 1) for relation in relations])
