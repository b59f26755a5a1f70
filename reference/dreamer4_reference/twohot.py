"""Sec. 3.3, p. 7: symexp two-hot, the distributions over scalars that the reward and value heads predict.

    symlog(x) = sign(x) ln(1 + |x|),   symexp(x) = sign(x) (e^|x| − 1),   bins = symexp(−20 … +20)
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
    """Compress magnitudes: odd, with slope 1 at 0, logarithmic for large |x|.

    Args:
        x: real numbers, any shape; the dtype is not checked.

    Returns:
        sign(x) ln(1 + |x|), shaped like x.

    Example:
        >>> symlog(np.array([-1.0, 0.0])).round(3).tolist()
        [-0.693, 0.0]
    """
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


def symexp(x: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """Inverse of symlog.

    Args:
        x: real numbers, any shape; the dtype is not checked. The result overflows to ±inf for |x| above about 709.

    Returns:
        sign(x) (e^|x| − 1), shaped like x.

    Example:
        >>> symexp(symlog(np.array([-5.0, 0.0]))).round(9).tolist()
        [-5.0, 0.0]
    """
    return np.asarray(np.sign(x) * np.expm1(np.abs(x)))


def symexp_bins(num: int = 255, low: float = -20.0, high: float = 20.0) -> Float64[np.ndarray, " K"]:
    """Bin centres in raw values, equally spaced in symlog and exactly symmetric about 0.

    Args:
        num: K, number of bins, at least 2; 0 is a bin only if K is odd.
        low: first bin in symlog, −high.
        high: last bin in symlog, above 0; 20 in the paper.

    Returns:
        Bins in raw values, strictly increasing, float64, (K,).

    Raises:
        ValueError: if num < 2, or low and high are not symmetric about 0.

    Example:
        >>> symexp_bins(3).round().tolist()
        [-485165194.0, 0.0, 485165194.0]
    """
    if num < 2 or not 0 < high == -low:
        raise ValueError(
            f"two-hot: num = {num}, low = {low}, high = {high}, but needs at least 2 bins, symmetric about 0"
        )
    grid = np.linspace(low, high, num)
    return symexp((grid - grid[::-1]) / 2)


def twohot_encode(
    x: Float64[np.ndarray, " N"], bins: Float64[np.ndarray, " K"], *, space: Space = "raw"
) -> Float64[np.ndarray, "N K"]:
    """Distribution over the bins whose mean is x, with mass on at most two adjacent bins.

    Args:
        x: values in raw units, float64, (N,); values outside the bins count as the edge bin.
        bins: K ≥ 2 bin centres in raw values, strictly increasing, float64, (K,).
        space: interpolate over raw values, "raw" (A23, default), or over symlog values, "symlog".

    Returns:
        Probabilities, float64, (N, K); every row sums to 1.

    Raises:
        TypeError: if x or bins is not a float64 array.
        ValueError: if x or bins is not one-dimensional, x contains NaN, bins do not increase strictly, or space is
            unknown.

    Example:
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

    Args:
        p: probabilities over the bins, rows that sum to 1 (not checked), float64, (N, K).
        bins: K ≥ 2 bin centres in raw values, strictly increasing, float64, (K,).
        space: mean over raw values, "raw" (A23, default), or symexp of the mean over symlog values, "symlog".

    Returns:
        Scalars in raw units, float64, (N,). A distribution symmetric about symmetric bins gives exactly 0.

    Raises:
        TypeError: if p or bins is not a float64 array.
        ValueError: if shapes do not match, bins do not increase strictly, or space is unknown.

    Example:
        >>> twohot_decode(np.array([[0.5, 0.0, 0.5]]), symexp_bins(3)).tolist()
        [0.0]
    """
    points = _points(bins, space)
    require_float64(equation="two-hot", p=p)
    require_shape("p", p, (None, len(points)), equation="two-hot")
    mass = p * points
    # Add mirrored bins first: the bins span 0 to 5e8, so rounding in another order would give a mean far from 0.
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
    """Log-probabilities of unnormalised logits over the last axis.

    Args:
        logits: float64, (…, K), K ≥ 1.

    Returns:
        ln p, float64, shaped like logits; finite for finite logits of any magnitude.

    Raises:
        TypeError: if logits is not a float64 array.

    Example:
        >>> log_softmax(np.zeros((1, 2))).round(3).tolist()
        [[-0.693, -0.693]]
    """
    require_float64(equation="softmax", logits=logits)
    # Subtracting the largest logit does not change the result and keeps exp in range.
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def softmax(logits: Float64[np.ndarray, "*batch K"]) -> Float64[np.ndarray, "*batch K"]:
    """Probabilities of unnormalised logits over the last axis.

    Args:
        logits: float64, (…, K), K ≥ 1.

    Returns:
        p, float64, shaped like logits; sums to 1 over the last axis.

    Raises:
        TypeError: if logits is not a float64 array.

    Example:
        >>> softmax(np.zeros((1, 2))).tolist()
        [[0.5, 0.5]]
    """
    return np.asarray(np.exp(log_softmax(logits)))
