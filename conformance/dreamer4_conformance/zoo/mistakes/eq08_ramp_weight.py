"""Mistakes in Eq. (8): the ramp weight."""

from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake


@mistake("ramp-inverted", clause="eq08.value", operations=("ramp_weight", "dynamics_loss", "dynamics_loss_at"))
class RampInverted(TextbookEquations):
    """The ramp is applied to the noise level, w = 0.9 σ + 0.1: the largest weight on pure noise."""

    def ramp_weight(self, tau: Tensor) -> Tensor:
        return self.loss_weight(self.signal(tau))

    def loss_weight(self, tau: Tensor) -> Tensor:
        return 0.9 * (1 - tau) + 0.1
