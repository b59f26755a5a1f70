"""What the runner makes of what the checks say."""

from __future__ import annotations

import pytest

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging import check
from dreamer4_conformance.judging.check import Check, Trial
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import OWN_FAULT, Status
from dreamer4_conformance.zoo.base import Textbook, TextbookModel

EQ08 = BY_ID["eq08.value"]


def only(monkeypatch: pytest.MonkeyPatch, function: object) -> None:
    """Makes `function` the only check of eq08.value."""
    monkeypatch.setattr(check, "CHECKS", check.CHECKS.copy())
    for place in [place for place, one in check.CHECKS.items() if one.clause == "eq08.value"]:
        monkeypatch.delitem(check.CHECKS, place)
    monkeypatch.setitem(check.CHECKS, "only", Check("eq08.value", function, (), (), 0))  # type: ignore[arg-type]
    monkeypatch.setattr("dreamer4_conformance.runner.CHECKS", check.CHECKS)


def test_a_fault_of_the_suite_is_never_a_verdict_on_the_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: Subject, trial: Trial) -> None:
        raise ZeroDivisionError("in the check")

    only(monkeypatch, broken)
    result = judge(Subject(Textbook()), EQ08)
    assert result.status is Status.INCONCLUSIVE
    assert result.message.startswith(OWN_FAULT)


def test_a_check_that_runs_no_case_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, lambda subject, trial: None)
    assert judge(Subject(Textbook()), EQ08).status is Status.INCONCLUSIVE


class Expecting(Textbook):
    expected_failures = {"eq08.value": "see issue 12"}  # noqa: RUF012


class ExpectingAndWrong(Expecting):
    def ramp_weight(self, tau: object) -> object:  # type: ignore[override]
        return tau


def test_an_expected_failure_is_known_and_an_unexpected_pass_is_said() -> None:
    assert judge(Subject(ExpectingAndWrong()), EQ08).status is Status.KNOWN_FAILURE
    assert judge(Subject(Expecting()), EQ08).status is Status.UNEXPECTED_PASS


class WithoutEncoder(TextbookModel):
    def encode(self, video: object) -> object:  # type: ignore[override]
        raise RuntimeError("no weights")


@pytest.mark.usefixtures("without_diagnosis")
def test_a_clause_of_several_operations_is_judged_by_those_that_work() -> None:
    subject = Subject(WithoutEncoder())
    assert judge(subject, BY_ID["net.repeatable"]).status is Status.PASS
    bottleneck = judge(subject, BY_ID["tok.bottleneck"], minimal=False)
    assert bottleneck.status is Status.FAIL
    assert "encode raised RuntimeError: no weights" in bottleneck.message


class Sealed(Textbook):
    ramp_weight = Adapter.ramp_weight
    not_testable = {"ramp_weight": "inline in the loss"}  # noqa: RUF012


def test_clause_of_a_sealed_operation_is_not_provided_with_the_reason() -> None:
    result = judge(Subject(Sealed()), EQ08)
    assert (result.status, result.needs) == (Status.NOT_PROVIDED, ["ramp_weight"])
    assert result.message == "not testable from outside: ramp_weight: inline in the loss"


def test_the_same_seed_and_profile_give_the_same_result() -> None:
    results = [judge(Subject(Textbook()), BY_ID["eq07.absolute"], profile="dev", seed=3) for _ in range(2)]
    assert results[0].cases == results[1].cases
    assert results[0].worst_error == results[1].worst_error
