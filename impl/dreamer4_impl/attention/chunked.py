"""Backend "chunked": the attention of "eager" on a CPU, compiled, in chunks whose logits stay in a core's cache."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from dreamer4_impl.attention.eager import dense_attention
from dreamer4_impl.attention.folding import Backend, folded
from dreamer4_impl.attention.visibility import Visible
from dreamer4_impl.compilation import compiled
from dreamer4_impl.precision import without_autocast

#: Logits of one chunk: 2 MB in float32, which fit into a core's cache.
_CHUNK_LOGITS: Final = 1 << 19
#: Causal queries of one chunk. Keys that are hidden from all of them are not multiplied.
_CHUNK_QUERIES: Final = 64

_compiled_attention: Final = compiled(dense_attention, dynamic=False)


def _chunked(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    if q.device.type != "cpu":
        raise NotImplementedError(f"backend 'chunked' is for a CPU; got tensors on {q.device}: use 'triton' or 'flex'")
    if not visible.is_causal_only:
        return _attend_by_heads(q, k, v, visible, softcap, scale)
    blocks = [
        _attend_by_heads(q[:, :, queries], k[:, :, keys], v[:, :, keys], visible, softcap, scale)
        for queries, keys in _causal_blocks(q.shape[2], k.shape[2], visible.window)
    ]
    return torch.cat(blocks, dim=2)


def _causal_blocks(length_q: int, length_k: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Adjacent queries with the keys that are visible to any of them; these queries are the last of these keys."""
    behind = length_k - length_q
    for first in range(0, length_q, _CHUNK_QUERIES):
        stop = min(first + _CHUNK_QUERIES, length_q)
        oldest = 0 if window is None else max(0, first + behind - window + 1)
        yield slice(first, stop), slice(oldest, stop + behind)


def _attend_by_heads(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    """Attend with a few heads, or a few sequences, at a time: chunks of equal shapes, so that one form is compiled."""
    sequences, kv_heads = k.shape[:2]
    group = q.shape[1] // kv_heads
    limit = _CHUNK_LOGITS // (group * q.shape[2] * k.shape[2])
    heads = _divisor(kv_heads, limit)
    sizes = group * heads, heads, heads
    count = _divisor(sequences, limit // kv_heads) if heads == kv_heads else 1
    rows = []
    with without_autocast(q.device):
        for tensors in zip(*(torch.split(x, count) for x in (q, k, v)), strict=True):
            chunks = zip(*(torch.split(x, size, 1) for x, size in zip(tensors, sizes, strict=True)), strict=True)
            rows.append(torch.cat([_compiled_attention(*chunk, visible, softcap, scale) for chunk in chunks], dim=1))
    return torch.cat(rows)


def _divisor(number: int, limit: int) -> int:
    """Largest divisor up to the limit, and at least 1."""
    return next(size for size in range(max(1, min(number, limit)), 0, -1) if number % size == 0)


chunked: Final[Backend] = folded(_chunked)
