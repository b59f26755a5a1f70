"""Mistakes in attention itself (Sec. 3.4): scale, cap, groups, mask, window, gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
ATTENTION = ("attention",)
OVER_TIME = ("attention", "time_layer", "dynamics", "encode", "decode", "reconstruct")


def _backward_only(value: Tensor, gradient_of: Tensor) -> Tensor:
    """The value of one tensor with the gradient of another."""
    return gradient_of + (value - gradient_of).detach()


# Scale and softmax


@mistake("attention-unscaled", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class Unscaled(TextbookModel):
    """The default scale is 1 instead of 1/√D."""

    def scaled(self, scale: float | None, width: int) -> float:
        return 1.0 if scale is None else scale


@mistake("attention-scaled-by-width", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class ScaledByWidth(TextbookModel):
    """The default scale is 1/D instead of 1/√D."""

    def scaled(self, scale: float | None, width: int) -> float:
        return 1 / width if scale is None else scale


@mistake("attention-scale-ignored", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class ScaleIgnored(TextbookModel):
    """The scale is always 1/√D, whatever is passed."""

    def scaled(self, scale: float | None, width: int) -> float:
        return super().scaled(None, width)


@mistake("attention-scale-twice", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class ScaledTwice(TextbookModel):
    """One backend applies the scale twice."""

    def logits(self, q: Tensor, k: Tensor, scale: float, backend: str) -> Tensor:
        return super().logits(q, k, scale**2 if backend == "matmul" else scale, backend)


@mistake("attention-softmax-over-queries", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class SoftmaxOverQueries(TextbookModel):
    """The softmax runs over the queries instead of over the keys."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return capped.masked_fill(~allow, -torch.inf).softmax(-2)


