"""Eq. (1), Sec. 2, p. 3 and Eq. (6), Sec. 3.2, p. 6: corruption of data to a signal level.

    x_τ = (1 − τ) x₀ + τ x₁,   x₀ ~ N(0, 1),   v = x₁ − x₀

τ → tau, signal level in [0, 1]: 0 is pure noise, 1 is clean data; in Eq. (6) each timestep has its own τ.
x₀ → z0, noise.   x₁ → z1, data.
"""

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import require_level, require_same_shape, require_shape


def corrupt(
    z0: Float64[np.ndarray, "*batch"], z1: Float64[np.ndarray, "*batch"], tau: Float64[np.ndarray, "*leading"]
) -> Float64[np.ndarray, "*batch"]:
    """Mix noise and data to the signal level τ: x_τ = (1 − τ) x₀ + τ x₁.

    Args:
        z0: x₀, float64 noise, any shape, such as (B, T, S, D).
        z1: x₁, float64 data, shaped like z0.
        tau: float64 signal levels in [0, 1], shaped like the leading axes of z0, such as (B, T); a 0-dimensional array
            applies one level everywhere.

    Returns:
        x_τ, float64, shaped like z0: exactly z0 at τ = 0 and z1 at τ = 1 (for finite inputs).

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if the shapes do not match or a level lies outside [0, 1].

    Example:
        >>> corrupt(np.zeros((1, 2, 1)), np.ones((1, 2, 1)), np.array([[0.25, 1.0]])).ravel().tolist()
        [0.25, 1.0]
    """
    require_same_shape(equation="Eq. (1)", z0=z0, z1=z1)
    require_level(tau, equation="Eq. (1)")
    require_shape("tau", tau, z0.shape[: tau.ndim], equation="Eq. (1)")
    tau = tau.reshape(tau.shape + (1,) * (z0.ndim - tau.ndim))
    return np.asarray((1 - tau) * z0 + tau * z1)


def velocity(z0: Float64[np.ndarray, "*batch"], z1: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """Velocity v = x₁ − x₀ of the straight path from noise to data, the same at every τ.

    Args:
        z0: x₀, float64 noise, any shape.
        z1: x₁, float64 data, shaped like z0.

    Returns:
        v, float64, shaped like z0.

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if the shapes differ.

    Example:
        >>> velocity(np.array([1.0, 2.0]), np.array([4.0, 2.0])).tolist()
        [3.0, 0.0]
    """
    require_same_shape(equation="Eq. (1)", z0=z0, z1=z1)
    return np.asarray(z1 - z0)
