"""Equivalent ways to build the dynamics, its agent token and its cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.zoo.base import Book, TextbookModel
from dreamer4_conformance.zoo.base.sec32_dynamics import EMPTY, Dynamics, State
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.equivalents import equivalent


class World(Dynamics, Book):
    """The dynamics only; operations shared with the rest of the textbook are judged there."""

    corrupt = Adapter.corrupt
    sample_tau_d = Adapter.sample_tau_d
    ramp_weight = Adapter.ramp_weight
    attention = Adapter.attention  # type: ignore[assignment]
    space_layer = Adapter.space_layer
    time_layer = Adapter.time_layer
    block_zeroed = Adapter.block_zeroed
    swiglu = Adapter.swiglu
    modality_mask = Adapter.modality_mask


# The agent


@equivalent("agent-first")
class AgentFirst(World):
    """The agent token is the first of its frame."""

    def frame_tokens(
        self, z: Tensor, tau: Tensor, d: Tensor, components: list[Tensor], task: Any, labelled: Tensor
    ) -> Tensor:
        x = super().frame_tokens(z, tau, d, components, task, labelled)
        return x if task is None else x.roll(1, 2)

    def token_mask(self, agent: bool) -> Tensor:
        allow = super().token_mask(agent)
        return allow.roll((1, 1), (0, 1)) if agent else allow

    def read_spatial(self, x: Tensor) -> Tensor:
        world = self.spatial + self.register_count + 1 + self.action_slots
        return super().read_spatial(x[:, :, x.shape[2] - world :])

    def read_agent(self, x: Tensor) -> Tensor:
        return super().read_agent(x[:, :, :1])


@equivalent("agent-stream")
class AgentStream(World):
    """No agent token in the layers: the task attends to the tokens of each frame after the last layer."""

    def predicted(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor, state: State = EMPTY
    ) -> tuple[Tensor, Tensor | None, State]:
        z_hat, _, after = super().predicted(z, tau, d, actions, None, labelled, state)
        if task is None:
            return z_hat, None, after
        query = self.agent_token(task, *z.shape[:2])
        weights = (query * self.agent_inputs).sum(-1, keepdim=True).softmax(2)
        return z_hat, ((weights * self.agent_inputs).sum(2) + query[:, :, 0]).to(z.dtype), after

    def read_spatial(self, x: Tensor) -> Tensor:
        self.agent_inputs = self.before(x, "agent.norm")
        return super().read_spatial(x)


@equivalent("world-without-agent")
class WithoutAgent(World):
    """No agent, no task and no actions: a video model."""

    mtp_heads = Adapter.mtp_heads

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = super().example(seed, batch, time)
        return {name: example[name] for name in ("z", "tau", "d")}

    def encoded_actions(self, actions: Any) -> list[Tensor]:
        return []

    def component_sum(self, components: list[Tensor]) -> Tensor:
        return torch.stack(components).sum(0) if components else torch.zeros(1, 1, 1, 1, dtype=self.compute)

    def action_embedding(self, batch: int, time: int) -> Tensor:
        return super().action_embedding(batch, time).expand(batch, time, -1, -1)

    def actions_of(self, actions: Any, frames: slice) -> Any:
        return None


# Actions


@equivalent("actions-in-a-list")
class ActionsListed(World):
    """Components in a list, the keys as floats."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = super().example(seed, batch, time)
        keys, mouse = example["actions"]["keys"], example["actions"]["mouse"]
        return {**example, "actions": [keys.to(mouse), mouse]}

    def encoded_actions(self, actions: Any) -> list[Tensor]:
        return [self.encoded_keys(actions[0].long()), self.encoded_mouse(actions[1])]

    def actions_of(self, actions: Any, frames: slice) -> Any:
        return [component[:, frames] for component in actions]


