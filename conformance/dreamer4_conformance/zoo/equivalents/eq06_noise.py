"""Other ways to draw the noise of Eq. (6)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Network
from dreamer4_conformance.zoo.base import TextbookLoss
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("noise-numpy")
class NoiseNumpy(TextbookLoss):
    """From NumPy's generator in float64, rounded to the dtype of the data."""

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        self._rng = np.random.default_rng(seed)
        return super().dynamics_loss(network, z1, actions, seed)

    def draw_noise(self, z1: Tensor) -> Tensor:
        return torch.from_numpy(self._rng.standard_normal(tuple(z1.shape))).to(z1)


@equivalent("noise-by-frame")
class NoiseByFrame(TextbookLoss):
    """Frame by frame and last row first, from the inverse of the normal distribution function."""

    def draw_noise(self, z1: Tensor) -> Tensor:
        noise = torch.empty_like(z1)
        for row in reversed(range(len(z1))):
            for t in range(z1.shape[1]):
                uniform = torch.rand(z1.shape[2:], dtype=torch.float64).clamp(min=1e-12)
                noise[row, t] = torch.special.ndtri(uniform).to(z1)
        return noise
