"""Eq. (2) in plain PyTorch: one frame by Euler steps, on slightly corrupted context."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Sampler:
    """Sampler. `network` receives the adapter's levels; the arithmetic uses signal levels."""

    k_max: int
    context_level: float
    conditional: bool
    follows: dict[str, str]
    signal: Callable[[Tensor], Tensor]
    mix: Callable[[Tensor, Tensor, Tensor], Tensor]

    def sample_frame(
        self,
        network: Callable[..., Tensor],
        context: Tensor,
        num_steps: int,
        seed: int,
        actions: Tensor | None = None,
    ) -> Tensor:
        """K evaluations; each moves the frame by 1/K."""
        start = z = self.start_noise(context)
        past = self.corrupt_context(context)
        steps = self.count(num_steps)
        for step in range(steps):
            past = self.past_of(past, context, step)
            tau, d = self.labels(past, step, steps)
            passed = self.actions_at_step(actions, step) if self.conditional else None
            z1_hat = network(torch.cat([past, z[:, None]], 1), self.signal(tau), d, passed)
            z = self.move(z, z1_hat[:, -1], step / steps, 1 / steps, start)
        return self.finish(z)

    def start_noise(self, context: Tensor) -> Tensor:
        """Standard normal, (B, S, D)."""
        return torch.randn_like(context.new_empty((context.shape[0], *context.shape[2:])))

    def count(self, num_steps: int) -> int:
        return num_steps

    def level_of_context(self) -> float:
        """The signal level of past frames (A9)."""
        levels = {"slight": 0.9, "none": 1.0, "level": self.context_level, "literal": 0.1}
        return levels[self.follows["A9"]]

    def corrupt_context(self, context: Tensor) -> Tensor:
        """Past frames, corrupted with independent noise."""
        level = context.new_full((context.shape[0], context.shape[1], 1, 1), self.level_of_context())
        return self.mix(torch.randn_like(context), context, level)

    def past_of(self, past: Tensor, context: Tensor, step: int) -> Tensor:
        """Corrupted context of this evaluation: the same in every evaluation, or drawn again (A28)."""
        return self.corrupt_context(context) if self.follows["A28"] == "evaluation" else past

    def labels(self, past: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """τ and d of every frame, (B, T + 1)."""
        tau = past.new_full((past.shape[0], past.shape[1] + 1), self.context_label(step, steps))
        d = torch.full_like(tau, 1 / self.k_max if self.follows["A11"] == "d_min" else 1 / steps)
        tau[:, -1], d[:, -1] = self.level_label(step, steps), self.step_label(steps)
        return tau, d

    def context_label(self, step: int, steps: int) -> float:
        """Grid level nearest to that of the context; for clean frames the last grid level or 1 (A12)."""
        level = self.level_of_context()
        if level == 1 and self.follows["A12"] == "own":
            return 1.0
        return min(round(level * self.k_max), self.k_max - 1) / self.k_max

    def level_label(self, step: int, steps: int) -> float:
        return step / steps

    def step_label(self, steps: int) -> float:
        """The frame's step size."""
        return 1 / steps

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        """The actions of this evaluation."""
        return actions

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        """z + v̂ d with v̂ = (ẑ1 − z)/(1 − τ)."""
        return z + (z1_hat - z) / (1 - tau) * d

    def finish(self, z: Tensor) -> Tensor:
        return z
