"""Sec. 3.3, p. 7: symexp two-hot, the distributions over scalars that the reward and value heads predict.

    symlog(x) = sign(x) ln(1 + |x|),   symexp(x) = sign(x) (eˣ − 1 with |x|),   bins = symexp(−20 … +20)
    x between b_k and b_{k+1}:  p_{k+1} = (x − b_k)/(b_{k+1} − b_k),  p_k = 1 − p_{k+1};   decoded: Σ p_k b_k

Read as (A23): interpolation and mean are over raw values (space "raw", as in Dreamer 3). Space "symlog" does both over
symlog values and takes the symexp of the mean, which is biased for stochastic targets.
A value outside the bins goes to the edge bin.   x → x (N,).   p → p (N, K).   b → bins (K,), raw values, increasing.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import require_float64, require_option, require_shape

Space = Literal["raw", "symlog"]


def symlog(x: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """Compress magnitudes: odd, slope 1 at 0, logarithmic far out.

    >>> symlog(np.array([-1.0, 0.0])).round(3).tolist()
    [-0.693, 0.0]
    """
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


def symexp(x: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """Undo symlog.

    >>> symexp(symlog(np.array([-5.0, 0.0]))).round(9).tolist()
    [-5.0, 0.0]
    """
    return np.asarray(np.sign(x) * np.expm1(np.abs(x)))


def symexp_bins(num: int = 255, low: float = -20.0, high: float = 20.0) -> Float64[np.ndarray, " K"]:
    """Bins in raw values, spaced evenly in symlog, exactly symmetric about 0.

    >>> symexp_bins(3).round().tolist()
    [-485165194.0, 0.0, 485165194.0]
    """
    if num < 2 or not 0 < high == -low:
        raise ValueError(f"two-hot: num = {num}, low = {low}, high = {high}, but at least 2 bins are symmetric about 0")
    grid = np.linspace(low, high, num)
    return symexp((grid - grid[::-1]) / 2)


def twohot_encode(
    x: Float64[np.ndarray, " N"], bins: Float64[np.ndarray, " K"], *, space: Space = "raw"
) -> Float64[np.ndarray, "N K"]:
    """At most two adjacent bins share the mass of 1, so that their mean is x.

    >>> twohot_encode(np.array([0.25, 9.0]), np.array([-1.0, 0.0, 1.0])).tolist()
    [[0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    require_float64(equation="two-hot", x=x)
    require_shape("x", x, (None,), equation="two-hot")
    if np.isnan(x).any():
        raise ValueError("two-hot: x contains NaN, but must hold numbers")
    points = _points(bins, space)
    inside = np.clip(x if space == "raw" else symlog(x), points[0], points[-1])
    k = np.minimum(np.searchsorted(points, inside, side="right") - 1, len(points) - 2)
    p, row = np.zeros((len(x), len(points))), np.arange(len(x))
    p[row, k + 1] = (inside - points[k]) / (points[k + 1] - points[k])
    p[row, k] = 1 - p[row, k + 1]
    return p


def twohot_decode(
    p: Float64[np.ndarray, "N K"], bins: Float64[np.ndarray, " K"], *, space: Space = "raw"
) -> Float64[np.ndarray, " N"]:
    """Mean of the bins under the probabilities p.

    >>> twohot_decode(np.array([[0.5, 0.0, 0.5]]), symexp_bins(3)).tolist()
    [0.0]
    """
    points = _points(bins, space)
    require_float64(equation="two-hot", p=p)
    require_shape("p", p, (None, len(points)), equation="two-hot")
    mass = p * points
    # Bin k is added to its mirror image first: between 0 and 5e8 rounding would otherwise leave a mean far from 0.
    mean = ((mass + mass[:, ::-1]) / 2).sum(-1)
    return mean if space == "raw" else symexp(mean)


def _points(bins: Float64[np.ndarray, " K"], space: Space) -> Float64[np.ndarray, " K"]:
    require_option("space", space, ("raw", "symlog"), equation="two-hot")
    require_float64(equation="two-hot", bins=bins)
    require_shape("bins", bins, (None,), equation="two-hot")
    if len(bins) < 2 or not (np.diff(bins) > 0).all():
        raise ValueError(f"two-hot: bins has {len(bins)} values, but must hold at least 2, strictly increasing")
    return bins if space == "raw" else symlog(bins)


def log_softmax(logits: Float64[np.ndarray, "*batch K"]) -> Float64[np.ndarray, "*batch K"]:
    """ln p for unnormalised logits over the last axis.

    >>> log_softmax(np.zeros((1, 2))).round(3).tolist()
    [[-0.693, -0.693]]
    """
    require_float64(equation="softmax", logits=logits)
    # Subtracting the largest logit changes nothing but keeps exp in range.
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def softmax(logits: Float64[np.ndarray, "*batch K"]) -> Float64[np.ndarray, "*batch K"]:
    """p for unnormalised logits over the last axis.

    >>> softmax(np.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """
    return np.asarray(np.exp(log_softmax(logits)))
