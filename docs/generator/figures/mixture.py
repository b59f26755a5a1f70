"""A problem with a known solution: one-dimensional data with two values, and the best prediction of the data.

For data x₁ = ±1 with probability ½ each and noise x₀ ~ N(0, 1), the mean of x₁ given x_τ = (1 − τ) x₀ + τ x₁ is
tanh(τ x_τ / (1 − τ)²): the prediction that flow matching learns.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64


def best_prediction(
    x_tau: Float64[np.ndarray, "B T S D"], tau: Float64[np.ndarray, "B T"], d: Float64[np.ndarray, "B T"]
) -> Float64[np.ndarray, "B T S D"]:
    """Mean of the data given x_τ, whatever the step size.

    Args:
        x_tau: corrupted data, float64, (B, T, S, D).
        tau: signal levels in [0, 1), float64, (B, T).
        d: ignored: flow matching does not know the step size that it is sampled with.

    Returns:
        x̂₁ in [−1, 1], float64, (B, T, S, D).

    Example:
        >>> at = np.full((1, 1), 0.5)
        >>> best_prediction(np.full((1, 1, 1, 1), 0.5), at, at).round(3).item()
        0.762
    """
    level = tau[..., None, None]
    return np.asarray(np.tanh(level * x_tau / (1 - level) ** 2))
