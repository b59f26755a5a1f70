"""Sec. 3.4: attention along space or time, with grouped heads, a window and a soft cap, by a backend of choice.

    oᵢ = Σⱼ softmaxⱼ(cap(scale · qᵢ·kⱼ)) vⱼ  over the keys j that query i may see,   cap(s) = c tanh(s/c)

Query head h reads key/value head ⌊h / (Hq/Hkv)⌋. The scale, 1/√D, precedes the cap; the cap precedes the mask.
Under `causal` with a window of C, frame t sees frames t − C + 1 … t (A30).
"""

import math
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import pad, scaled_dot_product_attention

from dreamer4_impl.arguments import require_floating, require_integer, require_option, require_rank, require_shape
from dreamer4_impl.attention.qk_preparation import Preparation, prepare
from dreamer4_impl.precision import compute_dtype, without_autocast

Axis: TypeAlias = Literal["space", "time"]
#: `backend(q, k, v, axis, visible, softcap, scale, preparation) -> out`, all five-dimensional as in `attention`.
Backend: TypeAlias = Callable[
    [Tensor, Tensor, Tensor, Axis, "Visible", float | None, float, Preparation | None], Tensor
]
#: The same for one sequence of each head: q (N, Hq, Lq, D), k and v (N, Hkv, Lk, D), any strides.
Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, "Visible", float | None, float], Tensor]


class Sees(TypedDict, total=False):
    """The options of `attention` that say which keys a query may attend to."""

    causal: bool
    window: int | None
    mask: Tensor | None
    private: int
    filled: Tensor | None


