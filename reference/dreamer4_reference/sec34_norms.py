"""Sec. 3.4: root-mean-square normalisation of tokens, and of queries and keys.

    RMSNorm(x) = w ⊙ x / √(mean(x²) + ε),        QK-norm: q ← q / √(mean(q²)),   k ← k / √(mean(k²)), for each head

Read as (A31): the paper normalises queries and keys and says not how. norm "rms" as above; "l2": x / ‖x‖, which is "rms"
over √D; "layernorm": (x − mean(x)) / √(var(x)). Gains, where there are any, are 1 here. It comes before RoPE, which keeps norms.
QK-norm has no ε here: it is scale-free, and ends where there is nothing to normalise. RMSNorm's ε is the caller's.

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
    """Every token scaled to root mean square 1, then by the gain of each channel.

    >>> rms_norm(np.array([3.0, -3.0]), np.array([1.0, 10.0]), eps=0.0).tolist()
    [1.0, -10.0]
    """
    require_float64(equation="RMSNorm", x=x, weight=weight)
    require_shape("weight", weight, x.shape[-1:], equation="RMSNorm")
    if not 0 <= eps < np.inf:
        raise ValueError(f"RMSNorm: eps is {eps}, but must be finite and at least 0")
    mean_square = (x**2).mean(-1, keepdims=True) + eps
    if not mean_square.all():
        raise ValueError("RMSNorm: x holds a zero vector and eps is 0, so that nothing is left to divide by")
    return np.asarray(weight * x / np.sqrt(mean_square))


def qk_norm(
    q: Float64[np.ndarray, "B Lq Hq D"], k: Float64[np.ndarray, "B Lk Hkv D"], *, norm: Norm = "rms"
) -> tuple[Float64[np.ndarray, "B Lq Hq D"], Float64[np.ndarray, "B Lk Hkv D"]]:
    """Queries and keys normalised for each head: the length of q or k, whatever it was, no longer matters.

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
        raise ValueError(f"QK-norm: {name} holds {kind}, which has no direction to keep")
    return np.asarray(centred / np.sqrt(square if norm == "l2" else square / x.shape[-1]))
