"""The dynamics in plain PyTorch: tokens of a frame, layers, generation with and without a cache (Sec. 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base.sec34_layers import Past, Transformer

State = tuple[Past, int, list[Tensor] | None]
"""Keys and values of all frames so far, their number, and the encoded actions of the last one (A32)."""
EMPTY: State = ({}, 0, None)


class Dynamics(Transformer):
    """Frames of [spatial | registers | (τ, d) | actions | agent] tokens; one categorical and one continuous action."""

    level: Literal["signal", "noise"]
    context_level: float
    signal: Callable[[Tensor], Tensor]
    mix: Callable[[Tensor, Tensor, Tensor], Tensor]
    spatial, channels, register_count, action_slots, tasks, keys = 3, 2, 2, 2, 3, 4
    registers: int | None = 2

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        """Random frames, labels on the grid, actions, a task for each row, and the input of a layer."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(
                self.device, getattr(torch, self.dtype)
            )

        def integers(below: int, *shape: int) -> Tensor:
            return torch.randint(below, shape, generator=generator).to(self.device)

        d = 0.5 ** integers(self.k_max.bit_length(), batch, 1 if self.follows["A3"] == "sequence" else time)
        tau = (torch.rand(batch, time, generator=generator).to(self.device) / d).floor() * d
        return {
            "z": normal(batch, time, self.spatial, self.channels),
            "tau": self.signal(tau).to(getattr(torch, self.dtype)),
            "d": d.expand(batch, time).to(getattr(torch, self.dtype)),
            "actions": {"keys": integers(self.keys, batch, time), "mouse": normal(batch, time, 2)},
            "task": integers(self.tasks, batch),
            "labelled": torch.ones(batch, dtype=torch.bool, device=self.device),
            "x": normal(batch, time, 5, self.width),
        }

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        z_hat, agent, _ = self.predicted(z, tau, d, actions, task, labelled)
        return z_hat, agent

    def image_dynamics(self, z: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        """Dynamics of separate images, each a sequence of one frame without actions."""
        return self.of_images(*(x.flatten(0, 1)[:, None] for x in (z, tau, d))).reshape(z.shape)

    def of_images(self, z: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        """The dynamics of sequences without actions and task."""
        actions = self.example(0, *tau.shape).get("actions")  # unlabelled: their values have no influence
        labelled = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        return self.dynamics(z, tau, d, actions, None, labelled)[0]

    def dynamics_init(self, batch: int) -> Any:
        return EMPTY

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        labelled = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return self.predicted(z, tau, d, actions, task, labelled, state)

    def predicted(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor, state: State = EMPTY
    ) -> tuple[Tensor, Tensor | None, State]:
        """z_hat, the agent's output and the state after these frames."""
        past, start, before = state
        components = self.encoded_actions(actions)
        x = self.frame_tokens(z.to(self.compute), tau, d, self.in_blocks(components, before), task, labelled)
        x, past = self.layers(x, self.token_mask(task is not None), past, start)
        agent = None if task is None else self.read_agent(x).to(z.dtype)
        after = self.next_state(past, start, z.shape[1], [component[:, -1:] for component in components])
        return self.read_spatial(x).to(z.dtype), agent, after

    def next_state(self, past: Past, start: int, time: int, last: list[Tensor]) -> State:
        """State for the next frame."""
        return past, start + time, last

    def read_spatial(self, x: Tensor) -> Tensor:
        """z_hat, read from the spatial tokens only."""
        normed = self.before(x[:, :, : self.spatial], "z.norm")
        return normed @ self.parameter("z.out", self.width, self.channels)

    def read_agent(self, x: Tensor) -> Tensor:
        """Output of the agent token, normalised."""
        return self.before(x[:, :, -1], "agent.norm")

    # Tokens

    def frame_tokens(
        self, z: Tensor, tau: Tensor, d: Tensor, components: list[Tensor], task: Any, labelled: Tensor
    ) -> Tensor:
        """All tokens of each frame with their position embeddings, (B, T, S, D)."""
        batch, time = z.shape[:2]
        spatial = z @ self.parameter("z.in", self.channels, self.width)
        registers = self.parameter("registers", self.register_count, self.width).expand(batch, time, -1, -1)
        label = self.label_token(tau, d)[:, :, None].to(self.compute)
        action = self.action_tokens(components, self.action_embedding(batch, time), labelled)
        tokens = [spatial, registers, label, action, *([] if task is None else [self.agent_token(task, batch, time)])]
        x = torch.cat(tokens, 2)
        return x + self.parameter("places", 16, self.width)[: x.shape[2]]

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        """Concatenation of the two embeddings."""
        return self.side_by_side(*self.label_embeddings(tau, d))

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of level and step, from two tables."""
        level, step = self.level_index(self.signal(tau.double())), self.step_index(d.double())
        tau_table = self.parameter("tau", self.k_max, self.width // 2)
        d_table = self.parameter("d", self.k_max.bit_length(), self.width // 2)
        scale = self.k_max**0.5
        return scale * tau_table[level], scale * d_table[step]

    def level_index(self, tau: Tensor) -> Tensor:
        """Index on the grid of 1/K_max; a clean frame has the last one (A12)."""
        return (tau * self.k_max).round().long().clamp(0, self.k_max - 1)

    def step_index(self, d: Tensor) -> Tensor:
        return -torch.log2(d).round().long()

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        """Channels of both embeddings."""
        return torch.cat([tau, d], -1)

    def encoded_actions(self, actions: Any) -> list[Tensor]:
        """Each component as (B, T, S_a, D)."""
        return [self.encoded_keys(actions["keys"]), self.encoded_mouse(actions["mouse"])]

    def encoded_keys(self, keys: Tensor) -> Tensor:
        """A row of a table."""
        table = 2 * self.parameter("keys", self.keys, self.action_slots * self.width)
        return table[keys].reshape(*keys.shape, self.action_slots, self.width)

    def encoded_mouse(self, mouse: Tensor) -> Tensor:
        encoded = mouse.to(self.compute) @ self.parameter("mouse", 2, self.action_slots * self.width)
        return encoded.reshape(*mouse.shape[:2], self.action_slots, self.width)

    def in_blocks(self, components: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
        """Actions lead to the frame that they come with, or under A32 to the next one."""
        return components if self.follows["A32"] == "previous" else self.shifted_actions(components, before)

    def shifted_actions(self, components: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
        """Actions moved to the next frame; the first frame has none."""
        before = before or [torch.zeros_like(component[:, :1]) for component in components]
        return [torch.cat([last, now[:, :-1]], 1) for last, now in zip(before, components, strict=True)]

    def action_embedding(self, batch: int, time: int) -> Tensor:
        """Learned embedding of the action tokens, (S_a, D)."""
        return self.parameter("actions", self.action_slots, self.width)

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        """Learned embedding plus, in labelled clips, the sum of the components."""
        total = self.component_sum(components)
        return embedding.to(total) + self.masked_by_label(total, labelled)

    def component_sum(self, components: list[Tensor]) -> Tensor:
        """Sum over the components."""
        return torch.stack(components).sum(0)

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        """The sum, set to 0 in clips without actions."""
        return torch.where(labelled[:, None, None, None], total, 0)

    def agent_token(self, task: Tensor, batch: int, time: int) -> Tensor:
        """The task's embedding in every frame, (B, T, 1, D)."""
        return 2 * self.parameter("task", self.tasks, self.width)[task][:, None, None].expand(batch, time, 1, -1)

    def token_mask(self, agent: bool) -> Tensor:
        """bool (S, S) for the tokens of a frame."""
        world = (
            ["latent"] * self.spatial + ["register"] * self.register_count + ["label"] + ["action"] * self.action_slots
        )
        return self.modality_rule([*world, *["agent"] * agent])

    def modality_rule(self, modality: list[str]) -> Tensor:
        """All tokens attend to each other, except that only agent tokens attend to agent tokens."""
        agent = self.of_modality(modality, "agent")
        return agent[:, None] | ~agent

    def of_modality(self, modality: list[str], name: str) -> Tensor:
        """bool (N,): True for tokens of this name."""
        return torch.tensor([token == name for token in modality], dtype=torch.bool)

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        """Mask of the space layers, extended to earlier frames."""
        return (frame[:, None] >= frame) & self.modality_rule(modality).to(frame.device)

    # What is predicted from the agent token

    def mtp_heads(self, agent: Tensor) -> Tensor:
        """A linear layer for each distance of A17, two classes."""
        distances = 9 if self.follows["A17"] == "0..8" else 8
        return torch.stack([self.mtp_head(agent.to(self.compute), n) for n in range(distances)], 2).to(agent.dtype)

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        """The output layer of one distance."""
        return agent @ self.parameter(f"mtp.{distance}", self.width, 2)

    # Generation

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        """Generates frame by frame; each is then slightly corrupted and becomes context."""
        generator = torch.Generator().manual_seed(seed)
        past = self.slightly_corrupt(context, generator)
        generated: list[Tensor] = []
        state = self.prefilled(past, actions) if cache else None
        for _ in range(frames):
            z = torch.randn(past[:, :1].shape, generator=generator).to(past)
            z, state = self.denoised(z, past, state, actions, num_steps)
            generated.append(z)
            fresh = self.committed(z, self.slightly_corrupt(z, generator), cache)
            state = self.append_frames(state, fresh, actions, past.shape[1]) if cache else None
            past = torch.cat([past, fresh], 1)
        return torch.cat(generated, 1)

    def slightly_corrupt(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Frames corrupted at the level of A9, with noise drawn once (A28)."""
        levels = {"slight": 0.9, "none": 1.0, "level": self.context_level, "literal": 0.1}
        noise = torch.randn(z.shape, generator=generator).to(z)
        return self.mix(noise, z, z.new_full((1, 1, 1, 1), levels[self.follows["A9"]]))

    def committed(self, z: Tensor, corrupted: Tensor, cache: bool) -> Tensor:
        """The generated frame as it is used as context."""
        return corrupted

    def context_labels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Labels of past frames: their level and the finest step."""
        levels = {"slight": 0.9, "none": 1.0, "level": self.context_level, "literal": 0.1}
        tau = torch.full(z.shape[:2], levels[self.follows["A9"]], dtype=torch.float64)
        return self.signal(tau).to(z), torch.full(z.shape[:2], 1 / self.k_max).to(z)

    def actions_of(self, actions: Any, frames: slice) -> Any:
        """Actions of the frames in a slice."""
        return {name: component[:, frames] for name, component in actions.items()}

    def prefilled(self, past: Tensor, actions: Any) -> Any:
        """The state after the context."""
        return self.append_frames(self.dynamics_init(len(past)), past, actions, 0)

    def append_frames(self, state: Any, z: Tensor, actions: Any, start: int) -> Any:
        """State after these frames are appended to the cache."""
        labelled = torch.ones(len(z), dtype=torch.bool, device=z.device)
        if not z.shape[1]:
            return state
        selected = self.actions_of(actions, slice(start, start + z.shape[1]))
        return self.predicted(z, *self.labels_in_cache(z), selected, None, labelled, state)[2]

    def labels_in_cache(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Labels that frames have in the cache."""
        return self.context_labels(z)

    def denoised(self, z: Tensor, past: Tensor, state: Any, actions: Any, num_steps: int) -> tuple[Tensor, Any]:
        """Last frame after K Euler steps, z (B, 1, S, D), and the state that it is appended to."""
        for step in range(num_steps):
            tau, d = (torch.full(z.shape[:2], value).to(z) for value in (step / num_steps, 1 / num_steps))
            z1_hat, after = self.evaluated(z, self.signal(tau), d, past, state, actions)
            state = self.state_after_denoising(state, after)
            z = z + (z1_hat[:, -1:] - z) / (1 - step / num_steps) / num_steps
        return z, state

    def evaluated(
        self, z: Tensor, tau: Tensor, d: Tensor, past: Tensor, state: Any, actions: Any
    ) -> tuple[Tensor, Any]:
        """z_hat of the last frame, from the cache or from all past frames."""
        time, labelled = past.shape[1], torch.ones(len(z), dtype=torch.bool, device=z.device)
        if state is not None:
            selected = self.actions_of(actions, slice(time, time + 1))
            z1_hat, _, after = self.predicted(z, tau, d, selected, None, labelled, state)
            return z1_hat, after
        tau, d = (torch.cat(pair, 1) for pair in zip(self.context_labels(past), (tau, d), strict=True))
        selected = self.actions_of(actions, slice(time + 1))
        return self.predicted(torch.cat([past, z], 1), tau, d, selected, None, labelled)[0], None

    def state_after_denoising(self, before: Any, after: Any) -> Any:
        """State after a denoising pass, which is not written to the cache."""
        return before
