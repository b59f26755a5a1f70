"""Eq. (6) and (7), Sec. 3.2, p. 6: shortcut forcing, the loss of the dynamics.

    z̃ = (1 − τ) z₀ + τ z₁,   ẑ₁ = f(z̃, τ, d, a)
    b′ = (f(z̃, τ, d/2, a) − z̃)/(1 − τ),   z′ = z̃ + b′ d/2,   b″ = (f(z′, τ + d/2, d/2, a) − z′)/(1 − (τ + d/2))
    L = ‖ẑ₁ − z₁‖² if d = d_min, else (1 − τ)² ‖(ẑ₁ − z̃)/(1 − τ) − sg(b′ + b″)/2‖²;   the loss is w(τ) L, Eq. (8)

Read as: d_min has no half step; timesteps at d_min enter both teacher calls as (z̃, τ, d_min) (A4). w multiplies both
terms (A7). ‖·‖² is a mean over (S, D) (A8). The loss is one mean over all timesteps (A27). The teacher is the network
itself (A38). sg stops the gradient; NumPy has none.

f → network(z, tau, d, actions) → z1_hat, the network's prediction of the clean data.
z₀ → z0, noise; z₁ → z1, data: (B, T, S, D).   τ → tau in {0, d, …, 1 − d}, d → d in {1, 1/2, …, 1/K_max}: (B, T).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.eq01_corruption import corrupt
from dreamer4_reference.eq04_grid import on_grid
from dreamer4_reference.eq08_ramp_weight import ramp_weight
from dreamer4_reference.levels import require_level, require_option, require_same_shape, require_shape, require_step

Norm = Literal["mean", "sum"]


def flow_error(
    z1_hat: Float64[np.ndarray, "B T S D"], z1: Float64[np.ndarray, "B T S D"], norm: Norm = "mean"
) -> Float64[np.ndarray, "B T"]:
    """Flow term ‖ẑ₁ − z₁‖² of every timestep; it applies at d = d_min, where the target is the data.

    Args:
        z1_hat: ẑ₁, the network's prediction of the clean data, float64, (B, T, S, D).
        z1: z₁, data, float64, (B, T, S, D).
        norm: reduction over (S, D): "mean" (A8, default) or "sum".

    Returns:
        Squared errors, float64, (B, T), without the weight w(τ).

    Raises:
        TypeError: if z1_hat or z1 is not a float64 array.
        ValueError: if the shapes differ or are not four-dimensional, or norm is unknown.

    Example:
        >>> flow_error(np.full((1, 1, 2, 1), 3.0), np.ones((1, 1, 2, 1))).item()
        4.0
    """
    require_option("norm", norm, ("mean", "sum"), equation="Eq. (7)")
    require_same_shape(equation="Eq. (7)", z1_hat=z1_hat, z1=z1)
    require_shape("z1_hat", z1_hat, (None,) * 4, equation="Eq. (7)")
    square = (z1_hat - z1) ** 2
    return np.asarray(square.sum((2, 3)) if norm == "sum" else square.mean((2, 3)))


def bootstrap_target(
    network: Callable[..., np.ndarray],
    z_tilde: Float64[np.ndarray, "B T S D"],
    tau: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
    actions: np.ndarray | None = None,
    *,
    k_max: int | None = None,
) -> tuple[Float64[np.ndarray, "B T S D"], Float64[np.ndarray, "B T S D"], Float64[np.ndarray, "B T S D"]]:
    """Velocities of two half steps, by two calls of the network as its own teacher.

    The target is their mean (b′ + b″)/2. Implementations stop the gradient through both calls.

    Args:
        network: f, called as network(z, tau, d, actions) with z (B, T, S, D) and tau, d (B, T); returns the prediction
            of the clean data, float64, (B, T, S, D). It is called at (z̃, τ, d/2), then at (z′, τ + d/2, d/2).
        z_tilde: z̃, corrupted data, float64, (B, T, S, D).
        tau: signal levels in [0, 1), float64, (B, T), such that τ + d/2 < 1.
        d: step sizes in {1, 1/2, …, 1/K_max}, float64, (B, T).
        actions: any array or None, passed on to the network unchanged in both calls.
        k_max: K_max, a power of two. Timesteps at d = 1/K_max then stay at (z̃, τ, d) in both calls (A4). With None
            every timestep takes half steps.

    Returns:
        (b′, z′, b″), each float64, (B, T, S, D): first velocity, input of the second call, second velocity.

    Raises:
        TypeError: if an array, a prediction included, is not float64, or k_max is not an int.
        ValueError: if shapes do not match, τ or τ + d/2 lies outside [0, 1), d is not in the list of step sizes, or
            k_max is not a power of two.

    Example:
        >>> z, tau, d = np.zeros((1, 1, 1, 1)), np.array([[0.0]]), np.array([[1.0]])
        >>> [x.item() for x in bootstrap_target(lambda z, tau, d, actions: z + 1, z, tau, d)]
        [1.0, 0.5, 2.0]
    """
    require_step(d, k_max=k_max, equation="Eq. (7)")
    require_same_shape(equation="Eq. (7)", tau=tau, d=d)
    halves = np.ones(d.shape, bool) if k_max is None else d * k_max > 1
    teacher_d, half_step = np.where(halves, d / 2, d), np.where(halves, d / 2, 0.0)
    b_prime = _velocity(network(z_tilde, tau, teacher_d, actions), z_tilde, tau)
    z_prime = z_tilde + b_prime * half_step[..., None, None]
    tau_mid = tau + half_step
    b_double_prime = _velocity(network(z_prime, tau_mid, teacher_d, actions), z_prime, tau_mid)
    return b_prime, z_prime, b_double_prime


def _velocity(
    z1_hat: Float64[np.ndarray, "B T S D"], z: Float64[np.ndarray, "B T S D"], tau: Float64[np.ndarray, "B T"]
) -> Float64[np.ndarray, "B T S D"]:
    require_same_shape(equation="Eq. (7)", z=z, z1_hat=z1_hat)
    require_shape("z", z, (*tau.shape, None, None), equation="Eq. (7)")
    require_level(tau, equation="Eq. (7)", below_one=True)
    return np.asarray((z1_hat - z) / (1 - tau)[..., None, None])


def bootstrap_error(
    z1_hat: Float64[np.ndarray, "B T S D"],
    z_tilde: Float64[np.ndarray, "B T S D"],
    tau: Float64[np.ndarray, "B T"],
    b_prime: Float64[np.ndarray, "B T S D"],
    b_double_prime: Float64[np.ndarray, "B T S D"],
    norm: Norm = "mean",
) -> Float64[np.ndarray, "B T"]:
    """Bootstrap term (1 − τ)² ‖(ẑ₁ − z̃)/(1 − τ) − (b′ + b″)/2‖² of every timestep; it applies where d > d_min.

    Args:
        z1_hat: ẑ₁, the student's prediction at (z̃, τ, d), float64, (B, T, S, D).
        z_tilde: z̃, corrupted data, float64, (B, T, S, D).
        tau: signal levels in [0, 1), float64, (B, T).
        b_prime: b′, velocity of the first half step, float64, (B, T, S, D).
        b_double_prime: b″, velocity of the second half step, float64, (B, T, S, D).
        norm: reduction over (S, D): "mean" (A8, default) or "sum".

    Returns:
        Squared errors, float64, (B, T), without the weight w(τ).

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if shapes do not match, τ lies outside [0, 1), or norm is unknown.

    Example:
        >>> z, tau = np.zeros((1, 1, 1, 1)), np.array([[0.5]])
        >>> bootstrap_error(z + 1, z, tau, z + 1, z + 2).item()
        0.0625
    """
    require_same_shape(equation="Eq. (7)", z_tilde=z_tilde, b_prime=b_prime, b_double_prime=b_double_prime)
    b = (b_prime + b_double_prime) / 2
    return np.asarray((1 - tau) ** 2 * flow_error(_velocity(z1_hat, z_tilde, tau), b, norm))


def shortcut_forcing_loss(
    network: Callable[..., np.ndarray],
    z0: Float64[np.ndarray, "B T S D"],
    z1: Float64[np.ndarray, "B T S D"],
    tau: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
    actions: np.ndarray | None = None,
    *,
    k_max: int,
    norm: Norm = "mean",
    weighted: Literal["both", "flow"] = "both",
    reduction: Literal["none", "mean"] = "none",
) -> Float64[np.ndarray, "*timesteps"]:
    """Loss w(τ) L of the dynamics: flow term at d_min, bootstrap term above it.

    Args:
        network: f, called as network(z, tau, d, actions) with z (B, T, S, D) and tau, d (B, T); returns the prediction
            of the clean data, float64, (B, T, S, D). It is called three times: the student at (z̃, τ, d), then the
            teacher at (z̃, τ, d/2) and (z′, τ + d/2, d/2).
        z0: z₀, noise, usually N(0, 1), float64, (B, T, S, D).
        z1: z₁, data, float64, (B, T, S, D).
        tau: signal levels in {0, d, …, 1 − d}, float64, (B, T).
        d: step sizes in {1, 1/2, …, 1/K_max}, float64, (B, T); they may differ within a sequence (A3).
        actions: any array or None, passed on to the network unchanged in all three calls.
        k_max: K_max, a power of two; d_min = 1/K_max.
        norm: ‖·‖² over (S, D): "mean" (A8, default) or "sum".
        weighted: terms that w(τ) multiplies: "both" (A7, default) or "flow"; the other term then has weight 1.
        reduction: "none" (default) or "mean", one mean over all timesteps (A27 "joint").

    Returns:
        float64 array: (B, T) with reduction "none", 0-dimensional with "mean".

    Raises:
        TypeError: if an array, a prediction included, is not float64, or k_max is not an int.
        ValueError: if shapes do not match, d or tau is off its grid, k_max is not a power of two, an option is unknown,
            or a mean over no timesteps is requested.

    Example:
        >>> z, tau, d = np.zeros((1, 2, 1, 1)), np.array([[0.5, 0.0]]), np.array([[0.5, 1.0]])
        >>> shortcut_forcing_loss(lambda z, tau, d, actions: z + 1, z, z, tau, d, k_max=2).tolist()
        [[0.55, 0.025]]
    """
    require_step(d, k_max=k_max, equation="Eq. (7)")
    if not on_grid(tau, d).all():
        raise ValueError(f"Eq. (7): tau contains {tau[~on_grid(tau, d)][0]}, which is not one of 0, d, …, 1 − d")
    require_option("weighted", weighted, ("both", "flow"), equation="Eq. (7)")
    require_option("reduction", reduction, ("none", "mean"), equation="Eq. (7)")
    z_tilde = corrupt(z0, z1, tau)
    z1_hat = network(z_tilde, tau, d, actions)
    b_prime, _, b_double_prime = bootstrap_target(network, z_tilde, tau, d, actions, k_max=k_max)
    flow, bootstrap = flow_error(z1_hat, z1, norm), bootstrap_error(z1_hat, z_tilde, tau, b_prime, b_double_prime, norm)
    is_flow = d * k_max == 1
    weight = np.where(is_flow | (weighted == "both"), ramp_weight(tau), 1.0)
    loss = weight * np.where(is_flow, flow, bootstrap)
    return np.asarray(average(loss, d, k_max=k_max)) if reduction == "mean" else loss


def average(
    loss: Float64[np.ndarray, "B T"],
    d: Float64[np.ndarray, "B T"],
    *,
    k_max: int,
    averaging: Literal["joint", "per_term"] = "joint",
) -> float:
    """Average the loss over (B, T).

    Args:
        loss: w(τ) L of every timestep, float64, (B, T).
        d: step sizes in {1, 1/2, …, 1/K_max}, float64, (B, T); d = 1/K_max marks the flow term.
        k_max: K_max, a power of two.
        averaging: "joint" (A27, default), one mean over all timesteps; or "per_term", the mean over the timesteps at
            d_min plus the mean over the others, where a term without timesteps contributes 0.

    Returns:
        The average as a float.

    Raises:
        TypeError: if loss or d is not a float64 array, or k_max is not an int.
        ValueError: if the shapes differ, loss is empty, d is not in the list of step sizes, k_max is not a power of
            two, or averaging is unknown.

    Example:
        >>> loss, d = np.array([[1.0, 2.0, 6.0]]), np.array([[0.5, 1.0, 1.0]])
        >>> average(loss, d, k_max=2), average(loss, d, k_max=2, averaging="per_term")
        (3.0, 5.0)
    """
    require_option("averaging", averaging, ("joint", "per_term"), equation="Eq. (7)")
    require_same_shape(equation="Eq. (7)", loss=loss, d=d)
    require_step(d, k_max=k_max, equation="Eq. (7)")
    if loss.size == 0:
        raise ValueError(f"Eq. (7): loss has shape {loss.shape}, but an average needs at least one timestep")
    is_flow = d * k_max == 1
    terms = [loss.ravel()] if averaging == "joint" else [loss[is_flow], loss[~is_flow]]
    return float(sum(term.mean() for term in terms if term.size))
