"""Equivalent ways to compute Eq. (11)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("pmpo-distributions")
class Distributions(TorchAdapter):
    """torch.distributions for ln π and KL, boolean indexing for the sets, empty sets skipped; float32 inside."""

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
        """L over several components."""
        log_prob, kl = torch.zeros_like(advantage), torch.zeros_like(advantage)
        for component, (mine, fixed) in enumerate(zip(logits, prior_logits, strict=True)):
            policy, prior = Categorical(logits=wide(mine)), Categorical(logits=wide(fixed).detach())
            log_prob = log_prob + policy.log_prob(action[:, component])  # type: ignore[no-untyped-call]
            kl = kl + kl_divergence(policy, prior)
        loss: Tensor = beta * kl.mean()
        good = advantage >= 0
        if good.any():
            loss = loss - alpha * log_prob[good].mean()
        if (~good).any():
            loss = loss + (1 - alpha) * log_prob[~good].mean()
        return loss


def wide(x: Tensor) -> Tensor:
    """Casts to float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@equivalent("pmpo-cross-entropy")
class CrossEntropy(TorchAdapter):
    """Cross-entropy weighted state by state; KL by torch's kl_div; the prior frozen by no_grad."""

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
        with torch.no_grad():
            prior = prior_logits.log_softmax(-1)
            sign = torch.where(advantage < 0, -1, 1)
            size = torch.where(sign < 0, (sign < 0).sum(), (sign > 0).sum())
            weight = torch.where(sign < 0, alpha - 1, alpha).to(logits.dtype) / size
        surprise = torch.nn.functional.cross_entropy(logits, action, reduction="none")
        kl = torch.nn.functional.kl_div(prior, logits.log_softmax(-1), log_target=True, reduction="batchmean")
        return (weight * surprise).sum() + beta * kl


@equivalent("pmpo-numpy")
class NumPy(Adapter):
    """NumPy without gradients; KL as cross-entropy minus entropy, the logarithm of the sum without a shift."""

    def policy_loss(
        self,
        logits: np.ndarray,
        prior_logits: np.ndarray,
        action: np.ndarray,
        advantage: np.ndarray,
        alpha: float,
        beta: float,
    ) -> float:
        log_pi, log_prior = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (logits, prior_logits))
        pi, taken = np.exp(log_pi), np.take_along_axis(log_pi, action[:, None], 1)[:, 0]
        good, bad = taken[advantage >= 0], taken[advantage < 0]
        kl = -(pi * log_prior).sum(1) + (pi * log_pi).sum(1)
        return float(
            (1 - alpha) * bad.sum() / max(len(bad), 1) - alpha * good.sum() / max(len(good), 1) + beta * kl.mean()
        )


@equivalent("prior-other-offset")
class OtherOffset(TorchAdapter):
    """The prior's logits are stored normalised: they differ from the policy's by a constant in each row."""

    def prior_start(self, seed: int) -> dict[str, Tensor]:
        """The prior before and after one update."""
        generator = torch.Generator().manual_seed(seed)
        policy = torch.randn(5, 4, generator=generator, dtype=torch.float64)
        prior = policy.log_softmax(1)
        return {
            "policy": policy,
            "prior": prior,
            "policy_after": policy + torch.eye(5, 4),
            "prior_after": prior.clone(),
        }


@equivalent("pmpo-detached-outside")
class DetachedOutside(TorchAdapter):
    """Losses that do not detach; the adapter detaches prior and returns, as the training step does. Two-hot by bins."""

    def policy_loss(
        self, logits: Tensor, prior_logits: Tensor, action: Tensor, advantage: Tensor, alpha: float, beta: float
    ) -> Tensor:
        log_pi, log_prior = wide(logits).log_softmax(1), wide(prior_logits.detach()).log_softmax(1)
        taken, good = log_pi[torch.arange(len(action)), action], advantage >= 0
        sets = ((1 - alpha) * taken[~good], -alpha * taken[good])
        likelihood = sum((x.sum() / max(len(x), 1) for x in sets), start=torch.zeros(()))
        return likelihood + beta * (log_pi.exp() * (log_pi - log_prior)).sum(1).mean()

    def twohot_bins(self) -> Tensor:
        half = torch.expm1(torch.linspace(0, 15, 64, dtype=torch.float64))
        return torch.cat([-half[1:].flip(0), half])

    def twohot_encode(self, x: Tensor) -> Tensor:
        bins = self.twohot_bins()
        inside = x.double().clamp(bins[0], bins[-1])
        above = torch.searchsorted(bins, inside).clamp(1, len(bins) - 1)
        share = (inside - bins[above - 1]) / (bins[above] - bins[above - 1])
        encoded = torch.zeros(len(x), len(bins), dtype=torch.float64)
        rows = torch.arange(len(x))
        encoded[rows, above], encoded[rows, above - 1] = share, 1 - share
        return encoded.to(wide(x).dtype)

    def value_loss(self, logits: Tensor, returns: Tensor) -> Tensor:
        return -(self.twohot_encode(returns.detach()) * wide(logits).log_softmax(1)).sum(1).mean()
