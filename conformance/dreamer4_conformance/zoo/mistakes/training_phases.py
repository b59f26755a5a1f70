"""Mistakes in what a phase of training trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookTraining
from dreamer4_conformance.zoo.base.algorithm1_training import Parts
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
GRADIENTS = ("training_gradients",)
LOSSES = ("agent_losses",)


@mistake("tokenizer-trained", clause="train.frozen-tokenizer", operations=GRADIENTS, levels=SIGNAL)
class TokenizerTrained(TextbookTraining):
    """Latents are not detached: dynamics training makes them easy to predict."""

    def latents(self, parts: Parts, video: Tensor) -> Tensor:
        return (video @ parts["tokenizer"]).tanh()


@mistake("agent-transformer-frozen", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class TransformerFrozen(TextbookTraining):
    """The heads are trained on a frozen transformer."""

    def in_use(self, phase: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        if phase == "agent":
            parts["transformer"], parts["output"] = (torch.zeros(1, requires_grad=True) for _ in range(2))
        return parts


@mistake("agent-heads-detached", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class HeadsDetached(TextbookTraining):
    """The heads read a detached h: Eq. (9) teaches the transformer nothing."""

    def read_by_heads(self, h: Tensor) -> Tensor:
        return h.detach()


@mistake("agent-without-dynamics", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class WithoutDynamics(TextbookTraining):
    """Eq. (9) takes the place of Eq. (7): the world model is forgotten."""

    term_weights: ClassVar[Mapping[str, float]] = {"dynamics": 0.0}


@mistake("agent-reward-untrained", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class RewardUntrained(TextbookTraining):
    """Behaviour cloning alone: the reward head is never trained."""

    term_weights: ClassVar[Mapping[str, float]] = {"reward": 0.0}


@mistake("agent-clean-inputs", clause="train.agent-finetune", operations=LOSSES, levels=SIGNAL)
class CleanInputs(TextbookTraining):
    """The agent token sees clean frames."""

    def seen_by_agent(self, z1: Tensor, seed: int) -> Tensor:
        return z1


@mistake("cloning-on-all", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class CloningOnAll(TextbookTraining):
    """The actions of all sequences are cloned, those of bad players too."""

    def cloned(self, relevant: Tensor) -> Tensor:
        return torch.ones_like(relevant)


@mistake("cloning-on-uniform", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class CloningOnUniform(TextbookTraining):
    """The halves are exchanged for cloning."""

    def cloned(self, relevant: Tensor) -> Tensor:
        return ~relevant


@mistake("dynamics-on-all", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class DynamicsOnAll(TextbookTraining):
    """Eq. (7) on all sequences: the world model is drawn towards success."""

    def forced(self, relevant: Tensor) -> Tensor:
        return torch.ones_like(relevant)


@mistake("dynamics-on-relevant", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class DynamicsOnRelevant(TextbookTraining):
    """Eq. (7) on the relevant sequences alone."""

    def forced(self, relevant: Tensor) -> Tensor:
        return relevant


@mistake("imagine-trains-transformer", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImagineTransformer(TextbookTraining):
    """Imagination training moves the transformer that it imagines with."""

    def in_imagination(self, name: str, part: Tensor) -> Tensor:
        return part if name == "transformer" else super().in_imagination(name, part)


@mistake("imagine-trains-reward", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImagineReward(TextbookTraining):
    """The return is not detached: the reward head learns to promise what the value head says."""

    def in_imagination(self, name: str, part: Tensor) -> Tensor:
        return part if name == "reward" else super().in_imagination(name, part)


@mistake("imagine-trains-prior", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImaginePrior(TextbookTraining):
    """The prior is trained along with the policy that it should hold."""

    def in_imagination(self, name: str, part: Tensor) -> Tensor:
        return part if name == "prior" else super().in_imagination(name, part)

    def frozen_prior(self, prior_logits: Tensor) -> Tensor:
        return prior_logits


@mistake("imagine-trains-everything", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImagineEverything(TextbookTraining):
    """Nothing is frozen."""

    def in_imagination(self, name: str, part: Tensor) -> Tensor:
        return part


@mistake("imagine-value-untrained", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ValueUntrained(TextbookTraining):
    """Eq. (10) is left out: the value head stays as it was made."""

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        return super().training_gradients(phase, seed, ["policy"] if phase == "imagine" else terms)


@mistake("imagine-policy-untrained", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class PolicyUntrained(TextbookTraining):
    """The policy head is frozen with the world model."""

    def in_imagination(self, name: str, part: Tensor) -> Tensor:
        return part if name == "value" else part.detach()
