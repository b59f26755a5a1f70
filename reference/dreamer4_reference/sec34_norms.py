"""Sec. 3.4: root-mean-square normalisation of tokens, and of queries and keys.

    RMSNorm(x) = w ⊙ x / √(mean(x²) + ε),        QK-norm: q ← q / √(mean(q²)),   k ← k / √(mean(k²)), for each head

Read as (A31): the paper does not say how queries and keys are normalised. norm "rms" as above; "l2": x / ‖x‖, which is
"rms" divided by √D; "layernorm": (x − mean(x)) / √(var(x)). QK-norm has no gain here and comes before RoPE, which
preserves norms. `qk_norm` has no ε: it is independent of the scale of its input, and a zero vector is outside its
domain. RMSNorm's ε is an argument.

x (…, D), w → weight (D,), the full gain.   q (B, L, Hq, D), k (B, L, Hkv, D).   Means run over the last axis.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import require_float64, require_option, require_shape

Norm = Literal["rms", "l2", "layernorm"]


def rms_norm(
    x: Float64[np.ndarray, "*batch D"], weight: Float64[np.ndarray, " D"], eps: float
) -> Float64[np.ndarray, "*batch D"]:
    """Scale every token to root mean square 1, then multiply each channel by its gain.

    Args:
        x: float64, (…, D).
        weight: w, the full gain (not an offset from 1), float64, (D,).
        eps: ε, added to the mean square, finite and at least 0; with 0 a zero vector is outside the domain.

    Returns:
        float64, shaped like x.

    Raises:
        TypeError: if x or weight is not a float64 array.
        ValueError: if the shapes do not match, eps is negative or not finite, or x contains a zero vector and eps is 0.

    Example:
        >>> rms_norm(np.array([3.0, -3.0]), np.array([1.0, 10.0]), eps=0.0).tolist()
        [1.0, -10.0]
    """
    require_float64(equation="RMSNorm", x=x, weight=weight)
    require_shape("weight", weight, x.shape[-1:], equation="RMSNorm")
    if not 0 <= eps < np.inf:
        raise ValueError(f"RMSNorm: eps is {eps}, but must be finite and at least 0")
    mean_square = (x**2).mean(-1, keepdims=True) + eps
    if not mean_square.all():
        raise ValueError("RMSNorm: x contains a zero vector and eps is 0, so the divisor is 0")
    return np.asarray(weight * x / np.sqrt(mean_square))


def qk_norm(
    q: Float64[np.ndarray, "B Lq Hq D"], k: Float64[np.ndarray, "B Lk Hkv D"], *, norm: Norm = "rms"
) -> tuple[Float64[np.ndarray, "B Lq Hq D"], Float64[np.ndarray, "B Lk Hkv D"]]:
    """Normalise queries and keys per head, so that attention does not depend on their lengths.

    Args:
        q: queries, float64, (B, Lq, Hq, D).
        k: keys, float64, (B, Lk, Hkv, D).
        norm: "rms" (A31, default), "l2" or "layernorm".

    Returns:
        (q, k), normalised over the last axis, float64, shapes unchanged.

    Raises:
        TypeError: if q or k is not a float64 array.
        ValueError: if q or k is not four-dimensional, norm is unknown, or a divisor is 0: a zero vector, or with
            "layernorm" a vector of equal numbers.

    Example:
        >>> q, k = qk_norm(np.full((1, 1, 1, 2), 9.0), np.full((1, 1, 1, 2), 0.1))
        >>> q.ravel().tolist(), k.ravel().tolist()
        ([1.0, 1.0], [1.0, 1.0])
    """
    require_option("norm", norm, ("rms", "l2", "layernorm"), equation="QK-norm")
    require_float64(equation="QK-norm", q=q, k=k)
    return _normalised("q", q, norm), _normalised("k", k, norm)


def _normalised(name: str, x: np.ndarray, norm: Norm) -> np.ndarray:
    require_shape(name, x, (None,) * 4, equation="QK-norm")
    centred = x - x.mean(-1, keepdims=True) if norm == "layernorm" else x
    square = (centred**2).sum(-1, keepdims=True)
    if not square.all():
        kind = "a vector of equal numbers" if norm == "layernorm" else "a zero vector"
        raise ValueError(f"QK-norm: {name} contains {kind}, so the divisor is 0")
    return np.asarray(centred / np.sqrt(square if norm == "l2" else square / x.shape[-1]))
