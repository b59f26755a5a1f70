"""Mistakes in QK-norm and RMSNorm (Sec. 3.4)."""

from __future__ import annotations

from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)

# QK-norm


@mistake("qknorm-keys-only", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class KeysOnly(TextbookModel):
    """Keys are normalised, queries are not."""

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q, self.normalise_head(k)


@mistake("qknorm-queries-only", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class QueriesOnly(TextbookModel):
    """Queries are normalised, keys are not."""

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise_head(q), k


@mistake("qknorm-all-heads", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class AllHeads(TextbookModel):
    """The norm runs over all heads of a token instead of over each head."""

    def normalise_head(self, x: Tensor) -> Tensor:
        return super().normalise_head(x.flatten(-2)).reshape(x.shape)


@mistake("qknorm-over-time", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class OverTime(TextbookModel):
    """The norm runs over the sequence instead of over the channels: the axes of another layout."""

    def normalise_head(self, x: Tensor) -> Tensor:
        return super().normalise_head(x.movedim(1, -1)).movedim(-1, 1)


@mistake("qknorm-root-missing", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class RootMissing(TextbookModel):
    """Queries and keys are divided by their mean square instead of by its root."""

    def normalise_head(self, x: Tensor) -> Tensor:
        return (x / x.square().mean(-1, keepdim=True)).to(x.dtype)


@mistake("qknorm-shared-size", clause="attn.qknorm", operations=("qk_norm",), levels=SIGNAL)
class SharedSize(TextbookModel):
    """The RMS is taken over the whole tensor instead of over each head."""

    def normalise_head(self, x: Tensor) -> Tensor:
        return x / x.square().mean().sqrt()


# RMSNorm


@mistake("rmsnorm-eps-outside", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class EpsOutside(TextbookModel):
    """eps is added to the root instead of to the mean square."""

    def inverse_root(self, mean_square: Tensor, eps: float) -> Tensor:
        return 1 / (mean_square.sqrt() + eps)


@mistake("rmsnorm-eps-fixed", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class EpsFixed(TextbookModel):
    """eps is always 1e-6, whatever is passed."""

    def inverse_root(self, mean_square: Tensor, eps: float) -> Tensor:
        return super().inverse_root(mean_square, 1e-6)


@mistake("rmsnorm-gain-offset", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class GainOffset(TextbookModel):
    """The gain is 1 + weight."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return super().rms_norm(x, 1 + weight, eps)


@mistake("rmsnorm-centred", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class Centred(TextbookModel):
    """LayerNorm: the mean is subtracted first."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return super().rms_norm(x - x.mean(-1, keepdim=True), weight, eps)


@mistake("rmsnorm-sum", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class SumOfSquares(TextbookModel):
    """x is divided by its L2 norm instead of by its RMS."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        return super().rms_norm(x, weight, eps / width) / width**0.5


@mistake("rmsnorm-whole-tensor", clause="net.rmsnorm", operations=("rms_norm",), levels=SIGNAL)
class WholeTensor(TextbookModel):
    """The mean square is taken over all tokens instead of over the channels of each."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return weight * x * self.inverse_root(x.square().mean(), eps)
