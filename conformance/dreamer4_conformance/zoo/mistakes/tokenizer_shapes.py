"""Mistakes in the tokenizer's shapes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("shapes-cropped", clause="tok.shapes", operations=("patch_grid",), levels=SIGNAL)
class Cropped(TextbookModel):
    """Frames are cropped to whole patches: 360 → 352."""

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        return height // 16, width // 16


@mistake("shapes-least-padding", clause="tok.shapes", operations=("patch_grid",), levels=SIGNAL)
class LeastPadding(TextbookModel):
    """Frames are padded to the next whole patch: 360 → 368."""

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 16), -(-width // 16)


@mistake("shapes-square", clause="tok.shapes", operations=("patch_grid",), levels=SIGNAL)
class Square(TextbookModel):
    """Frames are padded to squares."""

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        return super().patch_grid(max(height, width), max(height, width))


@mistake("shapes-columns-first", clause="tok.shapes", operations=("patch_grid",), levels=SIGNAL)
class ColumnsFirst(TextbookModel):
    """Rows and columns are swapped."""

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        return super().patch_grid(width, height)


@mistake("shapes-small-patches", clause="tok.shapes", operations=("patch_grid",), levels=SIGNAL)
class SmallPatches(TextbookModel):
    """Patches have 8×8 pixels instead of 16×16."""

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        return self.grid(height, width, 8)


@mistake("regroup-interleaved", clause="tok.shapes", operations=("regroup",), levels=SIGNAL)
class RegroupInterleaved(TextbookModel):
    """The channels of two tokens are interleaved instead of concatenated."""

    def regroup(self, z: Tensor) -> Tensor:
        batch, time, tokens, channels = z.shape
        return z.reshape(batch, time, tokens // 2, 2, channels).transpose(3, 4).flatten(3)


@mistake("regroup-halves", clause="tok.shapes", operations=("regroup",), levels=SIGNAL)
class RegroupHalves(TextbookModel):
    """Tokens of the first and second half are concatenated, without declaring reading A36."""

    def regroup(self, z: Tensor) -> Tensor:
        return torch.cat(z.chunk(2, 2), 3)


@mistake("regroup-across-frames", clause="tok.shapes", operations=("regroup",), levels=SIGNAL)
class RegroupAcrossFrames(TextbookModel):
    """Tokens of two different frames are concatenated."""

    def regroup(self, z: Tensor) -> Tensor:
        batch, time, tokens, channels = z.shape
        return z.transpose(1, 2).reshape(batch, time, tokens // 2, 2 * channels)


@mistake("regroup-averaged", clause="tok.shapes", operations=("regroup",), levels=SIGNAL)
class RegroupAveraged(TextbookModel):
    """Pairs of tokens are averaged, and the mean is repeated."""

    def regroup(self, z: Tensor) -> Tensor:
        batch, time, tokens, channels = z.shape
        return z.reshape(batch, time, tokens // 2, 2, channels).mean(3).repeat(1, 1, 1, 2)


@mistake("regroup-of-one-frame", clause="tok.shapes", operations=("regroup",), levels=SIGNAL)
class RegroupOfOneFrame(TextbookModel):
    """A single frame is regrouped by halves: axes of size 1 are squeezed, and another axis is split."""

    def regroup(self, z: Tensor) -> Tensor:
        return torch.cat(z.chunk(2, 2), 3) if z.shape[:2] == (1, 1) else super().regroup(z)


@mistake("regroup-loses-tokens", clause="tok.shapes", operations=("regroup",), levels=SIGNAL)
class RegroupLosesTokens(TextbookModel):
    """A declared custom regrouping uses the first half of the tokens twice and drops the second."""

    def __init__(self, level: Literal["signal", "noise"] = "signal", **readings: str) -> None:
        super().__init__(level, **{"A36": "other", **readings})

    def regroup(self, z: Tensor) -> Tensor:
        half = z[:, :, : z.shape[2] // 2]
        return torch.cat([half, half], 3)