class Visible(NamedTuple):
    """Which of `length_k` keys each of `length_q` queries, the last of their positions, may attend to."""

    length_q: int
    length_k: int
    causal: bool = False
    window: int | None = None
    mask: Tensor | None = None
    private: int = 0
    filled: Tensor | None = None

    def rule(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether query number `query` sees key number `key`; indices of any shapes that broadcast."""
        behind = query + (self.length_k - self.length_q) - key
        seen = behind >= 0 if self.causal else behind == behind
        if self.window is not None:
            seen = seen & (behind < self.window)
        if self.private:
            public = self.length_k - self.private
            seen = seen & ((key < public) | (behind + key >= public))
        if self.filled is not None:
            seen = seen & (key < self.filled)
        return seen if self.mask is None else seen & self.mask[query, key]

    def table(self, device: torch.device) -> Bool[Tensor, "Lq Lk"] | None:
        """The rule for every pair, None where nothing is hidden."""
        if not self.causal and not self.private and self.filled is None:
            return self.mask
        query, key = (torch.arange(length, device=device) for length in (self.length_q, self.length_k))
        return self.rule(query[:, None], key)


def attention(
    q: Float[Tensor, "B Tq Sq Hq D"],
    k: Float[Tensor, "B Tk Sk Hkv D"],
    v: Float[Tensor, "B Tk Sk Hkv D"],
    *,
    axis: Axis,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    mask: Bool[Tensor, "Lq Lk"] | None = None,
    private: int = 0,
    filled: Int[Tensor, ""] | None = None,
    preparation: Preparation | None = None,
    backend: str = "eager",
) -> Float[Tensor, "B Tq Sq Hq D"]:
    """Let every query attend to the keys along one axis.

    Args:
        q: queries; Hq is a multiple of Hkv. All three share dtype and device.
        k: keys, prepared already: normalised and rotated.
        v: values.
        axis: "space" mixes the tokens of each frame, "time" the frames at each place; the other axis has one length.
        causal: no query sees a later key; the queries are the last of the keys' positions.
        window: with `causal`, how many keys a query sees, itself included; None is all.
        softcap: c > 0; None leaves the cap out.
        scale: of the logits, before the cap; None is 1/√D.
        mask: (Lq, Lk) along the axis, True = may attend; what another option hides stays hidden. Every query needs a key.
        private: how many positions, the last, are seen by themselves alone: the agent token, say.
        filled: how many keys, the first, hold something; a number on the device, 1 or more; None is all.
        preparation: what makes queries of raw q; None takes q as it is.
        backend: a name in `BACKENDS`; an explicit choice never falls back to another.

    "eager" is plain torch, computed in float32 (float64 for float64) and rounded once, to the dtype of q. "chunked" is the
    same on a CPU, compiled, a few heads at a time, so that logits stay in the cache and little memory is asked for anew:
    for large inputs, forward and backward. "triton" is one fused kernel, forward and backward, that prepares the queries
    too: float32 and bfloat16, on CUDA (elsewhere under Triton's interpreter, to test it), any strides without a copy.
    "sdpa" is torch's own kernel, without a cap. "flex" is compiled FlexAttention, without float64 and on a CPU without
    gradients. What a backend does not cover raises NotImplementedError. "chunked" and "flex" compile for every new shape,
    up to a limit. Both library kernels read contiguous tensors as views, whatever the axis; "flex" on a CPU copies q and k
    where heads are narrower than 24. "eager" is deterministic on a CPU, and "triton"; all compile without graph breaks; no
    host synchronisation.

    >>> q, v = torch.zeros(1, 2, 1, 1, 1), torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1, 1)
    >>> attention(q, q, v, axis="time", causal=True).flatten().tolist()
    [1.0, 2.0]
    """
    require_option("axis", axis, ("space", "time"))
    require_option("backend", backend, BACKENDS)
    _check_tensors(q, k, v, axis)
    visible = Visible(_length(q, axis), _length(k, axis), causal, window, mask, private, filled)
    _check_visible(visible, q)
    _check_softcap(softcap)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return BACKENDS[backend](q, k, v, axis, visible, softcap, scale, preparation)


def soft_cap(logits: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """Bound logits smoothly: c tanh(s/c), slope 1 at 0.

    Args:
        logits: s, of any shape.
        cap: c > 0, the bound.

    Computed in float32 (float64 for float64) and rounded once. Differentiable; compiles without graph breaks.

    >>> soft_cap(torch.tensor([0.0, 1e6]), 50.0).tolist()
    [0.0, 50.0]
    """
    require_floating(logits=logits)
    _check_softcap(cap)
    return (cap * torch.tanh(logits.to(compute_dtype(logits)) / cap)).to(logits.dtype)


def _along(axis: Axis, x: Tensor) -> Tensor:
    """(B, T, S, H, D) → (N, H, L, D), a view of contiguous x: over time, every place is S·H heads of one sequence."""
    return (x.flatten(0, 1) if axis == "space" else x.flatten(2, 3)).transpose(1, 2)


def _folded(kernel: Kernel) -> Backend:
    """Grouped heads survive the fold: head h of place s is number s·H + h, and s·Hq + h in groups is s·Hkv + ⌊h/group⌋."""

    @wraps(kernel)
    def backend(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        axis: Axis,
        visible: Visible,
        softcap: float | None,
        scale: float,
        preparation: Preparation | None,
    ) -> Tensor:
        if preparation is not None:
            q = prepare(q, preparation, axis)
        out = kernel(_along(axis, q), _along(axis, k), _along(axis, v), visible, softcap, scale)
        return out.transpose(1, 2).reshape(q.shape)

    return backend


@_folded
def _eager(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    with without_autocast(q.device):
        return _eager_in(compute_dtype(q), q, k, v, visible, softcap, scale)


def _eager_in(
    compute: torch.dtype, q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float
) -> Tensor:
    grouped = q.to(compute).reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
    logits = scale * torch.einsum("nhgid,nhjd->nhgij", grouped, k.to(compute))
    if softcap is not None:
        logits = soft_cap(logits, softcap)
    table = visible.table(q.device)
    if table is not None:
        logits = logits.masked_fill(~table, -torch.inf)
    return torch.einsum("nhgij,nhjd->nhgid", logits.softmax(-1), v.to(compute)).flatten(1, 2).to(q.dtype)


#: Logits of one chunk: in float32 2 MB, which stay in a core's cache.
_LOGITS_OF_CHUNK: Final = 1 << 19
#: Causal queries of one chunk: what none of them sees is not computed.
_QUERIES_OF_CHUNK: Final = 64
#: Forms that are compiled before torch.compile takes them for a mistake: lengths, heads and widths of a few models.
_FORMS: Final = 64


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Made at the first call, for torch.compile takes seconds to import. Too many shapes raise, because of `fullgraph`."""
    return torch.compile(function, dynamic=False, fullgraph=True)


@_folded
def _chunked(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    if q.device.type != "cpu":
        raise NotImplementedError(f"backend 'chunked' is for a CPU; got tensors on {q.device}: use 'triton' or 'flex'")
    parts = []
    for rows, columns, seen in _causal_blocks(visible):
        keys, values = k[:, :, columns], v[:, :, columns]
        parts.append(_few_heads_at_a_time(q[:, :, rows], keys, values, seen, softcap, scale))
    return torch.cat(parts, dim=2)


def _causal_blocks(visible: Visible) -> Iterator[tuple[slice, slice, Visible]]:
    """Queries that are next to each other, the keys that some of them sees, and the rule among these."""
    length_q, length_k, window = visible.length_q, visible.length_k, visible.window
    if visible != Visible(length_q, length_k, True, window):
        yield slice(None), slice(None), visible
        return
    for first in range(0, length_q, _QUERIES_OF_CHUNK):
        rows = slice(first, min(first + _QUERIES_OF_CHUNK, length_q))
        behind = length_k - length_q
        oldest = 0 if window is None else max(0, first + behind - window + 1)
        columns = slice(oldest, rows.stop + behind)
        yield rows, columns, Visible(rows.stop - first, columns.stop - oldest, True, window)


def _few_heads_at_a_time(
    q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float
) -> Tensor:
    """All chunks are of one form, so that it is compiled once."""
    sequences, kv_heads = k.shape[:2]
    group = q.shape[1] // kv_heads
    most = _LOGITS_OF_CHUNK // (group * visible.length_q * visible.length_k)
    heads = _divisor(kv_heads, most)
    few = _divisor(sequences, most // kv_heads) if heads == kv_heads else 1
    rows = []
    for q_few, k_few, v_few in zip(*(torch.split(x, few) for x in (q, k, v)), strict=True):
        heads_of = torch.split(q_few, group * heads, 1), torch.split(k_few, heads, 1), torch.split(v_few, heads, 1)
        parts = [_eager_compiled(*some, visible, softcap, scale) for some in zip(*heads_of, strict=True)]
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most `most`, and 1 at least."""
    return next(size for size in range(max(1, min(number, most)), 0, -1) if number % size == 0)


def _eager_compiled(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    if torch.compiler.is_compiling():
        return _eager_in(compute_dtype(q), q, k, v, visible, softcap, scale)
    with without_autocast(q.device), torch._dynamo.config.patch(recompile_limit=_FORMS):
        return _compiled(_eager_in)(compute_dtype(q), q, k, v, visible, softcap, scale)


@_folded
def _sdpa(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    if softcap is not None:
        raise NotImplementedError(f"backend 'sdpa' has no soft cap; got softcap {softcap!r}: use 'eager' or 'flex'")
    plain = visible == Visible(visible.length_q, visible.length_q, causal=True)
    table = None if plain else visible.table(q.device)
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, table, is_causal=plain, scale=scale, enable_gqa=grouped)


@_folded
def _flex(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    _check_flex(q, k, v)
    if q.device.type == "cpu":
        q, k, v = _for_cpu_kernel(q, k, v)

    def cap(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    blocks = _blocks(visible, q.device)
    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled(flex_attention)
    return flex(q, k, v, score_mod=cap, block_mask=blocks, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


#: From this width on torch's CPU kernel multiplies q and k in the way that is right for every number of keys.
_SAFE_WIDTH: Final = 24


def _for_cpu_kernel(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same attention in a form that torch's CPU kernel (seen in 2.13) gets right.

    Narrower than 24, it reads keys beyond the last where their number is 8 more than a multiple of 16, and overwrites
    its running maximum with their logits: whole rows come out as 0. Zeros beside q and k leave the logits as they are.
    """
    if q.shape[-1] < _SAFE_WIDTH:
        q, k = (pad(x, (0, _SAFE_WIDTH - x.shape[-1])) for x in (q, k))
    if torch.compiler.is_compiling():
        # Inside a larger graph the kernel takes the shape of the tensor that q is a view of for that of q.
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return q, k, v


#: Block masks by rule and device; those of tensors, whose values may change, are never kept.
_kept_blocks: dict[tuple[Visible, torch.device], BlockMask] = {}


def _blocks(visible: Visible, device: torch.device) -> BlockMask | None:
    """The block mask of the rule, kept for the next call outside of torch.compile, where it is part of the graph."""
    if visible == Visible(visible.length_q, visible.length_k):
        return None
    if visible.mask is not None or visible.filled is not None or torch.compiler.is_compiling():
        return _build_blocks(visible, device)
    key = (visible, device)
    if key not in _kept_blocks:
        # A mask that was made for inference could not be saved for a later backward pass.
        with torch.inference_mode(False):
            _kept_blocks[key] = _build_blocks(visible, device)
    return _kept_blocks[key]


def _build_blocks(visible: Visible, device: torch.device) -> BlockMask:
    def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible.rule(query, key)

    return create_block_mask(rule, None, None, visible.length_q, visible.length_k, device=device)


def _triton(*call: Any) -> Tensor:
    """Imported when it is asked for: Triton is an extra."""
    from dreamer4_impl.attention.triton.operators import attend

    return attend(*call)


#: Head widths that the Triton kernels prepare.
TRITON_WIDTHS: Final = (32, 64, 128)
#: Name → backend. Another joins with one entry.
BACKENDS: Final[dict[str, Backend]] = {
    "eager": _eager,
    "chunked": _chunked,
    "sdpa": _sdpa,
    "flex": _flex,
    "triton": _triton,
}


def _length(x: Tensor, axis: Axis) -> int:
    return x.shape[2] if axis == "space" else x.shape[1]


def _check_tensors(q: Tensor, k: Tensor, v: Tensor, axis: Axis) -> None:
    require_floating(q=q, k=k, v=v)
    for name, x in (("q", q), ("k", k), ("v", v)):
        require_rank(name, x, 5, "(B, T, S, H, D)")
        if x.dtype != q.dtype:
            raise TypeError(f"{name} must have the dtype of q, {q.dtype}; got {x.dtype}")
    batch, time, space, heads, width = q.shape
    lengths = (time, k.shape[2]) if axis == "space" else (k.shape[1], space)
    require_shape("k", k, (batch, *lengths, k.shape[3], width), f"of q but for heads and {axis}", like=q)
    require_shape("v", v, k.shape, "of k", like=q)
    if k.shape[3] == 0 or heads % k.shape[3]:
        raise ValueError(f"q must have a multiple of k's {k.shape[3]} heads; got {heads}")
    if _length(k, axis) == 0:
        raise ValueError(f"k must have at least one key along {axis}; got shape {tuple(k.shape)}")


def _check_visible(visible: Visible, q: Tensor) -> None:
    length_q, length_k, causal, window, mask, private, filled = visible
    if causal and length_q > length_k:
        raise ValueError(f"causal queries are the last of the keys, so at most {length_k}; got {length_q}")
    if window is not None and not causal:
        raise ValueError(f"window comes with causal=True; got window {window!r} without")
    if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(f"window counts keys, the query's own included: a whole number from 1; got {window!r}")
    if not isinstance(private, int) or not 0 <= private <= length_k:
        raise ValueError(f"private counts positions, 0 to the {length_k} there are; got {private!r}")
    if filled is not None:
        require_integer(filled=filled)
        require_shape("filled", filled, (), "(), a number on the device", like=q)
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask must be a bool tensor, True = may attend; got {getattr(mask, 'dtype', type(mask))}")
        require_shape("mask", mask, (length_q, length_k), "(Lq, Lk)", like=q)


def _check_softcap(softcap: float | None) -> None:
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"the soft cap must be above 0 and finite (None leaves it out); got {softcap!r}")


def _check_flex(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.dtype == torch.float64:
        raise NotImplementedError("backend 'flex' has no float64: use 'eager'")
    if q.device.type == "cpu" and any(x.requires_grad for x in (q, k, v)):
        raise NotImplementedError(
            "backend 'flex' has no gradient on a CPU: call it under torch.no_grad(), or use 'eager'"
        )
