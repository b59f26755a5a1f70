"""Eq. (3), Sec. 2, p. 3: shortcut target in velocities: the mean of two half steps is the target of a full step.

    b′ = f(x_τ, τ, d/2),   x′ = x_τ + b′ d/2,   b″ = f(x′, τ + d/2, d/2)
    v_target = x₁ − x₀ if d = d_min, else sg(b′ + b″)/2

Read as (A4): d_min has no half step; in sequences of mixed d those timesteps enter both teacher calls as
(x_τ, τ, d_min). sg stops the gradient; NumPy has none. Eq. (7) is the same target for a network that predicts x₁.

f → velocity_network(x, tau, d).   x₀ → x0, noise; x₁ → x1, data: (B, T, S, D).   τ → tau, d → d: (B, T).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.eq01_corruption import corrupt, velocity
from dreamer4_reference.levels import require_level, require_same_shape, require_step


def shortcut_target(
    velocity_network: Callable[..., np.ndarray],
    x0: Float64[np.ndarray, "B T S D"],
    x1: Float64[np.ndarray, "B T S D"],
    tau: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
    d_min: float,
) -> Float64[np.ndarray, "B T S D"]:
    """Target velocity for the training of f(x_τ, τ, d).

    Args:
        velocity_network: f, called as velocity_network(x, tau, d) with x (B, T, S, D) and tau, d (B, T); returns a
            velocity, float64, (B, T, S, D). It is called twice: at (x_τ, τ, d/2), then at (x′, τ + d/2, d/2).
        x0: noise, float64, (B, T, S, D).
        x1: data, float64, (B, T, S, D).
        tau: signal levels in [0, 1), float64, (B, T); 0 is pure noise. That τ is a multiple of d is not checked.
        d: step sizes in {1, 1/2, …, d_min}, float64, (B, T); they may differ within a sequence.
        d_min: smallest step size, 1/K_max, a power of 1/2.

    Returns:
        v_target, float64, (B, T, S, D): x₁ − x₀ at timesteps with d = d_min, (b′ + b″)/2 elsewhere.

    Raises:
        TypeError: if an array, a result of velocity_network included, is not float64.
        ValueError: if shapes do not match, τ lies outside [0, 1), or d or d_min is not in the list of step sizes.

    Example:
        >>> zeros, tau, d = np.zeros((1, 2, 1, 1)), np.zeros((1, 2)), np.array([[0.25, 0.5]])
        >>> shortcut_target(lambda x, tau, d: x + 1, zeros, zeros + 3, tau, d, 0.25).ravel().tolist()
        [3.0, 1.125]
    """
    require_step(np.array([float(d_min)]), name="d_min", equation="Eq. (3)")
    require_step(d, k_max=round(1 / d_min), equation="Eq. (3)")
    require_same_shape(equation="Eq. (3)", tau=tau, d=d)
    require_level(tau, equation="Eq. (3)", below_one=True)
    x_tau = corrupt(x0, x1, tau)
    teacher_d = np.where(d > d_min, d / 2, d_min)
    half_step = np.where(d > d_min, d / 2, 0.0)
    b_prime = velocity_network(x_tau, tau, teacher_d)
    x_prime = x_tau + b_prime * half_step[..., None, None]
    b_double_prime = velocity_network(x_prime, tau + half_step, teacher_d)
    require_same_shape(equation="Eq. (3)", x_tau=x_tau, b_prime=b_prime, b_double_prime=b_double_prime)
    return np.where((d == d_min)[..., None, None], velocity(x0, x1), (b_prime + b_double_prime) / 2)
