"""Sec. 4: the actions of Minecraft, 23 binary components and one categorical component of 121 mouse movements.

    f(x) = sign(x) ln(1 + μ |x|/m) / ln(1 + μ),   bin = nearest of −1, −0.8, …, 1 to f(x),   class = 11 · bin₁ + bin₂

μ-law bins are narrow near 0 and wide for fast movements. No movement is the centre, class 60.
The paper says 11 × 11 = 121 classes after μ-law encoding. It leaves open m, μ, which axis comes first, and which keys
and buttons the 23 are. Read as in the public VPT data: m = μ = 10, and movements beyond ±m count as ±m.

x → movement (N, 2) in degrees of camera rotation, both axes.   m → limit.   μ → mu.   class, ints in [0, 121), (N,).
"""

from typing import Final

import numpy as np
from jaxtyping import Float64, Int

from dreamer4_reference.levels import require_float64, require_shape

BINARIES: Final = 23
"""Keys and buttons, each pressed or not."""

MOUSE_BINS: Final = 11
"""Bins of one axis of the mouse; 11² = 121 classes."""


def mu_law(x: Float64[np.ndarray, "*batch"], limit: float = 10.0, mu: float = 10.0) -> Float64[np.ndarray, "*batch"]:
    """μ-law encoding f, an odd function from −1 at −limit to 1 at limit.

    Args:
        x: float64 movements in degrees, any shape; values beyond ±limit count as ±limit.
        limit: m, largest movement in degrees, finite and above 0.
        mu: μ, strength of the compression, finite and above 0.

    Returns:
        Encoded values in [−1, 1], float64, shaped like x.

    Raises:
        TypeError: if x is not a float64 array.
        ValueError: if limit or mu is not finite and above 0.

    Example:
        >>> mu_law(np.array([-10.0, 0.0, 1.0, 99.0])).round(3).tolist()
        [-1.0, 0.0, 0.289, 1.0]
    """
    require_float64(equation="μ-law", x=x)
    if not (0 < limit < np.inf and 0 < mu < np.inf):
        raise ValueError(f"μ-law: limit is {limit} and mu is {mu}, but both must be finite and above 0")
    size = np.minimum(np.abs(x) / limit, 1)
    return np.asarray(np.sign(x) * np.log1p(mu * size) / np.log1p(mu))


def mouse_class(movement: Float64[np.ndarray, "N 2"], limit: float = 10.0, mu: float = 10.0) -> Int[np.ndarray, " N"]:
    """Class 11 · bin₁ + bin₂ of each mouse movement.

    Args:
        movement: degrees of camera rotation along both axes, float64, (N, 2); column 0 is the first axis.
        limit: m, largest movement in degrees, finite and above 0; larger movements count as ±limit.
        mu: μ, strength of the compression, finite and above 0.

    Returns:
        Classes in [0, 121), int64, (N,); 60 is no movement.

    Raises:
        TypeError: if movement is not a float64 array.
        ValueError: if movement is not (N, 2) or contains NaN, or limit or mu is not finite and above 0.

    Example:
        >>> mouse_class(np.array([[0.0, 0.0], [-10.0, -10.0], [0.0, 10.0], [10.0, 0.0]])).tolist()
        [60, 0, 65, 115]
    """
    require_float64(equation="mouse class", movement=movement)
    require_shape("movement", movement, (None, 2), equation="mouse class")
    if np.isnan(movement).any():
        raise ValueError("mouse class: movement contains NaN, but must hold numbers")
    half = MOUSE_BINS // 2
    first, second = np.rint(half * mu_law(movement, limit, mu) + half).astype(np.int64).T
    return np.asarray(MOUSE_BINS * first + second)
