"""Mistakes in Eq. (11): advantages, the loss of the policy head, and its prior."""

from functools import cached_property

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
LOSSES = ("policy_loss", "policy_loss_factored")


@mistake("pmpo-alpha-swapped", clause="eq11.value", operations=LOSSES, levels=SIGNAL)
class AlphaSwapped(TextbookEquations):
    """α weights the wrong set; the error is invisible at α = 0.5."""

    def likelihood_terms(self, of_positive: Tensor, of_negative: Tensor, alpha: float) -> Tensor:
        return super().likelihood_terms(of_positive, of_negative, 1 - alpha)


@mistake("pmpo-sign", clause="eq11.value", operations=LOSSES, levels=SIGNAL)
class Sign(TextbookEquations):
    """The sign of the likelihood terms is inverted: good actions become less likely."""

    def likelihood_terms(self, of_positive: Tensor, of_negative: Tensor, alpha: float) -> Tensor:
        return -super().likelihood_terms(of_positive, of_negative, alpha)


@mistake("entropy-bonus", clause="eq11.value", operations=LOSSES, levels=SIGNAL)
class EntropyBonus(TextbookEquations):
    """The loss contains an entropy bonus of the policy, which the KL to the prior replaces in Eq. (11)."""

    def kl_to_prior(self, log_pi: Tensor, log_prior: Tensor, action: Tensor) -> Tensor:
        self.entropies.append(-(log_pi.exp() * log_pi).sum(1).mean())
        return super().kl_to_prior(log_pi, log_prior, action)

    def likelihood_terms(self, of_positive: Tensor, of_negative: Tensor, alpha: float) -> Tensor:
        bonus = 0.01 * torch.stack(self.entropies).sum()
        self.entropies.clear()
        return super().likelihood_terms(of_positive, of_negative, alpha) - bonus

    @cached_property
    def entropies(self) -> list[Tensor]:
        """Entropies of the components of the action, from one call to the next line of the equation."""
        return []


@mistake("pmpo-normalised", clause="eq11.value", operations=LOSSES, levels=SIGNAL)
class Normalised(TextbookEquations):
    """Advantages are centred and divided by their standard deviation before their sign is taken."""

    def advantage_sets(self, advantage: Tensor) -> tuple[Tensor, Tensor]:
        return super().advantage_sets((advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8))


@mistake("pmpo-zero-excluded", clause="eq11.zero-advantage", operations=LOSSES, levels=SIGNAL)
class ZeroExcluded(TextbookEquations):
    """Samples with A = 0 are in neither set."""

    def advantage_sets(self, advantage: Tensor) -> tuple[Tensor, Tensor]:
        return advantage > 0, advantage < 0


@mistake("pmpo-zero-negative", clause="eq11.zero-advantage", operations=LOSSES, levels=SIGNAL)
class ZeroNegative(TextbookEquations):
    """Samples with A = 0 are in D⁻."""

    def advantage_sets(self, advantage: Tensor) -> tuple[Tensor, Tensor]:
        return advantage > 0, advantage <= 0


