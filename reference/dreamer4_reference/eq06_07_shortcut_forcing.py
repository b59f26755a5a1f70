"""Eq. (6) and (7), Sec. 3.2, p. 6: shortcut forcing, the loss of the dynamics.

    z̃ = (1 − τ) z₀ + τ z₁,   ẑ₁ = f(z̃, τ, d, a)
    b′ = (f(z̃, τ, d/2, a) − z̃)/(1 − τ),   z′ = z̃ + b′ d/2,   b″ = (f(z′, τ + d/2, d/2, a) − z′)/(1 − (τ + d/2))
    L = ‖ẑ₁ − z₁‖² if d = d_min, else (1 − τ)² ‖(ẑ₁ − z̃)/(1 − τ) − sg(b′ + b″)/2‖²;   the loss is w(τ) L, Eq. (8)

Read as: timesteps at d_min have no d/2 and stay at (z̃, τ, d_min) in both teacher calls (A4); w multiplies both
terms (A7); ‖·‖² is a mean over (S, D) (A8); the loss is one mean over all timesteps (A27).
sg stops the gradient; NumPy has none.

f → network(z, tau, d, actions) → z1_hat, the clean data as the network predicts it.
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
    """‖ẑ₁ − z₁‖², the term of the timesteps at d_min.

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
    """(b′, z′, b″), from the network itself; with k_max the timesteps at d_min = 1/k_max take no half step (A4).

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
    """(1 − τ)² ‖(ẑ₁ − z̃)/(1 − τ) − (b′ + b″)/2‖², the term of the timesteps above d_min.

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
    """w(τ) L of every timestep, (B, T); with reduction "mean" their mean, an array without axes.

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
    """One mean over all timesteps, or the mean of the flow term plus that of the bootstrap term (A27; empty: 0).

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
