"""The dynamics model in plain PyTorch: tokens of one frame, the layers, and generation with and without a cache (Sec. 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dreamer4_conformance.textbook.transformer import Past, Transformer


class Dynamics(Transformer):
    """Frames of [spatial | registers | (τ, d) | actions | agent] tokens; two action components, one of them categorical."""

    level: Literal["signal", "noise"]
    context_level: float
    signal: Callable[[Tensor], Tensor]
    mix: Callable[[Tensor, Tensor, Tensor], Tensor]
    spatial, channels, registers, action_slots, tasks, keys = 3, 2, 2, 2, 3, 4

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Frames, labels on the grid, actions, a task for each row, and the input of a layer."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(
                self.device, getattr(torch, self.dtype)
            )

        def whole(below: int, *shape: int) -> Tensor:
            return torch.randint(below, shape, generator=generator).to(self.device)

        d = 0.5 ** whole(self.k_max.bit_length(), batch, 1 if self.follows["A3"] == "sequence" else time)
        tau = (torch.rand(batch, time, generator=generator).to(self.device) / d).floor() * d
        return {
            "z": normal(batch, time, self.spatial, self.channels),
            "tau": self.signal(tau).to(getattr(torch, self.dtype)),
            "d": d.expand(batch, time).to(getattr(torch, self.dtype)),
            "actions": {"keys": whole(self.keys, batch, time), "mouse": normal(batch, time, 2)},
            "task": whole(self.tasks, batch),
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "x": normal(batch, time, 5, self.width),
        }

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """All frames at once."""
        z_hat, agent, _ = self.predicted(z, tau, d, actions, task, labelled)
        return z_hat, agent

    def dynamics_init(self, batch: int) -> tuple[Past, int]:
        """No frame seen."""
        return {}, 0

    def dynamics_step(
        self, state: tuple[Past, int], z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, tuple[Past, int]]:
        """One more frame."""
        labelled = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return self.predicted(z, tau, d, actions, task, labelled, state)

    def predicted(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor, state: Any = ({}, 0)
    ) -> tuple[Tensor, Tensor | None, tuple[Past, int]]:
        """Tokens, layers, and what is read from the spatial and the agent token."""
        past, start = state
        x = self.frame_tokens(z.to(self.compute), tau, d, actions, task, labelled)
        x, past = self.layers(x, self.token_mask(x.shape[2], task is not None), past, start)
        z_hat = self.before(x[:, :, : self.spatial], "z.norm") @ self.parameter("z.out", self.width, self.channels)
        agent = None if task is None else self.before(x[:, :, -1], "agent.norm").to(z.dtype)
        return z_hat.to(z.dtype), agent, (past, start + z.shape[1])

    # Tokens

    def frame_tokens(self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor) -> Tensor:
        """(B, T, S, D) of all tokens of each frame, each with an embedding of its place."""
        batch, time = z.shape[:2]
        spatial = z @ self.parameter("z.in", self.channels, self.width)
        registers = self.parameter("registers", self.registers, self.width).expand(batch, time, -1, -1)
        label = self.label_token(tau, d)[:, :, None].to(self.compute)
        embedding = self.parameter("actions", self.action_slots, self.width)
        acted = self.action_tokens(self.encoded_actions(actions), embedding, labelled)
        tokens = [spatial, registers, label, acted, *([] if task is None else [self.agent_token(task, batch, time)])]
        x = torch.cat(tokens, 2)
        return x + self.parameter("places", 16, self.width)[: x.shape[2]]

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        """Two embeddings, half of the channels each."""
        level, step = self.level_index(self.signal(tau.double())), -torch.log2(d.double())
        tau_table = self.parameter("tau", self.k_max, self.width // 2)
        d_table = self.parameter("d", self.k_max.bit_length(), self.width // 2)
        scale = self.k_max**0.5
        return self.side_by_side(scale * tau_table[level], scale * d_table[step.round().long()])

    def level_index(self, tau: Tensor) -> Tensor:
        """The level on the grid of 1/K_max; a clean frame has the last one (A12)."""
        return (tau * self.k_max).round().long().clamp(0, self.k_max - 1)

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        """The channels of both."""
        return torch.cat([tau, d], -1)

    def encoded_actions(self, actions: Any) -> list[Tensor]:
        """Each component as (B, T, S_a, D)."""
        keys = 2 * self.parameter("keys", self.keys, self.action_slots * self.width)[actions["keys"]]
        mouse = actions["mouse"].to(self.compute) @ self.parameter("mouse", 2, self.action_slots * self.width)
        return [x.reshape(*x.shape[:2], self.action_slots, self.width) for x in (keys, mouse)]

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        """The learned embedding, and the sum of the components where there are actions."""
        return embedding + labelled[:, None, None, None] * torch.stack(components).sum(0)

    def agent_token(self, task: Tensor, batch: int, time: int) -> Tensor:
        """The task's embedding in every frame, (B, T, 1, D)."""
        return 2 * self.parameter("task", self.tasks, self.width)[task][:, None, None].expand(batch, time, 1, -1)

    def token_mask(self, tokens: int, agent: bool) -> Tensor:
        """bool (S, S): all tokens of a frame see each other, but none sees the agent token, which is last."""
        allow = torch.ones(tokens, tokens, dtype=torch.bool)
        if agent:
            allow[:-1, -1] = False
        return allow

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        """Frames see themselves and the past; no token but an agent token sees agent tokens."""
        agent = torch.tensor([name == "agent" for name in modality], device=frame.device)
        return (frame[:, None] >= frame) & (agent[:, None] | ~agent)

    # What is predicted from the agent token

    def mtp_heads(self, agent: Tensor) -> Tensor:
        """A linear layer for each distance of A17, two classes."""
        distances = 8 if self.follows["A17"] != "0..8" else 9
        return torch.stack([self.mtp_head(agent.to(self.compute), n) for n in range(distances)], 2).to(agent.dtype)

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        """The output layer of one distance."""
        return agent @ self.parameter(f"mtp.{distance}", self.width, 2)

    # Generation

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        """Each frame by Euler steps, then slightly corrupted and part of the context."""
        generator = torch.Generator().manual_seed(seed)
        past = self.slightly_corrupt(context, generator)
        generated: list[Tensor] = []
        state = self.prefilled(past, actions) if cache else None
        for _ in range(frames):
            z = torch.randn(past[:, :1].shape, generator=generator).to(past)
            z = self.denoised(z, past, state, actions, num_steps)
            generated.append(z)
            fresh = self.committed(z, self.slightly_corrupt(z, generator), cache)
            state = self.seen(state, fresh, actions, past.shape[1]) if cache else None
            past = torch.cat([past, fresh], 1)
        return torch.cat(generated, 1)

    def slightly_corrupt(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """With noise of its own, kept (A28); at the level of A9."""
        levels = {"slight": 0.9, "none": 1.0, "level": self.context_level, "literal": 0.1}
        noise = torch.randn(z.shape, generator=generator).to(z)
        return self.mix(noise, z, z.new_full((1, 1, 1, 1), levels[self.follows["A9"]]))

    def committed(self, z: Tensor, corrupted: Tensor, cache: bool) -> Tensor:
        """The generated frame as later frames see it."""
        return corrupted

    def context_labels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Of past frames: their level, and the finest step."""
        levels = {"slight": 0.9, "none": 1.0, "level": self.context_level, "literal": 0.1}
        tau = torch.full(z.shape[:2], levels[self.follows["A9"]], dtype=torch.float64)
        return self.signal(tau).to(z), torch.full(z.shape[:2], 1 / self.k_max).to(z)

    def at(self, actions: Any, frames: slice) -> Any:
        """The actions of some frames."""
        return {name: component[:, frames] for name, component in actions.items()}

    def prefilled(self, past: Tensor, actions: Any) -> Any:
        """The state after the context."""
        return self.seen(self.dynamics_init(len(past)), past, actions, 0)

    def seen(self, state: Any, z: Tensor, actions: Any, start: int) -> Any:
        """The state after these frames too."""
        labelled = torch.ones(len(z), dtype=torch.bool, device=z.device)
        if not z.shape[1]:
            return state
        acted = self.at(actions, slice(start, start + z.shape[1]))
        return self.predicted(z, *self.context_labels(z), acted, None, labelled, state)[2]

    def denoised(self, z: Tensor, past: Tensor, state: Any, actions: Any, num_steps: int) -> Tensor:
        """K Euler steps of the last frame, z (B, 1, S, D)."""
        time = past.shape[1]
        labelled = torch.ones(len(z), dtype=torch.bool, device=z.device)
        for step in range(num_steps):
            tau, d = (torch.full(z.shape[:2], value).to(z) for value in (step / num_steps, 1 / num_steps))
            tau, frames, seen = self.signal(tau), z, slice(time, time + 1)
            if state is None:
                frames, seen = torch.cat([past, z], 1), slice(time + 1)
                tau, d = (torch.cat(pair, 1) for pair in zip(self.context_labels(past), (tau, d), strict=True))
            before = state or self.dynamics_init(len(z))
            z1_hat = self.predicted(frames, tau, d, self.at(actions, seen), None, labelled, before)[0]
            z = z + (z1_hat[:, -1:] - z) / (1 - step / num_steps) / num_steps
        return z
