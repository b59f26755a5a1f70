"""Candidates of the diagnosis: the textbook with one mistake or reading, or with two that override different steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.heads import adapter_bins
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.judging.loss_evaluations import is_unconditional
from dreamer4_conformance.readings import READINGS
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided

if TYPE_CHECKING:
    from dreamer4_conformance.zoo.base import Book

Names = tuple[str, ...]
"""Ids of mistakes and texts "reading A7 = flow" that together are one candidate; () is the correct textbook."""


class Declarations(NamedTuple):
    """Declarations of the implementation, which the candidates share, and two observed properties.

    Attributes:
        conditional: whether its loss passes actions to the network, or its sampler takes any.
        bins: its two-hot bins; None if it does not provide them.
    """

    readings: tuple[tuple[str, str], ...]
    k_max: int
    context_level: float
    d_min_share: float | None
    conditional: bool
    bins: tuple[float, ...] | None

    @classmethod
    def from_subject(cls, subject: Subject) -> Declarations:
        """Read the declarations of a subject's adapter; the loss and the bins are evaluated once."""
        adapter = subject.adapter
        readings = tuple(sorted(adapter.readings.items()))
        if adapter not in _EVALUATED:
            _EVALUATED[adapter] = _is_conditional(subject), _bins(subject)
        return cls(readings, adapter.k_max, adapter.context_level, adapter.d_min_share, *_EVALUATED[adapter])


_EVALUATED: WeakKeyDictionary[Adapter, tuple[bool, tuple[float, ...] | None]] = WeakKeyDictionary()


def _is_conditional(subject: Subject) -> bool:
    sampled = subject.provides("sample_frame") and subject.samples_with_actions()
    return sampled or not is_unconditional(subject)


def _bins(subject: Subject) -> tuple[float, ...] | None:
    if not subject.provides("twohot_bins"):
        return None
    try:
        return tuple(adapter_bins(subject).tolist())
    except (Deviation, Inconclusive, NotProvided):
        return None


@cache
def zoo_is_importable() -> bool:
    """False without torch, in which the zoo is written."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def candidate(names: Names, declared: Declarations) -> Subject:
    """Build a candidate in float64 and signal levels.

    Args:
        names: its mistakes and readings.
        declared: declarations of the implementation.

    Returns:
        The candidate, which declares the readings that it follows.

    Raises:
        TypeError: if the classes of two mistakes cannot be combined.
    """
    from dreamer4_conformance.zoo.base import Textbook
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    readings = dict(declared.readings)
    for name in names:
        if name not in MISTAKES:
            reading, _, option = name.removeprefix("reading ").partition(" = ")
            readings[reading] = option
    mistaken = [MISTAKES[name].adapter for name in names if name in MISTAKES]
    adapter = _combined(mistaken or [Textbook])("signal", **readings)
    adapter.k_max, adapter.dtype = declared.k_max, "float64"
    adapter.context_level, adapter.d_min_share = declared.context_level, declared.d_min_share or adapter.d_min_share
    adapter.conditional, adapter.bins = declared.conditional, declared.bins
    return Subject(adapter)


def _combined(adapters: list[type[Book]]) -> type[Book]:
    return adapters[0] if len(adapters) == 1 else type("Combined", tuple(adapters), {})


def candidate_names(operation: str, declared: Declarations, *, drawn: bool) -> Iterator[str]:
    """Yield mistakes of an operation and undeclared readings that a clause of the operation decides.

    Args:
        operation: its name.
        declared: declarations of the implementation.
        drawn: whether only mistakes in the draws of the operation count: none that also affects its variant without
            draws (`…_at`), and no readings.
    """
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    mistakes = [mistake for mistake in MISTAKES.values() if operation in mistake.operations]
    yield from (mistake.id for mistake in mistakes if not (drawn and f"{operation}_at" in mistake.operations))
    if drawn:
        return
    for reading in READINGS:
        if not decided_by(operation).isdisjoint(reading.clauses):
            chosen = dict(declared.readings).get(reading.id, reading.default)
            yield from (f"reading {reading.id} = {option}" for option in reading.options if option != chosen)


def other_operations(names: Names, operation: str) -> list[str]:
    """Operations besides one that are wrong in any of several mistakes; readings have none."""
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    wrong = (name for mistake in names if mistake in MISTAKES for name in MISTAKES[mistake].operations)
    return [name for name in dict.fromkeys(wrong) if name != operation]


@cache
def decided_by(operation: str) -> frozenset[str]:
    """Clauses with a check that needs the operation."""
    return frozenset(check.clause for check in CHECKS.values() if operation in (*check.needs, *check.needs_one))


def compatible(first: str, second: str) -> bool:
    """True if one candidate can have both: two mistakes that override different steps, or options of two readings."""
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    if first not in MISTAKES or second not in MISTAKES:
        return first.partition(" = ")[0] != second.partition(" = ")[0]
    steps = ({step for step in vars(MISTAKES[name].adapter) if not step.startswith("__")} for name in (first, second))
    try:
        _combined([MISTAKES[name].adapter for name in (first, second)])
    except TypeError:
        return False
    return not set.intersection(*steps)
