"""Eq. (1), Sec. 2, p. 3 and Eq. (6), Sec. 3.2, p. 6: corruption of data to a signal level.

    x_τ = (1 − τ) x₀ + τ x₁,   x₀ ~ N(0, 1),   v = x₁ − x₀

τ → tau, signal level in [0, 1]: 0 is pure noise, 1 is clean data; in Eq. (6) each timestep has its own.
x₀ → z0, noise.   x₁ → z1, data.
"""

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import require_level, require_same_shape, require_shape


def corrupt(
    z0: Float64[np.ndarray, "*batch"], z1: Float64[np.ndarray, "*batch"], tau: Float64[np.ndarray, "*leading"]
) -> Float64[np.ndarray, "*batch"]:
    """x_τ; the shape of tau is the leading part of that of z0 and z1: (B, T) for (B, T, S, D).

    >>> corrupt(np.zeros((1, 2, 1)), np.ones((1, 2, 1)), np.array([[0.25, 1.0]])).ravel().tolist()
    [0.25, 1.0]
    """
    require_same_shape(equation="Eq. (1)", z0=z0, z1=z1)
    require_level(tau, equation="Eq. (1)")
    require_shape("tau", tau, z0.shape[: tau.ndim], equation="Eq. (1)")
    tau = tau.reshape(tau.shape + (1,) * (z0.ndim - tau.ndim))
    return np.asarray((1 - tau) * z0 + tau * z1)


def velocity(z0: Float64[np.ndarray, "*batch"], z1: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """v, the same at every τ: the direction of the straight line from noise to data.

    >>> velocity(np.array([1.0, 2.0]), np.array([4.0, 2.0])).tolist()
    [3.0, 0.0]
    """
    require_same_shape(equation="Eq. (1)", z0=z0, z1=z1)
    return np.asarray(z1 - z0)
