"""A clause of Eq. (7) and (8) fails for its own requirement only: not for another clause's fault, not for a shape."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Network, TorchAdapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.row_assignment import assign_in_turn, assign_rows, surprise
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Profile, Trial
from dreamer4_conformance.runner import checks_of
from dreamer4_conformance.verdicts import Deviation, Inconclusive
from dreamer4_conformance.zoo.base import TextbookLoss
from dreamer4_conformance.zoo.equivalents import EQUIVALENTS
from dreamer4_conformance.zoo.mistakes import MISTAKES


def verdict(adapter: TorchAdapter, clause: str, seed: int = 0, profile: Profile = "ci") -> str:
    for check in checks_of(BY_ID[clause]):
        subject = Subject(adapter)
        if not check.missing(subject):
            try:
                check.function(subject, Trial(profile, seed, minimal=False))
            except (Deviation, Inconclusive) as reason:
                return "fail" if isinstance(reason, Deviation) else "inconclusive"
    return "pass"


class NoWeight(TextbookLoss):
    """w is missing, and there is no `ramp_weight` that says so."""

    ramp_weight = TorchAdapter.ramp_weight  # type: ignore[assignment]

    def loss_weight(self, tau: Tensor) -> Tensor:
        return torch.ones_like(tau)


class LowerRamp(NoWeight):
    """Another ramp, 0.5 at pure noise."""

    def loss_weight(self, tau: Tensor) -> Tensor:
        return 0.5 + 0.5 * tau


@pytest.mark.parametrize(("adapter", "clause"), [(NoWeight, "eq07.bootstrap-value"), (LowerRamp, "eq07.flow-value")])
def test_terms_are_judged_before_the_weight(adapter: type[TextbookLoss], clause: str) -> None:
    assert verdict(adapter(), clause) == "pass"


@pytest.mark.parametrize("adapter", [NoWeight, LowerRamp])
def test_another_weight_fails_the_weight(adapter: type[TextbookLoss]) -> None:
    assert verdict(adapter(), "eq08.applied") == "fail"


class EvenTime(TextbookLoss):
    """Needs an even number of frames."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        if z1.shape[1] % 2:
            raise ValueError("an even number of frames is needed")
        return super().dynamics_loss_at(network, z1, z0, tau, d, actions)


JUDGED = sorted(id for id in BY_ID if id.startswith(("eq07.", "eq08.applied", "eq06.x")))


@pytest.mark.parametrize("clause", JUDGED)
def test_a_shape_that_raises_fails_the_clause_of_shapes_alone(clause: str) -> None:
    assert verdict(EvenTime(), clause) == ("fail" if clause == "eq07.batch-shapes" else "pass")


@pytest.mark.parametrize("clause", ["eq07.flow-value", "eq07.consistent-labels", "eq08.applied"])
def test_a_clamped_error_fails_no_other_clause(clause: str) -> None:
    assert verdict(MISTAKES["bootstrap-error-clamped"].adapter("signal"), clause) == "pass"


def test_rows_are_assigned_by_the_noise_and_the_rest_by_elimination() -> None:
    generator = torch.Generator().manual_seed(0)
    z1, z0 = (torch.randn(4, 2, 3, 4, generator=generator).numpy().astype(float) for _ in range(2))
    tau = torch.tensor([[0.0, 0.0], [0.5, 0.75], [0.5, 0.5], [0.75, 0.5]]).numpy().astype(float)
    level = tau[..., None, None]
    order = [2, 0, 3, 1]
    z = ((1 - level) * z0 + level * 8 * z1)[order]
    assignment = assign_rows(surprise(z, tau[order], 8 * z1), z1)
    assert assignment.rows.tolist() == order
    assert assignment.certain.all()


@pytest.mark.parametrize(("clause", "expected"), [("eq04.granularity", "fail"), ("eq06.iid-levels", "inconclusive")])
def test_one_level_per_sequence_is_judged_by_its_granularity(clause: str, expected: str) -> None:
    assert verdict(MISTAKES["levels-per-sequence"].adapter("signal"), clause) == expected


def test_a_teacher_without_actions_is_no_other_weight() -> None:
    assert verdict(MISTAKES["teacher-no-actions"].adapter("signal"), "eq08.applied") == "inconclusive"


class WrongStateWithoutActions(MISTAKES["renoise-prediction"].adapter):  # type: ignore[name-defined,misc]
    """The second teacher input is wrong, its labels are right, and no actions say which row a call belongs to."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        def unconditional(z: Tensor, tau: Tensor, d: Tensor, _: Tensor | None) -> Tensor:
            return network(z, tau, d, None)

        return super().dynamics_loss_at(unconditional, z1, z0, tau, d, actions)  # type: ignore[no-any-return]


def test_a_wrong_state_does_not_make_right_labels_fail() -> None:
    adapter = WrongStateWithoutActions()
    assert verdict(adapter, "eq07.teacher-labels") == "pass"
    assert verdict(adapter, "eq07.teacher-state") == "fail"


def test_a_rare_step_may_be_missing_from_the_smallest_batches() -> None:
    rare = MISTAKES["steps-inverse"].adapter("signal")
    assert {verdict(rare, "eq04.step-support", seed) for seed in range(6)} == {"pass"}


def test_noise_is_judged_where_the_smallest_batches_draw_high_levels_only() -> None:
    adapter = MISTAKES["levels-by-horizon"].adapter("signal")
    adapter.min_time = 2
    assert verdict(adapter, "eq06.noise-law") == "pass"


class ShiftedLabels(TextbookLoss):
    """The student's labels are 0.05 too high up to τ = 0.45, and 0.1 too low above 1/2."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        def mislabelled(z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None) -> Tensor:
            return network(z, tau + 0.05 * (tau <= 0.45) - 0.1 * (tau > 0.5), d, actions)

        return super().dynamics_loss_at(mislabelled, z1, z0, tau, d, actions)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("clause", "expected"),
    [("eq07.student-label", "fail"), ("eq06.noise-law", "inconclusive"), ("eq06.noise-independent", "inconclusive")],
)
def test_noise_is_not_judged_where_labels_are_wrong(clause: str, expected: str) -> None:
    assert verdict(ShiftedLabels(), clause) == expected


@pytest.mark.parametrize("clause", ["eq06.noise-law", "eq07.teacher-labels", "eq07.consistent-labels", "eq07.absolute"])
@pytest.mark.parametrize("name", ["loss-detached-unconditional", "loss-detached-binary-actions"])
def test_teacher_calls_are_recognised_without_gradients(name: str, clause: str) -> None:
    assert verdict(EQUIVALENTS[name].adapter_factory(), clause) == "pass"


@pytest.mark.parametrize("seed", range(20))
def test_as_many_students_as_possible_have_a_row_of_their_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    students, rows = rng.integers(1, 5, 2).tolist()
    allowed = rng.random((students, rows)) < 0.4
    assigned = assign_in_turn([np.where(allowed, rng.random(allowed.shape), np.inf)])
    orders = permutations(range(-students, rows), students)  # a negative row stands for none
    most = max(sum(row >= 0 and allowed[student, row] for student, row in enumerate(order)) for order in orders)
    pairs = [(student, row) for student, row in enumerate(assigned.tolist()) if row >= 0]
    assert all(allowed[pair] for pair in pairs)
    assert len({row for _, row in pairs}) == len(pairs) == most
