"""Failures of mistakes that are not in the zoo follow from the clause whose quantity is wrong."""

from __future__ import annotations

import pytest
from torch import Tensor

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.causes import assign_causes, explained_by
from dreamer4_conformance.runner import judge
from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import MISTAKES


class SecondStateTooFar(TextbookEquations):
    """z' is a whole step ahead."""

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        return z + 2 * b_prime * half[..., None, None]


class SquareWeight(TextbookEquations):
    """w grows with τ²."""

    def loss_weight(self, tau: Tensor) -> Tensor:
        return tau**2 + 0.1

    def ramp_weight(self, tau: Tensor) -> Tensor:
        return self.loss_weight(self.signal(tau))


class UnequalVelocities(TextbookEquations):
    """b'' counts more than b'."""

    def mean_velocity(self, b_prime: Tensor, b_double_prime: Tensor) -> Tensor:
        return 0.4 * b_prime + 0.6 * b_double_prime


CLAUSES = ("eq07.teacher-state", "eq07.bootstrap-value", "eq07.absolute", "eq07.gradient", "eq08.value", "eq08.applied")


@pytest.mark.parametrize(
    ("adapter", "cause"),
    [
        (SecondStateTooFar, "eq07.teacher-state"),
        pytest.param(SquareWeight, "eq08.value", marks=pytest.mark.nightly),
        pytest.param(UnequalVelocities, "eq07.bootstrap-value", marks=pytest.mark.nightly),
    ],
)
def test_failures_of_an_unknown_mistake_follow_from_its_clause(adapter: type[TextbookEquations], cause: str) -> None:
    subject = Subject(adapter())
    results = [judge(subject, BY_ID[clause], minimal=False) for clause in CLAUSES]
    assign_causes(results)
    blocks = explained_by(results)
    assert list(blocks) == [cause]
    assert {"eq07.absolute", "eq07.gradient"} <= set(blocks[cause])
    assert not any(result.behaves_like for result in results), "no mistake of the zoo reproduces it"


@pytest.mark.nightly
def test_the_smallest_length_is_advised_where_a_shorter_sequence_raises() -> None:
    subject = Subject(MISTAKES["two-frames-needed"].adapter("signal"))
    result = judge(subject, BY_ID["eq07.batch-shapes"], minimal=False)
    assert result.behaves_like == ["two-frames-needed"]
    assert "`min_time = 2`" in result.advice[0]


def test_a_plain_factor_of_the_loss_is_named() -> None:
    class SummedOverTimesteps(TextbookEquations):
        """The loss is summed over batch and time."""

        def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
            return loss.sum()

    subject = Subject(SummedOverTimesteps())
    results = [judge(subject, BY_ID[clause], minimal=False) for clause in ("eq07.absolute", "eq07.gradient")]
    assert [result.behaves_like for result in results] == [["the loss times B·T"]] * 2


def test_a_noise_level_is_advised() -> None:
    class NoiseLevels(TextbookEquations):
        """Code in noise levels that does not say so."""

        def ramp_weight(self, tau: Tensor) -> Tensor:
            return 1 - 0.9 * tau

    result = judge(Subject(NoiseLevels()), BY_ID["eq08.value"], minimal=False)
    assert any("level = 'noise'" in sentence for sentence in result.advice)


def test_an_undeclared_reading_is_advised() -> None:
    subject = Subject(TextbookEquations(A13="v_same"))
    subject.readings = {**subject.readings, "A13": "v_next"}
    result = judge(subject, BY_ID["eq10.value"], minimal=False)
    assert any('readings = {"A13": "v_same"}' in sentence for sentence in result.advice)
