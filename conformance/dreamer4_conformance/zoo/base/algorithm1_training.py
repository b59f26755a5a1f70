"""Algorithm 1 in plain PyTorch: contents of the batches, and one step of each phase on a model of a few matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dreamer4_conformance.zoo.base.checkpoints import Checkpoint

SHAPES = {
    "tokenizer": (6, 3),
    "transformer": (3, 4),
    "output": (4, 3),
    "policy": (4, 5),
    "reward": (4, 1),
    "value": (4, 1),
    "prior": (4, 5),
}
FRAMES, SPATIAL, IMAGINED, HORIZON = 3, 2, 32, 4

Parts = Mapping[str, Tensor]


class Plan:
    """Length, images and relevant sequences of every batch of a run."""

    short, long, batch = 64, 256, 10
    image_share, relevant_share = 0.3, 0.5
    long_every, long_only = 8, 0.1

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        """Row per step; the image and the relevant videos of a batch are chosen at random, their number is fixed."""
        generator = torch.Generator().manual_seed(seed)
        return [
            {
                "length": self.long if self.is_long(step, steps) else self.short,
                "image": self.chosen(self.images(step), generator),
                "relevant": self.chosen(round(self.batch * self.relevant_share), generator),
            }
            for step in range(steps)
        ]

    def is_long(self, step: int, steps: int) -> bool:
        """True for every eighth step and in the last tenth."""
        return step % self.long_every == 0 or step >= (1 - self.long_only) * steps

    def images(self, step: int) -> int:
        """Number of videos of a batch that are treated as separate images."""
        return round(self.batch * self.image_share)

    def chosen(self, count: int, generator: torch.Generator) -> Tensor:
        """Random mask with `count` of the batch's videos."""
        return torch.randperm(self.batch, generator=generator) < count


