"""Failures of every mistake, and of two at once, are named and grouped by cause."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from dreamer4_conformance.clauses import CLAUSES
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.candidates import compatible
from dreamer4_conformance.judging.causes import assign_causes, explained_by
from dreamer4_conformance.runner import checks_of, judge
from dreamer4_conformance.verdicts import Result, Status
from dreamer4_conformance.zoo.mistakes import MISTAKES, Mistake

SLICES = 12
"""Parts of the zoo, each one test, so that several processes can share them."""
NAMED = 0.95
"""Share of all failures of a mistake of the zoo that name it."""
BLOCKS = 2
"""Failures of one mistake that do not follow from another one."""
PAIRS, BOTH_NAMED = 30, 0.8
"""Pairs of mistakes of each kind, and the share in which both are named."""


def failures(mistakes: Iterable[Mistake]) -> list[Result]:
    """Failures of the textbook with some mistakes, of all clauses that call one of their operations."""
    mistakes = list(mistakes)
    adapter = type("Mistaken", tuple(mistake.adapter for mistake in mistakes), {})
    operations = {name for mistake in mistakes for name in mistake.operations}
    clauses = [
        clause
        for clause in CLAUSES
        if any(operations & {*check.needs, *check.needs_one} for check in checks_of(clause))
    ]
    subject = Subject(adapter(mistakes[0].levels[0]))
    results = [judge(subject, clause, minimal=False) for clause in clauses]
    assign_causes(results)
    return [result for result in results if result.status is Status.FAIL]


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(SLICES))
def test_mistakes_are_named_and_fail_in_at_most_two_blocks(part: int) -> None:
    named, total, scattered = 0, 0, {}
    for mistake in list(MISTAKES.values())[part::SLICES]:
        failed = failures([mistake])
        assert mistake.clause in [result.id for result in failed]
        named += sum(mistake.id in result.behaves_like for result in failed)
        total += len(failed)
        if len(explained_by(failed)) > BLOCKS:
            scattered[mistake.id] = list(explained_by(failed))
    assert not scattered
    assert named >= NAMED * total, f"{named} of {total} failures are named"


def pairs(mistakes: list[Mistake]) -> list[tuple[Mistake, Mistake]]:
    """Random pairs of mistakes that one textbook can have together, the same in every run."""
    rng, selected = np.random.default_rng(17), dict[tuple[str, str], tuple[Mistake, Mistake]]()
    while len(selected) < PAIRS:
        first, second = (mistakes[index] for index in rng.choice(len(mistakes), 2, replace=False))
        if compatible(first.id, second.id) and first.levels[0] == second.levels[0]:
            selected[first.id, second.id] = first, second
    return list(selected.values())


@pytest.mark.nightly
@pytest.mark.parametrize("operation", ["dynamics_loss", None])
def test_both_of_two_mistakes_are_named(operation: str | None) -> None:
    pool = [mistake for mistake in MISTAKES.values() if operation is None or operation in mistake.operations]
    missed = {}
    for pair in pairs(pool):
        names = {name for result in failures(pair) for name in result.behaves_like}
        if not names.issuperset(mistake.id for mistake in pair):
            missed[pair[0].id, pair[1].id] = sorted(names)
    assert len(missed) <= (1 - BOTH_NAMED) * PAIRS, missed


@pytest.mark.nightly
def test_two_mistakes_in_the_dynamics_loss_are_named_in_at_most_two_blocks() -> None:
    names = ("ramp-bootstrap-only", "teacher-no-actions")
    failed = failures(MISTAKES[name] for name in names)
    assert {name for result in failed for name in result.behaves_like} == set(names)
    assert len(explained_by(failed)) <= BLOCKS
