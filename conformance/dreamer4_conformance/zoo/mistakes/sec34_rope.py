"""Mistakes in rotary position embeddings (Sec. 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("rope-missing", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class NotTurned(TextbookModel):
    """RoPE is not applied."""

    def rope_angles(self, positions: Tensor, pairs: int) -> Tensor:
        return 0 * super().rope_angles(positions, pairs)


@mistake("rope-scales", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class Scales(TextbookModel):
    """Sine and cosine are scaled as for extended contexts, so lengths change."""

    def rotate_pairs(self, first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return super().rotate_pairs(first, second, 1.25 * cos, 1.25 * sin)


@mistake("rope-layouts-mixed", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class LayoutsMixed(TextbookModel):
    """Angles of the interleaved layout are applied to the pairs of the half-split layout."""

    def rotate_pairs(self, first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        (cos_first, cos_second), (sin_first, sin_second) = (x.repeat_interleave(2, -1).chunk(2, -1) for x in (cos, sin))
        return first * cos_first - second * sin_first, second * cos_second + first * sin_second


@mistake("rope-one-sided", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class OneSided(TextbookModel):
    """The second channel of a pair is computed from the already rotated first channel."""

    def rotate_pairs(self, first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        first = first * cos - second * sin
        return first, second * cos + first * sin


@mistake("rope-added", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class Added(TextbookModel):
    """Sine and cosine of the position are added, like absolute position embeddings."""

    def rotate_pairs(self, first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return first + cos, second + sin


@mistake("rope-positions-ignored", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class PositionsIgnored(TextbookModel):
    """Every call counts positions from 0, so a frame after a cache is rotated like the first."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return torch.arange(len(positions), device=positions.device)


@mistake("rope-half-positions", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class HalfPositions(TextbookModel):
    """Positions are stored in bfloat16, which cannot represent 257."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return positions.bfloat16()


@mistake("rope-by-head", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class ByHead(TextbookModel):
    """Angles depend on the index of the head instead of on the position: the axes of another layout."""

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        heads = torch.arange(x.shape[-2], device=x.device)
        return super().rope(x.transpose(-3, -2), heads).transpose(-3, -2)


@mistake("rope-wraps-at-the-window", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class WrapsAtTheWindow(TextbookModel):
    """Positions restart after 192 frames: frames 191 and 193 score as if 190 apart."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return positions % 192


@mistake("rope-ring-positions", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class RingPositions(TextbookModel):
    """A position is the slot of a ring of keys, here of 1000."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return positions % 1000


@mistake("rope-wraps-in-16-bits", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class WrapsInSixteenBits(TextbookModel):
    """Positions are stored as 16-bit integers."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return positions.to(torch.int16)


@mistake("rope-clamped-at-its-table", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class ClampedAtItsTable(TextbookModel):
    """Positions beyond a table of 256 angles use its last row."""

    def rope_positions(self, positions: Tensor) -> Tensor:
        return positions.clamp(max=255)


@mistake("rope-of-the-first-row", clause="attn.rope", operations=("rope",), levels=SIGNAL)
class OfTheFirstRow(TextbookModel):
    """Rows of the batch continue the positions of the row before, as if they were one sequence."""

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        rows = [super(OfTheFirstRow, self).rope(row, positions * (n + 1)) for n, row in enumerate(x)]
        return torch.stack(rows)
