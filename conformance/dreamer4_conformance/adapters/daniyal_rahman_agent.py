"""Adapter of daniyal-rahman/ahriuwu: Eq. (9) to (11), two-hot values and the running RMS.

At 5f33095 these are functions that no script calls yet; the policy loss takes log-likelihoods. The newest state is
judged by its training step of imagination, `run_step` of `scripts/train_imagination.py`, with heads of fixed logits, a
horizon of one step and values 0, so that rewards are returns and advantages. Components of the policy are its per-axis
categoricals; smaller ones are padded with classes of probability 0. Its behaviour cloning starts at distance 1 (A17).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from dreamer4_conformance.adapters.daniyal_rahman_code import State
from dreamer4_conformance.adapters.randomisation import randomised

IMPOSSIBLE = -1e4
"""Logit of classes that a component does not have."""
WIDTH, ABILITIES, BINS = 8, 3, 5
"""Of the randomised heads."""


def default(function: Callable[..., Any], argument: str) -> Any:
    """The default value of an argument."""
    return inspect.signature(function).parameters[argument].default


class Returns(State):
    """Functions of `ahriuwu.models.returns`."""

    def lambda_returns(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        return self.code.returns.compute_lambda_returns(reward, value, cont, gamma, lam)

    def bins(self) -> Tensor:
        """Bins in symlog values, of their value head."""
        centers: Tensor = self.code.heads.ValueHead(1).bucket_centers
        return centers.to(self.device, getattr(torch, self.dtype))

    def twohot_bins(self) -> Tensor:
        return self.code.returns.symexp(self.bins())

    def twohot_encode(self, x: Tensor) -> Tensor:
        """As their loss encodes symlog values."""
        return self.code.returns.twohot_encode(self.code.returns.symlog(x), self.bins())

    def twohot_decode(self, logits: Tensor) -> Tensor:
        """As their heads decode."""
        return self.code.returns.symexp(self.code.returns.twohot_decode(logits, self.bins()))

    def loss_normalizer(self) -> Callable[[str, Tensor], Tensor]:
        """One of their estimates for each term."""
        terms: dict[str, Any] = {}

        def normalise(name: str, value: Tensor) -> Tensor:
            return self.code.returns.normalize_losses({name: value}, terms)

        return normalise

    def mtp_heads(self, agent: Tensor) -> Tensor:
        """The head of rewards."""
        with self.seeded(0):
            head = randomised(self.code.heads.RewardHead(agent.shape[-1], hidden_dim=WIDTH, num_buckets=BINS))
        return head.to(agent)(agent)

    def mtp_loss_of(self, x: Tensor, log_prob: Tensor) -> Tensor:
        """Eq. (9) for one categorical."""

        def criterion(logits: Tensor, targets: Tensor) -> Tensor:
            return cross_entropy(logits.flatten(0, 1), targets.flatten())

        loss: Tensor = self.code.returns.compute_mtp_loss(log_prob, x, log_prob.shape[2], criterion)
        return loss

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
        """Eq. (11). The prior is detached here, because they describe it as frozen."""
        chosen, prior = (x.log_softmax(-1).gather(-1, action[:, None])[:, 0] for x in (logits, prior_logits.detach()))
        return self.code.returns.compute_pmpo_loss(chosen, advantage, prior, alpha, beta)

    def constants(self) -> Mapping[str, float]:
        """Their default arguments."""
        returns, losses, heads = self.code.returns, self.code.losses, self.code.heads
        return {
            "gamma": default(returns.compute_lambda_returns, "gamma"),
            "alpha": default(returns.compute_pmpo_loss, "alpha"),
            "beta": default(returns.compute_pmpo_loss, "beta"),
            "mtp_length": default(heads.PolicyHead, "mtp_length"),
            "lpips_weight": default(losses.MAELoss, "lpips_weight"),
        }


class FixedLogits(nn.Module):
    """A value head that returns the logits assigned to it."""

    def __init__(self, logits: Tensor, bins: Tensor) -> None:
        super().__init__()
        self.logits, self.bucket_centers = logits, bins

    def forward(self, _: Tensor) -> Tensor:
        """(N, K) → (N, 1, K)."""
        return self.logits[:, None]


class ImaginationStep(Returns):
    """Their training step of imagination, and their behaviour cloning."""

    def policy(self, components: list[Tensor], distances: int = 2) -> Any:
        """Their policy head without abilities, with the same logits at all distances: (N, K) for each axis."""
        classes = max(component.shape[1] for component in components)
        with self.seeded(0), warnings.catch_warnings(action="ignore"):
            head = self.code.heads.PolicyHead(
                1, num_abilities=0, mtp_length=distances, movement_dim=len(components), movement_bins=classes
            )

        def forward(_: Tensor) -> tuple[Tensor, Tensor]:
            padded = [pad(x, (0, classes - x.shape[1]), value=IMPOSSIBLE) for x in components]
            logits = torch.stack(padded, 1)[:, None, None].expand(-1, 1, distances, -1, -1)
            return logits[..., 0, :0], logits

        head.forward = forward
        return head

    def step(self, roll: Mapping[str, Tensor], heads: tuple[Any, Any, Any], term: str, **weights: float) -> Tensor:
        """One term of their loss, "policy" or "value"; heads are policy, prior and value."""
        args = SimpleNamespace(gamma=1.0, lambda_=1.0, **{"pmpo_alpha": 0.5, "pmpo_beta": 0.0} | weights)
        normalisers = {
            name: SimpleNamespace(update=lambda loss, chosen=name == term: loss if chosen else 0.0)
            for name in ("policy", "value")
        }
        loss: Tensor = self.code.train_imagination.run_step(
            roll, *heads, args, self.device, torch.float32, normalisers
        )[0]
        return loss

    def roll(self, rewards: Tensor, action: Tensor) -> dict[str, Tensor]:
        """N imagined trajectories of one step, with values 0 and actions (N, F)."""
        return {
            "agent_outs": rewards.new_zeros(len(rewards), 1, 1),
            "ability_acts": rewards.new_zeros(len(rewards), 1, 0),
            "movement_acts": action[:, None],
            "rewards": rewards[:, None],
            "values": torch.zeros_like(rewards[:, None]),
        }

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        """Eq. (10)."""
        policy = self.policy([logits.new_zeros(len(logits), 2)])
        action = torch.zeros(len(logits), 1, dtype=torch.long, device=self.device)
        heads = policy, policy, FixedLogits(logits, self.bins())
        return self.step(self.roll(returns, action), heads, "value")

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
        """Eq. (11) for one component."""
        return self.policy_loss_factored([logits], [prior_logits], action[:, None], advantage, alpha, beta)

    def policy_loss_factored(
        self,
        logits: list[Tensor],
        prior_logits: list[Tensor],
        action: Tensor,
        advantage: Tensor,
        alpha: float,
        beta: float,
    ) -> Tensor:
        """Eq. (11). All distances have the same logits."""
        value = FixedLogits(advantage.new_zeros(len(advantage), len(self.bins())), self.bins())
        heads = self.policy(logits), self.policy(prior_logits), value
        return self.step(self.roll(advantage, action), heads, "policy", pmpo_alpha=alpha, pmpo_beta=beta)

    def mtp_loss_of(self, x: Tensor, log_prob: Tensor) -> Tensor:
        """Eq. (9) for one axis; distance 0, which their loss skips, has logits of zero."""
        logits = pad(log_prob, (0, 0, 1, 0))[..., None, :]
        targets = x[..., None] / (log_prob.shape[-1] - 1)
        abilities = log_prob.new_zeros(*x.shape, 0)
        policy, agent = self.policy([logits[:, 0, 0, 0]], logits.shape[2]), log_prob.new_zeros(*x.shape, 1)
        policy.forward = lambda _: (logits[..., 0, :0], logits)
        terms = self.code.train_agent_finetune.bc_next_action_loss(policy, agent, abilities, targets, logits.shape[2])
        return terms[1]["bc_movement"]

    def prior_start(self, seed: int) -> Mapping[str, Any]:
        """The logits that their KL compares in two steps, between which the policy is updated."""
        heads = self.code.heads
        policy = randomised(heads.PolicyHead(WIDTH, ABILITIES, WIDTH, mtp_length=2, movement_bins=BINS))
        value = randomised(heads.ValueHead(WIDTH, WIDTH)).to(self.device)
        prior = heads.create_behavioral_prior(policy.to(self.device)).to(self.device)
        roll = {
            "agent_outs": torch.randn(4, 2, WIDTH, device=self.device),
            "ability_acts": torch.ones(4, 2, ABILITIES, device=self.device),
            "movement_acts": torch.zeros(4, 2, 2, dtype=torch.long, device=self.device),
            "rewards": torch.randn(4, 2, device=self.device),
            "values": torch.zeros(4, 2, device=self.device),
        }
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        with self.recorded() as compared:
            loss = self.step(roll, (policy, prior, value), "policy")
            torch.autograd.backward(loss)
            optimizer.step()
            self.step(roll, (policy, prior, value), "policy")
        names = ("policy", "prior", "policy_after", "prior_after")
        return dict(zip(names, (*compared[0], *compared[1]), strict=True))

    @contextmanager
    def recorded(self) -> Iterator[list[tuple[list[Tensor], list[Tensor]]]]:
        """Collects the logits of policy and prior, by component (N, A_f), that their KL is called with."""
        step, calls = self.code.train_imagination, list[tuple[list[Tensor], list[Tensor]]]()
        theirs = step.factorized_policy_kl

        def divergence(abilities: Tensor, abilities_prior: Tensor, axes: Tensor, axes_prior: Tensor) -> Tensor:
            calls.append((components(abilities, axes), components(abilities_prior, axes_prior)))
            divergences: Tensor = theirs(abilities, abilities_prior, axes, axes_prior)
            return divergences

        step.factorized_policy_kl = divergence
        try:
            yield calls
        finally:
            step.factorized_policy_kl = theirs

    def constants(self) -> Mapping[str, float]:
        """Their default arguments."""
        rollout = self.code.dynamics.DynamicsTransformer.rollout
        constants = super().constants()
        distances = constants["mtp_length"]  # 0 … L
        return {**constants, "mtp_length": distances - 1, "num_steps": default(rollout, "num_steps")}


def components(abilities: Tensor, axes: Tensor) -> list[Tensor]:
    """Logits (N, 2) of each ability, a Bernoulli variable, and (N, K) of each axis; detached."""
    flat = abilities.detach().flatten(0, -2).unbind(1)
    pairs = [torch.stack([torch.zeros_like(logit), logit], 1) for logit in flat]
    return [*pairs, *axes.detach().flatten(0, -3).unbind(1)]
