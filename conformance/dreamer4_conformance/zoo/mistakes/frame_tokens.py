"""Mistakes in the tokens of a frame: its (τ, d) label, and its actions."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.mistakes import mistake
from dreamer4_conformance.zoo.mistakes.sec32_dynamics import WholeSequences

SIGNAL = ("signal",)
LABEL = ("label_token",)
ACTIONS = ("action_tokens",)


# The label


@mistake("label-embeddings-multiplied", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class EmbeddingsMultiplied(WholeSequences):
    """The embedding of τ is scaled by that of d instead of concatenated with it."""

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        return torch.cat([tau * d, d], -1)


@mistake("label-without-step", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class WithoutStep(WholeSequences):
    """The label token encodes τ only."""

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        return torch.cat([tau, torch.ones_like(d)], -1)


@mistake("label-without-level", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class WithoutLevel(WholeSequences):
    """The label token encodes d only."""

    def side_by_side(self, tau: Tensor, d: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(tau), d], -1)


@mistake("label-levels-coarse", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class LevelsCoarse(WholeSequences):
    """Groups of four levels share one embedding."""

    def level_index(self, tau: Tensor) -> Tensor:
        return super().level_index(tau) // 4


@mistake("label-no-row-for-one", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class NoRowForOne(WholeSequences):
    """d = 1 has no embedding of its own and uses that of d = 1/2."""

    def step_index(self, d: Tensor) -> Tensor:
        return super().step_index(d).clamp(min=1)


@mistake("label-one-refused", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class OneRefused(WholeSequences):
    """The embedding table of steps starts at d = 1/2, so d = 1 raises."""

    def step_index(self, d: Tensor) -> Tensor:
        index = super().step_index(d)
        if not index.all():
            raise IndexError("index out of range in self")
        return index


@mistake("label-no-row-for-finest", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class NoRowForFinest(WholeSequences):
    """The embedding table of steps is too short, so the two finest steps share its last row."""

    def step_index(self, d: Tensor) -> Tensor:
        return super().step_index(d).clamp(max=self.k_max.bit_length() - 2)


@mistake("label-continuous", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class Continuous(WholeSequences):
    """τ is encoded by sines of its value instead of by a discrete embedding."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        _, step = super().label_embeddings(tau, d)
        frequency = 2.0 ** torch.arange(self.width // 2, device=tau.device)
        return torch.sin(self.signal(tau.double())[..., None] * frequency + 0.3).to(step), step


@mistake("label-rows-untrained", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class RowsUntrained(WholeSequences):
    """The table has 16 rows for each level of the grid: the context's level, 0.9, uses a row that is never trained."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        _, step = super().label_embeddings(tau, d)
        rows = 16 * self.k_max
        index = (self.signal(tau.double()) * rows).round().long().clamp(0, rows - 1)
        return rows**0.5 * self.parameter("tau.fine", rows, self.width // 2)[index], step


@mistake("label-half-rows-untrained", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class HalfRowsUntrained(WholeSequences):
    """The table of levels has twice the rows of the grid, of which training reaches every second."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        _, step = super().label_embeddings(tau, d)
        index = (self.signal(tau.double()) * 2 * self.k_max).round().long()
        return self.k_max**0.5 * self.parameter("tau.fine", 2 * self.k_max, self.width // 2)[index], step


@mistake("label-counts-frames", clause="dyn.tokens", operations=LABEL, levels=SIGNAL)
class CountsFrames(WholeSequences):
    """The embedding of τ is scaled by the index of the frame."""

    def label_embeddings(self, tau: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        level, step = super().label_embeddings(tau, d)
        return level * (1 + torch.arange(tau.shape[1], device=tau.device))[:, None].to(level), step


# The actions


@mistake("action-mean", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class ActionMean(WholeSequences):
    """The components of the action are averaged instead of added."""

    def component_sum(self, components: list[Tensor]) -> Tensor:
        return torch.stack(components).mean(0)


@mistake("action-embedding-dropped", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class EmbeddingDropped(WholeSequences):
    """The learned embedding is used only where actions are missing."""

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        total = self.component_sum(components)
        return torch.where(labelled[:, None, None, None], total, embedding.to(total))


@mistake("action-embedding-missing", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class EmbeddingMissing(WholeSequences):
    """The learned embedding is left out; clips without actions get zeros."""

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        return super().action_tokens(components, torch.zeros_like(embedding), labelled)


@mistake("action-embedding-per-component", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class EmbeddingPerComponent(WholeSequences):
    """The learned embedding is added to every component before they are summed."""

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        return super().action_tokens(components, len(components) * embedding, labelled)


@mistake("action-token-zeroed", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class TokenZeroed(WholeSequences):
    """Clips without actions get zeros, without the learned embedding."""

    def action_tokens(self, components: list[Tensor], embedding: Tensor, labelled: Tensor) -> Tensor:
        return self.masked_by_label(embedding.to(components[0]) + self.component_sum(components), labelled)


@mistake("action-first-component", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class FirstComponent(WholeSequences):
    """Only the first component of the action is used."""

    def component_sum(self, components: list[Tensor]) -> Tensor:
        return components[0]


@mistake("action-product", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class ActionProduct(WholeSequences):
    """The components of the action are multiplied instead of added."""

    def component_sum(self, components: list[Tensor]) -> Tensor:
        return torch.stack(components).prod(0)


@mistake("action-always-labelled", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class AlwaysLabelled(WholeSequences):
    """The placeholder actions of unlabelled clips are added as if they were real."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return total


@mistake("action-labels-along-time", clause="dyn.action-sum", operations=ACTIONS, levels=SIGNAL)
class LabelsAlongTime(WholeSequences):
    """The flag of labelled clips is broadcast along time, which raises where B ≠ T."""

    def masked_by_label(self, total: Tensor, labelled: Tensor) -> Tensor:
        return torch.where(labelled[None, :, None, None], total, 0)
