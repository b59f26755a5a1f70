"""Failures of one cause are grouped by evidence, never by clause."""

from __future__ import annotations

from dreamer4_conformance.judging.causes import assign_causes, explained_by
from dreamer4_conformance.verdicts import Result, Status


def failure(clause: str, *names: str, given: tuple[str, ...] = ()) -> Result:
    return Result(clause, 7, "must", Status.FAIL, behaves_like=list(names), passes_given=list(given))


def causes(*results: Result) -> dict[str, list[str]]:
    assign_causes(results)
    return explained_by(results)


def test_failures_with_a_common_name_follow_from_the_clause_that_the_mistake_violates() -> None:
    results = failure("eq07.absolute", "renoise-true"), failure("eq07.teacher-state", "renoise-true")
    assert causes(*results) == {"eq07.teacher-state": ["eq07.absolute"]}


def test_failures_without_a_common_name_are_causes_of_their_own() -> None:
    results = failure("eq07.absolute"), failure("eq07.teacher-state", "renoise-true"), failure("eq08.value")
    assert causes(*results) == {clause: [] for clause in ("eq07.absolute", "eq07.teacher-state", "eq08.value")}


def test_two_mistakes_are_two_causes() -> None:
    results = (
        failure("eq07.teacher-state", "renoise-true"),
        failure("eq07.actions", "teacher-no-actions"),
        failure("eq07.absolute", "teacher-no-actions", "renoise-true"),
        failure("eq07.gradient", "teacher-no-actions"),
    )
    expected = {"eq07.teacher-state": [], "eq07.actions": ["eq07.absolute", "eq07.gradient"]}
    assert causes(*results) == expected


def test_a_mistake_that_only_a_pair_names_explains_no_failure_of_the_other_ones_clause() -> None:
    pair = "teacher-no-actions", "ramp-bootstrap-only"
    results = failure("eq07.actions", pair[0]), failure("eq07.absolute", *pair), failure("eq08.applied", *pair)
    for result in results[1:]:
        result.in_pairs = True
    assert causes(*results) == {"eq07.actions": ["eq07.absolute"], "eq08.applied": []}
    results[2].in_pairs = False  # either name alone reproduces it
    assert causes(*results) == {"eq07.actions": ["eq07.absolute", "eq08.applied"]}


def test_a_failure_follows_from_the_clause_of_the_quantity_that_makes_it_pass() -> None:
    results = failure("eq07.teacher-state"), failure("eq07.absolute", given=("teacher",)), failure("eq07.finite")
    assert causes(*results) == {"eq07.teacher-state": ["eq07.absolute"], "eq07.finite": []}


def test_levels_off_the_grid_explain_more_than_an_unequal_law_of_steps() -> None:
    results = failure("eq04.step-law"), failure("eq04.grid"), failure("eq07.teacher-labels", given=("draws",))
    assert causes(*results) == {"eq04.step-law": [], "eq04.grid": ["eq07.teacher-labels"]}


def test_failures_that_one_declaration_would_turn_into_passes_have_one_cause() -> None:
    results = failure("eq01.interpolate"), failure("eq08.value")
    for result in results:
        result.advice = ["the clause passes with `level = 'noise'`: declare it if this is how your code works"]
    assert causes(*results) == {"eq01.interpolate": ["eq08.value"]}


def test_a_quantity_whose_own_clauses_pass_explains_nothing() -> None:
    assert causes(failure("eq07.absolute", given=("teacher",))) == {"eq07.absolute": []}


def test_a_passing_clause_has_no_cause() -> None:
    passing = Result("eq07.absolute", 7, "must", Status.PASS)
    assert causes(passing, failure("eq07.finite")) == {"eq07.finite": []}
    assert passing.follows_from is None
