"""Eq. (11), Sec. 3.3, p. 8: policy learning by preference (PMPO) with a behavioural prior.

    L = (1−α)/|D⁻| Σ_{D⁻} ln π(a|s) − α/|D⁺| Σ_{D⁺} ln π(a|s) + β/N Σ KL[π ‖ π_prior]
    D⁺ = {A ≥ 0},   D⁻ = {A < 0}

The sets are pooled over all leading axes. An empty set contributes 0.
"""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamer4_impl.arguments import (
    require_between,
    require_floating,
    require_integer,
    require_non_empty,
    require_shape,
)
from dreamer4_impl.constants import ALPHA, BETA
from dreamer4_impl.precision import compute_dtype


def policy_loss(
    logits: Float[Tensor, "*batch A"],
    prior_logits: Float[Tensor, "*batch A"],
    action: Int[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    alpha: float = ALPHA,
    beta: float = BETA,
) -> Float[Tensor, ""]:
    """PMPO loss of one categorical action.

    Args:
        logits: of the policy π.
        prior_logits: of π_prior, a constant.
        action: the action taken, in 0, …, A−1.
        advantage: A = R − v; its sign alone matters. A NaN makes the loss NaN.
        alpha: α in [0, 1], weight of D⁺.
        beta: β ≥ 0, weight of the KL, exact over the actions.

    Computed and returned in float32 (float64 where logits are float64). Deterministic; gradient flows to `logits`
    alone; masks instead of selections, so it compiles without graph breaks; no host synchronisation.

    >>> logits = torch.zeros(2, 4)
    >>> loss = policy_loss(logits, logits, torch.tensor([0, 1]), torch.tensor([1.0, -2.0]), alpha=0.75)
    >>> loss.item() == 0.5 * torch.tensor(4.0).log().item()
    True
    """
    require_integer(action=action)
    return policy_loss_factored([logits], [prior_logits], action[..., None], advantage, alpha, beta)


def policy_loss_factored(
    logits: Sequence[Float[Tensor, "*batch _"]],
    prior_logits: Sequence[Float[Tensor, "*batch _"]],
    action: Int[Tensor, "*batch F"],
    advantage: Float[Tensor, "*batch"],
    alpha: float = ALPHA,
    beta: float = BETA,
) -> Float[Tensor, ""]:
    """PMPO loss of F independent action components: ln π and KL are sums over them.

    Args:
        logits, prior_logits: one tensor for each component, with as many actions as it has.
        action: the component actions taken, in the same order.
        the others, and the numerical contract: as for `policy_loss`.

    >>> two = [torch.zeros(1, 2), torch.zeros(1, 4)]
    >>> policy_loss_factored(two, two, torch.tensor([[0, 3]]), torch.tensor([1.0]), alpha=1.0)
    tensor(2.0794)
    """
    _check(logits, prior_logits, action, advantage, alpha, beta)
    log_prob, kl = log_prob_and_kl(logits, prior_logits, action)
    return (_set_weights(advantage, alpha, log_prob.dtype) * log_prob).sum() + beta * kl.mean()


def log_prob_and_kl(
    logits: Sequence[Float[Tensor, "*batch _"]],
    prior_logits: Sequence[Float[Tensor, "*batch _"]],
    action: Int[Tensor, "*batch F"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """ln π(a|s) and KL[π ‖ π_prior] of every state, which the three sums of Eq. (11) are made of.

    The arguments and the numerical contract are those of `policy_loss_factored`.

    >>> two = [torch.zeros(1, 2), torch.zeros(1, 4)]
    >>> log_prob_and_kl(two, two, torch.tensor([[0, 3]]))
    (tensor([-2.0794]), tensor([0.]))
    """
    parts = [
        _log_prob_and_kl(of_policy, of_prior, action[..., component])
        for component, (of_policy, of_prior) in enumerate(zip(logits, prior_logits, strict=True))
    ]
    log_prob, kl = zip(*parts, strict=True)
    return torch.stack(log_prob).sum(0), torch.stack(kl).sum(0)


def frozen_prior(policy_head: nn.Module) -> nn.Module:
    """A copy of the behaviour-cloned policy head that never trains: the prior, taken before the first update.

    >>> prior = frozen_prior(nn.Linear(2, 3))
    >>> any(parameter.requires_grad for parameter in prior.parameters()), prior.training
    (False, False)
    """
    return copy.deepcopy(policy_head).requires_grad_(False).eval()


def _log_prob_and_kl(logits: Tensor, prior_logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    compute = compute_dtype(logits, prior_logits)
    log_pi = logits.to(compute).log_softmax(dim=-1)
    log_prior = prior_logits.detach().to(compute).log_softmax(dim=-1)
    kl = (log_pi.exp() * (log_pi - log_prior)).sum(dim=-1)
    return log_pi.gather(-1, action.long()[..., None])[..., 0], kl


def _set_weights(advantage: Tensor, alpha: float, dtype: torch.dtype) -> Float[Tensor, "*batch"]:
    """−α/|D⁺| on D⁺, (1−α)/|D⁻| on D⁻, and NaN where the advantage is NaN, which is in neither."""
    positive, negative = advantage >= 0, advantage < 0
    # An empty set divides by zero, and no element takes that weight.
    of_positive, of_negative = -alpha / positive.sum().to(dtype), (1 - alpha) / negative.sum().to(dtype)
    return torch.where(positive, of_positive, torch.where(negative, of_negative, torch.nan))


def _check(
    logits: Sequence[Tensor],
    prior_logits: Sequence[Tensor],
    action: Tensor,
    advantage: Tensor,
    alpha: float,
    beta: float,
) -> None:
    require_floating(advantage=advantage)
    require_non_empty("advantage", advantage)
    require_integer(action=action)
    require_between("alpha", alpha, 0.0, 1.0)
    require_between("beta", beta, 0.0, float("inf"))
    if len(logits) != len(prior_logits) or not logits:
        raise ValueError(f"prior_logits must match logits one by one; got {len(prior_logits)} for {len(logits)}")
    require_shape("action", action, (*advantage.shape, len(logits)), "of advantage with F components", like=advantage)
    for of_policy, of_prior in zip(logits, prior_logits, strict=True):
        require_floating(logits=of_policy, prior_logits=of_prior)
        batch_and_actions = (*advantage.shape, of_policy.shape[-1])
        require_shape("logits", of_policy, batch_and_actions, "of advantage with A actions", like=advantage)
        require_shape("prior_logits", of_prior, of_policy.shape, "of logits", like=advantage)
