"""Backends "sdpa" and "flex": torch's own attention kernels."""

from typing import Final

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import pad, scaled_dot_product_attention

from dreamer4_impl.attention.folding import Backend, folded
from dreamer4_impl.attention.visibility import Visible
from dreamer4_impl.compilation import compiled

#: From this width on torch's CPU kernel of FlexAttention reads the right keys, whatever their number.
_SAFE_WIDTH: Final = 24

_compiled_flex: Final = compiled(flex_attention, dynamic=False)
#: Block masks by rule, lengths and device; those of tensors, whose values may change, are not stored.
_block_masks: dict[tuple[Visible, int, int, torch.device], BlockMask] = {}


def _sdpa(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    if softcap is not None:
        raise NotImplementedError(f"backend 'sdpa' has no soft cap; got softcap {softcap!r}: use 'eager' or 'flex'")
    lengths = q.shape[2], k.shape[2]
    causal = visible.is_causal_only and visible.window is None and lengths[0] == lengths[1]
    table = None if causal else visible.table(*lengths, q.device)
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, table, is_causal=causal, scale=scale, enable_gqa=grouped)


def _flex(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    _require_covered_by_flex(q, k, v)
    if q.device.type == "cpu":
        q, k, v = _for_cpu_kernel(q, k, v)

    def _cap(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    blocks = _block_mask(visible, q.shape[2], k.shape[2], q.device)
    grouped = q.shape[1] != k.shape[1]
    return _compiled_flex(q, k, v, score_mod=_cap, block_mask=blocks, scale=scale, enable_gqa=grouped)


def _require_covered_by_flex(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.dtype == torch.float64:
        raise NotImplementedError("backend 'flex' has no float64: use 'eager'")
    if q.device.type == "cpu" and any(x.requires_grad for x in (q, k, v)):
        raise NotImplementedError(
            "backend 'flex' has no gradient on a CPU: call it under torch.no_grad(), or use 'eager'"
        )


def _for_cpu_kernel(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Change the tensors, not the attention, to a form that torch's CPU kernel (observed in 2.13) computes correctly.

    With heads narrower than 24, it reads keys beyond the last where their number is 8 more than a multiple of 16, and
    overwrites its running maximum with their logits: whole rows come out as 0. Zeros appended to q and k leave the
    logits unchanged.
    """
    if q.shape[-1] < _SAFE_WIDTH:
        q, k = (pad(x, (0, _SAFE_WIDTH - x.shape[-1])) for x in (q, k))
    if torch.compiler.is_compiling():
        # Inside a larger graph the kernel uses the shape of the tensor that q is a view of in place of q's own.
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return q, k, v


def _block_mask(visible: Visible, length_q: int, length_k: int, device: torch.device) -> BlockMask | None:
    """Block mask of the rule, stored for the next call except under torch.compile, where it is part of the graph."""
    if visible.hides_nothing:
        return None

    def _rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible.rule(query, key, length_q, length_k)

    if visible.mask is not None or visible.filled is not None or torch.compiler.is_compiling():
        return create_block_mask(_rule, None, None, length_q, length_k, device=device)
    key = (visible, length_q, length_k, device)
    if key not in _block_masks:
        # A mask that was made in inference mode could not be saved for a later backward pass.
        with torch.inference_mode(False):
            _block_masks[key] = create_block_mask(_rule, None, None, length_q, length_k, device=device)
    return _block_masks[key]


sdpa: Final[Backend] = folded(_sdpa)
flex: Final[Backend] = folded(_flex)
