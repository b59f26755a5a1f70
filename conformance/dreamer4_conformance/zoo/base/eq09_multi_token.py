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
        index = torch.arange(time, device=x.device)[:, None] + self.distances(length, rewards=x.is_floating_point()).to(
            x.device
        )
        exists = self.target_exists(index, time)
        if self.follows["A29"] == "complete":
            exists = exists.all(1, keepdim=True).expand(exists.shape)
        return x[:, self.target_index(index, time)], exists.expand(len(x), -1, -1)

    def mtp_loss_of(self, x: Tensor, log_prob: Tensor) -> Tensor:
        """The loss of the targets' log-probabilities, taken from (B, T, N, K)."""
        length = log_prob.shape[2] - (self.follows["A17"] == "0..8")
        targets, valid = self.mtp_targets(x, length)
        return self.mtp_loss(log_prob.gather(3, targets[..., None])[..., 0], valid)

    def distances(self, length: int, *, rewards: bool = False) -> Tensor:
        """n, as A17 declares for actions and A17.rewards for rewards."""
        declared = self.follows["A17.rewards"] if rewards else "same"
        declared = self.follows["A17"] if declared == "same" else declared
        first, beyond = {"0..8": (0, length + 1), "0..7": (0, length), "1..8": (1, length + 1)}[declared]
        return torch.arange(first, beyond)

    def target_index(self, index: Tensor, time: int) -> Tensor:
        """Index clamped to the sequence."""
        return index.clamp(max=time - 1)

    def target_exists(self, index: Tensor, time: int) -> Tensor:
        """t + n < T."""
        return index < time

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        """− Σ_n of the mean over t of ln p(x_{t+n} | h_t)."""
        if self.follows["A29"] == "complete":
            valid = valid.all(2, keepdim=True).expand(valid.shape)
        total = -self.valid_log_prob(log_prob, valid).sum((0, 1))
        return self.over_distances(total, self.counted_positions(valid))

    def valid_log_prob(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        """Log-probabilities with 0 past the end."""
        return torch.where(valid, log_prob, 0.0)

    def counted_positions(self, valid: Tensor) -> Tensor:
        """Number of positions that each distance is averaged over (A29), at least 1."""
        if self.follows["A29"] == "pooled":
            return (valid.sum() / valid.shape[2]).clamp(min=1)
        counted = torch.ones_like(valid) if self.follows["A29"] == "all" else valid
        return counted.sum((0, 1)).clamp(min=1)

    def over_distances(self, total: Tensor, count: Tensor) -> Tensor:
        """Sum or mean over the distances (A19)."""
        per_distance = total / count
        return per_distance.sum() if self.follows["A19"] == "sum" else per_distance.mean()
