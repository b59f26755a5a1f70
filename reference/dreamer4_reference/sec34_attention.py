"""Sec. 3.4: attention with grouped queries, a capped logit and a causal window.

    out_i = Σ_j p_ij v_j,   p_i = softmax over the keys j that i may attend to of s_ij,   s_ij = c tanh(q_i · k_j / (√D c))

The scale 1/√D precedes the cap, the cap precedes the mask: what is masked has weight 0, whatever its logit.
Query head h reads key/value head h // (Hq/Hkv), so neighbouring query heads share one (GQA).
Who may attend to whom is one predicate, `may_attend`: a causal query sees no later key; a window of C keys, itself
included, leaves i − C + 1 … i (A30 "inclusive"; where C counts past frames only, "exclusive", the window is C + 1).
Read as: the paper gives no c; 50 (A26). None leaves the cap out.

q (B, Lq, Hq, D);   k, v (B, Lk, Hkv, D);   mask bool (Lq, Lk), True = may attend.   out (B, Lq, Hq, D).
"""

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.levels import require_float64, require_shape


def may_attend(query: int, key: int, *, causal: bool, window: int | None) -> bool:
    """Whether the position `query` may attend to the position `key`.

    >>> [may_attend(2, key, causal=True, window=2) for key in range(4)]
    [False, True, True, False]
    """
    if window is not None and (window < 1 or not causal):
        raise ValueError(f"attention: window is {window} with causal = {causal}, but is ≥ 1 and comes with causal")
    if causal and key > query:
        return False
    return window is None or query - key < window


def attention_mask(length_q: int, length_k: int, *, causal: bool, window: int | None) -> Bool[np.ndarray, "Lq Lk"]:
    """The predicate for every pair; the queries are the last length_q of the length_k positions.

    >>> attention_mask(2, 3, causal=True, window=None).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    if not 1 <= length_q <= length_k:
        raise ValueError(f"attention: length_q is {length_q}, but must lie in 1 … length_k = {length_k}")
    queries, keys = range(length_k - length_q, length_k), range(length_k)
    return np.array([[may_attend(i, j, causal=causal, window=window) for j in keys] for i in queries])


def soft_cap(logits: Float64[np.ndarray, "*batch"], cap: float) -> Float64[np.ndarray, "*batch"]:
    """c tanh(logit/c), between −c and c: odd, with slope 1 at 0.

    >>> soft_cap(np.array([0.0, 1.0, 1e9]), 50.0).round(4).tolist()
    [0.0, 0.9999, 50.0]
    """
    require_float64(equation="soft cap", logits=logits)
    if not 0 < cap < np.inf:
        raise ValueError(f"soft cap: cap is {cap}, but must be finite and above 0")
    return np.asarray(cap * np.tanh(logits / cap))


def attention_weights(
    q: Float64[np.ndarray, "B Lq Hq D"],
    k: Float64[np.ndarray, "B Lk Hkv D"],
    *,
    mask: Bool[np.ndarray, "Lq Lk"],
    softcap: float | None = None,
    scale: float | None = None,
) -> Float64[np.ndarray, "B Hq Lq Lk"]:
    """p: how much each query takes from each key; every row sums to 1.

    >>> one = np.ones((1, 2, 1, 1))
    >>> attention_weights(one, one, mask=attention_mask(2, 2, causal=True, window=None))[0, 0].tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    _check(q, k, mask)
    return _weights(_logits(q, k, softcap, scale), mask)


def attention(
    q: Float64[np.ndarray, "B Lq Hq D"],
    k: Float64[np.ndarray, "B Lk Hkv D"],
    v: Float64[np.ndarray, "B Lk Hkv D"],
    *,
    mask: Bool[np.ndarray, "Lq Lk"],
    softcap: float | None = None,
    scale: float | None = None,
) -> Float64[np.ndarray, "B Lq Hq D"]:
    """out: for every query and head the mean of the values, weighted by p.

    >>> q, v = np.ones((1, 2, 1, 1)), np.array([[[[2.0]], [[4.0]]]])
    >>> attention(q, q, v, mask=attention_mask(2, 2, causal=True, window=None)).ravel().tolist()
    [2.0, 3.0]
    """
    _check(q, k, mask, v=v)
    weights = _weights(_logits(q, k, softcap, scale), mask)
    return np.einsum("bhij,bjhd->bihd", weights, _for_each_query_head(v, q))


