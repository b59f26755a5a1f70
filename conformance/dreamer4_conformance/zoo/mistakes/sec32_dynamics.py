"""Mistakes in the dynamics: conditioning, tokens, causality, the agent token and its heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.zoo.base import Book, TextbookModel
from dreamer4_conformance.zoo.base.sec32_dynamics import Dynamics
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
MODEL = ("dynamics",)
AGENT = ("dynamics",)
MASK = ("modality_mask", "space_mask")
HEADS = ("mtp_heads",)


class WholeSequences(Dynamics, Book):
    """The dynamics without generation."""

    depth = 4
    dynamics_init = Adapter.dynamics_init
    dynamics_step = Adapter.dynamics_step
    rollout = Adapter.rollout


def late(x: Tensor) -> Tensor:
    """Shifts frames to the next one; the first gets zeros."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def early(x: Tensor) -> Tensor:
    """Shifts frames to the previous one; the last keeps its own."""
    return torch.cat([x[:, 1:], x[:, -1:]], 1)


# Labels and actions


@mistake("step-embedding-broadcast", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class StepEmbeddingBroadcast(WholeSequences):
    """A step embedding (B, D) is broadcast to (B, T, D): an error, or steps of other sequences where B = T."""

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        level, step = self.label_embeddings(tau, d)
        return self.side_by_side(level, step[:, 0] + torch.zeros_like(level))


@mistake("level-ignored", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class LevelIgnored(WholeSequences):
    """The network does not use τ."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        return super().label_embeddings(torch.zeros_like(tau), d)


@mistake("step-ignored", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class StepIgnored(WholeSequences):
    """The network does not use d."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        return super().label_embeddings(tau, torch.ones_like(d))


@mistake("label-of-first-frame", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class LabelOfFirstFrame(WholeSequences):
    """Every frame uses the label of the first frame."""

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        return super().label_token(tau[:, :1].expand_as(tau), d[:, :1].expand_as(d))


@mistake("label-of-previous-frame", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class LabelOfPreviousFrame(WholeSequences):
    """Every frame uses the label of the previous frame."""

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        return late(super().label_token(tau, d))


@mistake("component-ignored", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class ComponentIgnored(WholeSequences):
    """The mouse component of the action is ignored."""

    def encoded_mouse(self, mouse: Tensor) -> Tensor:
        return torch.zeros_like(super().encoded_mouse(mouse))


@mistake("actions-ignored", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class ActionsIgnored(WholeSequences):
    """Actions are ignored: every frame uses the learned embedding alone."""

    def component_sum(self, components: list[Tensor]) -> Tensor:
        return torch.zeros_like(components[0])


@mistake("sequences-mixed", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class SequencesMixed(WholeSequences):
    """The tokens of a frame are centred over the batch, which mixes sequences."""

    def frame_tokens(self, *inputs: Any) -> Tensor:
        x = super().frame_tokens(*inputs)
        return x - x.mean(0)


@mistake("sequences-numbered", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class SequencesNumbered(WholeSequences):
    """Tokens are scaled by their batch row, as if it were the index of the frame."""

    def frame_tokens(self, *inputs: Any) -> Tensor:
        x = super().frame_tokens(*inputs)
        return x * (1 + torch.arange(len(x), device=x.device)[:, None, None, None])


@mistake("unlabelled-seen", clause="dyn.unlabelled", operations=MODEL, levels=SIGNAL)
class UnlabelledSeen(WholeSequences):
    """The placeholder actions of unlabelled clips are used as if they were real."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return total


@mistake("unlabelled-mean", clause="dyn.unlabelled", operations=MODEL, levels=SIGNAL)
class UnlabelledMean(WholeSequences):
    """Unlabelled clips use the mean over time of their placeholder actions."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return torch.where(labelled[:, None, None, None], total, total.mean(1, keepdim=True))


@mistake("unlabelled-any", clause="dyn.unlabelled", operations=MODEL, levels=SIGNAL)
class UnlabelledAny(WholeSequences):
    """If one clip of the batch is labelled, all are treated as labelled."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return super().masked_by_label(total, labelled.any().expand_as(labelled))


@mistake("unlabelled-all", clause="dyn.unlabelled", operations=MODEL, levels=SIGNAL)
class UnlabelledAll(WholeSequences):
    """If one clip of the batch is unlabelled, all are treated as unlabelled."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return super().masked_by_label(total, labelled.all().expand_as(labelled))


@mistake("unlabelled-inverted", clause="dyn.unlabelled", operations=MODEL, levels=SIGNAL)
class UnlabelledInverted(WholeSequences):
    """The flag is inverted: True is interpreted as "without actions"."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return super().masked_by_label(total, ~labelled)


@mistake("unlabelled-reversed", clause="dyn.unlabelled", operations=MODEL, levels=SIGNAL)
class UnlabelledReversed(WholeSequences):
    """The flags of unlabelled clips are in the reverse order of the clips."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return super().masked_by_label(total, labelled.flip(0))


@mistake("action-channel-ignored", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class ActionChannelIgnored(WholeSequences):
    """The second coordinate of the mouse is ignored."""

    def encoded_mouse(self, mouse: Tensor) -> Tensor:
        return super().encoded_mouse(mouse * torch.tensor([1, 0], device=mouse.device))


@mistake("wrong-at-batch-one", clause="dyn.conditioning", operations=MODEL, levels=SIGNAL)
class WrongAtBatchOne(WholeSequences):
    """`squeeze` removes the batch axis of a single sequence, so that its frames share the label of the first."""

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        label = super().label_token(tau, d)
        return label if len(tau) > 1 else label.squeeze(0)[None, :1].expand_as(label)


# Tokens


@mistake("registers-returned", clause="dyn.registers", operations=MODEL, levels=SIGNAL)
class RegistersReturned(WholeSequences):
    """z_hat is read from the register tokens too."""

    def read_spatial(self, x: Tensor) -> Tensor:
        normed = self.before(x[:, :, : self.spatial + self.register_count], "z.norm")
        return normed @ self.parameter("z.out", self.width, self.channels)


@mistake("registers-hidden", clause="dyn.registers", operations=MASK, levels=SIGNAL)
class RegistersHidden(TextbookModel):
    """Registers attend to the frame, but only registers attend to them."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        register = self.of_modality(modality, "register")
        return super().modality_rule(modality) & (register[:, None] | ~register)


@mistake("frame-causal", clause="net.space-full", operations=("dynamics", *MASK), levels=SIGNAL)
class FrameCausal(TextbookModel):
    """Attention within a frame is causal over its tokens."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        return super().modality_rule(modality).tril()


@mistake("patches-blind", clause="net.space-full", operations=("dynamics", *MASK), levels=SIGNAL)
class PatchesBlind(TextbookModel):
    """A spatial token is visible only to itself and to the agent token."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        latent = self.of_modality(modality, "latent")
        agent = self.of_modality(modality, "agent")
        return super().modality_rule(modality) & (~latent | torch.eye(len(modality), dtype=torch.bool) | agent[:, None])


@mistake("actions-blind", clause="net.space-full", operations=MASK, levels=SIGNAL)
class ActionsBlind(TextbookModel):
    """Action tokens attend to action tokens only."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        action = self.of_modality(modality, "action")
        return super().modality_rule(modality) & (action | ~action[:, None])


@mistake("label-hidden", clause="net.space-full", operations=MASK, levels=SIGNAL)
class LabelHidden(TextbookModel):
    """Only label and action tokens attend to the label token."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        label, action = (self.of_modality(modality, name) for name in ("label", "action"))
        return super().modality_rule(modality) & (label[:, None] | action[:, None] | ~label)


@mistake("latents-blind-to-latents", clause="net.space-full", operations=MASK, levels=SIGNAL)
class LatentsBlindToLatents(TextbookModel):
    """A spatial token attends to itself and to all other kinds of tokens, but to no other spatial token."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        latent = self.of_modality(modality, "latent")
        blind = latent[:, None] & latent & ~torch.eye(len(modality), dtype=torch.bool)
        return super().modality_rule(modality) & ~blind


# Causality


@mistake("actions-of-next-block", clause="attn.causal", operations=MODEL, levels=SIGNAL)
class ActionsOfNextBlock(WholeSequences):
    """Frame t uses the actions of frame t + 1."""

    def in_blocks(self, components: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
        return [early(component) for component in components]


@mistake("label-of-next-frame", clause="attn.causal", operations=MODEL, levels=SIGNAL)
class LabelOfNextFrame(WholeSequences):
    """Frame t uses the label of frame t + 1 in addition to its own."""

    def label_token(self, tau: Tensor, d: Tensor) -> Tensor:
        label = super().label_token(tau, d)
        return label + early(label)


@mistake("frames-normalised-together", clause="attn.causal", operations=MODEL, levels=SIGNAL)
class NormalisedTogether(WholeSequences):
    """z is divided by its RMS over all frames of the sequence."""

    def frame_tokens(self, z: Tensor, *inputs: Any) -> Tensor:
        return super().frame_tokens(z / z.square().mean((1, 2, 3), keepdim=True).sqrt(), *inputs)


@mistake("causal-mask-too-small", clause="attn.causal", operations=MODEL, levels=SIGNAL)
class CausalMaskTooSmall(WholeSequences):
    """The causal mask has 8 rows; in longer sequences all frames attend to the frames after them."""

    def time_mask(self, length: int) -> Tensor:
        return super().time_mask(length) | torch.full((length, length), length > 8)


@mistake("mask-shows-later-frames", clause="attn.causal", operations=("modality_mask",), levels=SIGNAL)
class MaskShowsLaterFrames(TextbookModel):
    """The causal mask is transposed: its rows are keys."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        return super().modality_mask(kind, modality, frame).T


@mistake("past-unseen", clause="attn.causal", operations=MODEL, levels=SIGNAL)
class PastUnseen(WholeSequences):
    """The time layers of the dynamics attend to the current frame only."""

    def layers(self, x: Tensor, *inputs: Any, **options: Any) -> tuple[Tensor, Past]:
        batch, time = x.shape[:2]
        separate, past = super().layers(x.flatten(0, 1)[:, None], *inputs, **options)
        return separate.reshape(batch, time, *separate.shape[2:]), past


@mistake("past-of-z-alone", clause="attn.causal", operations=MODEL, levels=SIGNAL)
class PastOfZAlone(WholeSequences):
    """Earlier frames are processed in a separate pass without labels and actions."""

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        rows = []
        for t in range(z.shape[1]):
            tau_t, d_t = (torch.cat([torch.ones_like(x[:, :t]) / 2, x[:, t : t + 1]], 1) for x in (tau, d))
            selected = {
                name: torch.cat([torch.zeros_like(x[:, :t]), x[:, t : t + 1]], 1) for name, x in actions.items()
            }
            rows.append(super().dynamics(z[:, : t + 1], tau_t, d_t, selected, task, labelled))
        agents = [agent[:, -1:] for _, agent in rows if agent is not None]
        return torch.cat([z_hat[:, -1:] for z_hat, _ in rows], 1), torch.cat(agents, 1) if agents else None


# The agent token


@mistake("agent-visible", clause="dyn.agent-firewall", operations=("dynamics", *MASK), levels=SIGNAL)
class AgentVisible(TextbookModel):
    """All tokens of a frame attend to the agent token."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        return torch.ones(len(modality), len(modality), dtype=torch.bool)


@mistake("agent-blind", clause="dyn.agent-firewall", operations=("dynamics", *MASK), levels=SIGNAL)
class AgentBlind(TextbookModel):
    """The agent token attends to itself only."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        agent = self.of_modality(modality, "agent")
        return agent[:, None] == agent


@mistake("agent-mask-turned", clause="dyn.agent-firewall", operations=("dynamics", *MASK), levels=SIGNAL)
class AgentMaskTurned(TextbookModel):
    """The mask is transposed: all tokens attend to the agent token, which attends to itself only."""

    def modality_rule(self, modality: list[str]) -> Tensor:
        return super().modality_rule(modality).T


@mistake("agent-visible-in-time", clause="dyn.agent-firewall", operations=AGENT, levels=SIGNAL)
class AgentVisibleInTime(WholeSequences):
    """The agent token is masked in space layers but not in time layers."""

    def split_positions(self, x: Tensor) -> Tensor:
        return super().split_positions(x + x[:, :, -1:])


@mistake("agent-visible-later", clause="dyn.agent-firewall", operations=("modality_mask",), levels=SIGNAL)
class AgentVisibleLater(TextbookModel):
    """The agent token is masked in its own frame but not in later ones."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        return super().modality_mask(kind, modality, frame) | (frame[:, None] > frame)


@mistake("agent-of-past", clause="dyn.agent-firewall", operations=AGENT, levels=SIGNAL)
class AgentOfPast(WholeSequences):
    """The agent's output is that of the previous frame."""

    def read_agent(self, x: Tensor) -> Tensor:
        return late(super().read_agent(x))


@mistake("agent-unconditioned", clause="dyn.agent-firewall", operations=AGENT, levels=SIGNAL)
class AgentUnconditioned(WholeSequences):
    """The agent's output comes from a separate pass without labels."""

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        z_hat, _ = super().dynamics(z, tau, d, actions, task, labelled)
        return z_hat, super().dynamics(z, torch.zeros_like(tau), torch.ones_like(d), actions, task, labelled)[1]


@mistake("agent-without-actions", clause="dyn.agent-firewall", operations=AGENT, levels=SIGNAL)
class AgentWithoutActions(WholeSequences):
    """The agent's output comes from a separate pass without actions."""

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        z_hat, _ = super().dynamics(z, tau, d, actions, task, labelled)
        return z_hat, super().dynamics(z, tau, d, actions, task, torch.zeros_like(labelled))[1]


@mistake("agent-task-ignored", clause="dyn.agent-firewall", operations=AGENT, levels=SIGNAL)
class AgentTaskIgnored(WholeSequences):
    """Every agent token uses the embedding of the first task."""

    def agent_token(self, task: Tensor, batch: int, time: int) -> Tensor:
        return super().agent_token(torch.zeros_like(task), batch, time)


@mistake("agent-task-once", clause="dyn.agent-firewall", operations=AGENT, levels=SIGNAL)
class AgentTaskOnce(WholeSequences):
    """Only the last frame receives the task."""

    def agent_token(self, task: Tensor, batch: int, time: int) -> Tensor:
        token = super().agent_token(task, batch, time)
        return torch.cat([torch.zeros_like(token[:, :-1]), token[:, -1:]], 1)


@mistake("agent-pooled", clause="attn.causal", operations=AGENT, levels=SIGNAL)
class AgentPooled(WholeSequences):
    """The agent's output includes a mean over all frames of the sequence."""

    def read_agent(self, x: Tensor) -> Tensor:
        agent = super().read_agent(x)
        return agent + agent.mean(1, keepdim=True)


@mistake("agent-sees-its-label", clause="eq09.no-leak", operations=AGENT, levels=SIGNAL)
class AgentSeesItsLabel(WholeSequences):
    """The agent token receives the next frame's action a_t, which its first head predicts."""

    def dynamics(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: Any, labelled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        z_hat, agent = super().dynamics(z, tau, d, actions, task, labelled)
        selected = self.component_sum([early(component) for component in self.encoded_actions(actions)])
        return z_hat, None if agent is None else agent + selected.mean(2).to(agent)


@mistake("agent-misses-its-action", clause="eq09.no-leak", operations=MODEL, levels=SIGNAL)
class AgentMissesItsAction(WholeSequences):
    """Actions reach the model one frame late, without declaring reading A32."""

    def in_blocks(self, components: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
        return self.shifted_actions(components, before)


# The heads


@mistake("mtp-head-shared", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadShared(WholeSequences):
    """All distances share one output layer."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        return super().mtp_head(agent, 0)


@mistake("mtp-head-pairs", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadPairs(WholeSequences):
    """Pairs of distances share one output layer."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        return super().mtp_head(agent, distance // 2)


@mistake("mtp-head-biased", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadBiased(WholeSequences):
    """All distances share one output layer and differ in a bias."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        return super().mtp_head(agent, 0) + self.parameter(f"mtp.bias.{distance}", 1, 2)[0]


@mistake("mtp-head-scaled", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadScaled(WholeSequences):
    """All distances share one output layer, whose outputs are scaled by a discount of each distance."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        return super().mtp_head(agent, 0) * 0.9**distance


@mistake("mtp-head-missing", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadMissing(WholeSequences):
    """The last distance has no output layer."""

    def mtp_heads(self, agent: Tensor) -> Tensor:
        return super().mtp_heads(agent)[:, :, :-1]


@mistake("mtp-head-constant", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadConstant(WholeSequences):
    """The output layer of distance 0 is a bias without inputs."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        head = super().mtp_head(agent, distance)
        return head if distance else torch.ones_like(head)


@mistake("mtp-head-shifted", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadShifted(WholeSequences):
    """The head at distance n reads h_{t+n}, the agent token of the frame it should predict."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        ahead = (torch.arange(agent.shape[1]) + distance).clamp(max=agent.shape[1] - 1)
        return super().mtp_head(agent[:, ahead], distance)


@mistake("mtp-head-pooled", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadPooled(WholeSequences):
    """Heads read the mean of the agent tokens up to the current frame."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        count = torch.arange(1, agent.shape[1] + 1, device=agent.device)[:, None]
        return super().mtp_head(agent.cumsum(1) / count, distance)


@mistake("mtp-head-of-batch", clause="mtp.heads", operations=HEADS, levels=SIGNAL)
class HeadOfBatch(WholeSequences):
    """Agent tokens are centred over the batch before the heads read them."""

    def mtp_head(self, agent: Tensor, distance: int) -> Tensor:
        return super().mtp_head(agent - agent.mean(0), distance)
