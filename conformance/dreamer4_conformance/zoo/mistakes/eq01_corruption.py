"""Mistakes in Eq. (1) and (6): corruption."""

from __future__ import annotations

from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

CORRUPTION = ("corrupt", "dynamics_loss", "dynamics_loss_at", "sample_frame")


@mistake("corrupt-inverted", clause="eq01.endpoints", operations=CORRUPTION)
class CorruptInverted(TextbookEquations):
    """Signal and noise levels are swapped: τ multiplies the noise."""

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return super().mix(z1, z0, tau)


@mistake("corrupt-variance-preserving", clause="eq01.interpolate", operations=CORRUPTION)
class CorruptVariancePreserving(TextbookEquations):
    """Variance-preserving mixture of diffusion models: √(1 − τ²) z0 + τ z1."""

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return (1 - tau**2).clamp(min=0).sqrt() * z0 + tau * z1


@mistake("corrupt-sigma-min", clause="eq01.endpoints", operations=CORRUPTION)
class CorruptSigmaMin(TextbookEquations):
    """5 % noise remains at τ = 1."""

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return (1 - 0.95 * tau) * z0 + tau * z1


@mistake("corrupt-warped", clause="eq01.swap", operations=CORRUPTION)
class CorruptWarped(TextbookEquations):
    """τ² is used in place of τ."""

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return super().mix(z0, z1, tau**2)


@mistake("corrupt-one-level", clause="eq06.per-timestep", operations=("corrupt",))
class CorruptOneLevel(TextbookEquations):
    """The level of the first timestep is used for the whole sequence."""

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return super().corrupt(z0, z1, tau[:, :1].expand_as(tau))


@mistake("corrupt-mean-level", clause="eq06.per-timestep", operations=("corrupt",))
class CorruptMeanLevel(TextbookEquations):
    """Each timestep is mixed at the average of its own level and the sequence's mean level."""

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return super().corrupt(z0, z1, (tau + tau.mean(1, keepdim=True)) / 2)
