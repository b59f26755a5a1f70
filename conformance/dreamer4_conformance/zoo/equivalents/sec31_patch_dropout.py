"""Equivalent ways to drop patches, to regroup tokens and to classify mouse movements."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("mae-count-down")
class CountDown(TorchAdapter):
    """An exact count, rounded down, in a random order of the patches (A33); replacement by indexing."""

    readings = {"A33": "count"}  # noqa: RUF012

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        dropped = torch.zeros(batch * time, patches, dtype=torch.bool)
        for image in dropped:
            image[torch.randperm(patches)[: int(0.9 * torch.rand(()) * patches)]] = True
        return dropped.reshape(batch, time, patches)

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        replaced = tokens.clone()
        replaced[mask] = embedding
        return replaced


@equivalent("mae-count-up")
class CountUp(TorchAdapter):
    """An exact count, rounded up (A33); replacement by arithmetic."""

    readings = {"A33": "count"}  # noqa: RUF012

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        p, u = (torch.rand(batch, time, n, generator=generator, device=self.device) for n in (1, patches))
        return u.argsort(-1).argsort(-1) < torch.ceil(0.9 * p * patches)

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        """m e + (1 − m) x."""
        m = mask[..., None].to(tokens.dtype)
        return m * embedding + (1 - m) * tokens


@equivalent("mae-in-numpy")
class InNumpy(Adapter):
    """NumPy; stratified p over (0, 0.9), shuffled within the batch; also grids, regrouping and mouse classes."""

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        images = batch * time
        p = 0.9 * rng.permutation((np.arange(images) + rng.random(images)) / images)
        return (rng.random((images, patches)) < p[:, None]).reshape(batch, time, patches)

    def mae_replace(self, tokens: np.ndarray, mask: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        return np.where(mask[:, :, :, None], embedding, tokens)

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = np.ceil(np.array([height, width]) / 32).astype(int) * 2
        return rows, columns

    def regroup(self, z: np.ndarray) -> np.ndarray:
        return np.concatenate([z[:, :, ::2], z[:, :, 1::2]], -1)

    def mouse_class(self, movement: np.ndarray) -> np.ndarray:
        """Pixels up to 67; the second axis has stride 11 and runs from right to left; bins by their edges."""
        share = (2 * np.arange(MOUSE_EDGES) + 1) / 10
        positive = 67 / 255 * np.expm1(share * math.log(256))
        bins = np.searchsorted(np.concatenate([-positive[::-1], positive]), np.asarray(movement, np.float64))
        return np.asarray(bins[:, 0] + 11 * (10 - bins[:, 1]), np.int64)


MOUSE_EDGES = 5
"""Edges between the bins of one side of an axis."""


@equivalent("mouse-even-shares")
class EvenShares(TorchAdapter):
    """Eleven equal intervals instead of the nearest of eleven values; radians; reversed classes."""

    def mouse_class(self, movement: Tensor) -> Tensor:
        """Range ±0.2, μ = 5."""
        x = (movement.double() / 0.2).clamp(-1, 1)
        companded = x.sign() * torch.log1p(5 * x.abs()) / math.log(6)
        bins = ((companded + 1) / 2 * 11).floor().clamp(0, 10).long()
        return 120 - (11 * bins[:, 0] + bins[:, 1])
