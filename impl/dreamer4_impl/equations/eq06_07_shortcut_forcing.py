"""Eq. (7), Sec. 3.2, p. 6: shortcut forcing loss, weighted by Eq. (8).

    z̃ = (1 − τ) z₀ + τ z₁,   ẑ₁ = f(z̃, τ, d, a)
    d = d_min:   L = ‖ẑ₁ − z₁‖²
    d > d_min:   L = (1 − τ)² ‖(ẑ₁ − z̃)/(1 − τ) − sg(b' + b'')/2‖²
                 b'  = (f(z̃, τ, d/2, a) − z̃)/(1 − τ),   z' = z̃ + b' d/2
                 b'' = (f(z', τ + d/2, d/2, a) − z')/(1 − (τ + d/2))

Computed in x-space: the bootstrap term is ‖ẑ₁ − (z̃ + (1 − τ) sg(b' + b'')/2)‖², the same number without a division of
the student's error by a small 1 − τ. Read as: ‖·‖² is the mean over (S, D) (A8), w multiplies both terms (A7), one mean
over (B, T) (A27), f is the network itself (A38).

τ and d differ within a sequence, and the network receives whole sequences. In the teacher calls a timestep at d_min,
which has no half step, does not move: z̃ at (τ, d_min) in both (A4), so that every input has the noise of its label.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamer4_impl.arguments import (
    require_floating,
    require_integer,
    require_non_empty,
    require_option,
    require_power_of_two,
    require_rank,
    require_shape,
)
from dreamer4_impl.constants import K_MAX
from dreamer4_impl.equations.eq01_corruption import corrupt, per_frame
from dreamer4_impl.equations.eq04_grid import Granularity, d_min_rows, sample_tau_d
from dreamer4_impl.equations.eq08_ramp_weight import ramp_weight
from dreamer4_impl.equations.network_types import Actions, Network, index_actions, predict, require_actions
from dreamer4_impl.precision import compute_dtype

Reduction = Literal["mean", "none"]
#: Sequences on which the teacher is called; None computes them from d.
TeacherRows: TypeAlias = slice | Tensor | None
EVERY_ROW = slice(None)


def shortcut_forcing_loss(
    network: Network,
    z1: Float[Tensor, "B T S D"],
    actions: Actions = None,
    *,
    k_max: int = K_MAX,
    generator: torch.Generator | None = None,
    per: Granularity = "timestep",
    d_min_share: float | None = None,
    reduction: Reduction = "mean",
    teacher_rows: TeacherRows = None,
) -> Float[Tensor, "*loss"]:
    """Draw τ, d (Eq. 4) and standard normal noise z₀, and compute the loss.

    The numerical contract is that of `shortcut_forcing_loss_at`. Compiles without graph breaks when `generator` is None
    (a compiled graph cannot take one).

    Args:
        network: `network(z, tau, d, actions) -> z1_hat`, such as `Dynamics.network`.
        z1: clean data, floating, (B, T, S, D).
        actions: None, a tensor (B, …), or a tuple or mapping of such.
        k_max: K_max, a power of two.
        generator: source of τ, d and the noise, on the device of z1; None is torch's global state.
        per: draw d for each "timestep" or once for each "sequence" (A3).
        d_min_share: None is the uniform law of d. A number in [0, 1] is the declared split (A2): sequences above d_min
            are then known without reading d, and only they go to the teacher.
        reduction: "mean" over (B, T), or "none" for the loss of each timestep.
        teacher_rows: sequences on which the teacher is called, as for `shortcut_forcing_loss_at`.

    Returns:
        The loss in float32 (float64 for float64): a scalar, or (B, T) without reduction.

    Raises:
        TypeError: if z1 or the network's output is not floating-point, or actions are not tensors.
        ValueError: if shapes or devices do not match, or an option or number is out of range.

    Example:
        >>> z1, generator = torch.ones(2, 3, 4, 5), torch.Generator().manual_seed(0)
        >>> float(shortcut_forcing_loss(lambda z, tau, d, actions: z1, z1, generator=generator)) < 1e-12
        True
    """
    require_floating(z1=z1)
    require_rank("z1", z1, 4, "(B, T, S, D)")
    batch, time = z1.shape[:2]
    tau, d = sample_tau_d(
        batch, time, k_max=k_max, generator=generator, device=z1.device, per=per, d_min_share=d_min_share
    )
    if d_min_share is not None and teacher_rows is None:
        teacher_rows = slice(d_min_rows(batch, d_min_share), None)
    z0 = torch.randn(z1.shape, generator=generator, device=z1.device, dtype=compute_dtype(z1))
    return shortcut_forcing_loss_at(
        network, z1, z0, tau, d, actions, k_max=k_max, reduction=reduction, teacher_rows=teacher_rows
    )


def shortcut_forcing_loss_at(
    network: Network,
    z1: Float[Tensor, "B T S D"],
    z0: Float[Tensor, "B T S D"],
    tau: Float[Tensor, "B T"],
    d: Float[Tensor, "B T"],
    actions: Actions = None,
    *,
    k_max: int = K_MAX,
    reduction: Reduction = "mean",
    teacher_rows: TeacherRows = None,
) -> Float[Tensor, "*loss"]:
    """Compute the weighted loss at a given noise, signal level and step size.

    Computed in float32 (float64 where z1 is float64). The network receives z in the dtype of z1, and τ and d in that of
    the computation; velocities start from the rounded z that it received. Deterministic if the network is. Gradient
    flows through the student's call and z̃, not through the teacher's. Compiles without graph breaks; no host
    synchronisation unless `teacher_rows` is None. Values of tensors are not checked.

    Args:
        network: `network(z, tau, d, actions) -> z1_hat`. It is called at most three times: twice without gradient on
            the teacher's sequences, then once on all. It must treat sequences independently of each other.
        z1: clean data, floating, (B, T, S, D).
        z0: standard normal noise, floating, (B, T, S, D).
        tau: signal levels in {0, d, …, 1 − d}, floating, (B, T).
        d: step sizes in {1, 1/2, …, 1/k_max}, floating, (B, T).
        actions: None, a tensor (B, …), or a tuple or mapping of such; every call receives those of its sequences.
        k_max: K_max, a power of two; d_min = 1/k_max.
        reduction: "mean" over (B, T), or "none" for the loss of each timestep.
        teacher_rows: sequences with any d > d_min, if the caller knows them: a slice, or integer indices (N,).
            `slice(None)` is all of them. None reads them from d, which makes the host wait for the device once and
            skips the teacher if there are none; in a compiled graph, which cannot read d, None is all of them. The
            choice changes the cost, not the value; a timestep above d_min that is left out has a NaN loss. With d per
            timestep over long sequences practically every sequence needs the teacher: pass `slice(None)` on a GPU.

    Returns:
        The loss in float32 (float64 for float64): a scalar, or (B, T) without reduction.

    Raises:
        TypeError: if a tensor or the network's output is not floating-point, teacher_rows is not integer, or actions
            are not tensors.
        ValueError: if shapes or devices do not match, z1 is empty, k_max is no power of two, or reduction is unknown.

    Example:
        >>> z1, z0 = torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
        >>> tau, d = torch.tensor([[0.0, 0.5]]), torch.tensor([[0.5, 0.5]])
        >>> shortcut_forcing_loss_at(lambda z, tau, d, a: z, z1, z0, tau, d, k_max=2, reduction="none").tolist()
        [[0.10000000149011612, 0.13750000298023224]]
    """
    _require_loss_inputs(z1, z0, tau, d, k_max, reduction, teacher_rows)
    require_actions(actions, (z1.shape[0],), "(B,)")
    compute = compute_dtype(z1)
    tau, d = tau.to(compute), d.to(compute)
    z = corrupt(z0, z1, tau)
    target = _target(network, z, z1.to(compute), tau, d, actions, k_max, teacher_rows)
    z1_hat = predict(network, z, tau, d, actions)
    loss = ramp_weight(tau) * (z1_hat - target).square().mean(dim=(2, 3))
    return loss.mean() if reduction == "mean" else loss


def _target(
    network: Network,
    z: Tensor,
    z1: Tensor,
    tau: Tensor,
    d: Tensor,
    actions: Actions,
    k_max: int,
    teacher_rows: TeacherRows,
) -> Float[Tensor, "B T S D"]:
    above_d_min = d > 1 / k_max
    rows = _rows_above(above_d_min) if teacher_rows is None else teacher_rows
    if isinstance(rows, slice) and rows == EVERY_ROW:
        velocity = _mean_velocity(network, z, tau, d, above_d_min, actions)
    else:
        velocity = torch.full_like(z1, torch.nan)
        if len(tau[rows]):
            velocity[rows] = _mean_velocity(
                network, z[rows], tau[rows], d[rows], above_d_min[rows], index_actions(actions, rows)
            )
    return torch.where(per_frame(above_d_min, z), z + per_frame(1 - tau, z) * velocity, z1)


@torch.no_grad()
def _mean_velocity(
    network: Network, z: Tensor, tau: Tensor, d: Tensor, above_d_min: Tensor, actions: Actions
) -> Float[Tensor, "N T S D"]:
    """Mean (b' + b'')/2 of the velocities of two half steps; at d_min, of two evaluations of the same input."""
    step = torch.where(above_d_min, d / 2, d)
    advance = torch.where(above_d_min, d / 2, 0)
    b_prime = _velocity(network, z, tau, step, actions)
    z_prime = (z + b_prime * per_frame(advance, z)).to(z.dtype)
    b_second = _velocity(network, z_prime, tau + advance, step, actions)
    return (b_prime + b_second) / 2


def _velocity(network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Actions) -> Float[Tensor, "N T S D"]:
    return (predict(network, z, tau, d, actions) - z) / per_frame(1 - tau, z)


def _rows_above(above_d_min: Bool[Tensor, "B T"]) -> slice | Tensor:
    """Sequences with any d > d_min; every sequence in a compiled graph, whose shapes are static."""
    if torch.compiler.is_compiling():
        return EVERY_ROW
    rows = above_d_min.any(dim=1).nonzero()[:, 0]
    return EVERY_ROW if len(rows) == len(above_d_min) else rows


def _require_loss_inputs(
    z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, k_max: int, reduction: str, teacher_rows: TeacherRows
) -> None:
    require_floating(z1=z1, z0=z0, tau=tau, d=d)
    require_rank("z1", z1, 4, "(B, T, S, D)")
    require_non_empty("z1", z1)
    require_shape("z0", z0, z1.shape, "of z1", like=z1)
    require_shape("tau", tau, z1.shape[:2], "(B, T)", like=z1)
    require_shape("d", d, z1.shape[:2], "(B, T)", like=z1)
    require_power_of_two("k_max", k_max)
    require_option("reduction", reduction, ("mean", "none"))
    if teacher_rows is not None and not isinstance(teacher_rows, slice):
        require_integer(teacher_rows=teacher_rows)
        require_rank("teacher_rows", teacher_rows, 1, "(N,)")
