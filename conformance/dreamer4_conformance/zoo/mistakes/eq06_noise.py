"""Mistakes in Eq. (6): the noise of the training loss."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

LOSS = ("dynamics_loss",)


@mistake("noise-uniform", clause="eq06.noise-law", operations=LOSS)
class NoiseUniform(TextbookEquations):
    """The noise is uniform with unit variance, not normal."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return (torch.rand_like(z1) - 0.5) * 12**0.5


@mistake("noise-shared", clause="eq06.noise-law", operations=LOSS)
class NoiseShared(TextbookEquations):
    """All timesteps of a sequence share one noise sample."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return torch.randn_like(z1[:, :1]).expand_as(z1)


@mistake("noise-frozen", clause="eq06.noise-law", operations=LOSS)
class NoiseFrozen(TextbookEquations):
    """The noise is the same in every training step."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return torch.randn(z1.shape, generator=torch.Generator().manual_seed(0)).to(z1)


@mistake("noise-shared-by-rows", clause="eq06.noise-law", operations=LOSS)
class NoiseSharedByRows(TextbookEquations):
    """The second half of a batch has the noise of the first half."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return torch.randn_like(z1[: -(-len(z1) // 2)]).repeat(2, 1, 1, 1)[: len(z1)]


@mistake("noise-periodic", clause="eq06.noise-law", operations=LOSS)
class NoisePeriodic(TextbookEquations):
    """Timesteps t and t + 2 have the same noise."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return torch.randn_like(z1[:, :2]).repeat(1, -(-z1.shape[1] // 2), 1, 1)[:, : z1.shape[1]]


@mistake("noise-clipped", clause="eq06.noise-law", operations=LOSS)
class NoiseClipped(TextbookEquations):
    """The noise is clipped to ±2.5."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return super().draw_noise(z1).clamp(-2.5, 2.5)


@mistake("noise-fixed-at-batch-one", clause="eq06.noise-law", operations=LOSS)
class NoiseFixedAtBatchOne(TextbookEquations):
    """A batch of one sequence always has the same noise."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        if len(z1) > 1:
            return super().draw_noise(z1)
        return torch.randn(z1.shape, generator=torch.Generator().manual_seed(0)).to(z1)


@mistake("noise-paired", clause="eq06.noise-independent", operations=LOSS)
class NoisePaired(TextbookEquations):
    """Each sequence gets the noise of the batch that is nearest to its data, each noise once."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        noise = super().draw_noise(z1)
        distance = torch.cdist(z1.flatten(1).double(), noise.flatten(1).double())
        nearest = torch.zeros(len(z1), dtype=torch.long)
        for _ in range(len(z1)):
            row, column = divmod(int(distance.argmin()), len(z1))
            nearest[row] = column
            distance[row], distance[:, column] = float("inf"), float("inf")
        return noise[nearest]


@mistake("noise-from-data", clause="eq06.noise-independent", operations=LOSS)
class NoiseFromData(TextbookEquations):
    """The noise is the data of the previous sequence of the batch."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        return z1.roll(1, dims=0) if len(z1) > 1 else super().draw_noise(z1)


@mistake("noise-scaled-by-data", clause="eq06.noise-independent", operations=LOSS)
class NoiseScaledByData(TextbookEquations):
    """The noise has the magnitude of the data that it corrupts, and a random sign."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        noise = super().draw_noise(z1)
        return 0.5**0.5 * (noise + z1.abs() * torch.sign(torch.randn_like(z1)))


@mistake("noise-by-level", clause="eq06.noise-independent", operations=LOSS)
class NoiseByLevel(TextbookEquations):
    """The noise is larger at higher signal levels."""

    def draw_noise_at(self, z1: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        return (1 + tau)[..., None, None] * self.draw_noise(z1)


@mistake("noise-by-step", clause="eq06.noise-independent", operations=LOSS)
class NoiseByStep(TextbookEquations):
    """Flow timesteps, at d_min, have smaller noise than those of the bootstrap term."""

    def draw_noise_at(self, z1: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        scale = torch.where(d > 1 / self.k_max, 1.0, 0.7)
        return scale[..., None, None] * self.draw_noise(z1)
