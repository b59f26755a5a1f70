"""Eq. (2), Sec. 2, p. 3 and Sec. 3.2, p. 6: sampling by Euler steps along the predicted velocity.

    x_{τ+d} = x_τ + v̂ d,   v̂ = (x̂₁ − x_τ) / (1 − τ),   d = 1/K,   τ = 0, 1/K, …, 1 − 1/K

The paper uses K = 4. While a frame is sampled, the frames before it are given to the network slightly corrupted.
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
    """x_{τ+d}; with τ + d = 1 it is x̂₁ itself.

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
    """x₁ from noise x0 in K = num_steps calls network(x_tau, tau, d) → x1_hat; a power of two, since d = 1/K.

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
    """The past frames as the network sees them while it generates the next: at signal level `level` (A9).

    >>> corrupt_context(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))).item()
    0.9
    """
    require_same_shape(equation="Eq. (2)", context=context, noise=noise)
    require_shape("context", context, (None,) * 4, equation="Eq. (2)")
    return corrupt(noise, context, np.full(context.shape[:2], float(level)))
