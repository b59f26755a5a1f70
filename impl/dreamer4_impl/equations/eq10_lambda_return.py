"""Eq. (10), Sec. 3.3, p. 7: λ-returns, advantages and value learning.

    R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}),   R_H = v_H,   A_t = R_t − v_t,   L = −ln p(R_t | s_t)

Read as: the value of the next state (A13; the print has v_t), R_H = v_H (A14), r_t and c_t belong together (A15).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.arguments import (
    require_between,
    require_floating,
    require_non_empty,
    require_option,
    require_rank,
    require_shape,
)
from dreamer4_impl.constants import GAMMA, LAMBDA
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.precision import compute_dtype

Reduction = Literal["mean", "none"]
_TWOHOT = TwoHot()


def lambda_returns(
    reward: Float[Tensor, "B H"],
    value: Float[Tensor, "B H+1"],
    cont: Float[Tensor, "B H"],
    gamma: float = GAMMA,
    lam: float = LAMBDA,
) -> Float[Tensor, "B H"]:
    """λ-returns, computed backwards from R_H = v_H.

    The recursion is solved in ⌈log₂ H⌉ doublings of R_t = a_t + b_t R_{t+1} instead of H steps: only products and sums,
    so the error bound is that of the recursion. Deterministic; differentiable; compiles without graph breaks; no host
    synchronisation.

    Args:
        reward: r_t for t in [0, H), H ≥ 1, floating, (B, H).
        value: v_t for t in [0, H], floating, (B, H + 1); v_0 does not enter.
        cont: continuation c_t for t in [0, H), in [0, 1], 0 where the episode ends with r_t, floating, (B, H).
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1]; 0 gives one-step returns, 1 the longest.

    Returns:
        R_t for t in [0, H), (B, H), in float32 (float64 where an input is float64).

    Raises:
        TypeError: if reward, value or cont is not a floating-point tensor.
        ValueError: if shapes or devices do not match, H is 0, or gamma or lam lies outside [0, 1].

    Example:
        >>> reward, value, cont = torch.ones(1, 2), torch.tensor([[0.0, 0.0, 4.0]]), torch.ones(1, 2)
        >>> lambda_returns(reward, value, cont, gamma=0.5, lam=1.0).tolist()
        [[2.5, 3.0]]
    """
    _require_return_inputs(reward, value, cont, gamma, lam)
    compute = compute_dtype(reward, value, cont)
    discount = gamma * cont.to(compute)
    following = value[:, 1:].to(compute)
    # R_H = v_H is a last column with b = 0, which no doubling changes.
    a = torch.cat([reward.to(compute) + discount * (1 - lam) * following, following[:, -1:]], dim=1)
    b = torch.cat([discount * lam, torch.zeros_like(following[:, -1:])], dim=1)
    span = 1
    while span < a.shape[1]:
        a = torch.cat([a[:, :-span] + b[:, :-span] * a[:, span:], a[:, -span:]], dim=1)
        b = torch.cat([b[:, :-span] * b[:, span:], b[:, -span:]], dim=1)
        span *= 2
    return a[:, :-1]


def advantages(
    reward: Float[Tensor, "B H"],
    value: Float[Tensor, "B H+1"],
    cont: Float[Tensor, "B H"],
    gamma: float = GAMMA,
    lam: float = LAMBDA,
) -> Float[Tensor, "B H"]:
    """Advantages A_t = R_t − v_t of Eq. (11), neither centred nor scaled.

    The numerical contract is that of `lambda_returns`.

    Args:
        reward: r_t for t in [0, H), H ≥ 1, floating, (B, H).
        value: v_t for t in [0, H], floating, (B, H + 1).
        cont: continuation c_t for t in [0, H), in [0, 1], floating, (B, H).
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1].

    Returns:
        A_t for t in [0, H), (B, H), in float32 (float64 where an input is float64).

    Raises:
        TypeError: if reward, value or cont is not a floating-point tensor.
        ValueError: if shapes or devices do not match, H is 0, or gamma or lam lies outside [0, 1].

    Example:
        >>> advantages(torch.ones(1, 1), torch.tensor([[3.0, 2.0]]), torch.ones(1, 1), gamma=0.5).tolist()
        [[-1.0]]
    """
    returns = lambda_returns(reward, value, cont, gamma, lam)
    return returns - value[:, :-1].to(returns.dtype)


def value_loss(
    logits: Float[Tensor, "*batch K"],
    returns: Float[Tensor, "*batch"],
    twohot: TwoHot = _TWOHOT,
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*loss"]:
    """Loss of the value head: −ln p(R_t | s_t), the cross-entropy against the two-hot return.

    Deterministic; gradient flows only to the logits; compiles without graph breaks; no host synchronisation.

    Args:
        logits: unnormalised log-probabilities over the K bins of twohot, floating, (…, K).
        returns: R_t in raw values, floating, (…), not empty; constants, no gradient.
        twohot: bins of the logits.
        reduction: "mean" over all states, or "none" for the loss of each.

    Returns:
        The loss in float32 (float64 where an input is float64): a scalar, or (…) without reduction.

    Raises:
        TypeError: if logits or returns is not a floating-point tensor.
        ValueError: if shapes or devices do not match, returns is empty, or reduction is unknown.

    Example:
        >>> value_loss(torch.zeros(2, 255), torch.zeros(2)).item() == torch.tensor(255.0).log().item()
        True
    """
    require_floating(returns=returns)
    require_non_empty("returns", returns)
    require_option("reduction", reduction, ("mean", "none"))
    loss = twohot.cross_entropy(logits, returns.detach())
    return loss.mean() if reduction == "mean" else loss


def _require_return_inputs(reward: Tensor, value: Tensor, cont: Tensor, gamma: float, lam: float) -> None:
    require_floating(reward=reward, value=value, cont=cont)
    require_rank("reward", reward, 2, "(B, H)")
    if reward.shape[1] < 1:
        raise ValueError(f"reward must have a horizon H of 1 or more; got shape {tuple(reward.shape)}")
    batch, horizon = reward.shape
    require_shape("value", value, (batch, horizon + 1), "(B, H+1)", like=reward)
    require_shape("cont", cont, (batch, horizon), "(B, H)", like=reward)
    require_between("gamma", gamma, 0.0, 1.0)
    require_between("lam", lam, 0.0, 1.0)
