"""Sec. 3.4: attention on a CPU, a few sequences at a time, so that their weights never leave the processor's cache.

    t = tanh(scale · q kᵀ / c),   p = softmax(c t),   o = p v
    dv = pᵀ do,   ds = p ⊙ (do vᵀ − rowsum(p ⊙ do vᵀ)) ⊙ (1 − t²),   dq = scale · ds k,   dk = scale · dsᵀ q

Nothing of the size L² outlives its chunk: the backward pass computes the weights again. Over time, queries come in blocks
that skip the keys which none of them sees. What happens to a chunk is compiled, once for every shape.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.precision import compute_dtype, without_autocast

if TYPE_CHECKING:
    from dreamer4_impl.attention import Visible

#: Logits of one chunk: half as many were slower with gradients, two and four times as many alike, and need more memory.
_LOGITS_PER_CHUNK: Final = 1 << 19
#: Causal queries of one chunk: few, so that they skip many keys; not so few that the matrix products suffer.
_CAUSAL_QUERIES: Final = 64


def chunked_attention(
    q: Float[Tensor, "N Hq Lq D"],
    k: Float[Tensor, "N Hkv Lk D"],
    v: Float[Tensor, "N Hkv Lk D"],
    visible: "Visible",
    softcap: float | None,
    scale: float,
) -> Float[Tensor, "N Hq Lq D"]:
    """Backend "chunked" of `attention`, for tensors on a CPU of any strides.

    Computed in float32 (float64 for float64) and rounded once, gradients too. In float32 the tanh of the cap is a
    quotient of polynomials, within 4 · 10⁻⁷ of its value. Deterministic; differentiable once; part of an outer graph;
    no host synchronisation. Memory beside the result: a chunk of 2¹⁹ logits, forward and backward, and the rule as (Lq, Lk).

    The weights of the backward pass are computed again, from the logarithms of the sums of exponentials. The first call
    takes seconds, to compile; another shape compiles nothing, save where there is a length of 1 that was none before.
    """
    if q.device.type != "cpu":
        raise NotImplementedError(f"backend 'chunked' is for a CPU; got tensors on {q.device}: use 'triton' or 'flex'")
    table = visible.table(q.device)
    dtype = compute_dtype(q)
    bias = torch.zeros(visible.length_q, visible.length_k, dtype=dtype, device=q.device)
    if table is not None:
        bias = bias.masked_fill(~table, -torch.inf)
    return _attend(q, k, v, bias, visible.causal, visible.window, softcap, scale)[0]


class _Chunk(NamedTuple):
    """Some queries of some heads of some sequences, and the keys that they may see."""

    sequences: slice
    heads: slice
    queries: slice
    keys: slice

    def of_queries(self, x: Float[Tensor, "N Hq Lq D"], kv_heads: int) -> Float[Tensor, "n Hkv G rows D"]:
        """A view of queries, or of what has their shape."""
        return x.view(x.shape[0], kv_heads, x.shape[1] // kv_heads, *x.shape[2:])[
            self.sequences, self.heads, :, self.queries
        ]

    def of_keys(self, x: Float[Tensor, "N Hkv Lk D"]) -> Float[Tensor, "n Hkv columns D"]:
        """A view of keys or values."""
        return x[self.sequences, self.heads, self.keys]


def _matrices(x: Float[Tensor, "n Hkv *rows D"]) -> Float[Tensor, "matrices rows D"]:
    """One for each key/value head, in the dtype of the arithmetic."""
    return x.to(compute_dtype(x)).reshape(x.shape[0] * x.shape[1], -1, x.shape[-1]).contiguous()


def _chunks(q: Tensor, k: Tensor, causal: bool, window: int | None) -> Iterator[_Chunk]:
    sequences, heads, length_k, _ = k.shape
    group, length_q = q.shape[1] // heads, q.shape[2]
    behind = length_k - length_q
    for queries in _parts(length_q, _CAUSAL_QUERIES if causal else _LOGITS_PER_CHUNK // (group * length_k)):
        first = 0 if window is None else max(0, queries.start + behind - window + 1)
        keys = slice(first, queries.stop + behind) if causal else slice(0, length_k)
        matrices = _LOGITS_PER_CHUNK // (group * (queries.stop - queries.start) * (keys.stop - keys.start))
        for some in _parts(sequences, matrices // heads):
            for few in _parts(heads, matrices):
                yield _Chunk(some, few, queries, keys)


def _parts(length: int, most: int) -> Iterator[slice]:
    """As few as hold at most `most` each, but 1 at least, and as even as can be: parts of 1 would compile a form apart."""
    parts = -(-length // max(1, most))
    for part in range(parts):
        yield slice(part * length // parts, (part + 1) * length // parts)


@torch.library.custom_op("dreamer4::attend_in_chunks", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, causal: bool, window: int | None, softcap: float | None, scale: float
) -> tuple[Tensor, Tensor]:
    out, lse = _attend_shape(q, k, v, bias)
    cap, factor = _constants(bias, softcap, scale)
    with _compiling_few_forms(q.device):
        for chunk in _chunks(q, k, causal, window):
            found = _attend_chunk(*_inputs(chunk, q, k, v, bias, factor), cap)
            for whole, part in zip((out, lse), found, strict=True):
                target = chunk.of_queries(whole, k.shape[1])
                target.copy_(part.view(target.shape))
    return out, lse


@_attend.register_fake
def _attend_shape(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return _empty(q, q.dtype), _empty(q[..., :1], bias.dtype)


@torch.library.custom_op("dreamer4::attend_in_chunks_backward", mutates_args=())
def _attend_backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    bias: Tensor,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    d_q = _empty(q, q.dtype)
    # Blocks of queries share keys: their parts are added in the dtype of the arithmetic, so that the sum is rounded once.
    d_k, d_v = (_empty(x, bias.dtype).zero_() for x in (k, v))
    cap, factor = _constants(bias, softcap, scale)
    with _compiling_few_forms(q.device):
        for chunk in _chunks(q, k, causal, window):
            rows = (_matrices(chunk.of_queries(x, k.shape[1])) for x in (lse, d_out))
            parts = _attend_chunk_backward(*_inputs(chunk, q, k, v, bias, factor), cap, *rows)
            target = chunk.of_queries(d_q, k.shape[1])
            target.copy_((factor * parts[0]).view(target.shape))
            for whole, part in zip((d_k, d_v), parts[1:], strict=True):
                target = chunk.of_keys(whole)
                target.add_(part.view(target.shape))
    return d_q, d_k.to(k.dtype), d_v.to(v.dtype)


@_attend_backward.register_fake
def _attend_backward_shapes(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(q, q.dtype), _empty(k, k.dtype), _empty(v, v.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, output[1], bias)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, d_out: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return *_attend_backward(d_out, *ctx.saved_tensors, *ctx.options), None, None, None, None, None


_attend.register_autograd(_differentiate, setup_context=_save)


def _inputs(
    chunk: _Chunk, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, factor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is compiled sees contiguous tensors alone, so that strides compile nothing again."""
    queries = factor * _matrices(chunk.of_queries(q, k.shape[1]))
    seen = bias[chunk.queries, chunk.keys].contiguous()
    return queries, _matrices(chunk.of_keys(k)), _matrices(chunk.of_keys(v)), seen


