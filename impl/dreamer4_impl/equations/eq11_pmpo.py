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
    """Policy loss for one categorical action component.

    Deterministic; gradient flows only to `logits`; compiles without graph breaks, because sets are masks; no host
    synchronisation.

    Args:
        logits: unnormalised log-probabilities of π, floating, (…, A); −∞ for impossible actions.
        prior_logits: unnormalised log-probabilities of π_prior, floating, (…, A); constants.
        action: classes in [0, A) of the actions taken, any integer dtype, (…).
        advantage: R − v of each state, floating, (…), not empty; only the sign enters, 0 counts as positive. A NaN
            makes the loss NaN.
        alpha: weight α in [0, 1] of D⁺; 0.5 in the paper.
        beta: weight β ≥ 0 of the KL term, which is exact over the actions; 0.3 in the paper.

    Returns:
        Scalar in float32 (float64 where logits are float64).

    Raises:
        TypeError: if logits, prior_logits or advantage is not floating-point, or action is not integer.
        ValueError: if shapes or devices do not match, advantage is empty, or alpha or beta is out of range.

    Example:
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
    """Policy loss for F independent action components: ln π and KL are summed over the components.

    The numerical contract is that of `policy_loss`.

    Args:
        logits: F tensors of unnormalised log-probabilities of π, floating, (…, A_f) for f in [0, F).
        prior_logits: F tensors of unnormalised log-probabilities of π_prior, floating, (…, A_f); constants.
        action: classes of the actions taken, column f in [0, A_f), any integer dtype, (…, F).
        advantage: R − v of each state, floating, (…), not empty; only the sign enters, 0 counts as positive.
        alpha: weight α in [0, 1] of D⁺; 0.5 in the paper.
        beta: weight β ≥ 0 of the KL term; 0.3 in the paper.

    Returns:
        Scalar in float32 (float64 where logits are float64).

    Raises:
        TypeError: if a tensor of logits, of prior_logits or advantage is not floating-point, or action is not integer.
        ValueError: if shapes, devices or numbers of components do not match, there is no component, advantage is empty,
            or alpha or beta is out of range.

    Example:
        >>> uniform = [torch.zeros(1, 2), torch.zeros(1, 4)]
        >>> policy_loss_factored(uniform, uniform, torch.tensor([[0, 3]]), torch.tensor([1.0]), alpha=1.0)
        tensor(2.0794)
    """
    _require_policy_inputs(logits, prior_logits, action, advantage, alpha, beta)
    log_prob, kl = log_prob_and_kl(logits, prior_logits, action)
    return (_set_weights(advantage, alpha, log_prob.dtype) * log_prob).sum() + beta * kl.mean()


def log_prob_and_kl(
    logits: Sequence[Float[Tensor, "*batch _"]],
    prior_logits: Sequence[Float[Tensor, "*batch _"]],
    action: Int[Tensor, "*batch F"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """ln π(a|s) and KL[π ‖ π_prior] of every state, the summands of Eq. (11).

    The numerical contract is that of `policy_loss`; arguments are not checked.

    Args:
        logits: F tensors of unnormalised log-probabilities of π, floating, (…, A_f) for f in [0, F).
        prior_logits: F tensors of unnormalised log-probabilities of π_prior, floating, (…, A_f); constants.
        action: classes of the actions taken, column f in [0, A_f), any integer dtype, (…, F).

    Returns:
        ln π(a|s) and the KL in nats, (…) each, summed over the components, in float32 (float64 where logits are
        float64).

    Example:
        >>> uniform = [torch.zeros(1, 2), torch.zeros(1, 4)]
        >>> log_prob_and_kl(uniform, uniform, torch.tensor([[0, 3]]))
        (tensor([-2.0794]), tensor([0.]))
    """
    summands = [
        _log_prob_and_kl(component, prior, action[..., f])
        for f, (component, prior) in enumerate(zip(logits, prior_logits, strict=True))
    ]
    log_prob, kl = zip(*summands, strict=True)
    return torch.stack(log_prob).sum(0), torch.stack(kl).sum(0)


def expectation(log_pi: Float[Tensor, "*batch A"], values: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
    """Mean of values under π, where impossible actions, with log-probability −∞, count as 0.

    Computed in the dtype of the arguments. Gradients are finite where the values of the possible actions are.

    Args:
        log_pi: normalised log-probabilities of π, floating, (…, A).
        values: of the actions, floating, (…, A); those of impossible actions may be NaN or infinite.

    Returns:
        Σₐ π(a) value(a), (…).

    Example:
        >>> log_pi = torch.tensor([0.0, -torch.inf])
        >>> expectation(log_pi, torch.tensor([3.0, torch.nan])).item()
        3.0
    """
    return (log_pi.exp() * torch.where(log_pi > -torch.inf, values, 0.0)).sum(dim=-1)


def frozen_prior(policy_head: nn.Module) -> nn.Module:
    """Copy the policy head as the frozen prior. Call it after behaviour cloning and before the first update.

    Args:
        policy_head: behaviour-cloned policy head.

    Returns:
        A deep copy without gradients, in evaluation mode.

    Example:
        >>> prior = frozen_prior(nn.Linear(2, 3))
        >>> any(parameter.requires_grad for parameter in prior.parameters()), prior.training
        (False, False)
    """
    return copy.deepcopy(policy_head).requires_grad_(False).eval()


def _log_prob_and_kl(logits: Tensor, prior_logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    compute = compute_dtype(logits, prior_logits)
    log_pi = logits.to(compute).log_softmax(dim=-1)
    log_prior = prior_logits.detach().to(compute).log_softmax(dim=-1)
    kl = expectation(log_pi, log_pi - log_prior)
    return log_pi.gather(-1, action.long()[..., None])[..., 0], kl


def _set_weights(advantage: Tensor, alpha: float, dtype: torch.dtype) -> Float[Tensor, "*batch"]:
    """−α/|D⁺| on D⁺, (1−α)/|D⁻| on D⁻, and NaN where the advantage is NaN, which belongs to neither."""
    positive, negative = advantage >= 0, advantage < 0
    # An empty set divides by zero, and no element takes that weight.
    positive_weight, negative_weight = -alpha / positive.sum().to(dtype), (1 - alpha) / negative.sum().to(dtype)
    return torch.where(positive, positive_weight, torch.where(negative, negative_weight, torch.nan))


def _require_policy_inputs(
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
    for component, prior in zip(logits, prior_logits, strict=True):
        require_floating(logits=component, prior_logits=prior)
        batch_and_actions = (*advantage.shape, component.shape[-1])
        require_shape("logits", component, batch_and_actions, "of advantage with A actions", like=advantage)
        require_shape("prior_logits", prior, component.shape, "of logits", like=advantage)
