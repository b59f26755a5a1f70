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
    """No scale where none is given, in place of 1/√D."""

    def scaled(self, scale: float | None, width: int) -> float:
        return 1.0 if scale is None else scale


@mistake("attention-scaled-by-width", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class ScaledByWidth(TextbookModel):
    """1/D in place of 1/√D."""

    def scaled(self, scale: float | None, width: int) -> float:
        return 1 / width if scale is None else scale


@mistake("attention-scale-ignored", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class ScaleIgnored(TextbookModel):
    """1/√D whatever scale is asked for."""

    def scaled(self, scale: float | None, width: int) -> float:
        return super().scaled(None, width)


@mistake("attention-scale-twice", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class ScaledTwice(TextbookModel):
    """One backend scales the logits that it was already given scaled."""

    def logits(self, q: Tensor, k: Tensor, scale: float, backend: str) -> Tensor:
        return super().logits(q, k, scale**2 if backend == "matmul" else scale, backend)


@mistake("attention-softmax-over-queries", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class SoftmaxOverQueries(TextbookModel):
    """The weights of a key, not those of a query, sum to 1."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return capped.masked_fill(~allow, -torch.inf).softmax(-2)


@mistake("attention-plus-one", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class SoftmaxPlusOne(TextbookModel):
    """1 is added to the sum of the weights: a query may attend to nothing."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        nothing = torch.nn.functional.pad(logits, (0, 1))
        seen = torch.nn.functional.pad(allow, (0, 1), value=True)
        return super().weights(nothing, seen, softcap, backend)[..., :-1]


@mistake("attention-half-inside", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class HalfInside(TextbookModel):
    """Logits are rounded to bfloat16 whatever the inputs are."""

    def logits(self, q: Tensor, k: Tensor, scale: float, backend: str) -> Tensor:
        return super().logits(q, k, scale, backend).bfloat16().to(q.dtype)


# Gradients


@mistake("attention-weights-detached", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class WeightsDetached(TextbookModel):
    """Gradient reaches the values alone."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        return super().weights(logits, allow, softcap, backend).detach()


@mistake("attention-cap-straight-through", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class CapStraightThrough(TextbookModel):
    """The factor 1 − tanh² of the cap is missing from the gradient."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return _backward_only(super().soft_cap(logits, cap), logits)


@mistake("attention-group-gradient-mean", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class GroupGradientMean(TextbookModel):
    """Gradients of keys and values are averaged over the query heads of a group in place of added."""

    def repeated(self, x: Tensor, times: int) -> Tensor:
        return _backward_only(super().repeated(x, times), super().repeated(x / times, times))


@mistake("attention-normaliser-constant", clause="attn.value", operations=ATTENTION, levels=SIGNAL)
class NormaliserConstant(TextbookModel):
    """The gradient of the softmax lacks the part through its sum."""

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
    """(x/c) tanh(x/c): even, not bounded, of slope 0 at 0."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return logits / cap * torch.tanh(logits / cap)


@mistake("softcap-clamped", clause="attn.softcap", operations=("soft_cap", "attention"), levels=SIGNAL)
class CapClamped(TextbookModel):
    """A hard limit in place of the tanh."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return logits.clamp(-cap, cap)


@mistake("softcap-unscaled", clause="attn.softcap", operations=("soft_cap", "attention"), levels=SIGNAL)
class CapUnscaled(TextbookModel):
    """tanh(x/c) without the factor c."""

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return torch.tanh(logits / cap)


@mistake("softcap-before-scale", clause="attn.softcap", operations=ATTENTION, levels=SIGNAL)
class CapBeforeScale(TextbookModel):
    """The scale multiplies what was capped."""

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
    """The cap raises the −∞ of masked keys to −c: they keep a weight."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        masked = logits.masked_fill(~allow, -torch.inf)
        return (masked if softcap is None else self.soft_cap(masked, softcap)).softmax(-1)


# Groups


@mistake("gqa-interleaved", clause="attn.gqa", operations=ATTENTION, levels=SIGNAL)
class GroupsInterleaved(TextbookModel):
    """Query head h reads key/value head h mod Hkv: the order of another layout."""

    def repeated(self, x: Tensor, times: int) -> Tensor:
        return x.repeat(1, 1, times, 1)


@mistake("gqa-first-head", clause="attn.gqa", operations=ATTENTION, levels=SIGNAL)
class FirstHeadOnly(TextbookModel):
    """Every query head reads the first key/value head."""

    def repeated(self, x: Tensor, times: int) -> Tensor:
        return super().repeated(x, times) if times == 1 else x[:, :, :1].expand(-1, -1, x.shape[2] * times, -1)


# Causality


@mistake("not-causal", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class NotCausal(TextbookModel):
    """Attention sees the future."""

    def keys_seen(self, length: int, causal: bool, window: int | None) -> Tensor:
        return torch.ones(length, length, dtype=torch.bool)


@mistake("causal-one-ahead", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class OneAhead(TextbookModel):
    """The mask is off by one: each query sees the key after its own."""

    def keys_seen(self, length: int, causal: bool, window: int | None) -> Tensor:
        allow = super().keys_seen(length, causal, window)
        return allow | torch.ones_like(allow).tril(1).triu(1)


@mistake("causal-strict", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class Strict(TextbookModel):
    """A query does not see its own key; only the first does, which has no other."""

    def keys_seen(self, length: int, causal: bool, window: int | None) -> Tensor:
        allow = super().keys_seen(length, causal, window)
        return allow & (torch.ones_like(allow).tril(-1) | (allow.sum(-1, keepdim=True) == 1)) if causal else allow


@mistake("causal-reversed", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class Reversed(TextbookModel):
    """Allow and forbid exchanged: a query sees itself and what comes later."""

    def keys_seen(self, length: int, causal: bool, window: int | None) -> Tensor:
        return super().keys_seen(length, causal, window).T


@mistake("causal-masked-with-zero", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class MaskedWithZero(TextbookModel):
    """Masked logits are multiplied by 0 in place of set to −∞: later keys keep a weight."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return (capped * allow).softmax(-1)


@mistake("causal-first-forgotten", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class FirstForgotten(TextbookModel):
    """The first key, taken for padding, is seen by its own query alone."""

    def keys_seen(self, length: int, causal: bool, window: int | None) -> Tensor:
        allow = super().keys_seen(length, causal, window)
        if causal:
            allow[1:, 0] = False
        return allow


@mistake("causal-weights-cut-after-softmax", clause="attn.causal", operations=OVER_TIME, levels=SIGNAL)
class CutAfterSoftmax(TextbookModel):
    """Later keys are taken out after the softmax: their logits still divide the others' weights."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        return super().weights(logits, torch.ones_like(allow), softcap, backend) * allow


# Window


@mistake("window-one-more", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowOneMore(TextbookModel):
    """The window counts keys before the query's own, without saying so."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return behind <= window


@mistake("window-one-less", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowOneLess(TextbookModel):
    """The window is one key short, its own key apart."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return behind < max(window - 1, 1)


@mistake("window-ignored", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowIgnored(TextbookModel):
    """Everything earlier is seen."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return torch.ones_like(behind, dtype=torch.bool)


@mistake("window-in-blocks", clause="attn.window", operations=OVER_TIME, levels=SIGNAL)
class WindowInBlocks(TextbookModel):
    """The sequence is cut into blocks as long as the window, and a query sees its own block."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        block = torch.arange(len(behind)) // window
        return block[:, None] == block


@mistake("window-never-full", clause="attn.window", operations=ATTENTION, levels=SIGNAL)
class WindowNeverFull(TextbookModel):
    """A window that would cover the sequence leaves its first key out."""

    def inside(self, behind: Tensor, window: int) -> Tensor:
        return behind < max(min(window, len(behind) - 1), 1)
