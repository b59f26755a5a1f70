"""Eq. (8), Sec. 3.2, p. 6: ramp loss weight.

    w(τ) = 0.9 τ + 0.1

τ is the signal level: 0 is pure noise, 1 is clean data. In noise levels σ = 1 − τ the same weight is 1 − 0.9 σ.
"""

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import require_level


def ramp_weight(tau: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """Weight of one timestep's loss.

    Args:
        tau: float64 signal levels in [0, 1], any shape.

    Returns:
        Weights in [0.1, 1], float64, shaped like tau: 0.1 at pure noise, 1 at clean data.

    Raises:
        TypeError: if tau is not a float64 array.
        ValueError: if a level lies outside [0, 1].

    Example:
        >>> ramp_weight(np.array([0.0, 1.0])).tolist()
        [0.1, 1.0]
    """
    require_level(tau, equation="Eq. (8)")
    return 0.9 * tau + 0.1