def attention_gradients(
    q: Float64[np.ndarray, "B Lq Hq D"],
    k: Float64[np.ndarray, "B Lk Hkv D"],
    v: Float64[np.ndarray, "B Lk Hkv D"],
    d_out: Float64[np.ndarray, "B Lq Hq D"],
    *,
    mask: Bool[np.ndarray, "Lq Lk"],
    softcap: float | None = None,
    scale: float | None = None,
) -> tuple[Float64[np.ndarray, "B Lq Hq D"], Float64[np.ndarray, "B Lk Hkv D"], Float64[np.ndarray, "B Lk Hkv D"]]:
    """dq, dk, dv for a loss whose gradient with respect to out is d_out.

    dp_ij = d_out_i · v_j,   ds_ij = p_ij (dp_ij − Σ_j p_ij dp_ij),   and before the cap ds_ij (1 − (s_ij/c)²).

    >>> one = np.ones((1, 1, 1, 1))
    >>> [float(x.item()) for x in attention_gradients(one, one, one, 3 * one, mask=np.ones((1, 1), bool))]
    [0.0, 0.0, 3.0]
    """
    _check(q, k, mask, v=v, d_out=d_out)
    capped = _logits(q, k, softcap, scale)
    p = _weights(capped, mask)
    dp = np.einsum("bihd,bjhd->bhij", d_out, _for_each_query_head(v, q))
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    slope = 1.0 if softcap is None else 1 - (capped / softcap) ** 2
    ds = ds * slope * _scale(q, scale)
    dq = np.einsum("bhij,bjhd->bihd", ds, _for_each_query_head(k, q))
    dk, dv = np.einsum("bhij,bihd->bjhd", ds, q), np.einsum("bhij,bihd->bjhd", p, d_out)
    return dq, _sum_over_group(dk, k), _sum_over_group(dv, v)


def _scale(q: np.ndarray, scale: float | None) -> float:
    return float(1 / np.sqrt(q.shape[-1])) if scale is None else scale


def _logits(q: np.ndarray, k: np.ndarray, softcap: float | None, scale: float | None) -> np.ndarray:
    logits = np.einsum("bihd,bjhd->bhij", q, _for_each_query_head(k, q)) * _scale(q, scale)
    return logits if softcap is None else soft_cap(logits, softcap)


def _weights(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    masked = np.where(mask, logits, -np.inf)
    # Subtracting the largest logit changes nothing but keeps exp in range.
    share = np.exp(masked - masked.max(-1, keepdims=True))
    return np.asarray(share / share.sum(-1, keepdims=True))


def _for_each_query_head(kv: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.repeat(kv, q.shape[2] // kv.shape[2], axis=2)


def _sum_over_group(gradient: np.ndarray, kv: np.ndarray) -> np.ndarray:
    batch, length, heads, width = kv.shape
    return np.asarray(gradient.reshape(batch, length, heads, -1, width).sum(3))


def _check(q: np.ndarray, k: np.ndarray, mask: np.ndarray, **others: np.ndarray) -> None:
    require_float64(equation="attention", q=q, k=k, **others)
    require_shape("q", q, (None,) * 4, equation="attention")
    require_shape("k", k, (q.shape[0], None, None, q.shape[3]), equation="attention")
    for name, other in others.items():
        require_shape(name, other, q.shape if name == "d_out" else k.shape, equation="attention")
    if k.shape[2] == 0 or q.shape[2] % k.shape[2]:
        raise ValueError(
            f"attention: {q.shape[2]} query heads do not divide into {k.shape[2]} groups, one for each key head"
        )
    require_shape("mask", mask, (q.shape[1], k.shape[1]), equation="attention")
    if mask.dtype != np.bool_:
        raise TypeError(f"attention: mask has dtype {mask.dtype}, but must be bool")
    if not mask.any(-1).all():
        raise ValueError(
            f"attention: query {int(np.argmin(mask.any(-1)))} has no key to attend to, but needs at least one"
        )
