"""Eq. (1), (4) and (8) in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


class Schedule:
    """Corruption, the law of (τ, d), and the ramp weight. `follows` holds the option of every reading."""

    level: str
    k_max: int
    device: str
    d_min_share: float | None = None
    follows: dict[str, str]

    def signal(self, tau: Tensor) -> Tensor:
        """Own level to signal level, or back."""
        return 1 - tau if self.level == "noise" else tau

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        """Eq. (1), (6)."""
        return self.mix(z0, z1, self.signal(tau)[..., None, None])

    def mix(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        """(1 − τ) z0 + τ z1."""
        return (1 - tau) * z0 + tau * z1

    def ramp_weight(self, tau: Tensor) -> Tensor:
        """Eq. (8)."""
        return 0.9 * self.signal(tau) + 0.1