def _constants(bias: Tensor, softcap: float | None, scale: float) -> tuple[Tensor | None, float]:
    """The cap, as a tensor, so that its value compiles nothing again, and what queries are multiplied by."""
    return (None, scale) if softcap is None else (bias.new_tensor(softcap), scale / softcap)


def _empty(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the shape of x, (N, H, L, D); its heads lie beside each other, as in the layout that was folded."""
    return x.new_empty(x.transpose(1, 2).shape, dtype=dtype).transpose(1, 2)


def _attend_chunk(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, cap: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = torch.bmm(q, k.mT)
    numerators, sums, lse = _compiled_weigh(logits.view(-1, *bias.shape), bias, cap)
    return torch.bmm(numerators.view(logits.shape), v).div_(sums.view(*q.shape[:2], 1)), lse


def _attend_chunk_backward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, cap: Tensor | None, lse: Tensor, d_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    logits, d_weights = torch.bmm(q, k.mT), torch.bmm(d_out, v.mT)
    shape = (-1, *bias.shape)
    lse = lse.view(*shape[:2], 1)
    found = _compiled_weigh_backward(logits.view(shape), bias, cap, lse, d_weights.view(shape))
    weights, d_logits = (x.view(logits.shape) for x in found)
    return torch.bmm(d_logits, k), torch.bmm(d_logits.mT, q), torch.bmm(weights.mT, d_out)


def _tanh(x: Tensor) -> Tensor:
    """In float32 several times faster than torch's; tanh(9.02) is 1 − 3 · 10⁻⁸, which rounds to 1."""
    if x.dtype == torch.float64:
        return x.tanh()
    x = x.clamp(-9.02, 9.02)
    u = x * x
    upper = 0.999999979 + u * (1.33796351e-1 + u * (3.49393440e-3 + u * (2.05817725e-5 + u * 1.33166218e-8)))
    lower = 1.0 + u * (4.67129504e-1 + u * (2.58706968e-2 + u * (3.28292624e-4 + u * 7.76103227e-7)))
    return x * upper / lower


def _weigh(
    logits: Float[Tensor, "m Lq columns"], bias: Float[Tensor, "Lq columns"], cap: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights that are not yet divided by their sums, the sums, and the logarithm of the sums of exponentials."""
    masked = (logits if cap is None else cap * _tanh(logits)) + bias
    largest = masked.amax(-1, keepdim=True)
    numerators = (masked - largest).exp()
    sums = numerators.sum(-1, keepdim=True)
    return numerators, sums, largest + sums.log()


def _weigh_backward(
    logits: Float[Tensor, "m Lq columns"],
    bias: Float[Tensor, "Lq columns"],
    cap: Tensor | None,
    lse: Float[Tensor, "m Lq 1"],
    d_weights: Float[Tensor, "m Lq columns"],
) -> tuple[Tensor, Tensor]:
    """Weights, and the gradient of the logits."""
    t = logits if cap is None else _tanh(logits)
    weights = ((t if cap is None else cap * t) + bias - lse).exp()
    d_logits = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True))
    return weights, d_logits if cap is None else d_logits * (cap - cap * t * t)


# With `fullgraph`, too many forms raise; without it torch would go on uncompiled, with a warning.
_compiled_weigh = torch.compile(_weigh, dynamic=True, fullgraph=True)
_compiled_weigh_backward = torch.compile(_weigh_backward, dynamic=True, fullgraph=True)


@contextmanager
def _compiling_few_forms(device: torch.device) -> Iterator[None]:
    """Lengths that happen to be equal compile nothing again; the limit is above all the forms that are left.

    A form is: each of three lengths 1 or more, with a cap or without, two dtypes, in inference mode or outside.
    """
    lengths = torch.fx.experimental._config.patch(use_duck_shape=False)  # type: ignore[attr-defined]
    forms = torch._dynamo.config.patch(recompile_limit=64)
    with torch.no_grad(), without_autocast(device), lengths, forms:
        yield
