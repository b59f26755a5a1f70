"""Sizes that all implementations of a comparison share, and their inputs."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: Share of the rows at d_min, on which the teacher is not called: the default of nicklashansen/dreamer4.
D_MIN_SHARE: Final = 0.75


@dataclass(frozen=True)
class Shape:
    """Sizes of the dynamics and of its inputs.

    Args:
        batch: B, rows of a training step, a multiple of 4: a quarter of them is above d_min.
        time: T, frames of a training step.
        past: frames before the generated one.
        width, depth, heads, mlp_width: of the transformer; heads are width / heads wide.
        time_every: every such layer mixes time.
        spatial_tokens, spatial_channels: S and D of the representation z.
        tokens: of a frame, those of labels, action and agent included; the remainder are registers.
        actions: numbers of a continuous action; 16 in nicklashansen/dreamer4, where it is fixed.
        k_max: K_max, a power of two.
        num_steps: K of the generated frame.
    """

    batch: int = 8
    time: int = 16
    past: int = 95
    width: int = 192
    depth: int = 8
    heads: int = 3
    mlp_width: int = 768
    time_every: int = 4
    spatial_tokens: int = 16
    spatial_channels: int = 32
    tokens: int = 24
    actions: int = 16
    k_max: int = 64
    num_steps: int = 4

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def rows_above_d_min(self) -> int:
        """Rows of a training step with d > d_min, on which the teacher is called."""
        return self.batch - round(D_MIN_SHARE * self.batch)

    def latents(self, batch: int, time: int) -> Tensor:
        """Fixed z₁ in [−1, 1], (batch, time, S, D)."""
        size = (batch, time, self.spatial_tokens, self.spatial_channels)
        return 2 * torch.rand(size, generator=torch.Generator().manual_seed(0)) - 1

    def action_values(self, batch: int, time: int) -> Tensor:
        """Fixed actions in [−1, 1], (batch, time, actions)."""
        return 2 * torch.rand(batch, time, self.actions, generator=torch.Generator().manual_seed(1)) - 1


#: Sizes of the tests and of `--smoke`, at which a run says nothing about speed.
TINY: Final = Shape(
    batch=4, time=3, past=4, width=16, depth=4, heads=2, mlp_width=32, spatial_tokens=2, spatial_channels=4, tokens=8
)