@mistake("attention-plus-one", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class SoftmaxPlusOne(TextbookModel):
    """1 is added to the softmax's denominator, so weights sum to less than 1."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        padded = torch.nn.functional.pad(logits, (0, 1))
        visible = torch.nn.functional.pad(allow, (0, 1), value=True)
        return super().weights(padded, visible, softcap, backend)[..., :-1]


@mistake("attention-half-inside", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class HalfInside(TextbookModel):
    """Logits are rounded to bfloat16, whatever the dtype of the inputs."""

    def logits(self, q: Tensor, k: Tensor, scale: float, backend: str) -> Tensor:
        return super().logits(q, k, scale, backend).bfloat16().to(q.dtype)


@mistake("attention-tiles-not-rescaled", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class TilesNotRescaled(TextbookModel):
    """Keys are processed in tiles of 64, and earlier tiles are not rescaled to the new maximum."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        tiles = torch.split(capped.masked_fill(~allow, -torch.inf), 64, -1)
        largest = [tile.detach().amax(-1, keepdim=True).clamp(min=-1e30) for tile in tiles]
        shares = torch.cat([(tile - m).exp() for tile, m in zip(tiles, largest, strict=True)], -1)
        return shares / shares.sum(-1, keepdim=True)


# Gradients


@mistake("attention-weights-detached", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class WeightsDetached(TextbookModel):
    """The weights are detached: only the values receive gradient."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        return super().weights(logits, allow, softcap, backend).detach()


@mistake("attention-cap-straight-through", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class CapStraightThrough(TextbookModel):
    """The gradient of the soft cap lacks its factor 1 − tanh²."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return _backward_only(super().soft_cap(logits, cap), logits)


@mistake("attention-group-gradient-mean", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class GroupGradientMean(TextbookModel):
    """Gradients of keys and values are averaged over the query heads of a group instead of added."""

    def repeated(self, x: Tensor, times: int) -> Tensor:
        return _backward_only(super().repeated(x, times), super().repeated(x / times, times))


@mistake("attention-normaliser-constant", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class NormaliserConstant(TextbookModel):
    """The gradient of the softmax lacks the term of its denominator."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        masked = capped.masked_fill(~allow, -torch.inf)
        return (masked - masked.detach().logsumexp(-1, keepdim=True)).exp()


# Soft cap


@mistake("softcap-bypassed", clause="attn.softcap", operations=ATTENTION, levels=SIGNAL)
class CapBypassed(TextbookModel):
    """One backend ignores the cap."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        return super().weights(logits, allow, None if backend == "matmul" else softcap, backend)


@mistake("softcap-product", clause="attn.softcap", operations=("soft_cap", "attention"), levels=SIGNAL)
class CapProduct(TextbookModel):
    """The cap is (x/c) tanh(x/c), which is even, unbounded and flat at 0."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return logits / cap * torch.tanh(logits / cap)


@mistake("softcap-clamped", clause="attn.softcap", operations=("soft_cap", "attention"), levels=SIGNAL)
class CapClamped(TextbookModel):
    """The cap is a clamp instead of a tanh."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return logits.clamp(-cap, cap)


@mistake("softcap-unscaled", clause="attn.softcap", operations=("soft_cap", "attention"), levels=SIGNAL)
class CapUnscaled(TextbookModel):
    """The cap is tanh(x/c) without the factor c."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return torch.tanh(logits / cap)


@mistake("softcap-before-scale", clause="attn.softcap", operations=ATTENTION, levels=SIGNAL)
class CapBeforeScale(TextbookModel):
    """The cap is applied before the scale."""

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        allow: Tensor,
        softcap: float | None,
        scale: float | None = None,
        backend: str = "einsum",
    ) -> Tensor:
        factor = self.scaled(scale, q.shape[-1])
        capped = None if softcap is None else softcap * factor
        return super().attend(q, k, v, allow, capped, scale, backend)


@mistake("softcap-after-mask", clause="attn.softcap", operations=ATTENTION, levels=SIGNAL)
class CapAfterMask(TextbookModel):
    """The cap is applied after the mask and raises −∞ to −c, so masked keys get weight."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        masked = logits.masked_fill(~allow, -torch.inf)
        return (masked if softcap is None else self.soft_cap(masked, softcap)).softmax(-1)


# Groups


@mistake("gqa-interleaved", clause="attn.gqa", operations=ATTENTION, levels=SIGNAL)
class GroupsInterleaved(TextbookModel):
    """Query head h uses key/value head h mod Hkv instead of consecutive groups."""

    def repeated(self, x: Tensor, times: int) -> Tensor:
        return x.repeat(1, 1, times, 1)


@mistake("gqa-first-head", clause="attn.gqa", operations=ATTENTION, levels=SIGNAL)
class FirstHeadOnly(TextbookModel):
    """Every query head uses the first key/value head."""

    def repeated(self, x: Tensor, times: int) -> Tensor:
        return super().repeated(x, times) if times == 1 else x[:, :, :1].expand(-1, -1, x.shape[2] * times, -1)


# Causality


@mistake("not-causal", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class NotCausal(TextbookModel):
    """Queries attend to later keys: there is no causal mask."""

    def key_mask(self, length: int, causal: bool, window: int | None) -> Tensor:
        return torch.ones(length, length, dtype=torch.bool)


@mistake("causal-one-ahead", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class OneAhead(TextbookModel):
    """The mask is off by one: each query also attends to the next key."""

    def key_mask(self, length: int, causal: bool, window: int | None) -> Tensor:
        allow = super().key_mask(length, causal, window)
        return allow | torch.ones_like(allow).tril(1).triu(1)


@mistake("causal-strict", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class Strict(TextbookModel):
    """A query does not attend to its own key, except the first, which has no other."""

    def key_mask(self, length: int, causal: bool, window: int | None) -> Tensor:
        allow = super().key_mask(length, causal, window)
        return allow & (torch.ones_like(allow).tril(-1) | (allow.sum(-1, keepdim=True) == 1)) if causal else allow


@mistake("causal-reversed", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class Reversed(TextbookModel):
    """The mask is transposed: a query attends to itself and to later keys."""

    def key_mask(self, length: int, causal: bool, window: int | None) -> Tensor:
        return super().key_mask(length, causal, window).T


@mistake("causal-masked-with-zero", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class MaskedWithZero(TextbookModel):
    """Masked logits are set to 0 instead of −∞, so later keys get weight."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return (capped * allow).softmax(-1)


@mistake("causal-first-forgotten", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class FirstForgotten(TextbookModel):
    """The first key is masked as padding for all queries but its own."""

    def key_mask(self, length: int, causal: bool, window: int | None) -> Tensor:
        allow = super().key_mask(length, causal, window)
        if causal:
            allow[1:, 0] = False
        return allow


@mistake("causal-weights-cut-after-softmax", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class CutAfterSoftmax(TextbookModel):
    """Later keys are masked after the softmax, so they still count in its denominator."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        return super().weights(logits, torch.ones_like(allow), softcap, backend) * allow


# Window


@mistake("window-one-more", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowOneMore(TextbookModel):
    """The query's own key is not counted in the window, without declaring reading A30."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return behind <= window


@mistake("window-one-less", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowOneLess(TextbookModel):
    """The window is one key short."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return behind < max(window - 1, 1)


@mistake("window-ignored", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowIgnored(TextbookModel):
    """The window is ignored: all earlier keys are visible."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return torch.ones_like(behind, dtype=torch.bool)


@mistake("window-in-blocks", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowInBlocks(TextbookModel):
    """Attention is block-local: the sequence is cut into blocks of the window's length."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        block = torch.arange(len(behind)) // window
        return block[:, None] == block


@mistake("window-never-full", clause="attn.window", operations=ATTENTION, levels=SIGNAL)
class WindowNeverFull(TextbookModel):
    """If the window covers the whole sequence, the first key is masked."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return behind < max(min(window, len(behind) - 1), 1)
