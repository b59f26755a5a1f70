"""RoPE in other layouts, on a subset of the channels, and in the opposite direction."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.adapter import TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


class Rotation(TorchAdapter):
    """RoPE alone, from `rotate`."""

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        return self.rotate(x, positions[:, None, None])

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, L, H, D), positions (L, 1, 1)."""
        raise NotImplementedError


@equivalent("rope-interleaved")
class Interleaved(Rotation):
    """Channels 2i and 2i + 1 form complex numbers, rotated by complex exponentials in float32."""

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        frequency = 10000.0 ** -(torch.arange(0, x.shape[-1], 2) / x.shape[-1])
        angle = positions * frequency
        numbers = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(numbers * torch.polar(torch.ones_like(angle), angle)).flatten(-2).to(x.dtype)


@equivalent("rope-partial")
class Partial(Rotation):
    """Another base, and only the first quarter of the channels is rotated."""

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        rotating, still = x[..., : x.shape[-1] // 4], x[..., x.shape[-1] // 4 :]
        exponent = torch.arange(0, rotating.shape[-1], 2).repeat(2) / rotating.shape[-1]
        angle = positions * 100.0**-exponent
        real, imaginary = rotating.chunk(2, -1)
        rotated = rotating * angle.cos().to(x.dtype) + torch.cat([-imaginary, real], -1) * angle.sin().to(x.dtype)
        return torch.cat([rotated, still], -1)


@equivalent("rope-backwards")
class Backwards(Rotation):
    """Negative angles at half speed, from a table of 1024 positions in the dtype of x."""

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        if positions.max() >= 1024:
            raise NotImplementedError("positions from 1024 on")
        half = x.shape[-1] // 2
        table = -torch.arange(1024)[:, None] * 10000.0 ** -(torch.arange(half) / half) / 2
        cos, sin = (component.to(x.dtype)[positions[:, 0]] for component in (table.cos(), table.sin()))
        real, imaginary = x.chunk(2, -1)
        return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], -1)
