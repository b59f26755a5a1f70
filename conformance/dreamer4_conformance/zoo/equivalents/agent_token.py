"""A dynamics model from torch's own modules, with an agent token: another architecture under the same clauses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapter import TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent

WIDTH, SPATIAL, CHANNELS, REGISTERS, CONTEXT, K_MAX, CLASSES, TASKS = 16, 3, 2, 2, 3, 8, 5, 3


class Mixer(nn.Module):
    """One pre-norm layer of `nn.MultiheadAttention` and a GELU network, over the second axis of x (N, L, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """x after the layer; `hidden` bool (L, L) is True where a query may not attend."""
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, attn_mask=hidden, need_weights=False)[0]
        return x + self.mlp(self.norm_mlp(x))


class World(nn.Module):
    """Frames of [agent | label | action | registers | spatial] tokens; the last of four layers mixes time."""

    def __init__(self) -> None:
        super().__init__()
        self.levels, self.steps = nn.Embedding(K_MAX, WIDTH // 2), nn.Embedding(K_MAX.bit_length(), WIDTH // 2)
        self.buttons, self.stick = nn.Embedding(CLASSES, WIDTH), nn.Linear(2, WIDTH, bias=False)
        self.action, self.registers = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(REGISTERS, WIDTH))
        self.tasks, self.inward, self.outward = (
            nn.Embedding(TASKS, WIDTH),
            nn.Linear(CHANNELS, WIDTH),
            nn.Linear(WIDTH, CHANNELS),
        )
        self.places = nn.Embedding(3 + REGISTERS + SPATIAL, WIDTH)
        self.layers = nn.ModuleList(Mixer() for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, CLASSES) for _ in range(9))

    def forward(self, z: Tensor, label: Tensor, action: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """z_hat (B, T, S, D) and the agent's output (B, T, WIDTH) for label and action tokens (B, T, WIDTH)."""
        batch, time = z.shape[:2]
        agent = self.tasks(task)[:, None].expand(batch, time, -1)
        named = torch.stack([agent, label, action + self.action], 2)
        x = torch.cat([named, self.registers.expand(batch, time, -1, -1), self.inward(z)], 2) + self.places.weight
        tokens = x.shape[2]
        blind = torch.zeros(tokens, tokens, dtype=torch.bool, device=z.device)
        blind[1:, 0] = True
        gap = torch.arange(time, device=z.device)[:, None] - torch.arange(time, device=z.device)
        for index, layer in enumerate(self.layers):
            if index % 4 == 3:
                rows = x.transpose(1, 2).reshape(-1, time, WIDTH)
                x = layer(rows, (gap < 0) | (gap >= CONTEXT)).reshape(batch, tokens, time, WIDTH).transpose(1, 2)
            else:
                x = layer(x.reshape(-1, tokens, WIDTH), blind).reshape(x.shape)
        x = self.norm(x)
        return self.outward(x[:, :, -SPATIAL:]), x[:, :, 0]

    def label(self, tau: Tensor, d: Tensor) -> Tensor:
        """Embeddings of level and step, side by side; a level off the grid is rounded down (A10)."""
        level = (tau.double() * K_MAX).floor().long().clamp(0, K_MAX - 1)
        step = torch.log2(1 / d.double()).round().long()
        return torch.cat([self.levels(level), self.steps(step)], -1)


@equivalent("dynamics-of-modules")
class DynamicsOfModules(TorchAdapter):
    """The dynamics from torch's modules: LayerNorm, multi-head attention, GELU; no position in time, no cache."""

    k_max, context_frames, registers = K_MAX, CONTEXT, REGISTERS

    @cached_property
    def world(self) -> Any:
        """The model with random parameters, in the adapter's dtype."""
        world, generator = World().eval().requires_grad_(False), torch.Generator().manual_seed(0)
        for parameter in world.parameters():
            scale = min(parameter.shape) ** -0.5 if parameter.ndim > 1 else 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        return world.to(self.device, getattr(torch, self.dtype))

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Latents, labels on the grid, a button and a stick, and the index of a task."""
        generator = torch.Generator().manual_seed(seed)
        steps = 2 ** torch.randint(0, K_MAX.bit_length(), (batch, time), generator=generator)
        levels = (torch.rand(batch, time, generator=generator) * steps).floor() / steps
        dtype = getattr(torch, self.dtype)
        return {
            "z": torch.randn(batch, time, SPATIAL, CHANNELS, generator=generator).to(self.device, dtype),
            "tau": levels.to(self.device, dtype),
            "d": (1 / steps).to(self.device, dtype),
            "actions": [
                torch.randint(0, CLASSES, (batch, time), generator=generator).to(self.device),
                torch.randn(batch, time, 2, generator=generator).to(self.device, dtype),
            ],
            "task": torch.randint(0, TASKS, (batch,), generator=generator).to(self.device),
        }

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor]:
        button, stick = actions
        action = (self.world.buttons(button) + self.world.stick(stick)) * labelled[:, None, None]
        return self.world(z, self.world.label(tau, d), action, task)

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        return self.world.label(tau, d)

    def layer_kinds(self) -> list[str]:
        return ["space", "space", "space", "time"]

    def mtp_heads(self, agent: Tensor) -> Tensor:
        return torch.stack([head(agent) for head in self.world.heads], 2)
