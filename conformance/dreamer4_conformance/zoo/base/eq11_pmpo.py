"""Eq. (11) in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


class Policy:
    """PMPO and the start of its prior."""

    device: str
    dtype: str

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
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
        log_pi = [component.log_softmax(1) for component in logits]
        log_prior = [self.frozen_prior(component).log_softmax(1) for component in prior_logits]
        taken = [component.gather(1, action[:, [f]])[:, 0] for f, component in enumerate(log_pi)]
        log_prob = self.over_components(taken)
        pairs = zip(log_pi, log_prior, strict=True)
        kl = self.over_components(
            [self.kl_to_prior(policy, prior, action[:, f]) for f, (policy, prior) in enumerate(pairs)]
        )
        positive, negative = self.advantage_sets(advantage)
        of_positive = self.set_mean(self.scaled_log_prob(log_prob, advantage), positive)
        of_negative = self.set_mean(self.scaled_log_prob(log_prob, advantage), negative)
        return self.likelihood_terms(of_positive, of_negative, alpha) + beta * kl.mean()

    def frozen_prior(self, prior_logits: Tensor) -> Tensor:
        """The logits of the prior, detached."""
        return prior_logits.detach()

    def over_components(self, parts: list[Tensor]) -> Tensor:
        """Sum over the action components."""
        return torch.stack(parts).sum(0)

    def kl_to_prior(self, log_pi: Tensor, log_prior: Tensor, action: Tensor) -> Tensor:
        """KL[π ‖ π_prior], exact over the actions."""
        return (log_pi.exp() * (log_pi - log_prior)).sum(1)

    def advantage_sets(self, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """D⁺ and D⁻ as masks."""
        return advantage >= 0, advantage < 0

    def scaled_log_prob(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        """Log-probabilities, unscaled: only the sign of the advantage matters."""
        return log_prob

    def set_mean(self, log_prob: Tensor, chosen: Tensor) -> Tensor:
        """Mean over one set; 0 where it is empty."""
        return torch.where(chosen, log_prob, 0.0).sum() / chosen.sum().clamp(min=1)

    def likelihood_terms(self, of_positive: Tensor, of_negative: Tensor, alpha: float) -> Tensor:
        """(1 − α) on D⁻, −α on D⁺."""
        return (1 - alpha) * of_negative - alpha * of_positive

    def prior_start(self, seed: int) -> dict[str, list[Tensor]]:
        """A linear policy head of two components, its prior, and one gradient step of Eq. (11) on six states."""
        generator = torch.Generator().manual_seed(seed)
        states, *policy, advantage = (
            torch.randn(shape, generator=generator).double() for shape in ((6, 4), (4, 3), (4, 2), (6,))
        )
        policy = [component.requires_grad_() for component in policy]
        prior = [self.start_prior(component, generator) for component in policy]
        before = {"policy": _logits(states, policy), "prior": _logits(states, prior)}
        action = torch.stack([torch.arange(6) % 3, torch.arange(6) % 2], 1)
        logits = [states @ component for component in policy]
        loss = self.policy_loss_factored(logits, before["prior"], action, advantage, 0.5, 0.3)
        gradients = torch.autograd.grad(loss, policy)
        with torch.no_grad():
            for component, gradient in zip(policy, gradients, strict=True):
                component -= 0.5 * gradient
        return {**before, "policy_after": _logits(states, policy), "prior_after": _logits(states, prior)}

    def start_prior(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        """A frozen copy of one component of the policy head."""
        return policy.detach().clone()


def _logits(states: Tensor, head: list[Tensor]) -> list[Tensor]:
    """Logits of every component, without gradient."""
    return [(states @ component).detach() for component in head]
