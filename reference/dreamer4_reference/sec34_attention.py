"""Sec. 3.4: attention with grouped queries, soft-capped logits and a causal window.

    out_i = Σ_j p_ij v_j,   p_i = softmax of s_ij over the keys j visible to i,   s_ij = c tanh(q_i · k_j / (√D c))

The order is scale 1/√D, cap, mask: a masked key has weight 0 whatever its logit.
Query head h uses key/value head h // (Hq/Hkv), so neighbouring query heads share one (GQA).
One predicate, `may_attend`, decides visibility: a causal query sees no later key, and a window of C keys, the query's
own position included, leaves i − C + 1 … i (A30 "inclusive"; under "exclusive", where C counts past frames only, the
window is C + 1).
Read as: the paper states no c; 50 in the layers (A26). softcap None leaves the cap out.

q (B, Lq, Hq, D);   k, v (B, Lk, Hkv, D);   mask bool (Lq, Lk), True = may attend.   out (B, Lq, Hq, D).
"""

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.levels import require_float64, require_shape


def may_attend(query: int, key: int, *, causal: bool, window: int | None) -> bool:
    """Visibility of the position `key` to the position `query`.

    Args:
        query: index of the query on the attended axis, at least 0.
        key: index of the key on the same axis, at least 0.
        causal: True hides keys after the query.
        window: number of visible positions that end with the query, at least 1; requires causal. None for no limit.

    Returns:
        True if the query may attend to the key.

    Raises:
        ValueError: if window is below 1 or given without causal.

    Example:
        >>> [may_attend(2, key, causal=True, window=2) for key in range(4)]
        [False, True, True, False]
    """
    if window is not None and (window < 1 or not causal):
        raise ValueError(
            f"attention: window is {window} with causal = {causal}, but must be ≥ 1 and needs causal = True"
        )
    if causal and key > query:
        return False
    return window is None or query - key < window


