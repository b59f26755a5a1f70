"""Mistakes in RoPE."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("rope-missing", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class NotTurned(TextbookModel):
    """Nothing is turned."""

    def rope_angles(self, positions: Tensor, pairs: int) -> Tensor:
        return 0 * super().rope_angles(positions, pairs)


@mistake("rope-scales", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class Scales(TextbookModel):
    """Sine and cosine are multiplied by a factor that only a longer context than that of training calls for."""

    def turned(self, one: Tensor, other: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return super().turned(one, other, 1.25 * cos, 1.25 * sin)


@mistake("rope-layouts-mixed", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class LayoutsMixed(TextbookModel):
    """Angles of the interleaved layout on the pairs of the half-split one."""

    def turned(self, one: Tensor, other: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        (cos_one, cos_other), (sin_one, sin_other) = (x.repeat_interleave(2, -1).chunk(2, -1) for x in (cos, sin))
        return one * cos_one - other * sin_one, other * cos_other + one * sin_other


@mistake("rope-one-sided", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class OneSided(TextbookModel):
    """The second channel of a pair is turned with the first, already turned, one."""

    def turned(self, one: Tensor, other: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        first = one * cos - other * sin
        return first, other * cos + first * sin


@mistake("rope-added", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class Added(TextbookModel):
    """Sine and cosine of the position are added, as to absolute embeddings."""

    def turned(self, one: Tensor, other: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return one + cos, other + sin


@mistake("rope-positions-ignored", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class PositionsIgnored(TextbookModel):
    """Every call counts from 0: a frame that follows a cache is turned as the first."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return torch.arange(len(positions), device=positions.device)


@mistake("rope-half-positions", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class HalfPositions(TextbookModel):
    """Positions are held in bfloat16, which does not tell 257 from 256."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return positions.bfloat16()


@mistake("rope-by-head", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class ByHead(TextbookModel):
    """Heads are turned by their index in place of tokens by their position: the axes of another layout."""

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        heads = torch.arange(x.shape[-2], device=x.device)
        return super().rope(x.transpose(-3, -2), heads).transpose(-3, -2)
