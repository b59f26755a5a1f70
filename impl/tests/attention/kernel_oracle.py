"""Attention as the kernels should compute it: an explicit predicate and dense float64 arithmetic, gradients by
autograd.

It shares no code with a backend. With `storage` torch.bfloat16 it rounds exactly what a kernel rounds: the reference
with matched rounding, whose error bounds that of a kernel in bfloat16.
"""

import torch
from torch import Tensor


def may_attend(
    query: int,
    key: int,
    *,
    length_k: int,
    causal: bool = False,
    window: int | None = None,
    private: int = 0,
    filled: int | None = None,
) -> bool:
    """Whether the query at position `query` may attend to the key at position `key`.

    >>> [may_attend(2, key, length_k=4, causal=True, window=2) for key in range(4)]
    [False, True, True, False]
    >>> [may_attend(query, 2, length_k=3, private=1) for query in range(3)]
    [False, False, True]
    """
    if causal and key > query:
        return False
    if window is not None and query - key >= window:
        return False
    if key >= length_k - private > query:
        return False
    return filled is None or key < filled


def visible_keys(length_q: int, length_k: int, **rule: int | bool | None) -> Tensor:
    """The predicate for every pair, (Lq, Lk): the queries are the last of the positions.

    >>> visible_keys(1, 3, filled=2).tolist()
    [[True, True, False]]
    """
    queries = range(length_k - length_q, length_k)
    return torch.tensor([[may_attend(i, j, length_k=length_k, **rule) for j in range(length_k)] for i in queries])


def prepare(x: Tensor, gain: Tensor | None, eps: float, angles: tuple[Tensor, Tensor], axis: str) -> Tensor:
    """QK-norm of every head by itself, then RoPE by the angles (L, D/2) of the positions along `axis`; float64.

    >>> quarter = (torch.zeros(1, 1), torch.ones(1, 1))
    >>> prepare(torch.tensor([3.0, -3.0]).view(1, 1, 1, 1, 2), None, 0.0, quarter, "time").flatten().tolist()
    [1.0, 1.0]
    """
    x = x.double()
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    if gain is not None:
        x = x * gain.double()
    shape = (1, 1, -1, 1, x.shape[-1] // 2) if axis == "space" else (1, -1, 1, 1, x.shape[-1] // 2)
    cos, sin = (table.double().view(shape) for table in angles)
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Tensor,
    *,
    axis: str,
    softcap: float | None,
    scale: float,
    storage: torch.dtype = torch.float64,
) -> Tensor:
    """Attention of prepared q (B, T, S, Hq, D) to k and v, with every weight in memory; float64.

    The weights, the gradient of the logits and the result are rounded to the dtype `storage`.
    """
    group = q.shape[3] // k.shape[3]
    kv_heads = [head // group for head in range(q.shape[3])]
    order = (0, 1, 3, 2, 4) if axis == "space" else (0, 2, 3, 1, 4)
    q, k, v = (x.double().permute(order) for x in (q, k[..., kv_heads, :], v[..., kv_heads, :]))
    logits = rounded(scale * (q @ k.mT), gradient=storage)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.masked_fill(~visible, -torch.inf)
    weights = rounded((logits - logits.amax(-1, keepdim=True).detach()).exp(), value=storage)
    out = weights @ v / weights.sum(-1, keepdim=True)
    back = [order.index(dimension) for dimension in range(5)]
    return rounded(out, value=storage).permute(back)


def rounded(x: Tensor, *, value: torch.dtype = torch.float64, gradient: torch.dtype = torch.float64) -> Tensor:
    """Round x to the dtype `value` and its gradient to the dtype `gradient`; both stay float64.

    >>> rounded(torch.tensor(1.001, dtype=torch.float64), value=torch.bfloat16).item()
    1.0
    """
    return _Rounded.apply(x, value, gradient)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, value: torch.dtype, gradient: torch.dtype) -> Tensor:
        ctx.gradient = gradient
        return x.to(value).double()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.to(ctx.gradient).double(), None, None
