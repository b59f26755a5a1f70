"""Backend "eager": attention in plain torch, every logit in memory."""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.arguments import require_floating
from dreamer4_impl.attention.folding import Backend, folded
from dreamer4_impl.attention.visibility import Visible
from dreamer4_impl.precision import compute_dtype, without_autocast


def soft_cap(logits: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """Bound logits smoothly: c tanh(s/c), slope 1 at 0.

    Computed in float32 (float64 for float64) and rounded once. Differentiable; compiles without graph breaks.

    Args:
        logits: s, floating, any shape.
        cap: c, above 0 and finite.

    Returns:
        Values in (−c, c), shape and dtype of the logits.

    Raises:
        TypeError: if the logits are not a floating-point tensor.
        ValueError: if the cap is not above 0 and finite.

    Example:
        >>> soft_cap(torch.tensor([0.0, 1e6]), 50.0).tolist()
        [0.0, 50.0]
    """
    require_floating(logits=logits)
    require_softcap(cap)
    return (cap * torch.tanh(logits.to(compute_dtype(logits)) / cap)).to(logits.dtype)


def require_softcap(softcap: float | None) -> None:
    """Raise ValueError unless the cap is above 0 and finite, or None.

    Args:
        softcap: c, the bound of the logits' size; None leaves the cap out.

    Raises:
        ValueError: if the cap is 0, negative, infinite or NaN.
    """
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"the soft cap must be above 0 and finite (None leaves it out); got {softcap!r}")


def dense_attention(
    q: Float[Tensor, "N Hq Lq D"],
    k: Float[Tensor, "N Hkv Lk D"],
    v: Float[Tensor, "N Hkv Lk D"],
    visible: Visible,
    softcap: float | None,
    scale: float,
) -> Float[Tensor, "N Hq Lq D"]:
    """Attend with every logit in memory.

    Computed in float32 (float64 for float64) and rounded once, unless autocast is on.

    Args:
        q: prepared queries, any strides, floating, (N, Hq, Lq, D).
        k: prepared keys, any strides, floating, (N, Hkv, Lk, D).
        v: values, any strides, floating, (N, Hkv, Lk, D).
        visible: which keys each query may attend to, at least one.
        softcap: c > 0 of the logits; None leaves the cap out.
        scale: of the logits, before the cap.

    Returns:
        Weighted means of the values, in the dtype of q.

    Raises:
        TypeError: if q is not a floating-point tensor and a cap is set.
        ValueError: if the cap is not above 0 and finite.
    """
    compute = compute_dtype(q)
    grouped = q.to(compute).reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
    logits = scale * torch.einsum("nhgid,nhjd->nhgij", grouped, k.to(compute))
    if softcap is not None:
        logits = soft_cap(logits, softcap)
    table = visible.table(q.shape[2], k.shape[2], q.device)
    if table is not None:
        logits = logits.masked_fill(~table, -torch.inf)
    return torch.einsum("nhgij,nhjd->nhgid", logits.softmax(-1), v.to(compute)).flatten(1, 2).to(q.dtype)


def _eager(q: Tensor, k: Tensor, v: Tensor, visible: Visible, softcap: float | None, scale: float) -> Tensor:
    with without_autocast(q.device):
        return dense_attention(q, k, v, visible, softcap, scale)


eager: Final[Backend] = folded(_eager)
