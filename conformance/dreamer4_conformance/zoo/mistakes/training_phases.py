"""Mistakes in which parameters and sequences a training phase uses."""

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
    """Latents are not detached: the dynamics loss trains the tokenizer."""

    def latents(self, parts: Parts, video: Tensor) -> Tensor:
        return (video @ parts["tokenizer"]).tanh()


@mistake("agent-transformer-frozen", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class TransformerFrozen(TextbookTraining):
    """The heads are trained on a frozen transformer."""

    def trainable(self, phase: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        if phase == "agent":
            parts["transformer"], parts["output"] = (torch.zeros(1, requires_grad=True) for _ in range(2))
        return parts


@mistake("agent-last-layer-only", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class LastLayerOnly(TextbookTraining):
    """Of the transformer only the last layer is finetuned; its other parameters are frozen."""

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        gradients = super().training_gradients(phase, seed, terms)
        frozen: list[Tensor | None] = [None] * 3
        return gradients | ({"transformer": [*frozen, *gradients["transformer"]]} if phase == "agent" else {})


@mistake("agent-heads-detached", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class HeadsDetached(TextbookTraining):
    """The heads read a detached h, so Eq. (9) does not train the transformer."""

    def read_by_heads(self, h: Tensor) -> Tensor:
        return h.detach()


@mistake("agent-without-dynamics", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class WithoutDynamics(TextbookTraining):
    """Eq. (9) replaces Eq. (7): the world model is no longer trained."""

    term_weights: ClassVar[Mapping[str, float]] = {"dynamics": 0.0}


@mistake("agent-reward-untrained", clause="train.agent-finetune", operations=GRADIENTS, levels=SIGNAL)
class RewardUntrained(TextbookTraining):
    """Only behaviour cloning is trained; the reward head is not."""

    term_weights: ClassVar[Mapping[str, float]] = {"reward": 0.0}


@mistake("agent-clean-inputs", clause="train.agent-finetune", operations=LOSSES, levels=SIGNAL)
class CleanInputs(TextbookTraining):
    """The agent token is trained on clean frames."""

    def agent_inputs(self, z1: Tensor, seed: int) -> Tensor:
        return z1


@mistake("cloning-on-all", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class CloningOnAll(TextbookTraining):
    """Behaviour cloning uses all sequences instead of the relevant ones."""

    def cloned(self, relevant: Tensor) -> Tensor:
        return torch.ones_like(relevant)


@mistake("cloning-on-uniform", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class CloningOnUniform(TextbookTraining):
    """Behaviour cloning uses the uniform sequences instead of the relevant ones."""

    def cloned(self, relevant: Tensor) -> Tensor:
        return ~relevant


@mistake("cloning-first-only", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class CloningFirstOnly(TextbookTraining):
    """Behaviour cloning uses the first relevant sequence of a batch instead of all."""

    def cloned(self, relevant: Tensor) -> Tensor:
        return relevant & (relevant.cumsum(0) == 1)


@mistake("cloning-every-second", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class CloningEverySecond(TextbookTraining):
    """Behaviour cloning takes every second sequence for relevant, whatever the batch holds."""

    def cloned(self, relevant: Tensor) -> Tensor:
        return torch.arange(len(relevant)) % 2 == 1


@mistake("dynamics-on-all", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class DynamicsOnAll(TextbookTraining):
    """Eq. (7) is trained on all sequences instead of on the uniform ones."""

    def forced(self, relevant: Tensor) -> Tensor:
        return torch.ones_like(relevant)


@mistake("dynamics-on-relevant", clause="train.data-mixture", operations=LOSSES, levels=SIGNAL)
class DynamicsOnRelevant(TextbookTraining):
    """Eq. (7) is trained on the relevant sequences instead of on the uniform ones."""

    def forced(self, relevant: Tensor) -> Tensor:
        return relevant


@mistake("imagine-trains-transformer", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImagineTransformer(TextbookTraining):
    """Imagination training also updates the transformer."""

    def in_imagination(self, name: str, matrix: Tensor) -> Tensor:
        return matrix if name == "transformer" else super().in_imagination(name, matrix)


@mistake("imagine-trains-reward", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImagineReward(TextbookTraining):
    """The return is not detached: imagination training also updates the reward head."""

    def in_imagination(self, name: str, matrix: Tensor) -> Tensor:
        return matrix if name == "reward" else super().in_imagination(name, matrix)


@mistake("imagine-trains-prior", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImaginePrior(TextbookTraining):
    """Imagination training also updates the prior."""

    def in_imagination(self, name: str, matrix: Tensor) -> Tensor:
        return matrix if name == "prior" else super().in_imagination(name, matrix)

    def frozen_prior(self, prior_logits: Tensor) -> Tensor:
        return prior_logits


@mistake("imagine-trains-everything", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ImagineEverything(TextbookTraining):
    """Imagination training updates all parameters."""

    def in_imagination(self, name: str, matrix: Tensor) -> Tensor:
        return matrix


@mistake("imagine-value-untrained", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class ValueUntrained(TextbookTraining):
    """Eq. (10) is left out: the value head is not trained."""

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        return super().training_gradients(phase, seed, ["policy"] if phase == "imagine" else terms)


@mistake("imagine-policy-untrained", clause="train.freeze", operations=GRADIENTS, levels=SIGNAL)
class PolicyUntrained(TextbookTraining):
    """The policy head is frozen together with the world model."""

    def in_imagination(self, name: str, matrix: Tensor) -> Tensor:
        return matrix if name == "value" else matrix.detach()


@mistake("bootstrap-value-copied", clause="eq10.value", operations=("imagined_trajectory",), levels=SIGNAL)
class BootstrapCopied(TextbookTraining):
    """The bootstrap v_H is a copy of v_{H−1}: the state after the last action is not evaluated."""

    def bootstrap_value(self, values: list[Tensor], last: Tensor) -> Tensor:
        return values[-1]


@mistake("first-action-dummy", clause="eq11.value", operations=("imagined_trajectory",), levels=SIGNAL)
class FirstActionDummy(TextbookTraining):
    """The first action of a trajectory is a placeholder, 0, which is not drawn from the policy."""

    def imagined_action(self, t: int, logits: Tensor, generator: torch.Generator) -> Tensor:
        action = super().imagined_action(t, logits, generator)
        return action if t else torch.zeros_like(action)
