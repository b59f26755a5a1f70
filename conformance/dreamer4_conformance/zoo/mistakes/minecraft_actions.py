"""Mistakes in Minecraft's actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import Textbook, TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
MOUSE = ("mouse_class",)


@mistake("mouse-linear", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseLinear(TextbookModel):
    """The bins are evenly spaced, without the μ-law."""

    def companded(self, x: Tensor) -> Tensor:
        return x


@mistake("mouse-square-root", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseSquareRoot(TextbookModel):
    """A square root replaces the μ-law."""

    def companded(self, x: Tensor) -> Tensor:
        return x.sign() * x.abs().sqrt()


@mistake("mouse-expanded", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseExpanded(TextbookModel):
    """The inverse of the μ-law: bins are narrowest for large movements."""

    def companded(self, x: Tensor) -> Tensor:
        return x.sign() * torch.expm1(x.abs() * math.log1p(self.mouse_mu)) / self.mouse_mu


@mistake("mouse-unsigned", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseUnsigned(TextbookModel):
    """Opposite movements have the same class."""

    def companded(self, x: Tensor) -> Tensor:
        return super().companded(x.abs())


@mistake("mouse-one-sided", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseOneSided(TextbookModel):
    """The bins cover positive movements only; negative ones are clipped to 0."""

    def mouse_bin(self, y: Tensor) -> Tensor:
        return ((self.mouse_bins - 1) * y.clamp(min=0)).round().long()


@mistake("mouse-truncated", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseTruncated(TextbookModel):
    """Bins are found by rounding down: 0 lies at the edge of a bin, and the last bin is never used."""

    def mouse_bin(self, y: Tensor) -> Tensor:
        half = self.mouse_bins // 2
        return (half * y).floor().long() + half


@mistake("mouse-nine-bins", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseNineBins(TextbookModel):
    """Nine bins per axis instead of 11."""

    mouse_bins = 9


@mistake("mouse-not-clipped", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseNotClipped(TextbookModel):
    """Movements beyond the limit are not clipped and get classes beyond the last."""

    def mouse_class(self, movement: Tensor) -> Tensor:
        bins = self.mouse_bin(self.companded(movement.to(self.compute) / self.mouse_limit))
        return self.mouse_bins * bins[:, 0] + bins[:, 1]


@mistake("mouse-axes-added", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseAxesAdded(TextbookModel):
    """11 + 11 classes instead of 11 × 11."""

    def mouse_class(self, movement: Tensor) -> Tensor:
        y = self.companded((movement.to(self.compute) / self.mouse_limit).clamp(-1, 1))
        bins, still = self.mouse_bin(y), self.mouse_bins // 2
        return torch.where(bins[:, 1] == still, bins[:, 0], self.mouse_bins + bins[:, 1])


@mistake("mouse-stride-ten", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseStrideTen(TextbookModel):
    """class = 10 · bin + bin: some pairs of bins share a class."""

    def mouse_class(self, movement: Tensor) -> Tensor:
        y = self.companded((movement.to(self.compute) / self.mouse_limit).clamp(-1, 1))
        bins = self.mouse_bin(y)
        return 10 * bins[:, 0] + bins[:, 1]


@mistake("mouse-by-length", clause="data.actions", operations=MOUSE, levels=SIGNAL)
class MouseByLength(TextbookModel):
    """The μ-law is applied to the length of the movement instead of to each axis."""

    def mouse_class(self, movement: Tensor) -> Tensor:
        x = (movement.to(self.compute) / self.mouse_limit).clamp(-1, 1)
        length = x.norm(dim=1, keepdim=True)
        bins = self.mouse_bin(x / length.clamp(min=1e-9) * self.companded(length.clamp(max=1)))
        return self.mouse_bins * bins[:, 0] + bins[:, 1]


@mistake("actions-twenty-binaries", clause="data.actions", operations=("constants",), levels=SIGNAL)
class TwentyBinaries(Textbook):
    """20 binary actions: some of the hotbar keys are missing."""

    def constants(self) -> dict[str, float]:
        return {**super().constants(), "binary_actions": 20}
