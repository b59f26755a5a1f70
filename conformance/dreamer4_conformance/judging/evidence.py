"""Evidence about a failure, gathered by judging its clause again under one change at a time.

1. Names: candidates whose signature equals the implementation's (`diagnosis`), that fail the same check, and that give
   the reported value at the failing call, alone or in combination; names of the clause's other operations, if the
   textbook with such a mistake fails in the same way; else plain factors of the loss; else the names of earlier
   failures, under the same condition.
2. Quantities: the clause passes once a quantity is taken from the implementation as it is (`Subject.recovered`).
3. Advice: the clause passes once something else is declared.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Any

import numpy as np

from dreamer4_conformance.clauses import Clause
from dreamer4_conformance.instruments.subject import LOSSES, Subject
from dreamer4_conformance.judging.candidates import Declarations, Names, candidate, compatible
from dreamer4_conformance.judging.causes import JUDGED_BY
from dreamer4_conformance.judging.check import CHECKS, Check, Profile
from dreamer4_conformance.judging.diagnosis import explanations
from dreamer4_conformance.judging.repetition import gives_reported_value
from dreamer4_conformance.readings import READINGS, resolve
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, Result, Status

LEVEL_OPERATIONS = ("corrupt", "ramp_weight", "sample_tau_d", "sample_frame", *LOSSES)
"""Operations whose arguments or results are levels."""
DETACH = "detach in the adapter what your training step detaches before it calls this function"
DETACHED = ("value-target-attached", "pmpo-prior-attached")
"""Mistakes that a training step avoids if it detaches the argument itself."""
FACTORS: dict[str, Callable[[tuple[int, ...]], float]] = {
    "2": lambda shape: 2.0,
    "1/2": lambda shape: 0.5,
    "10": lambda shape: 10.0,
    "1/10": lambda shape: 0.1,
    "B·T": lambda shape: float(shape[0] * shape[1]),
    "1/(B·T)": lambda shape: 1.0 / (shape[0] * shape[1]),
    "S·D": lambda shape: float(shape[2] * shape[3]),
    "1/(S·D)": lambda shape: 1.0 / (shape[2] * shape[3]),
    "B": lambda shape: float(shape[0]),
    "T": lambda shape: float(shape[1]),
}
"""Plain factors of a loss of data (B, T, S, D)."""
MOST_COMBINED = 6
"""Names of which two or three are combined: among many, some combination gives any value by accident."""
_CANDIDATES: dict[tuple[object, ...], Result] = {}


@dataclass(frozen=True)
class Retrial:
    """Judges one clause again, under the same profile and seed.

    Attributes:
        clause: the clause.
        check: the check whose failure is reported.
        profile: of the run.
        seed: of the run.
        judge: returns the result of a subject: by all checks of the clause, or by those of the second argument.
    """

    clause: Clause
    check: Check
    profile: Profile
    seed: int
    judge: Callable[..., Result]

    @property
    def operations(self) -> tuple[str, ...]:
        """Operations that the failing check calls."""
        return (*self.check.needs, *self.check.needs_one)

    @property
    def related(self) -> list[str]:
        """Other operations that the checks of the clause call."""
        checks = [check for check in CHECKS.values() if check.clause == self.clause.id]
        names = dict.fromkeys(name for check in checks for name in (*check.needs, *check.needs_one))
        return [name for name in names if name not in self.operations]

    def candidate_result(self, names: Names, subject: Subject) -> Result:
        """Result of a candidate by the failing check; cached.

        The candidate provides what `subject` provides, under the readings that it declares.
        """
        declared = Declarations.from_subject(subject)
        hidden = frozenset(name for name in self.operations if not subject.provides(name))
        key = (self.check.name, names, declared, hidden, self.profile, self.seed)
        if key not in _CANDIDATES:
            mistaken = replace(candidate(names, declared), hidden=hidden)
            mistaken.readings = resolve(dict(declared.readings))
            _CANDIDATES[key] = self.judge(mistaken, (self.check,))
        return _CANDIDATES[key]


def gather(subject: Subject, result: Result, retrial: Retrial) -> None:
    """Set `behaves_like`, `passes_given` and `advice` of a failure.

    Args:
        subject: the implementation.
        result: the failure.
        retrial: judges its clause again.
    """
    reproducing = _names(subject, result, retrial)
    result.behaves_like = list(dict.fromkeys(name for names in reproducing for name in names))
    result.in_pairs = bool(reproducing) and all(len(names) > 1 for names in reproducing)
    if not result.behaves_like:
        result.passes_given = [quantity for quantity in JUDGED_BY if _passes_given(subject, quantity, retrial)]
    subject.suspects.update(dict.fromkeys(result.behaves_like))
    result.advice = list(_advice(subject, result, retrial))


def _names(subject: Subject, result: Result, retrial: Retrial) -> list[Names]:
    """Names that reproduce the failure, each alone or with those that it needs."""
    declared = Declarations.from_subject(subject)

    def gives_value(*names: str) -> bool:
        return gives_reported_value(candidate(names, declared), subject, result)

    def fails(*names: str) -> bool:
        failure = retrial.candidate_result(names, subject)
        if failure.status is not Status.FAIL or _fails_at_its_draws_only(failure, result):
            return False
        return gives_value(*names)

    reproducing: list[Names] = []
    candidates = explanations(subject, retrial.operations) or [
        names
        for names in explanations(subject, retrial.operations, raises=True)
        if _fail_alike(result, retrial.candidate_result(names, subject))
    ]
    for names in candidates:
        alone = [name for name in names if fails(name)]
        if len(alone) == 1 or len(names) == 1:
            reproducing.extend((name,) for name in alone)
        elif alone or fails(*names):
            reproducing.append(names)
    if candidates and not reproducing and not gives_value():
        # The value can be compared: mistakes that reproduce different signatures may give it in combination only.
        together = (names for names in _combinations(candidates) if gives_value(*names) and fails(*names))
        reproducing = list(islice(together, 1))
    for (name,) in _singles(_best_explanations(subject, retrial.related)):
        # A fault of a layer shows in the model too; one of the decoder does not explain a failure of the encoder.
        if fails(name) and _same_failure(result, retrial.candidate_result((name,), subject)):
            reproducing.append((name,))
    return (
        reproducing
        or [(factor,) for factor in _factors(subject, result, retrial)]
        or [
            (name,)
            for name in _suspects(subject, retrial)
            if _same_failure(result, retrial.candidate_result((name,), subject))
        ]
    )


def _fails_at_its_draws_only(candidate: Result, result: Result) -> bool:
    """True if a failure at passed levels is compared with one at levels that the candidate draws itself."""
    return (result.call or "").startswith("dynamics_loss_at(") and (candidate.call or "").startswith("dynamics_loss(")


def _combinations(candidates: Iterable[Names]) -> Iterator[Names]:
    """Two or three single names that one candidate can have; none of more than `MOST_COMBINED` names."""
    names = [name for (name,) in _singles(candidates)]
    for size in (2, 3) if len(names) <= MOST_COMBINED else ():
        for chosen in combinations(names, size):
            if all(compatible(*pair) for pair in combinations(chosen, 2)):
                yield chosen


def _singles(candidates: Iterable[Names]) -> list[Names]:
    return [names for names in candidates if len(names) == 1]


def _best_explanations(subject: Subject, operations: Sequence[str]) -> list[Names]:
    """Explanations by what the operations return, else by the calls that raise."""
    return explanations(subject, operations) or explanations(subject, operations, raises=True)


def _suspects(subject: Subject, retrial: Retrial) -> list[str]:
    """Names of earlier failures, and of what the loss is like where the clause judges its draws or its noise."""
    related = () if set(LOSSES).isdisjoint(retrial.operations) else LOSSES
    names = (name for names in _best_explanations(subject, related) for name in names)
    return list(dict.fromkeys([*subject.suspects, *names]))


def _factors(subject: Subject, result: Result, retrial: Retrial) -> list[str]:
    """Factors of the dynamics loss that fit the failing example, and without which the clause passes at all shapes."""
    invocation = subject.failing
    got, expected = _numbers(result.got), _numbers(result.expected)
    if invocation is None or invocation.method != "evaluate" or got.shape != expected.shape or not expected.all():
        return []
    shape, ratio = invocation.arguments["draw"].z1.shape, got / expected
    fitting = {name: f for name, f in FACTORS.items() if np.allclose(ratio, f(shape), rtol=100 * subject.eps)}
    return [
        f"the loss times {name}"
        for name, factor in fitting.items()
        if retrial.judge(replace(subject, factor=factor)).status is Status.PASS
    ]


EXCEPTION = re.compile(r" raised (\w+)")
NUMBER = re.compile(r"[-+]?\d[\d.,e+−-]*|nan|inf")


def _same_failure(result: Result, reproduced: Result) -> bool:
    """True if two failures have the same message up to its numbers, and a comparison also the same values."""
    if reproduced.status is not Status.FAIL:
        return False
    if NUMBER.sub("#", result.message) != NUMBER.sub("#", reproduced.message):
        return False
    if result.worst_error is None:
        return True
    got, expected = _numbers(result.got), _numbers(reproduced.got)
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=0.05, atol=0.05, equal_nan=True))


def _fail_alike(result: Result, reproduced: Result) -> bool:
    """True if both failures are exceptions of the same type, or the same failure."""
    first, second = (EXCEPTION.search(failure.message) for failure in (result, reproduced))
    return first[1] == second[1] if first and second else _same_failure(result, reproduced)


def _numbers(value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def _passes_given(subject: Subject, quantity: str, retrial: Retrial) -> bool:
    """True if the clause passes with a quantity of the loss as it is; False for clauses of other operations."""
    if retrial.clause.id in JUDGED_BY[quantity] or set(LOSSES).isdisjoint(retrial.operations):
        return False
    if quantity == "ramp" and not subject.provides("ramp_weight"):
        return False
    hidden = subject.hidden
    if quantity == "draws" and subject.provides("dynamics_loss_at"):
        hidden |= {"dynamics_loss"}
    return retrial.judge(replace(subject, hidden=hidden, recovered=frozenset({quantity}))).status is Status.PASS


def _advice(subject: Subject, result: Result, retrial: Retrial) -> Iterator[str]:
    """Sentences on declarations under which the clause passes."""
    for declaration, variant in (*_declarable(subject, retrial), *_longer(subject, result, retrial)):
        if retrial.judge(variant).status is Status.PASS:
            yield f"the clause passes with `{declaration}`: declare it if this is how your code works"
    if not set(DETACHED).isdisjoint(result.behaves_like):
        yield DETACH


def _declarable(subject: Subject, retrial: Retrial) -> Iterator[tuple[str, Subject]]:
    """Declarations that concern the clause and differ from the adapter's, with a subject that declares each."""
    adapter, operations = subject.adapter, set(retrial.operations)
    for reading in READINGS:
        for option in reading.options if retrial.clause.id in reading.clauses else ():
            if option != subject.readings[reading.id]:
                variant = replace(subject)
                variant.readings = {**subject.readings, reading.id: option}
                yield f'readings = {{"{reading.id}": "{option}"}}', variant
    if not operations.isdisjoint(LEVEL_OPERATIONS) and not _corrupts_as_declared(subject):
        yield _declaring(subject, level="signal" if adapter.level == "noise" else "noise")
    if "loss_normalizer" in operations:
        yield _declaring(subject, rms_warmup=10 * max(adapter.rms_warmup, 100))
    if not operations.isdisjoint(("sample_tau_d", "dynamics_loss")):
        yield _declaring(subject, min_batch=8 * adapter.min_batch)


def _corrupts_as_declared(subject: Subject) -> bool:
    """True if `corrupt` follows the declared level: then a clause that needs the other level has another fault."""
    if not subject.provides("corrupt"):
        return False
    try:
        z = subject.corrupt(np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), np.array([[0.25]]))
    except (Deviation, Inconclusive, NotProvided):
        return False
    return bool(np.allclose(z, 0.25, atol=0.01))


def _longer(subject: Subject, result: Result, retrial: Retrial) -> Iterator[tuple[str, Subject]]:
    """A larger `min_time` for a loss that raises; where it returns a wrong value, that would hide the fault."""
    if not set(LOSSES).isdisjoint(retrial.operations) and " raised " in result.message:
        yield _declaring(subject, min_time=2 * subject.adapter.min_time)


def _declaring(subject: Subject, **attributes: Any) -> tuple[str, Subject]:
    """The declaration as Python, and the subject with a copy of the adapter that makes it."""
    adapter = copy.copy(subject.adapter)
    for name, value in attributes.items():
        setattr(adapter, name, value)
    variant = replace(subject, adapter=adapter)
    return ", ".join(f"{name} = {value!r}" for name, value in attributes.items()), variant