@mistake("pmpo-magnitude", clause="eq11.sign-only", operations=LOSSES, levels=SIGNAL)
class Magnitude(TextbookEquations):
    """Log-probabilities are weighted by tanh|A| instead of by the sign alone."""

    def scaled_log_prob(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        return log_prob * advantage.abs().tanh()


@mistake("pmpo-advantage-factor", clause="eq11.sign-only", operations=LOSSES, levels=SIGNAL)
class AdvantageFactor(TextbookEquations):
    """Log-probabilities are weighted by |A|, as in a policy gradient."""

    def scaled_log_prob(self, log_prob: Tensor, advantage: Tensor) -> Tensor:
        return log_prob * advantage.abs()


@mistake("pmpo-global-mean", clause="eq11.per-set-mean", operations=LOSSES, levels=SIGNAL)
class GlobalMean(TextbookEquations):
    """Both sets are divided by the total number of samples instead of by their own."""

    def set_mean(self, log_prob: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen, log_prob, 0.0).mean()


@mistake("pmpo-set-sum", clause="eq11.per-set-mean", operations=LOSSES, levels=SIGNAL)
class SetSum(TextbookEquations):
    """The two sets are summed instead of averaged."""

    def set_mean(self, log_prob: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen, log_prob, 0.0).sum()


@mistake("pmpo-empty-nan", clause="eq11.empty-set", operations=LOSSES, levels=SIGNAL)
class EmptyNan(TextbookEquations):
    """The loss is NaN if a set is empty."""

    def set_mean(self, log_prob: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen, log_prob, 0.0).sum() / chosen.sum()


@mistake("pmpo-empty-nan-gradient", clause="eq11.empty-set", operations=("policy_loss",), levels=SIGNAL)
class EmptyNanGradient(TextbookEquations):
    """If a set is empty, NaN is replaced in the loss but not in its gradient."""

    def set_mean(self, log_prob: Tensor, chosen: Tensor) -> Tensor:
        mean = (log_prob * chosen).sum() / chosen.sum()
        return torch.where(mean.isnan(), 0.0, mean)


@mistake("pmpo-normalised-advantage", clause="eq11.advantage", operations=("advantages",), levels=SIGNAL)
class NormalisedAdvantage(TextbookEquations):
    """Advantages are centred and divided by their standard deviation, that of a sample, torch's default."""

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        advantage = super().advantages(reward, value, cont, gamma, lam)
        return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


@mistake("pmpo-scaled-advantage", clause="eq11.advantage", operations=("advantages",), levels=SIGNAL)
class ScaledAdvantage(TextbookEquations):
    """Advantages are divided by the range of the returns."""

    def advantages(self, reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> Tensor:
        returns = self.lambda_returns(reward, value, cont, gamma, lam)
        baseline = self.baseline(self.with_bootstrap(value, reward.shape[1]))
        return (returns - baseline) / (returns.max() - returns.min()).clamp(min=1)


@mistake("pmpo-next-baseline", clause="eq11.advantage", operations=("advantages",), levels=SIGNAL)
class NextBaseline(TextbookEquations):
    """The baseline is the value of the next state."""

    def baseline(self, value: Tensor) -> Tensor:
        return value[:, 1:]


@mistake("pmpo-kl-reversed", clause="eq11.kl-direction", operations=LOSSES, levels=SIGNAL)
class KlReversed(TextbookEquations):
    """The divergence is KL[prior ‖ policy], the other direction than in Eq. (11)."""

    def kl_to_prior(self, log_pi: Tensor, log_prior: Tensor, action: Tensor) -> Tensor:
        return super().kl_to_prior(log_prior, log_pi, action)


@mistake("pmpo-kl-sampled", clause="eq11.kl-direction", operations=LOSSES, levels=SIGNAL)
class KlSampled(TextbookEquations):
    """The KL is estimated by ln π − ln π_prior of the action taken instead of the mean over actions."""

    def kl_to_prior(self, log_pi: Tensor, log_prior: Tensor, action: Tensor) -> Tensor:
        return (log_pi - log_prior).gather(1, action[:, None])[:, 0]


@mistake("pmpo-kl-detached", clause="eq11.gradient", operations=("policy_loss",), levels=SIGNAL)
class KlDetached(TextbookEquations):
    """The KL term is detached, so it has no effect on the policy."""

    def kl_to_prior(self, log_pi: Tensor, log_prior: Tensor, action: Tensor) -> Tensor:
        return super().kl_to_prior(log_pi.detach(), log_prior, action)


@mistake("pmpo-factored-mean", clause="eq11.factored", operations=("policy_loss_factored",), levels=SIGNAL)
class FactoredMean(TextbookEquations):
    """The loss averages over the action components instead of adding them."""

    def over_components(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).mean(0)


@mistake("pmpo-factored-first", clause="eq11.factored", operations=("policy_loss_factored",), levels=SIGNAL)
class FactoredFirst(TextbookEquations):
    """Only the first action component enters the loss."""

    def over_components(self, parts: list[Tensor]) -> Tensor:
        return parts[0]


@mistake("pmpo-kl-joint-softmax", clause="eq11.factored", operations=("policy_loss_factored",), levels=SIGNAL)
class KlJointSoftmax(TextbookEquations):
    """The KL is computed from one softmax over the concatenated logits of all action components."""

    def policy_loss_factored(
        self,
        logits: list[Tensor],
        prior_logits: list[Tensor],
        action: Tensor,
        advantage: Tensor,
        alpha: float,
        beta: float,
    ) -> Tensor:
        together, prior = torch.cat(logits, 1).log_softmax(1), torch.cat(prior_logits, 1).log_softmax(1)
        kl = self.kl_to_prior(together, self.frozen_prior(prior), action[:, 0])
        return super().policy_loss_factored(logits, prior_logits, action, advantage, alpha, 0.0) + beta * kl.mean()


@mistake("pmpo-prior-trained", clause="eq11.prior-frozen", operations=("policy_loss",), levels=SIGNAL)
class PriorTrained(TextbookEquations):
    """The prior's logits are not detached: gradient flows into the prior."""

    def frozen_prior(self, prior_logits: Tensor) -> Tensor:
        return prior_logits


@mistake("prior-fresh", clause="rl.prior-start", operations=("prior_start",), levels=SIGNAL)
class PriorFresh(TextbookEquations):
    """The prior is a newly initialised head instead of a copy of the policy head."""

    def start_prior(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(policy.shape, generator=generator).double()


@mistake("prior-other-head", clause="rl.prior-start", operations=("prior_start",), levels=SIGNAL)
class PriorOtherHead(TextbookEquations):
    """The prior is a copy of the policy head of another distance of Eq. (9)."""

    def start_prior(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        return policy.detach().roll(1, dims=1)


@mistake("prior-shared", clause="rl.prior-start", operations=("prior_start",), levels=SIGNAL)
class PriorShared(TextbookEquations):
    """The prior is the policy head itself and changes with it."""

    def start_prior(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        return policy


@mistake("prior-one-component", clause="rl.prior-start", operations=("prior_start",), levels=SIGNAL)
class PriorOneComponent(TextbookEquations):
    """Only the first action component of the prior is copied; the others are newly initialised."""

    def start_prior(self, policy: Tensor, generator: torch.Generator) -> Tensor:
        first = policy.shape[1] == 3
        fresh = torch.randn(policy.shape, generator=generator).double()
        return super().start_prior(policy, generator) if first else fresh