@equivalent("actions-in-one-array")
class ActionsInOneArray(World):
    """Two numbers, each a component, in an array (B, T, 2)."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = super().example(seed, batch, time)
        return {**example, "actions": example["actions"]["mouse"]}

    def encoded_actions(self, actions: Any) -> list[Tensor]:
        return [self.encoded_mouse(actions)]

    def actions_of(self, actions: Any, frames: slice) -> Any:
        return actions[:, frames]


@equivalent("actions-as-taken")
def actions_as_taken() -> Adapter:
    """a_t is passed with frame t and leads to the next frame (A32)."""
    return TextbookModel(A32="current")


@equivalent("actions-as-taken-seen")
class ActionsAsTakenSeen(World):
    """Block t holds a_t, visible to the agent, and the heads start at a_{t+1} (A32, A17)."""

    def __init__(self) -> None:
        super().__init__(A32="current", A17="1..8")

    def in_blocks(self, components: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
        return components


# Labels


@equivalent("steps-per-sequence")
def steps_per_sequence() -> Adapter:
    """d is the same along a sequence (A3), and no time layer has a window."""
    adapter = TextbookModel("noise", A3="sequence")
    adapter.context_frames = None
    return adapter


@equivalent("label-by-sines")
class LabelBySines(World):
    """Fixed tables: sines of the index; levels between two grid points are rounded down (A10)."""

    def level_index(self, tau: Tensor) -> Tensor:
        return (tau * self.k_max).floor().long().clamp(0, self.k_max - 1)

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        frequency = 0.7 ** torch.arange(self.width // 2)
        level, step = self.level_index(self.signal(tau.double())), self.step_index(d.double())
        level, step = (2 * torch.sin(x[..., None] * frequency + 0.3).to(self.compute) for x in (level, step))
        return level, step


@equivalent("label-tables-projected")
class LabelTablesProjected(World):
    """Two narrow tables, side by side, are projected to the width of the layers, with a bias."""

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        weight = self.parameter("label.projection", self.width, self.width)
        return super().side_by_side(tau, d) @ weight + self.parameter("label.bias", self.width)


@equivalent("label-embeddings-added")
class LabelEmbeddingsAdded(World):
    """Two tables as wide as the layers are added: the same as side by side, then a linear map."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        level, step = self.level_index(self.signal(tau.double())), self.step_index(d.double())
        tables = (("tau", self.k_max, level), ("d", self.k_max.bit_length(), step))
        level, step = (rows**0.5 * self.parameter(f"{name}.wide", rows, self.width)[i] for name, rows, i in tables)
        return level, step

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        return tau + d


@equivalent("context-frames-exclusive")
def context_frames_exclusive() -> Adapter:
    """Context noise is redrawn for each generated frame (A28); C counts past frames (A30) and is 1."""
    adapter = World(A30="exclusive", A28="generated")
    adapter.context_frames = 1
    return adapter


@equivalent("model-bfloat16")
def model_bfloat16() -> Adapter:
    """The textbook model in bfloat16."""
    adapter = World()
    adapter.dtype = "bfloat16"
    return adapter


@equivalent("model-rounded-throughout")
class RoundedThroughout(World):
    """The textbook model in bfloat16, with every token rounded after every layer."""

    dtype = "bfloat16"

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return (x + update.bfloat16().to(x)).bfloat16().to(x)


# The cache


@equivalent("cache-trimmed")
class CacheTrimmed(World):
    """The cache holds the last C − 1 frames in the layout (B, H, T, D)."""

    def extend_cache(self, past: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        held = (self.window() or 1) - 1
        if past is not None:
            past = tuple(x[:, :, max(0, x.shape[2] - held) :].transpose(1, 2) for x in past)
        return super().extend_cache(past, k, v)

    def next_state(self, past: Past, start: int, time: int, last: list[Tensor]) -> State:
        return super().next_state(
            {name: (k.transpose(1, 2), v.transpose(1, 2)) for name, (k, v) in past.items()}, start, time, last
        )


@equivalent("cache-of-inputs")
class CacheOfInputs(World):
    """No keys and values are cached: every frame is computed from all inputs again."""

    def dynamics_init(self, batch: int) -> Any:
        return []

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        state = [*state, (z, tau, d, actions)]
        frames, taus, steps, selected = zip(*state, strict=True)
        together = {name: torch.cat([step_actions[name] for step_actions in selected], 1) for name in actions}
        labelled = torch.ones(len(z), dtype=torch.bool)
        inputs = (torch.cat(frames, 1), torch.cat(taus, 1), torch.cat(steps, 1), together, task, labelled)
        z_hat, agent = self.dynamics(*inputs)
        return z_hat[:, -1:], None if agent is None else agent[:, -1:], state

    def rollout(self, context: Tensor, actions: Any, frames: int, num_steps: int, seed: int, *, cache: bool) -> Tensor:
        return super().rollout(context, actions, frames, num_steps, seed, cache=False)


@equivalent("cache-in-place")
class CacheInPlace(World):
    """One buffer that is written in place; the state is its filled length."""

    def dynamics_init(self, batch: int) -> Any:
        return {"state": EMPTY}

    def dynamics_step(
        self, state: Any, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        z_hat, agent, state["state"] = super().dynamics_step(state["state"], z, tau, d, actions, task)
        return z_hat, agent, state

    def prefilled(self, past: Tensor, actions: Any) -> Any:
        return self.append_frames(EMPTY, past, actions, 0)


@equivalent("sequences-one-by-one")
class SequencesOneByOne(World):
    """One call per sequence of the batch; the heads as one fused layer."""

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        rows = []
        for b in range(len(z)):
            row_actions = {name: component[b : b + 1] for name, component in actions.items()}
            row = slice(b, b + 1)
            rows.append(
                super().dynamics(
                    z[row], tau[row], d[row], row_actions, None if task is None else task[row], labelled[row]
                )
            )
        agents = [agent for _, agent in rows if agent is not None]
        return torch.cat([z_hat for z_hat, _ in rows]), torch.cat(agents) if agents else None

    def mtp_heads(self, agent: Tensor) -> Tensor:
        weight = self.parameter("mtp", self.width, 9 * 2)
        return (agent.to(self.compute) @ weight).reshape(*agent.shape[:2], 9, 2).to(agent.dtype)
