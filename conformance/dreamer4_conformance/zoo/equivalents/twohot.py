"""Equivalent ways to compute symexp two-hot and its loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("twohot-kernel")
class Kernel(TorchAdapter):
    """41 bins between −10 and 10; weights by triangular functions of the distance; decoding by one matrix product."""

    def twohot_bins(self) -> Tensor:
        half = torch.linspace(0, 10, 21).expm1()
        return torch.cat([-half.flip(0)[:-1], half])

    def twohot_encode(self, x: Tensor) -> Tensor:
        bins = self.twohot_bins().to(torch.promote_types(x.dtype, torch.float32))
        inside = x.to(bins.dtype).clamp(bins[0], bins[-1])[:, None]
        width = bins.diff()
        rising = (inside - bins[:-1]) / width
        falling = 1 - rising
        unit = torch.ones_like(inside)
        return torch.minimum(torch.cat([unit, rising], 1), torch.cat([falling, unit], 1)).relu()

    def twohot_decode(self, logits: Tensor) -> Tensor:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return wide.softmax(-1) @ self.twohot_bins().to(wide.dtype)

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        target = self.twohot_encode(returns.detach())
        return torch.nn.functional.cross_entropy(logits.to(target.dtype), target)


@equivalent("twohot-symlog")
class Symlog(TorchAdapter):
    """Computed on symlog values (A23, declared): a fractional index rounded down and up, symexp of the mean."""

    readings = {"A23": "symlog"}  # noqa: RUF012
    last = 127

    def points(self, like: Tensor) -> Tensor:
        return torch.linspace(-20, 20, self.last + 1, dtype=torch.promote_types(like.dtype, torch.float32))

    def twohot_bins(self) -> Tensor:
        points = self.points(torch.zeros((), dtype=getattr(torch, self.dtype)))
        return points.sign() * points.abs().expm1()

    def twohot_encode(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        position = ((x.sign() * x.abs().log1p() + 20) * (self.last / 40)).clamp(0, self.last)
        below, above = position.floor(), position.ceil()
        p = torch.zeros(len(x), self.last + 1, dtype=x.dtype)
        p.scatter_add_(1, below.long()[:, None], (1 - (position - below))[:, None])
        return p.scatter_add_(1, above.long()[:, None], (position - below)[:, None])

    def twohot_decode(self, logits: Tensor) -> Tensor:
        points = self.points(logits)
        mean = (logits.to(points.dtype).softmax(1) * points).sum(1)
        return mean.sign() * (mean.abs().exp() - 1)

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        wide = logits.to(self.points(logits).dtype)
        target = self.twohot_encode(returns).detach()
        return (wide.logsumexp(1) - (target * wide).sum(1)).mean()


@equivalent("twohot-numpy")
class NumPy(Adapter):
    """NumPy; 255 bins; encoding by np.interp of the unit vectors, decoding by a quotient of sums."""

    def twohot_bins(self) -> np.ndarray:
        points = np.linspace(-20, 20, 255)
        return np.sign(points) * np.expm1(np.abs(points))

    def twohot_encode(self, x: np.ndarray) -> np.ndarray:
        bins = self.twohot_bins()
        return np.stack([np.interp(x, bins, unit) for unit in np.eye(len(bins))], axis=1).astype(x.dtype)

    def twohot_decode(self, logits: np.ndarray) -> np.ndarray:
        weight = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        return np.asarray((weight @ self.twohot_bins()) / weight.sum(1))

    def value_loss(self, logits: np.ndarray, returns: np.ndarray) -> float:
        log_sum = np.log(np.exp(logits).sum(1))
        return float((log_sum - (self.twohot_encode(returns) * logits).sum(1)).mean())
