"""Symexp two-hot in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """sign(x) (exp|x| − 1)."""
    return x.sign() * x.abs().expm1()


class TwoHot:
    """Symexp two-hot encoding of scalars. `follows` holds the option of every reading.

    bfloat16 is computed in float32.
    """

    device: str
    dtype: str
    follows: dict[str, str]
    bins: tuple[float, ...] | None
    num_bins = 255

    def twohot_bins(self) -> Tensor:
        """The bins in raw values."""
        return symexp(self.symlog_points())

    def symlog_points(self) -> Tensor:
        """Symlogs of the bins: evenly spaced and symmetric about 0, unless `bins` says otherwise."""
        compute = torch.promote_types(getattr(torch, self.dtype), torch.float32)
        if self.bins is not None:
            return symlog(torch.tensor(self.bins, dtype=torch.float64, device=self.device)).to(compute)
        half = torch.linspace(0, 20, self.num_bins // 2 + 1, dtype=torch.float64, device=self.device)
        return torch.cat([-half[1:].flip(0), half]).to(compute)

    def twohot_points(self) -> Tensor:
        """The bins in the space of A23."""
        return self.twohot_bins() if self.follows["A23"] == "raw" else self.symlog_points()

    def twohot_encode(self, x: Tensor) -> Tensor:
        """Linear weights on the two bins that enclose x."""
        points, inside = self.encoding_space(x.to(self.symlog_points().dtype))
        lower = (torch.searchsorted(points, inside, right=True) - 1).clamp(0, len(points) - 2)
        weight = self.upper_weight(points[lower], inside, points[lower + 1])
        p = torch.zeros(len(x), len(points), dtype=points.dtype, device=points.device)
        return p.scatter(1, lower[:, None], (1 - weight)[:, None]).scatter(1, lower[:, None] + 1, weight[:, None])

    def encoding_space(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The bins and x clipped to their range, in the space of A23."""
        points = self.twohot_points()
        return points, self.within_bins(x if self.follows["A23"] == "raw" else symlog(x), points)

    def within_bins(self, x: Tensor, points: Tensor) -> Tensor:
        """A value outside the bins goes to the edge bin."""
        return torch.minimum(torch.maximum(x, points[0]), points[-1])

    def upper_weight(self, below: Tensor, x: Tensor, above: Tensor) -> Tensor:
        """(x − b_k)/(b_{k+1} − b_k)."""
        return (x - below) / (above - below)

    def twohot_decode(self, logits: Tensor) -> Tensor:
        """Mean over the bins, or symexp of the mean of their symlogs (A23)."""
        points = self.twohot_points()
        mass = self.bin_probabilities(logits.to(points.dtype)) * points
        # Mirror images are added first: between 0 and 5e8 rounding would otherwise leave a mean far from 0.
        mean = ((mass + mass.flip(1)) / 2).sum(1)
        return mean if self.follows["A23"] == "raw" else symexp(mean)

    def bin_probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)
