"""Where each shape and each call takes long, as in JAX, checks repeat shapes and miss nothing."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from dreamer4_conformance.checks.eq06_noise import signature_moments_of_the_noise
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.isolation.worker import may_use_torch
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status
from dreamer4_conformance.zoo.base import TextbookLoss
from dreamer4_conformance.zoo.equivalents import EQUIVALENTS
from dreamer4_conformance.zoo.mistakes import MISTAKES

HIDDEN = frozenset({"dynamics_loss_at", "sample_tau_d"})


class Counting(TextbookLoss):
    """Counts evaluations of the loss that draws its levels, and gradients."""

    few_shapes = True

    def __init__(self) -> None:
        super().__init__()
        self.evaluated = self.differentiated = 0

    def dynamics_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.evaluated += 1
        return super().dynamics_loss(*args, **kwargs)

    def output_gradients(self, loss: Any) -> Any:
        self.differentiated += 1
        return super().output_gradients(loss)


def passes(subject: Subject, clause: str) -> bool:
    return judge(subject, BY_ID[clause]).status is Status.PASS


def test_influence_of_the_data_needs_no_gradients() -> None:
    adapter = Counting()
    assert passes(Subject(adapter, hidden=HIDDEN), "eq07.every-row")
    assert adapter.evaluated >= 2 * adapter.differentiated


def test_loss_of_two_terms_passes_with_few_shapes() -> None:
    adapter = type("Few", (EQUIVALENTS["loss-two-terms"].adapter_factory,), {"few_shapes": True})()  # type: ignore[arg-type]
    assert passes(Subject(adapter), "eq04.step-support")


@pytest.mark.usefixtures("without_diagnosis")
@pytest.mark.parametrize("name", ["student-label-shifted", "small-batch-one-step"])
def test_mistake_is_rejected_with_few_shapes(name: str) -> None:
    mistake = MISTAKES[name]
    few = type("Few", (mistake.adapter,), {"few_shapes": True})("signal")
    assert judge(Subject(few, hidden=HIDDEN), BY_ID[mistake.clause], minimal=False).status is Status.FAIL


@pytest.mark.parametrize(
    ("code", "expected"), [("from jax import numpy", False), ("import jax, torch", True), ("import numpy", True)]
)
def test_torch_is_not_imported_for_a_file_that_uses_jax_alone(code: str, expected: bool, tmp_path: Any) -> None:
    (tmp_path / "mine.py").write_text(code)
    assert may_use_torch(f"{tmp_path / 'mine.py'}:Mine") is expected


def test_noise_at_levels_that_are_never_drawn_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signature_moments_of_the_noise(Subject(MISTAKES["grid-wrong-end"].adapter("signal")))
