"""Other ways to write Eq. (1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("corrupt-lerp")
class CorruptLerp(TorchAdapter):
    """torch.lerp from noise to data."""

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return torch.lerp(z0, z1, tau[:, :, None, None])


@equivalent("corrupt-fused")
class CorruptFused(TorchAdapter):
    """z0 + τ v with the velocity v = z1 − z0, in one fused operation."""

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        return torch.addcmul(z0, tau[:, :, None, None], z1 - z0)


@equivalent("corrupt-noise-level")
class CorruptNoiseLevel(TorchAdapter):
    """Noise levels: z1 + σ (z0 − z1), computed in float64."""

    level = "noise"

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        sigma, noise, data = tau.double()[:, :, None, None], z0.double(), z1.double()
        return (data + sigma * (noise - data)).to(z1)


@equivalent("corrupt-in-place-bfloat16")
class CorruptInPlace(TorchAdapter):
    """In place, on the input tensors, in bfloat16."""

    dtype = "bfloat16"

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        tau = tau[:, :, None, None]
        return z0.mul_(1 - tau).add_(z1.mul_(tau))


@equivalent("corrupt-numpy")
class CorruptNumpy(Adapter):
    """NumPy, frame by frame."""

    def corrupt(self, z0: np.ndarray, z1: np.ndarray, tau: np.ndarray) -> np.ndarray:
        z = np.empty_like(z0)
        for row, t in np.ndindex(tau.shape):
            z[row, t] = (1 - tau[row, t]) * z0[row, t] + tau[row, t] * z1[row, t]
        return z


@equivalent("corrupt-table")
class CorruptTable(TorchAdapter):
    """Coefficients from a table of the K_max levels of the grid, which has no row for clean data."""

    def corrupt(self, z0: Tensor, z1: Tensor, tau: Tensor) -> Tensor:
        index = (tau * self.k_max).round().long()
        if bool((index >= self.k_max).any()):
            raise IndexError("the levels are 0 to K_max - 1")
        signal = (torch.arange(self.k_max) / self.k_max).to(z1)[index][:, :, None, None]
        return signal * z1 + (1 - signal) * z0
