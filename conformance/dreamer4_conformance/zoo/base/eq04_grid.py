"""Eq. (1), (4) and (8) in plain PyTorch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


class Schedule:
    """Corruption, distribution of (τ, d) and ramp weight. `follows` holds the option of every reading."""

    level: Literal["signal", "noise"]
    k_max: int
    device: str
    d_min_share: float | None = 0.75
    follows: dict[str, str]

    def signal(self, tau: Tensor) -> Tensor:
        """Converts between the adapter's level and the signal level."""
        return 1 - tau if self.level == "noise" else tau

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return self.mix(z0, z1, self.signal(tau)[..., None, None])

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        """(1 − τ) z0 + τ z1."""
        return (1 - tau) * z0 + tau * z1

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Tensor, Tensor]:
        """Draws by Eq. (4) from a generator seeded with `seed`."""
        generator = self.generator(seed)
        d = 0.5 ** self.draw_exponent(generator, batch, time if self.follows["A3"] == "timestep" else 1)
        tau = self.draw_level(generator, d.expand(batch, time))
        return self.signal(tau), d if self.follows["A3"] == "timestep" else d[:, 0]

    def generator(self, seed: int) -> torch.Generator:
        """Generator of the draws."""
        return torch.Generator(self.device).manual_seed(seed)

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        """e of d = 2^−e, (B, T): uniform, or under A2 the first rows at d_min and the rest uniform above it."""
        finest = self.k_max.bit_length() - 1
        if self.follows["A2"] == "uniform":
            return self.draw_integer(generator, torch.full((batch, time), finest + 1.0))
        exponent = self.draw_integer(generator, torch.full((batch, time), float(max(finest, 1))))
        exponent[: round(batch * (self.d_min_share or 0.0))] = finest
        return exponent

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        """τ, uniform over the multiples of d below 1."""
        return self.draw_integer(generator, 1 / d) * d

    def draw_integer(self, generator: torch.Generator, below: Tensor) -> Tensor:
        """Integer in [0, below) for every element, as a float; a product in float64 cannot reach `below`."""
        share = torch.rand(below.shape, generator=generator, dtype=torch.float64, device=self.device)
        return (share * below.to(self.device)).floor().float()

    def ramp_weight(self, tau: Tensor) -> Tensor:
        return 0.9 * self.signal(tau) + 0.1
