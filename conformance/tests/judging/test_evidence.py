"""Failures of mistakes that are not in the zoo follow from the clause whose quantity is wrong."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from torch import Tensor

from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.candidates import Declarations, candidate, compatible
from dreamer4_conformance.judging.causes import assign_causes, explained_by
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.judging.evidence import Retrial
from dreamer4_conformance.judging.repetition import gives_reported_value
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Result, Status
from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import MISTAKES


def combined(*names: str) -> Any:
    """An instance of the textbook with several mistakes."""
    return type("Combined", tuple(MISTAKES[name].adapter for name in names), {})("signal")


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

        def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
            return super().corrupt(z0, z1, 1 - tau)

    result = judge(Subject(NoiseLevels()), BY_ID["eq08.value"], minimal=False)
    assert any("level = 'noise'" in sentence for sentence in result.advice)


@pytest.mark.parametrize("level", ["signal", "noise"])
def test_no_other_level_is_advised_where_corruption_follows_the_declared_one(level: Literal["signal", "noise"]) -> None:
    result = judge(Subject(MISTAKES["ramp-inverted"].adapter(level)), BY_ID["eq08.value"], minimal=False)
    assert (result.behaves_like, result.advice) == (["ramp-inverted"], [])


def test_a_mistake_that_shows_at_other_inputs_only_does_not_give_the_reported_value() -> None:
    """At ordinary errors a clamp does not act: it does not explain the product of two means."""
    names = ("factors-averaged-apart", "bootstrap-error-clamped")
    subject, declared = Subject(combined(*names)), Declarations.from_subject(Subject(TextbookEquations()))
    clause = BY_ID["eq07.bootstrap-value"]
    for scale, expected in ((1.0, [True, False, True]), (256.0, [False, False, True])):
        draw = draw_inputs(
            subject, 3, (2, 3, 2, 2), np.tile([0.0, 0.25, 0.5], (2, 1)), np.full((2, 3), 0.25), scale=scale
        )
        got = subject.evaluate("dynamics_loss_at", AFFINE, draw).mean
        subject.failing = subject.invocation
        result = Result(clause.id, 7, "must", Status.FAIL, got=got, bound=1e-6)
        candidates = [candidate(group, declared) for group in (*((name,) for name in names), names)]
        assert [gives_reported_value(each, subject, result) for each in candidates] == expected


def test_two_mistakes_of_which_one_shows_in_another_operation_are_named_together() -> None:
    names = ("pmpo-kl-reversed", "pmpo-kl-joint-softmax")
    subject = Subject(combined(*names))
    results = [judge(subject, BY_ID[clause], minimal=False) for clause in ("eq11.kl-direction", "eq11.factored")]
    assert [set(result.behaves_like) for result in results] == [{names[0]}, set(names)]
    assert results[1].in_pairs


def test_a_factor_of_a_wrong_bootstrap_term_can_be_named_with_it() -> None:
    assert compatible("bootstrap-x-space", "loss-factor")


@pytest.mark.nightly
def test_a_factor_of_a_wrong_bootstrap_term_is_named_with_it() -> None:
    names = ("bootstrap-x-space", "loss-factor")
    result = judge(Subject(combined(*names)), BY_ID["eq07.absolute"], minimal=False)
    assert set(result.behaves_like) == set(names)


def test_names_come_from_the_operations_of_the_failing_check() -> None:
    [encoder] = [check for check in CHECKS.values() if check.name.startswith("check_latents_do_not_depend_on_how_many")]
    retrial = Retrial(BY_ID["net.prefix"], encoder, "ci", 0, judge)
    assert retrial.operations == ("encode", "example")
    assert {"decode", "dynamics"} <= {*retrial.related}


@pytest.mark.nightly
def test_a_fault_of_the_decoder_does_not_explain_one_of_the_encoder() -> None:
    subject = Subject(combined("clip-length-dependence", "decoder-counts-from-the-end"))
    result = judge(subject, BY_ID["net.prefix"], minimal=False)
    assert result.message.startswith("z of 2 frames alone")
    assert result.behaves_like == ["clip-length-dependence"]


@pytest.mark.nightly
def test_a_decoder_that_is_not_causal_is_named_alone_where_the_encoder_is_causal() -> None:
    subject = Subject(combined("clip-length-dependence", "decoder-not-causal"))
    results = [judge(subject, BY_ID[clause], minimal=False) for clause in ("net.prefix", "tok.causal")]
    assign_causes(results)
    assert "decoder-not-causal" in results[1].behaves_like
    assert "not-causal" not in results[1].behaves_like
    assert [result.follows_from for result in results] == [None, None]
