"""Mistakes of the shortcut forcing loss in the use of the batch: data that is left out, shapes that do not work."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.base.eq06_07_shortcut_forcing import Network
from dreamer4_conformance.zoo.mistakes import mistake

LOSSES = ("dynamics_loss", "dynamics_loss_at")


@mistake("rows-dropped", clause="eq07.every-row", operations=("dynamics_loss",))
class RowsDropped(TextbookEquations):
    """The last eighth of the rows of a batch is replaced by its first rows, and never enters the loss."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        rows = torch.arange(len(z1))
        rows[len(z1) - len(z1) // 8 :] = rows[: len(z1) // 8]
        return super().dynamics_loss(network, z1[rows], actions[rows], seed)


@mistake("rows-resampled", clause="eq07.every-row", operations=("dynamics_loss",))
class RowsResampled(TextbookEquations):
    """The rows of a batch are drawn with replacement: some enter the loss twice, others never."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        rows = torch.randint(len(z1), (len(z1),))
        return super().dynamics_loss(network, z1[rows], actions[rows], seed)


@mistake("rows-repeated", clause="eq07.every-row", operations=("dynamics_loss",))
class RowsRepeated(TextbookEquations):
    """A batch is filled up to a multiple of five with its first rows, which count twice."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        rows = torch.cat([torch.arange(len(z1)), torch.arange(-len(z1) % 5) % len(z1)])
        return super().dynamics_loss(network, z1[rows], actions[rows], seed)


@mistake("last-timestep-dropped", clause="eq07.every-row", operations=LOSSES)
class LastTimestepDropped(TextbookEquations):
    """The last timestep of a sequence has no loss."""

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        used = max(1, loss.shape[1] - 1)
        return super().average(loss[:, :used], bootstrap[:, :used])


@mistake("first-timestep-dropped", clause="eq07.every-row", operations=LOSSES)
class FirstTimestepDropped(TextbookEquations):
    """The first timestep of a sequence has no loss, as if it were context."""

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        first = min(1, loss.shape[1] - 1)
        return super().average(loss[:, first:], bootstrap[:, first:])


@mistake("two-frames-needed", clause="eq07.batch-shapes", operations=LOSSES)
class TwoFramesNeeded(TextbookEquations):
    """A sequence of one frame raises."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        if z1.shape[1] == 1:
            raise ValueError("a sequence needs two frames")
        return super().dynamics_loss_at(network, z1, z0, tau, d, actions)


@mistake("batch-of-one-squeezed", clause="eq07.batch-shapes", operations=LOSSES)
class BatchOfOneSqueezed(TextbookEquations):
    """Axes of size 1 are squeezed from the weights, so that a single sequence is weighted by its first level."""

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        weight = self.loss_weight(tau).squeeze()
        return error * (weight.flatten()[0] if weight.dim() < 2 else weight)
