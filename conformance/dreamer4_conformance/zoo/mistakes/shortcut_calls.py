"""Mistakes in what the network receives in the shortcut forcing loss: clipped states, actions of other rows."""

from __future__ import annotations

from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.base.eq06_07_shortcut_forcing import Network
from dreamer4_conformance.zoo.mistakes import mistake

LOSSES = ("dynamics_loss", "dynamics_loss_at")


@mistake("state-clipped", clause="eq07.teacher-state", operations=LOSSES)
class StateClipped(TextbookEquations):
    """The second teacher input is clipped to ±4."""

    limit = 4.0

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        return super().second_input(z, z0, z1, tau, half, b_prime).clamp(-self.limit, self.limit)


@mistake("state-clipped-widely", clause="eq07.teacher-state", operations=LOSSES)
class StateClippedWidely(StateClipped):
    """The second teacher input is clipped to ±100, a range that ordinary latents never leave."""

    limit = 100.0


@mistake("teacher-prediction-clipped", clause="eq07.teacher-state", operations=LOSSES)
class TeacherPredictionClipped(TextbookEquations):
    """The teacher's predictions are clipped to ±1, the range of latents, before the velocities are computed."""

    def target(
        self, network: Network, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        def clipped(*inputs: Tensor) -> Tensor:
            return network(*inputs).clamp(-1, 1)

        return super().target(clipped, z, z0, z1, tau, d, actions)


@mistake("teacher-actions-of-next-row", clause="eq07.actions", operations=LOSSES)
class TeacherActionsOfNextRow(TextbookEquations):
    """The teacher receives the actions of another row of the batch."""

    def teacher_actions(self, actions: Tensor) -> Tensor | None:
        return actions.roll(1, 0)


@mistake("second-teacher-actions-of-next-row", clause="eq07.actions", operations=LOSSES)
class SecondTeacherActionsOfNextRow(TextbookEquations):
    """The second teacher call receives the actions of another row of the batch."""

    def second_actions(self, actions: Tensor | None) -> Tensor | None:
        return None if actions is None else actions.roll(1, 0)


@mistake("student-state-clipped", clause="eq07.student-label", operations=("dynamics_loss_at",))
class StudentStateClipped(TextbookEquations):
    """The corrupted data is clipped to ±4 before the student receives it."""

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return super().mix(z0, z1, tau).clamp(-4, 4)
