"""Mistakes in QK-norm, RoPE, RMSNorm and SwiGLU (Sec. 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)

# QK-norm


@mistake("qknorm-keys-only", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class KeysOnly(TextbookModel):
    """Only keys are normalised."""

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q, self.normalised_head(k)


@mistake("qknorm-queries-only", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class QueriesOnly(TextbookModel):
    """Only queries are normalised."""

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalised_head(q), k


@mistake("qknorm-all-heads", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class AllHeads(TextbookModel):
    """The norm runs over all heads of a token together."""

    def normalised_head(self, x: Tensor) -> Tensor:
        return super().normalised_head(x.flatten(-2)).reshape(x.shape)


@mistake("qknorm-over-time", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class OverTime(TextbookModel):
    """The norm runs over the sequence, channel by channel: the axes of another layout."""

    def normalised_head(self, x: Tensor) -> Tensor:
        return super().normalised_head(x.movedim(1, -1)).movedim(-1, 1)


@mistake("qknorm-root-missing", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class RootMissing(TextbookModel):
    """Divided by the mean square in place of its root."""

    def normalised_head(self, x: Tensor) -> Tensor:
        return (x / x.square().mean(-1, keepdim=True)).to(x.dtype)


@mistake("qknorm-shared-size", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class SharedSize(TextbookModel):
    """Queries and keys are divided by one size, that of the whole tensor."""

    def normalised_head(self, x: Tensor) -> Tensor:
        return x / x.square().mean().sqrt()


# RoPE


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


# RMSNorm


@mistake("rmsnorm-eps-outside", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class EpsOutside(TextbookModel):
    """eps is added to the root in place of under it."""

    def inverse_root(self, mean_square: Tensor, eps: float) -> Tensor:
        return 1 / (mean_square.sqrt() + eps)


@mistake("rmsnorm-eps-fixed", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class EpsFixed(TextbookModel):
    """eps is 1e-6 whatever is asked for."""

    def inverse_root(self, mean_square: Tensor, eps: float) -> Tensor:
        return super().inverse_root(mean_square, 1e-6)


@mistake("rmsnorm-gain-offset", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class GainOffset(TextbookModel):
    """The gain is 1 + weight."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return super().rms_norm(x, 1 + weight, eps)


@mistake("rmsnorm-centred", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class Centred(TextbookModel):
    """LayerNorm: the mean is taken off first."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return super().rms_norm(x - x.mean(-1, keepdim=True), weight, eps)


@mistake("rmsnorm-sum", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class SumOfSquares(TextbookModel):
    """Divided by the norm: the sum of squares in place of their mean."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        return super().rms_norm(x, weight, eps / width) / width**0.5


@mistake("rmsnorm-whole-tensor", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class WholeTensor(TextbookModel):
    """One mean square for all tokens."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return weight * x * self.inverse_root(x.square().mean(), eps)


# SwiGLU


@mistake("swiglu-exchanged", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class GateAndUpExchanged(TextbookModel):
    """silu is applied to x W_up."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return super().gated(up, gate)


@mistake("swiglu-gelu", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class Gelu(TextbookModel):
    """gelu in place of silu."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.gelu(gate) * up


@mistake("swiglu-sigmoid", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class Sigmoid(TextbookModel):
    """A plain GLU: the gate is the sigmoid alone."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return gate.sigmoid() * up


@mistake("swiglu-ungated", clause="net.swiglu", operations=("swiglu",), levels=SIGNAL)
class Ungated(TextbookModel):
    """silu of the product in place of the product with silu."""

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.silu(gate * up)
