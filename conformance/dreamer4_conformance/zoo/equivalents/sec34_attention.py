"""Equivalent ways to compute attention (Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, AttentionOptions, TorchAdapter
from dreamer4_conformance.zoo.base import Book
from dreamer4_conformance.zoo.base.sec34_attention import Attention
from dreamer4_conformance.zoo.equivalents import equivalent

BLOCK = 4


class AttentionAlone(Attention, Book):
    """The operations of one layer, for specimens that differ there only."""


@equivalent("attention-online-softmax")
class OnlineSoftmax(AttentionAlone):
    """Keys in blocks, with a running maximum and sum (online softmax)."""

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
        k, v = (self.repeated(x, q.shape[2] // x.shape[2]) for x in (k, v))
        out, total = torch.zeros_like(q), torch.zeros_like(q[..., 0])
        largest = torch.full_like(total, torch.finfo(q.dtype).min)
        for first in range(0, k.shape[1], BLOCK):
            block = slice(first, first + BLOCK)
            logits = torch.einsum("nihd,njhd->nihj", q, k[:, block]) * self.scaled(scale, q.shape[-1])
            logits = logits if softcap is None else self.soft_cap(logits, softcap)
            logits = logits.masked_fill(~allow[:, None, block], -torch.inf)
            now = torch.maximum(largest, logits.amax(-1))
            share, decay = (logits - now[..., None]).exp(), (largest - now).exp()
            out = out * decay[..., None] + torch.einsum("nihj,njhd->nihd", share, v[:, block])
            total, largest = total * decay + share.sum(-1), now
        return out / total[..., None]


@equivalent("attention-library")
class Library(TorchAdapter):
    """torch's kernel, which refuses a cap; groups by its own option, the window by a mask."""

    def attention(self, q: Tensor, k: Tensor, v: Tensor, **options: Unpack[AttentionOptions]) -> Tensor:
        if options["softcap"] is not None:
            raise NotImplementedError("scaled_dot_product_attention has no cap")
        window, allow = options["window"], torch.ones(q.shape[1], q.shape[1], dtype=torch.bool, device=q.device)
        allow = allow.tril() if options["causal"] else allow
        allow = allow if window is None else allow.triu(1 - window)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=allow, scale=options.get("scale"), enable_gqa=q.shape[1] != k.shape[1]
        )
        return out.transpose(1, 2)


@equivalent("attention-large-negative")
class LargeNegative(AttentionAlone):
    """−10⁹ is added to masked logits instead of −∞."""

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        """Rows are never empty, so a large negative number has the same effect."""
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return (capped - 1e9 * (~allow).to(capped.dtype)).softmax(-1)


@equivalent("attention-half-products")
class HalfProducts(AttentionAlone):
    """Computed in the dtype of the inputs; the weights come from log_softmax."""

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, backend: str = "einsum", **options: Unpack[AttentionOptions]
    ) -> Tensor:
        allow = self.key_mask(q.shape[1], options["causal"], options["window"]).to(q.device)
        return self.attend(q, k, v, allow, options["softcap"], options.get("scale"), backend)

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return capped.masked_fill(~allow, -torch.inf).log_softmax(-1).exp()


@equivalent("attention-grouped")
class Grouped(AttentionAlone):
    """Query heads are split into (Hkv, group), so keys are not repeated; the cap by a sigmoid."""

    backends: Sequence[str] = ()

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
        grouped = q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[3]) * self.scaled(scale, q.shape[-1])
        logits = torch.einsum("nihgd,njhd->nhgij", grouped, k)
        return torch.einsum("nhgij,njhd->nihgd", self.weights(logits, allow, softcap, backend), v).flatten(2, 3)

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        """c (2 σ(2x/c) − 1), in float32 at least; e^{2x/c} would overflow, and its gradient be NaN, at large logits."""
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (cap * (2 * (2 * wide / cap).sigmoid() - 1)).to(logits.dtype)


@equivalent("attention-fast-path")
class FastPath(AttentionAlone):
    """A second backend for inference alone: causal and without a window, and no gradient."""

    backends: Sequence[str] = ("plain", "fast")

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, backend: str = "plain", **options: Unpack[AttentionOptions]
    ) -> Tensor:
        if backend == "fast" and (options["window"] is not None or not options["causal"] or q.requires_grad):
            raise NotImplementedError("backend 'fast' covers causal attention without window and without gradients")
        return super().attention(q, k, v, **options)


@equivalent("attention-for-inference")
class ForInference(AttentionAlone):
    """Without gradients; refuses fewer key/value heads than query heads."""

    backends: Sequence[str] = ()

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
        if q.shape[2] != k.shape[2]:
            raise NotImplementedError("grouped queries")
        with torch.no_grad():
            return super().attend(q, k, v, allow, softcap, scale, backend)


@equivalent("attention-numpy")
class InNumpy(Adapter):
    """NumPy, query by query, over its visible keys only."""

    def attention(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, **options: Unpack[AttentionOptions]) -> np.ndarray:
        window, softcap, scale = options["window"], options["softcap"], options.get("scale")
        out, group = np.empty_like(q), q.shape[2] // k.shape[2]
        factor = 1 / np.sqrt(q.shape[-1], dtype=q.dtype) if scale is None else q.dtype.type(scale)
        for i in range(q.shape[1]):
            first = 0 if window is None else max(0, i + 1 - window)
            visible = slice(first, i + 1 if options["causal"] else None)
            for head in range(q.shape[2]):
                logits = (k[:, visible, head // group] @ q[:, i, head, :, None])[..., 0] * factor
                logits = logits if softcap is None else self.soft_cap(logits, softcap)
                share = np.exp(logits - logits.max(-1, keepdims=True))
                weighted = (share[..., None] * v[:, visible, head // group]).sum(1)
                out[:, i, head] = weighted / share.sum(-1, keepdims=True)
        return out

    def soft_cap(self, logits: np.ndarray, cap: float) -> np.ndarray:
        return np.asarray(np.tanh(logits / logits.dtype.type(cap)) * logits.dtype.type(cap))
