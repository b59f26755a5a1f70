"""Sec. 3.4: rotary position embeddings along one axis.

    pair i of the D channels of a token at position p is rotated by p θ_i,   θ_i = base^(−2i/D),   i = 0 … D/2 − 1
    (a, b) → (a cos pθ_i − b sin pθ_i,  a sin pθ_i + b cos pθ_i)

With q rotated by p and k by p', the score depends on p − p' alone, and norms do not change.
Read as (A35): one rotation along the axis that a layer mixes: token index in space layers, frame index in time layers;
never the flattened space-time index. The paper states no base; 10000 (A26).
The choice of pairs is free, because a permutation of the channels of q and k changes no score:
layout "half" pairs channel i with i + D/2, "interleaved" pairs 2i with 2i + 1.

x (B, L, H, D), D even.   p → positions, integers (L,).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from dreamer4_reference.levels import require_float64, require_option, require_shape

Layout = Literal["half", "interleaved"]


def rope_angles(positions: Int[np.ndarray, " L"], dim: int, base: float = 10000.0) -> Float64[np.ndarray, "L half"]:
    """Angles p θ_i in radians.

    Args:
        positions: p, integer dtype, (L,).
        dim: D, channels per head, even and at least 2.
        base: base of the frequencies, finite and above 0.

    Returns:
        float64, (L, D/2), one row per position, one column per pair of channels.

    Raises:
        TypeError: if positions is not of an integer dtype.
        ValueError: if positions is not one-dimensional, dim is odd or below 2, or base is not finite and above 0.

    Example:
        >>> rope_angles(np.array([0, 5]), 4).tolist()
        [[0.0, 0.0], [5.0, 0.05]]
    """
    require_shape("positions", positions, (None,), equation="RoPE")
    if not np.issubdtype(positions.dtype, np.integer):
        raise TypeError(f"RoPE: positions has dtype {positions.dtype}, but must hold whole numbers")
    if dim < 2 or dim % 2:
        raise ValueError(f"RoPE: dim is {dim}, but must be even and at least 2: channels are rotated in pairs")
    if not 0 < base < np.inf:
        raise ValueError(f"RoPE: base is {base}, but must be finite and above 0")
    return np.outer(positions, base ** (-2 * np.arange(dim // 2) / dim))


def rope(
    x: Float64[np.ndarray, "B L H D"],
    positions: Int[np.ndarray, " L"],
    base: float = 10000.0,
    *,
    layout: Layout = "half",
) -> Float64[np.ndarray, "B L H D"]:
    """Rotate every pair of channels by its angle.

    Args:
        x: queries or keys, float64, (B, L, H, D), D even.
        positions: index of each token along the axis that the layer mixes, integer dtype, (L,).
        base: base of the frequencies, finite and above 0; 10000 (A26).
        layout: pairs of channels: "half", i with i + D/2 (default), or "interleaved", 2i with 2i + 1.

    Returns:
        float64, (B, L, H, D); norms are preserved.

    Raises:
        TypeError: if x is not a float64 array or positions is not of an integer dtype.
        ValueError: if shapes do not match, D is odd, base is not finite and above 0, or layout is unknown.

    Example:
        >>> rope(np.array([1.0, 0.0]).reshape(1, 1, 1, 2), np.array([1])).round(3).ravel().tolist()
        [0.54, 0.841]
    """
    require_option("layout", layout, ("half", "interleaved"), equation="RoPE")
    require_float64(equation="RoPE", x=x)
    require_shape("x", x, (None, len(positions), None, None), equation="RoPE")
    angles = rope_angles(positions, x.shape[-1], base)[:, None, :]
    pair = _pairs(x.shape[-1], layout)
    a, b = x[..., pair[0]], x[..., pair[1]]
    turned = np.empty_like(x)
    turned[..., pair[0]] = a * np.cos(angles) - b * np.sin(angles)
    turned[..., pair[1]] = a * np.sin(angles) + b * np.cos(angles)
    return turned


def _pairs(dim: int, layout: Layout) -> np.ndarray:
    channels = np.arange(dim)
    return channels.reshape(2, -1) if layout == "half" else channels.reshape(-1, 2).T
