"""Eq. (6)-(8) in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Network = Callable[..., Tensor]


class ShortcutForcing:
    """Shortcut forcing loss. `network` receives the adapter's levels; the arithmetic uses signal levels."""

    level: Literal["signal", "noise"]
    k_max: int
    conditional: bool
    follows: dict[str, str]
    signal: Callable[[Tensor], Tensor]
    mix: Callable[[Tensor, Tensor, Tensor], Tensor]
    sample_tau_d: Callable[[int, int, int], tuple[Tensor, Tensor]]

    def dynamics_loss(self, network: Network, z1: Tensor, actions: Tensor, seed: int) -> Tensor:
        """Draws τ and d by Eq. (4) and standard normal noise."""
        batch, time = z1.shape[:2]
        tau, d = self.sample_tau_d(seed, batch, time)
        tau, d = tau.to(z1), d.reshape(batch, -1).expand(batch, time).to(z1)
        return self.dynamics_loss_at(network, z1, self.draw_noise_at(z1, self.signal(tau), d), tau, d, actions)

    def draw_noise_at(self, z1: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        """z0, independent of the signal level and of the step size."""
        return self.draw_noise(z1)

    def draw_noise(self, z1: Tensor) -> Tensor:
        """z0 ~ N(0, 1)."""
        return torch.randn_like(z1)

    def dynamics_loss_at(
        self, network: Network, z1: Tensor, z0: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        """The mean over (B, T) of w times the flow or the bootstrap error."""
        tau = self.signal(tau)
        z = self.mix(z0, z1, tau[..., None, None])
        z1_hat = self.evaluate(network, z, tau, d, actions)
        bootstrap = d > 1 / self.k_max
        target = self.target(network, z, z0, z1, tau, d, actions)
        flow_error, bootstrap_error = self.flow_error(z1_hat, z1), self.bootstrap_error(z1_hat, z, target, tau)
        error = torch.where(bootstrap, bootstrap_error, flow_error)
        return self.average(self.weigh(error, tau, bootstrap), bootstrap)

    def evaluate(self, network: Network, z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None) -> Tensor:
        """The network at signal levels."""
        return network(z, self.signal(tau), d, actions if self.conditional else None)

    def target(
        self, network: Network, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, d: Tensor, actions: Tensor
    ) -> Tensor:
        """sg(b' + b'')/2. Timesteps at d_min keep their state and label (reading A4)."""
        half = torch.where(d > 1 / self.k_max, d / 2, 0.0)
        teacher_d = self.teacher_step(d)
        teacher = self.teacher(network)
        teacher_actions = self.teacher_actions(actions)
        with self.teacher_context():
            b_prime = self.velocity(self.evaluate(teacher, z, tau, teacher_d, teacher_actions), z, tau)
            z_prime = self.second_input(z, z0, z1, tau, half, b_prime)
            tau_mid = self.second_label(tau, half)
            z1_hat = self.evaluate(teacher, z_prime, tau_mid, teacher_d, self.second_actions(teacher_actions))
            b_double_prime = self.velocity(z1_hat, z_prime, tau + half)
        return self.mean_velocity(b_prime, b_double_prime)

    def teacher(self, network: Network) -> Network:
        """The network itself, or under A38 a copy in place of the average."""
        import copy

        return network if self.follows["A38"] == "self" else copy.deepcopy(network)

    def teacher_context(self) -> Any:
        """Context manager that stops the gradient."""
        return torch.no_grad()

    def teacher_actions(self, actions: Tensor) -> Tensor | None:
        """The actions of the two teacher calls."""
        return actions

    def second_actions(self, actions: Tensor | None) -> Tensor | None:
        """The actions of the second teacher call, from those of the first."""
        return actions

    def teacher_step(self, d: Tensor) -> Tensor:
        """The step label of both teacher calls."""
        return torch.where(d > 1 / self.k_max, d / 2, d)

    def second_label(self, tau: Tensor, half: Tensor) -> Tensor:
        """The level label of the second teacher call."""
        return tau + half

    def second_input(self, z: Tensor, z0: Tensor, z1: Tensor, tau: Tensor, half: Tensor, b_prime: Tensor) -> Tensor:
        """z' = z̃ + b' d/2."""
        return z + b_prime * half[..., None, None]

    def velocity(self, z1_hat: Tensor, z: Tensor, tau: Tensor) -> Tensor:
        """(ẑ1 − z)/(1 − τ)."""
        return (z1_hat - z) / (1 - tau)[..., None, None]

    def mean_velocity(self, b_prime: Tensor, b_double_prime: Tensor) -> Tensor:
        return (b_prime + b_double_prime) / 2

    def flow_error(self, z1_hat: Tensor, z1: Tensor) -> Tensor:
        return self.norm(z1_hat - z1)

    def bootstrap_error(self, z1_hat: Tensor, z: Tensor, target: Tensor, tau: Tensor) -> Tensor:
        """(1 − τ)² ‖(ẑ1 − z̃)/(1 − τ) − target‖²."""
        return (1 - tau) ** 2 * self.norm(self.velocity(z1_hat, z, tau) - target)

    def norm(self, error: Tensor) -> Tensor:
        """‖·‖² over (S, D), a mean or a sum (A8)."""
        square = error.square()
        return square.mean((2, 3)) if self.follows["A8"] == "mean" else square.sum((2, 3))

    def weigh(self, error: Tensor, tau: Tensor, bootstrap: Tensor) -> Tensor:
        """w on both terms, or on the flow term alone (A7)."""
        weight = self.loss_weight(tau)
        return error * (weight if self.follows["A7"] == "both" else torch.where(bootstrap, 1.0, weight))

    def loss_weight(self, tau: Tensor) -> Tensor:
        """Eq. (8) at signal levels."""
        return 0.9 * tau + 0.1

    def average(self, loss: Tensor, bootstrap: Tensor) -> Tensor:
        """One mean over all timesteps, or a mean per term, then their sum (A27)."""
        if self.follows["A27"] == "joint":
            return loss.mean()
        terms = [loss[bootstrap], loss[~bootstrap]]
        return torch.stack([term.mean() for term in terms if term.numel()]).sum()