def attention_mask(length_q: int, length_k: int, *, causal: bool, window: int | None) -> Bool[np.ndarray, "Lq Lk"]:
    """Mask of `may_attend` for every pair; the queries are the last length_q of the length_k positions.

    Args:
        length_q: Lq, number of queries, in 1 … length_k; fewer than length_k when earlier keys come from a cache.
        length_k: Lk, number of keys, at least 1.
        causal: True hides keys after the query.
        window: number of visible positions that end with the query, at least 1; requires causal. None for no limit.

    Returns:
        bool, (Lq, Lk), True = may attend.

    Raises:
        ValueError: if length_q lies outside 1 … length_k, or window is below 1 or given without causal.

    Example:
        >>> attention_mask(2, 3, causal=True, window=None).astype(int).tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    if not 1 <= length_q <= length_k:
        raise ValueError(f"attention: length_q is {length_q}, but must lie in 1 … length_k = {length_k}")
    queries, keys = range(length_k - length_q, length_k), range(length_k)
    return np.array([[may_attend(i, j, causal=causal, window=window) for j in keys] for i in queries])


def soft_cap(logits: Float64[np.ndarray, "*batch"], cap: float) -> Float64[np.ndarray, "*batch"]:
    """Soft cap c tanh(logit/c) in [−c, c]: odd, with slope 1 at 0.

    Args:
        logits: float64, any shape.
        cap: c, finite and above 0.

    Returns:
        float64, shaped like logits.

    Raises:
        TypeError: if logits is not a float64 array.
        ValueError: if cap is not finite and above 0.

    Example:
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
    """Attention weights p.

    Args:
        q: queries, float64, (B, Lq, Hq, D).
        k: keys, float64, (B, Lk, Hkv, D), Hkv a divisor of Hq.
        mask: bool, (Lq, Lk), True = may attend, at least one True per row.
        softcap: c, finite and above 0; None for no cap.
        scale: factor of q · k; None for 1/√D.

    Returns:
        p, float64, (B, Hq, Lq, Lk): every row sums to 1, masked keys have exactly 0.

    Raises:
        TypeError: if q or k is not a float64 array or mask is not bool.
        ValueError: if shapes do not match, Hkv does not divide Hq, a query sees no key, or softcap is not finite and
            above 0.

    Example:
        >>> q = np.ones((1, 2, 1, 1))
        >>> attention_weights(q, q, mask=attention_mask(2, 2, causal=True, window=None))[0, 0].tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    _require_attention_inputs(q, k, mask)
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
    """Attention output: for every query and head the mean of the visible values, weighted by p.

    Args:
        q: queries, float64, (B, Lq, Hq, D).
        k: keys, float64, (B, Lk, Hkv, D), Hkv a divisor of Hq.
        v: values, float64, (B, Lk, Hkv, D).
        mask: bool, (Lq, Lk), True = may attend, at least one True per row.
        softcap: c, finite and above 0; None for no cap.
        scale: factor of q · k; None for 1/√D.

    Returns:
        out, float64, (B, Lq, Hq, D).

    Raises:
        TypeError: if q, k or v is not a float64 array or mask is not bool.
        ValueError: if shapes do not match, Hkv does not divide Hq, a query sees no key, or softcap is not finite and
            above 0.

    Example:
        >>> q, v = np.ones((1, 2, 1, 1)), np.array([[[[2.0]], [[4.0]]]])
        >>> attention(q, q, v, mask=attention_mask(2, 2, causal=True, window=None)).ravel().tolist()
        [2.0, 3.0]
    """
    _require_attention_inputs(q, k, mask, v=v)
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
    """Gradients of a loss with respect to q, k and v, given its gradient with respect to the attention output.

        dp_ij = d_out_i · v_j,   ds_ij = p_ij (dp_ij − Σ_j p_ij dp_ij),   before the cap ds_ij (1 − (s_ij/c)²)

    Args:
        q: queries, float64, (B, Lq, Hq, D).
        k: keys, float64, (B, Lk, Hkv, D), Hkv a divisor of Hq.
        v: values, float64, (B, Lk, Hkv, D).
        d_out: ∂loss/∂out, float64, (B, Lq, Hq, D).
        mask: bool, (Lq, Lk), True = may attend, at least one True per row.
        softcap: c, finite and above 0; None for no cap.
        scale: factor of q · k; None for 1/√D.

    Returns:
        (dq, dk, dv), float64, shaped like q, k and v; dk and dv are summed over the query heads of a group.

    Raises:
        TypeError: if q, k, v or d_out is not a float64 array or mask is not bool.
        ValueError: if shapes do not match, Hkv does not divide Hq, a query sees no key, or softcap is not finite and
            above 0.

    Example:
        >>> q = np.ones((1, 1, 1, 1))
        >>> [float(x.item()) for x in attention_gradients(q, q, q, 3 * q, mask=np.ones((1, 1), bool))]
        [0.0, 0.0, 3.0]
    """
    _require_attention_inputs(q, k, mask, v=v, d_out=d_out)
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
    # Subtracting the largest logit does not change the result and keeps exp in range.
    share = np.exp(masked - masked.max(-1, keepdims=True))
    return np.asarray(share / share.sum(-1, keepdims=True))


def _for_each_query_head(kv: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.repeat(kv, q.shape[2] // kv.shape[2], axis=2)


def _sum_over_group(gradient: np.ndarray, kv: np.ndarray) -> np.ndarray:
    batch, length, heads, width = kv.shape
    return np.asarray(gradient.reshape(batch, length, heads, -1, width).sum(3))


def _require_attention_inputs(q: np.ndarray, k: np.ndarray, mask: np.ndarray, **arrays: np.ndarray) -> None:
    require_float64(equation="attention", q=q, k=k, **arrays)
    require_shape("q", q, (None,) * 4, equation="attention")
    require_shape("k", k, (q.shape[0], None, None, q.shape[3]), equation="attention")
    for name, array in arrays.items():
        require_shape(name, array, q.shape if name == "d_out" else k.shape, equation="attention")
    if k.shape[2] == 0 or q.shape[2] % k.shape[2]:
        raise ValueError(f"attention: {q.shape[2]} query heads are not a multiple of {k.shape[2]} key heads")
    require_shape("mask", mask, (q.shape[1], k.shape[1]), equation="attention")
    if mask.dtype != np.bool_:
        raise TypeError(f"attention: mask has dtype {mask.dtype}, but must be bool")
    if not mask.any(-1).all():
        raise ValueError(
            f"attention: query {int(np.argmin(mask.any(-1)))} has no key to attend to, but needs at least one"
        )
