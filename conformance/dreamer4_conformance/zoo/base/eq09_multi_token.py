"""Eq. (9) in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


class MultiToken:
    """Targets and loss of multi-token prediction. `follows` holds the option of every reading."""

    follows: dict[str, str]

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """x_{t+n} and whether t + n lies inside the sequence; past the end the last target is repeated."""
        time = x.shape[1]
        index = torch.arange(time, device=x.device)[:, None] + self.distances(length).to(x.device)
        return x[:, self.target_index(index, time)], self.target_exists(index, time).expand(len(x), -1, -1)

    def distances(self, length: int) -> Tensor:
        """n, as A17 declares."""
        first, beyond = {"0..8": (0, length + 1), "0..7": (0, length), "1..8": (1, length + 1)}[self.follows["A17"]]
        return torch.arange(first, beyond)

    def target_index(self, index: Tensor, time: int) -> Tensor:
        """Index clamped to the sequence."""
        return index.clamp(max=time - 1)

    def target_exists(self, index: Tensor, time: int) -> Tensor:
        """t + n < T."""
        return index < time

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        """− Σ_n of the mean over t of ln p(x_{t+n} | h_t)."""
        total = -self.valid_log_prob(log_prob, valid).sum((0, 1))
        return self.over_distances(total, self.counted_positions(valid))

    def valid_log_prob(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        """Log-probabilities with 0 past the end."""
        return torch.where(valid, log_prob, 0.0)

    def counted_positions(self, valid: Tensor) -> Tensor:
        """Number of positions that each distance is averaged over (A29), at least 1."""
        counted = valid if self.follows["A29"] == "valid" else torch.ones_like(valid)
        return counted.sum((0, 1)).clamp(min=1)

    def over_distances(self, total: Tensor, count: Tensor) -> Tensor:
        """Sum or mean over the distances (A19)."""
        per_distance = total / count
        return per_distance.sum() if self.follows["A19"] == "sum" else per_distance.mean()
