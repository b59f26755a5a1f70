"""Eq. (2), Sec. 2, p. 3 and Sec. 3.2, p. 6: sampling by Euler steps along the predicted velocity.

    x_{τ+d} = x_τ + v̂ d,   v̂ = (x̂₁ − x_τ) / (1 − τ),   d = 1/K,   τ = 0, 1/K, …, 1 − 1/K

The paper uses K = 4. While a frame is sampled, the network receives the preceding frames slightly corrupted.
Read as (A9): "slightly corrupt … to signal level τ_ctx = 0.1" means 10 % noise, signal level 0.9.

x_τ → x_tau (B, T, S, D).   x̂₁ → x1_hat, the network's prediction of the clean data.   τ → tau, d → d, both (B, T).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.eq01_corruption import corrupt
from dreamer4_reference.levels import (
    require_level,
    require_power_of_two,
    require_same_shape,
    require_shape,
    require_step,
)


def euler_step(
    x_tau: Float64[np.ndarray, "B T S D"],
    x1_hat: Float64[np.ndarray, "B T S D"],
    tau: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
) -> Float64[np.ndarray, "B T S D"]:
    """Advance x_τ to x_{τ+d} by one Euler step.

    At τ + d = 1 the result is the prediction x̂₁ up to rounding. τ = 1 is outside the domain, because 1 − τ divides.

    Args:
        x_tau: x_τ, float64, (B, T, S, D).
        x1_hat: x̂₁, the network's prediction of the clean data, float64, (B, T, S, D).
        tau: signal levels of x_tau in [0, 1), float64, (B, T).
        d: step sizes 2⁻ⁿ with n ≥ 0, float64, (B, T), such that τ + d ≤ 1.

    Returns:
        x_{τ+d}, float64, (B, T, S, D).

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if shapes do not match, τ lies outside [0, 1), d is not a power of 1/2, or τ + d > 1.

    Example:
        >>> euler_step(np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), np.array([[0.5]]), np.array([[0.25]])).item()
        0.5
    """
    require_same_shape(equation="Eq. (2)", x_tau=x_tau, x1_hat=x1_hat)
    require_same_shape(equation="Eq. (2)", tau=tau, d=d)
    require_shape("x_tau", x_tau, (*tau.shape, None, None), equation="Eq. (2)")
    require_level(tau, equation="Eq. (2)", below_one=True)
    require_step(d, equation="Eq. (2)")
    if (tau + d > 1).any():
        raise ValueError(f"Eq. (2): tau + d reaches {(tau + d).max()}, but no step may lead past τ = 1")
    v_hat = (x1_hat - x_tau) / (1 - tau)[..., None, None]
    return np.asarray(x_tau + v_hat * d[..., None, None])


def sample(
    network: Callable[..., np.ndarray], x0: Float64[np.ndarray, "B T S D"], num_steps: int
) -> Float64[np.ndarray, "B T S D"]:
    """Generate data x₁ from noise x₀ by K Euler steps of size d = 1/K, one call of the network each.

    Args:
        network: called as network(x_tau, tau, d) with x_tau (B, T, S, D) and tau, d (B, T); returns the prediction of
            the clean data, float64, (B, T, S, D). Call k in [0, K) has τ = k/K and d = 1/K at every timestep.
        x0: float64 noise, usually N(0, 1), (B, T, S, D).
        num_steps: K, a power of two, since d = 1/K must be a step size.

    Returns:
        x₁, float64, (B, T, S, D): the network's last prediction up to rounding.

    Raises:
        TypeError: if num_steps is not an int, or x0 or a prediction is not a float64 array.
        ValueError: if num_steps is not a power of two, or x0 or a prediction has a wrong shape.

    Example:
        >>> sample(lambda x, tau, d: np.full_like(x, 3.0), np.zeros((1, 1, 1, 1)), 4).item()
        3.0
    """
    require_power_of_two("num_steps", num_steps, equation="Eq. (2)")
    require_shape("x0", x0, (None,) * 4, equation="Eq. (2)")
    x_tau, d = x0, np.full(x0.shape[:2], 1 / num_steps)
    for step in range(num_steps):
        tau = step * d
        x_tau = euler_step(x_tau, network(x_tau, tau, d), tau, d)
    return x_tau


def corrupt_context(
    context: Float64[np.ndarray, "B T S D"], noise: Float64[np.ndarray, "B T S D"], level: float = 0.9
) -> Float64[np.ndarray, "B T S D"]:
    """Corrupt past frames as the network receives them while it generates the next frame (A9).

    Args:
        context: clean latents of past frames, float64, (B, T, S, D).
        noise: float64 noise, usually N(0, 1), (B, T, S, D).
        level: signal level in [0, 1]; the default 0.9 is 10 % noise (A9 "slight"). 1.0 is "none", 0.1 is "literal".

    Returns:
        The corrupted frames, float64, (B, T, S, D).

    Raises:
        TypeError: if context or noise is not a float64 array.
        ValueError: if the shapes differ or are not four-dimensional, or level lies outside [0, 1].

    Example:
        >>> corrupt_context(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))).item()
        0.9
    """
    require_same_shape(equation="Eq. (2)", context=context, noise=noise)
    require_shape("context", context, (None,) * 4, equation="Eq. (2)")
    return corrupt(noise, context, np.full(context.shape[:2], float(level)))
