"""Causes: which failures of a run follow from another one, so that a report explains each cause once.

Failure B follows from failure A if there is evidence that one fault explains both:

1. One mistake or reading reproduces what both clauses measured (`Result.behaves_like`), or both pass under the same
   declaration (`Result.advice`). Of several, the one that explains the most failures is taken. The clause that a
   mistake violates by definition leads, else the first that fails. Of two names that reproduce a failure only together
   (`Result.in_pairs`), the one whose own clause fails explains it.
2. B passes once a quantity that A judges is taken from the implementation as it is (`Result.passes_given`).

There is no table of clauses that follow from each other: two mistakes may fail the same clauses for different reasons.
The status of a failure that follows stays `fail`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from dreamer4_conformance.readings import BY_ID as READINGS
from dreamer4_conformance.verdicts import Result, Status
from dreamer4_conformance.zoo.catalogue import catalogue

FAILED = (Status.FAIL, Status.KNOWN_FAILURE)
JUDGED_BY = {
    "teacher": ("eq07.teacher-state", "eq07.teacher-labels", "eq07.actions", "eq07.same-network"),
    "ramp": ("eq08.value", "eq08.elementwise"),
    "weight": ("eq08.applied",),
    "flow": ("eq07.flow-value",),
    "bootstrap": ("eq07.bootstrap-value", "eq07.flow-only-at-dmin"),
    "draws": ("eq04.grid", "eq04.grid-range", "eq04.step-support", "eq04.grid-law", "eq04.step-law", "eq06.noise-law"),
}
"""Quantity of the loss that can be taken from the implementation as it is → the clauses that judge this quantity.

The first of them that fails leads: a level off the grid breaks more than an unequal law of the steps does.
"""


def assign_causes(results: Sequence[Result]) -> None:
    """Set `follows_from` of every failure that has its cause in another one; the first of a cause keeps None.

    Args:
        results: all results of one run. Only their `follows_from` changes.
    """
    failures = [result for result in results if result.status in FAILED]
    for result in failures:
        result.follows_from = None
    unexplained = list(failures)
    while name := _most_frequent_name(unexplained):
        explained = [result for result in unexplained if name in _explanations(result)]
        leader = next((result for result in explained if result.id == _violated_clause(name)), explained[0])
        for result in explained:
            result.follows_from = None if result is leader else leader.id
        unexplained = [result for result in unexplained if result not in explained]
    for result in unexplained:
        judges = [clause for quantity in result.passes_given for clause in JUDGED_BY[quantity]]
        leaders = [lead for lead in failures if lead.id in judges and lead.follows_from != result.id]
        leaders.sort(key=lambda lead: judges.index(lead.id))
        if leaders and result.id not in judges:
            result.follows_from = leaders[0].follows_from or leaders[0].id


def _most_frequent_name(failures: Sequence[Result]) -> str | None:
    """The name that explains the most failures, at least one; of equals the first whose own clause fails."""
    names = dict.fromkeys(name for result in failures for name in _explanations(result))
    identifiers = {result.id for result in failures}

    def rank(name: str) -> tuple[int, bool]:
        return sum(name in _explanations(result) for result in failures), _violated_clause(name) in identifiers

    return max(names, key=rank, default=None)


def _explanations(result: Result) -> list[str]:
    names = result.behaves_like
    if result.in_pairs and result.id in map(_violated_clause, names):
        names = [name for name in names if _violated_clause(name) == result.id]
    return [*names, *result.advice]


@cache
def _violated_clause(name: str) -> str | None:
    """The clause that a mistake violates, or that a reading concerns."""
    if name in catalogue():
        return catalogue()[name][0]
    reading = READINGS.get(name.removeprefix("reading ").partition(" = ")[0])
    return reading.clauses[0] if reading is not None and reading.clauses else None


def explained_by(results: Iterable[Result]) -> dict[str, list[str]]:
    """Failures by cause: id of each failure that is a cause → ids of those that follow from it.

    >>> first = Result("eq04.grid", 4, "must", Status.FAIL)
    >>> second = Result("eq07.finite", 7, "must", Status.FAIL, follows_from="eq04.grid")
    >>> explained_by([first, second])
    {'eq04.grid': ['eq07.finite']}
    """
    failures = [result for result in results if result.status in FAILED]
    return {
        lead.id: [result.id for result in failures if result.follows_from == lead.id]
        for lead in failures
        if lead.follows_from is None
    }
