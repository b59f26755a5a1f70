"""Other ways to call the network in the shortcut forcing loss: parts of the batch, in any order, without actions."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.zoo.base import TextbookEquations, TextbookLoss
from dreamer4_conformance.zoo.equivalents import equivalent


class _Timesteps(TextbookLoss):
    """The textbook's loss without its average, (B, T)."""

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        return loss


class _Parts(TextbookLoss):
    """The loss of parts of the batch, put together before the average; d per sequence (A3) by default."""

    with_actions = True

    def __init__(self, level: str = "signal", **readings: str) -> None:
        super().__init__(level, **({"A3": "sequence"} | readings))  # type: ignore[arg-type]

    def parts(self, d: Tensor) -> list[Tensor]:
        """Indices of the rows of each part: those above d_min, then those at d_min."""
        above = d[:, 0] > 1 / self.k_max
        return [above.nonzero().flatten(), (~above).nonzero().flatten()]

    def part_loss(self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor) -> Tensor:
        """(B, T) of one part: at d_min there is no teacher."""
        if (d > 1 / self.k_max).any():
            return _Timesteps(self.level, **self.readings).dynamics_loss_at(network, z1, z0, tau, d, actions)
        level = self.signal(tau)
        z1_hat = network(self.mix(z0, z1, level[..., None, None]), tau, d, actions)
        return self.weigh(self.flow_error(z1_hat, z1), level, torch.zeros_like(d, dtype=torch.bool))

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        def unconditional(z: Tensor, tau: Tensor, d: Tensor, _: Tensor | None = None) -> Tensor:
            return network(z, tau, d)

        loss = torch.zeros_like(tau)
        for rows in self.parts(d):
            if len(rows):
                inputs = (z1[rows], z0[rows], tau[rows], d[rows], actions[rows])
                timesteps = self.part_loss(network if self.with_actions else unconditional, *inputs)
                loss = loss.index_put((rows,), timesteps)
        return self.average(loss, d > 1 / self.k_max)


@equivalent("loss-split-unconditional")
class LossSplitUnconditional(_Parts):
    """Rows above d_min in three calls, rows at d_min in one, without actions."""

    with_actions = False


@equivalent("loss-split-permuted")
class LossSplitPermuted(_Parts):
    """Each part in a random order, without actions, in noise levels."""

    with_actions = False

    def __init__(self) -> None:
        super().__init__("noise")

    def parts(self, d: Tensor) -> list[Tensor]:
        return [rows[torch.randperm(len(rows))] for rows in reversed(super().parts(d))]


@equivalent("loss-split-three-calls")
class LossSplitThreeCalls(_Parts):
    """The teacher is called for the rows at d_min too, and its result is not used (A4)."""

    with_actions = False

    def part_loss(self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor) -> Tensor:
        return _Timesteps(self.level, **self.readings).dynamics_loss_at(network, z1, z0, tau, d, actions)


@equivalent("loss-split-unreduced")
class LossSplitUnreduced(_Parts):
    """A split loss that returns the loss of every timestep, without actions."""

    with_actions = False

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        return loss


@equivalent("loss-split-other-readings")
class LossSplitOtherReadings(_Parts):
    """A split loss without actions: a sum over (S, D), a mean per term, the weight on the flow term (A7, A8, A27)."""

    with_actions = False

    def __init__(self) -> None:
        super().__init__(A7="flow", A8="sum", A27="per_term")


@equivalent("loss-split-sum-norm")
class LossSplitSumNorm(_Parts):
    """A split loss with actions, a sum over (S, D) and a mean per term (A8, A27)."""

    def __init__(self) -> None:
        super().__init__(A8="sum", A27="per_term")


@equivalent("loss-chunks")
class LossChunks(_Parts):
    """Chunks of two rows, d per timestep, without actions."""

    with_actions = False

    def __init__(self) -> None:
        super().__init__(A3="timestep")

    def parts(self, d: Tensor) -> list[Tensor]:
        return [torch.arange(first, min(first + 2, len(d))) for first in range(0, len(d), 2)]


@equivalent("loss-row-by-row")
class LossRowByRow(LossChunks):
    """One row after another, the last one first, without actions, the loss of every timestep."""

    def parts(self, d: Tensor) -> list[Tensor]:
        return [torch.tensor([row]) for row in reversed(range(len(d)))]

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        return loss


@equivalent("loss-folded")
class LossFolded(TextbookLoss):
    """Code on vectors (B, T, S·D): the adapter folds S and D, and unfolds them before the network."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        tokens = z1.shape[2:]

        def folded(z: Tensor, tau: Tensor, d: Tensor, actions: Tensor) -> Tensor:
            return network(z.reshape(*z.shape[:2], *tokens), tau, d, actions).flatten(2).unsqueeze(2)

        z1, z0 = (z.flatten(2).unsqueeze(2) for z in (z1, z0))
        return super().dynamics_loss_at(folded, z1, z0, tau, d, actions)


@equivalent("loss-two-frames")
class LossTwoFrames(TextbookLoss):
    """Code for sequences of at least two frames, which says so."""

    min_time = 2

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        if z1.shape[1] < 2:
            raise ValueError("a sequence needs two frames")
        return super().dynamics_loss_at(network, z1, z0, tau, d, actions)


@equivalent("loss-strict")
class LossStrict(TextbookLoss):
    """Code that refuses data which is not finite or far outside the range of latents."""

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        if not (z1.abs() < 8).all():
            raise ValueError("latents need values in [−1, 1]")
        return super().dynamics_loss_at(network, z1, z0, tau, d, actions)


@equivalent("ramp-table")
class RampTable(TextbookEquations):
    """The ramp weight from a table with one row per level of the grid, which has none for clean data."""

    def ramp_weight(self, tau: Tensor) -> Tensor:
        table = self.loss_weight(torch.arange(self.k_max, device=tau.device) / self.k_max)
        return table.to(tau)[(self.signal(tau) * self.k_max).round().long()]
