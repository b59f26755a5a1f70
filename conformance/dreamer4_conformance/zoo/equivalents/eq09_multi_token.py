"""Equivalent ways to compute Eq. (9)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("mtp-rolled")
class Rolled(TorchAdapter):
    """Targets by rolling the sequence with a mask for wrapped entries; the loss by slices, distance by distance."""

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        time = x.shape[1]
        targets = torch.stack([x.roll(-n, dims=1) for n in range(length + 1)], dim=2)
        valid = torch.stack([torch.arange(time) < time - n for n in range(length + 1)], dim=1)
        return targets, valid[None].repeat(len(x), 1, 1)

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        loss = log_prob.new_zeros(())
        for n in range(log_prob.shape[2]):
            inside = log_prob[..., n][valid[..., n]]
            loss = loss - inside.mean() if inside.numel() else loss
        return loss


@equivalent("mtp-padded")
class Padded(Adapter):
    """NumPy; rewards are padded with NaN and unfolded into windows; the loss as a product with the mask."""

    def mtp_targets(self, x: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, length)), constant_values=np.nan)
        targets = np.lib.stride_tricks.sliding_window_view(padded, length + 1, axis=1)
        return targets, ~np.isnan(targets)

    def mtp_loss(self, log_prob: np.ndarray, valid: np.ndarray) -> np.floating:
        weight = valid / np.maximum(valid.sum((0, 1), keepdims=True), 1)
        return -np.sum(log_prob * weight, dtype=np.float64)


@equivalent("mtp-nearest-first-mean")
class OneToEight(TorchAdapter):
    """Distances 1 … 8, mean over distances and all positions: the other option of every reading, declared."""

    readings = {"A17": "1..8", "A19": "mean", "A29": "all"}  # noqa: RUF012

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        padded = torch.nn.functional.pad(x, (0, length))
        valid = torch.nn.functional.pad(torch.ones_like(x, dtype=torch.bool), (0, length))
        return padded[:, 1:].unfold(1, length, 1), valid[:, 1:].unfold(1, length, 1)

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        return -log_prob.masked_fill(~valid, 0.0).mean()


@equivalent("mtp-pooled-pairs")
class PooledPairs(TorchAdapter):
    """One mean over the valid pairs of position and distance (A19, A29, declared)."""

    readings = {"A19": "mean", "A29": "pooled"}  # noqa: RUF012

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        return -log_prob[valid].mean()


@equivalent("mtp-complete-windows")
class CompleteWindows(TorchAdapter):
    """Unfolded windows of nine; timesteps without a complete window are invalid at every distance (A29, declared)."""

    readings = {"A29": "complete"}  # noqa: RUF012

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        batch, time = x.shape
        windows = torch.cat([x, x.new_zeros(batch, length)], 1).unfold(1, length + 1, 1)
        complete = torch.arange(time) + length < time
        return windows, complete[None, :, None].expand(windows.shape)

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        return -log_prob[valid.all(2)].mean(0).sum()

    def mtp_loss_of(self, x: Tensor, log_prob: Tensor) -> Tensor:
        count = x.shape[1] - log_prob.shape[2] + 1
        windows = x.unfold(1, log_prob.shape[2], 1)
        taken = log_prob[:, :count].gather(3, windows[..., None])
        return -taken.mean((0, 1)).sum()


@equivalent("mtp-distances-apart")
class DistancesApart(TorchAdapter):
    """Actions at the distances 0 … 7, rewards at 1 … 8 (A17, declared for each); the loss from slices of x."""

    readings = {"A17": "0..7", "A17.rewards": "1..8"}  # noqa: RUF012

    def mtp_targets(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        first, time = int(x.is_floating_point()), x.shape[1]
        index = torch.arange(time)[:, None] + torch.arange(first, first + length)
        inside = index < time
        return x[:, torch.where(inside, index, 0)], inside.repeat(len(x), 1, 1)

    def mtp_loss(self, log_prob: Tensor, valid: Tensor) -> Tensor:
        return -(log_prob.where(valid, 0.0).sum((0, 1)) / valid.sum((0, 1)).clamp(min=1)).sum()

    def mtp_loss_of(self, x: Tensor, log_prob: Tensor) -> Tensor:
        loss, time = log_prob.new_zeros(()), x.shape[1]
        for n in range(log_prob.shape[2]):
            scores, classes = log_prob[:, : time - n, n].flatten(0, 1), x[:, n:].flatten()
            loss = loss + torch.nn.functional.nll_loss(scores, classes)
        return loss