class Training(Checkpoint, Plan):
    """Model of one matrix per component: tokenizer, transformer (its last matrix is `output`) and heads."""

    follows: dict[str, str]
    dynamics_loss: Callable[..., Tensor]
    corrupt: Callable[..., Tensor]
    sample_tau_d: Callable[[int, int, int], tuple[Tensor, Tensor]]
    policy_loss_factored: Callable[..., Tensor]
    term_weights: ClassVar[Mapping[str, float]] = {}
    """Weights of the loss terms, 1 by default."""

    def parts(self, seed: int) -> dict[str, Tensor]:
        """Random matrices; the prior is a copy of the policy."""
        generator = torch.Generator().manual_seed(seed)
        parts = {name: torch.randn(s, generator=generator, dtype=torch.float64) / 2 for name, s in SHAPES.items()}
        parts["prior"] = parts["policy"].clone()
        return {name: matrix.requires_grad_() for name, matrix in parts.items()}

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        """Gradients with respect to every component."""
        parts = self.parts(seed)
        terms_of = {"dynamics": self.dynamics_terms, "agent": self.agent_terms, "imagine": self.imagine_terms}
        losses = terms_of[phase](parts, seed)
        loss = torch.stack([self.term_weights.get(name, 1.0) * losses[name] for name in terms or losses]).sum()
        trained = self.trainable(phase, parts)
        gradients = dict(
            zip(trained, torch.autograd.grad(loss, list(trained.values()), allow_unused=True), strict=True)
        )
        output = [gradients.pop("output", None)]
        return {name: [x, *(output if name == "transformer" else [])] for name, x in gradients.items()}

    def trainable(self, phase: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The components that are differentiated."""
        return parts

    # Phase 1

    def dynamics_terms(self, parts: Parts, seed: int) -> dict[str, Tensor]:
        """Eq. (7) on frozen latents."""
        video = self.clips([seed, seed + 1])["video"]
        return {"dynamics": self.forcing_loss(parts, self.latents(parts, video), seed)}

    def latents(self, parts: Parts, video: Tensor) -> Tensor:
        """Latents, detached from the tokenizer."""
        return (video @ parts["tokenizer"]).tanh().detach()

    def forcing_loss(self, parts: Parts, z1: Tensor, seed: int) -> Tensor:
        def network(z: Tensor, tau: Tensor, d: Tensor, actions: Tensor | None = None) -> Tensor:
            return self.transformed(parts, z).to(parts["output"]) @ parts["output"]

        return self.dynamics_loss(network, z1, None, seed).mean()

    def transformed(self, parts: Parts, z: Tensor) -> Tensor:
        """h of every token: one matrix over the token plus the mean of its frame."""
        return ((z + z.mean(-2, keepdim=True)).to(parts["transformer"]) @ parts["transformer"]).tanh()

    def clips(self, data: Sequence[int]) -> dict[str, Tensor]:
        """One random sequence for each seed in `data`."""
        rows: dict[str, list[Tensor]] = {"video": [], "actions": [], "rewards": []}
        for number in data:
            generator = torch.Generator().manual_seed(number)
            rows["video"].append(torch.randn(FRAMES, SPATIAL, 6, generator=generator, dtype=torch.float64))
            rows["actions"].append(torch.randint(5, (FRAMES,), generator=generator))
            rows["rewards"].append(torch.randn(FRAMES, generator=generator, dtype=torch.float64))
        return {name: torch.stack(values) for name, values in rows.items()}

    # Phase 2

    def agent_losses(self, seed: int, data: Sequence[int], relevant: Sequence[bool]) -> dict[str, Tensor]:
        """Loss terms with the same parameters at every call."""
        return self.finetuning_terms(self.parts(0), seed, data, torch.tensor(relevant))

    def agent_terms(self, parts: Parts, seed: int) -> dict[str, Tensor]:
        """Loss terms of two uniform and two relevant sequences."""
        data = [seed, seed + 1, seed + 2, seed + 3]
        return self.finetuning_terms(parts, seed, data, torch.tensor([False, True, False, True]))

    def finetuning_terms(self, parts: Parts, seed: int, data: Sequence[int], relevant: Tensor) -> dict[str, Tensor]:
        """Eq. (7) on the uniform sequences, Eq. (9) on the relevant ones."""
        clips = self.clips(data)
        z1 = self.latents(parts, clips["video"])
        h = self.read_by_heads(self.transformed(parts, self.agent_inputs(z1, seed)).mean(2))
        cloned = self.cloned(relevant)
        return {
            "dynamics": self.forcing_loss(parts, z1[self.forced(relevant)], seed),
            "policy": self.cloning_loss((h @ parts["policy"])[cloned], clips["actions"][cloned]),
            "reward": ((h @ parts["reward"])[relevant][..., 0] - clips["rewards"][relevant]).square().mean(),
        }

    def cloning_loss(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Cross-entropy at distance 0; the clauses of Eq. (9) judge the other distances."""
        return cross_entropy(logits.flatten(0, 1), actions.flatten())

    def agent_inputs(self, z1: Tensor, seed: int) -> Tensor:
        """Frames corrupted at levels drawn by Eq. (4)."""
        tau, _ = self.sample_tau_d(seed, *z1.shape[:2])
        generator = torch.Generator().manual_seed(seed)
        z0 = torch.randn(z1.shape, generator=generator, dtype=torch.float64)
        return self.corrupt(z0=z0, z1=z1, tau=tau.cpu())

    def read_by_heads(self, h: Tensor) -> Tensor:
        """h as the heads read it, not detached."""
        return h

    def cloned(self, relevant: Tensor) -> Tensor:
        """Mask of the sequences whose actions are cloned."""
        return relevant

    def forced(self, relevant: Tensor) -> Tensor:
        """Mask of the sequences that Eq. (7) is trained on."""
        return ~relevant

    # Phase 3

    def imagine_terms(self, parts: Parts, seed: int) -> dict[str, Tensor]:
        """Eq. (10) and (11) on imagined states, horizon 1."""
        frozen = {name: self.in_imagination(name, matrix) for name, matrix in parts.items()}
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(IMAGINED, 1, SPATIAL, 3, generator=generator, dtype=torch.float64)
        h = self.transformed(frozen, z).mean((1, 2))
        logits, prior = h @ frozen["policy"], h @ frozen["prior"]
        value, reward = (h @ frozen["value"])[:, 0], (h @ frozen["reward"])[:, 0]
        action = torch.arange(IMAGINED) % 5
        advantage = (reward - value).detach()
        policy = self.policy_loss_factored([logits], [prior], action[:, None], advantage, 0.5, 0.3)
        return {"policy": policy, "value": (value - self.return_constant(reward)).square().mean()}

    def imagined_trajectory(self, seed: int) -> dict[str, Tensor]:
        """Trajectories of a linear world model: the action moves every token by a row of a fixed matrix."""
        parts, generator = self.parts(seed), torch.Generator().manual_seed(seed)
        z = torch.randn(IMAGINED, 1, SPATIAL, 3, generator=generator, dtype=torch.float64)
        moves = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        logits, actions, values = [], [], []
        for t in range(HORIZON):
            h = self.transformed(parts, z).mean((1, 2))
            logits.append((h @ parts["policy"]).detach())
            values.append((h @ parts["value"])[:, 0].detach())
            actions.append(self.imagined_action(t, logits[-1], generator))
            z = (z + moves[actions[-1]][:, None, None]).tanh()
        last = (self.transformed(parts, z).mean((1, 2)) @ parts["value"])[:, 0].detach()
        value = torch.stack([*values, self.bootstrap_value(values, last)], 1)
        value = value if self.follows["A14"] == "v" else value[:, :-1]
        return {"value": value, "action": torch.stack(actions, 1), "logits": torch.stack(logits, 1)}

    def imagined_action(self, t: int, logits: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn from the policy at every step."""
        return torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]

    def bootstrap_value(self, values: list[Tensor], last: Tensor) -> Tensor:
        """v_H is the value of the state after the last action."""
        return last

    def in_imagination(self, name: str, matrix: Tensor) -> Tensor:
        """Only policy and value head are trained."""
        return matrix if name in ("policy", "value") else matrix.detach()

    def return_constant(self, returns: Tensor) -> Tensor:
        """Returns, which carry no gradient here."""
        return returns
