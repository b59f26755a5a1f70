"""Other ways to draw τ and d by Eq. (4)."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, Network, TorchAdapter
from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("schedule-log2-index")
class ScheduleLog2Index(TorchAdapter):
    """d as the index of a power of two and τ as an index of the finest grid, from the global random state."""

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        finest = self.k_max.bit_length() - 1
        index = torch.randint(finest + 1, (batch, time))
        level = torch.randint(self.k_max, (batch, time)) >> index << index
        return level / self.k_max, (1 << index) / self.k_max


@equivalent("schedule-integer-steps")
class ScheduleIntegerSteps(TorchAdapter):
    """1/d as an integer drawn from a table, in noise levels, whose grid is {d, …, 1}."""

    level = "noise"

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        table = torch.tensor([2**power for power in range(self.k_max.bit_length())])
        steps = table[torch.randint(len(table), (batch, time))]
        ahead = 1 + (torch.rand(batch, time, dtype=torch.float64) * steps).long()
        return ahead.float() / steps, steps.float().reciprocal()


@equivalent("schedule-per-sequence")
class SchedulePerSequence(TorchAdapter):
    """d for each sequence (A3), returned as (B,); τ for each timestep; from Python's random state."""

    readings = {"A3": "sequence"}  # noqa: RUF012

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        steps = [2 ** random.randrange(self.k_max.bit_length()) for _ in range(batch)]
        tau = [[random.randrange(count) / count for _ in range(time)] for count in steps]
        return torch.tensor(tau), 1 / torch.tensor(steps, dtype=torch.float32)


@equivalent("schedule-split-fixed")
class ScheduleSplitFixed(TorchAdapter):
    """The first three quarters of the batch at d_min; d per sequence above it (A2, A3)."""

    readings = {"A2": "split", "A3": "sequence"}  # noqa: RUF012
    d_min_share = 0.75
    min_batch = 4

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        finest = self.k_max.bit_length() - 1
        exponent = torch.full((batch, 1), finest)
        above = batch - batch * 3 // 4
        exponent[batch - above :] = torch.randint(max(finest, 1), (above, 1)) if finest else 0
        steps = 2.0**exponent
        return (torch.rand(batch, time, dtype=torch.float64) * steps).floor().float() / steps, 1 / steps[:, 0]


@equivalent("schedule-split-drawn")
class ScheduleSplitDrawn(TorchAdapter):
    """Each sequence is at d_min with probability 1/2; above it d per timestep (A2)."""

    readings = {"A2": "split"}  # noqa: RUF012
    d_min_share = 0.5

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        finest = self.k_max.bit_length() - 1
        exponent = torch.randint(max(finest, 1), (batch, time))
        steps = torch.where(torch.rand(batch, 1) < 0.5, self.k_max, 2**exponent)
        return (torch.rand(batch, time) * steps).floor() / steps, 1 / steps


@equivalent("schedule-batch-coin")
class ScheduleBatchCoin(TorchAdapter):
    """One random decision per batch between d_min and larger steps; all sizes are equally likely for a row (A3)."""

    readings = {"A3": "sequence"}  # noqa: RUF012

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        finest = self.k_max.bit_length() - 1
        above = torch.rand(()) * (finest + 1) >= 1
        steps = 2 ** (torch.randint(max(finest, 1), (batch,)) if above else torch.full((batch,), finest))
        return torch.floor(torch.rand(batch, time) * steps[:, None]) / steps[:, None], 1 / steps


@equivalent("schedule-batch-split")
class ScheduleBatchSplit(TorchAdapter):
    """Half of the batches are entirely at d_min; the rest draws larger steps for each timestep (A2)."""

    readings = {"A2": "split"}  # noqa: RUF012
    d_min_share = 0.5

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        finest = self.k_max.bit_length() - 1
        exponent = torch.randint(max(finest, 1), (batch, time)) if torch.rand(()) < 0.5 else torch.tensor(finest)
        steps = torch.broadcast_to(2.0**exponent, (batch, time))
        return torch.floor(torch.rand(batch, time) * steps) / steps, 1 / steps


@equivalent("schedule-split-timesteps")
class ScheduleSplitTimesteps(TorchAdapter):
    """Each timestep is at d_min with probability 0.6, and has a uniform larger step otherwise (A2)."""

    readings = {"A2": "split"}  # noqa: RUF012
    d_min_share = 0.6

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        finest = self.k_max.bit_length() - 1
        larger = torch.randint(max(finest, 1), (batch, time))
        steps = 2.0 ** torch.where(torch.rand(batch, time) < 0.6, finest, larger)
        return (torch.rand(batch, time, dtype=torch.float64) * steps).floor().float() / steps, 1 / steps


@equivalent("schedule-low-label")
class ScheduleLowLabel(TorchAdapter):
    """d per sequence (A3) and τ per timestep, from NumPy; pure noise is labelled 0.001 and embedded as level 0."""

    readings = {"A3": "sequence"}  # noqa: RUF012

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        steps = 2 ** rng.integers(self.k_max.bit_length(), size=(batch, 1))
        tau = np.maximum(rng.integers(0, steps, (batch, time)) / steps, 0.001)
        return torch.from_numpy(tau).float(), torch.from_numpy(1.0 / steps[:, 0]).float()


@equivalent("schedule-balanced")
class ScheduleBalanced(TorchAdapter):
    """Step sizes in equal numbers, shuffled; levels by masking the low bits of a uniform integer."""

    min_batch = 7  # a smaller batch has no room for all sizes at K_max = 64

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(batch * time, generator=generator).reshape(batch, time)
        finest = self.k_max.bit_length() - 1
        exponent = order % (finest + 1)
        level = torch.randint(self.k_max, (batch, time), generator=generator) >> (finest - exponent)
        d = torch.ldexp(torch.ones(batch, time), -exponent)
        return level * d, d


@equivalent("schedule-numpy")
class ScheduleNumpy(Adapter):
    """NumPy, from a generator made from the seed, in float64."""

    dtype = "float64"

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        d = rng.choice(0.5 ** np.arange(self.k_max.bit_length()), (batch, time))
        return np.floor(rng.random((batch, time)) / d) * d, d


@equivalent("schedule-inside-the-loss")
class ScheduleInsideTheLoss(TorchAdapter):
    """Only the loss that draws everything inside is provided."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        return TextbookEquations().dynamics_loss(network, z1, actions, seed)
