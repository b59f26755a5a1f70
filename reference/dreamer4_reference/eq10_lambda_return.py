"""Eq. (10), Sec. 3.3, p. 7: λ-returns and the loss of the value head.

    R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}),   R_H = v_H,   L = − ln p(R_t | s_t),   γ = 0.997

Read as: the paper prints (1 − λ) v_t; only v_{t+1} makes R_t a mixture of n-step returns (A13, mixture "v_next";
"v_same" is as printed). r_t and c_t belong to the same step (A15, pairing "t"; "next" takes c_{t+1}, with c = 1 past
the end). R_H = v_H requires H + 1 values (A14, last "v"; "reward" has H, and the last row is r + γ c v of its
own step). The paper states no λ; 0.95 (A26). The return is a constant in L: no gradient reaches it.

r → reward (B, H), c → cont (B, H), in [0, 1], 0 where the episode ends.   v → value (B, H + 1).
t → columns 0 … H − 1; the last value replaces all later rewards.   p → logits (N, K), two-hot over bins (K,).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.constants import GAMMA
from dreamer4_reference.levels import require_float64, require_option, require_shape
from dreamer4_reference.twohot import Space, log_softmax, softmax, twohot_encode

Mixture = Literal["v_next", "v_same"]
Pairing = Literal["t", "next"]
Last = Literal["v", "reward"]


def lambda_returns(
    reward: Float64[np.ndarray, "B H"],
    value: Float64[np.ndarray, "B H+1"] | Float64[np.ndarray, "B H"],
    cont: Float64[np.ndarray, "B H"],
    gamma: float = GAMMA,
    lam: float = 0.95,
    *,
    mixture: Mixture = "v_next",
    pairing: Pairing = "t",
    last: Last = "v",
) -> Float64[np.ndarray, "B H"]:
    """λ-returns, computed backwards from R_H = v_H.

        R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1})

    Args:
        reward: r_t for t in [0, H), H ≥ 1, float64, (B, H).
        value: v_t for t in [0, H], float64, (B, H + 1); with last "reward" for t in [0, H), (B, H).
        cont: continuation c_t for t in [0, H), in [0, 1], 0 where the episode ends, float64, (B, H).
        gamma: discount γ in [0, 1]; 0.997 in the paper.
        lam: λ in [0, 1]; the paper states none, 0.95 (A26). 0 gives one-step returns, 1 the longest.
        mixture: value in the mixture: "v_next", v_{t+1} (A13, default), or "v_same", v_t as printed.
        pairing: continuation of step t: "t", c_t (A15, default), or "next", c_{t+1}, with c_H = 1.
        last: last row: "v", R_H = v_H (A14, default), or "reward", R_{H−1} = r_{H−1} + γ c_{H−1} v_{H−1}.

    Returns:
        R_t for t in [0, H), float64, (B, H).

    Raises:
        TypeError: if reward, value or cont is not a float64 array.
        ValueError: if shapes do not match, H is 0, gamma, lam or cont lies outside [0, 1], or an option is unknown.

    Example:
        >>> reward, value, cont = np.array([[1.0, 2.0]]), np.array([[9.0, 8.0, 4.0]]), np.ones((1, 2))
        >>> lambda_returns(reward, value, cont, gamma=0.5, lam=1.0).tolist()
        [[3.0, 4.0]]
        >>> lambda_returns(reward, value[:, :2], cont, gamma=0.5, lam=1.0, last="reward").tolist()
        [[4.0, 6.0]]
    """
    require_option("mixture", mixture, ("v_next", "v_same"), equation="Eq. (10)")
    require_option("pairing", pairing, ("t", "next"), equation="Eq. (10)")
    require_option("last", last, ("v", "reward"), equation="Eq. (10)")
    _require_return_inputs(reward, value, cont, gamma, lam, last)
    if last == "reward":
        # r + γ c ((1 − λ) v + λ v) is r + γ c v: the last row of "reward" is that of "v" with v_{H−1} in place of v_H.
        value = np.append(value, value[:, -1:], axis=1)
    discount = gamma * (cont if pairing == "t" else np.append(cont[:, 1:], np.ones((len(cont), 1)), axis=1))
    v = value[:, 1:] if mixture == "v_next" else value[:, :-1]
    returns, following = np.empty_like(reward), value[:, -1]
    for t in reversed(range(reward.shape[1])):
        following = reward[:, t] + discount[:, t] * ((1 - lam) * v[:, t] + lam * following)
        returns[:, t] = following
    return returns


def _require_return_inputs(
    reward: np.ndarray, value: np.ndarray, cont: np.ndarray, gamma: float, lam: float, last: Last
) -> None:
    require_float64(equation="Eq. (10)", reward=reward, value=value, cont=cont)
    require_shape("reward", reward, (None, None), equation="Eq. (10)")
    require_shape("value", value, (reward.shape[0], reward.shape[1] + (last == "v")), equation="Eq. (10)")
    require_shape("cont", cont, reward.shape, equation="Eq. (10)")
    if reward.shape[1] == 0:
        raise ValueError(f"Eq. (10): reward has shape {reward.shape}, but the horizon must be at least 1")
    for name, factor in (("gamma", gamma), ("lam", lam)):
        if not 0 <= factor <= 1:
            raise ValueError(f"Eq. (10): {name} is {factor}, but must lie in [0, 1]")
    if not ((cont >= 0) & (cont <= 1)).all():
        raise ValueError("Eq. (10): cont contains a value outside [0, 1], but must be a probability of continuing")


def advantages(
    reward: Float64[np.ndarray, "B H"],
    value: Float64[np.ndarray, "B H+1"] | Float64[np.ndarray, "B H"],
    cont: Float64[np.ndarray, "B H"],
    gamma: float = GAMMA,
    lam: float = 0.95,
    *,
    mixture: Mixture = "v_next",
    pairing: Pairing = "t",
    last: Last = "v",
) -> Float64[np.ndarray, "B H"]:
    """Advantages A_t = R_t − v_t of Eq. (11), neither centred nor scaled.

    Args:
        reward: r_t for t in [0, H), H ≥ 1, float64, (B, H).
        value: v_t for t in [0, H], float64, (B, H + 1); with last "reward" for t in [0, H), (B, H).
        cont: continuation c_t for t in [0, H), in [0, 1], 0 where the episode ends, float64, (B, H).
        gamma: discount γ in [0, 1]; 0.997 in the paper.
        lam: λ in [0, 1]; 0.95 (A26).
        mixture: "v_next" (A13, default) or "v_same", as in `lambda_returns`.
        pairing: "t" (A15, default) or "next", as in `lambda_returns`.
        last: "v" (A14, default) or "reward", as in `lambda_returns`.

    Returns:
        A_t for t in [0, H), float64, (B, H).

    Raises:
        TypeError: if reward, value or cont is not a float64 array.
        ValueError: if shapes do not match, H is 0, gamma, lam or cont lies outside [0, 1], or an option is unknown.

    Example:
        >>> advantages(np.array([[1.0]]), np.array([[3.0, 4.0]]), np.ones((1, 1)), gamma=0.5).tolist()
        [[0.0]]
    """
    returns = lambda_returns(reward, value, cont, gamma, lam, mixture=mixture, pairing=pairing, last=last)
    return np.asarray(returns - value[:, : returns.shape[1]])


def value_loss(
    logits: Float64[np.ndarray, "N K"],
    returns: Float64[np.ndarray, " N"],
    bins: Float64[np.ndarray, " K"],
    *,
    space: Space = "raw",
) -> float:
    """Loss of the value head: mean over N of − ln p(R), the cross-entropy against the two-hot return.

    Args:
        logits: unnormalised log-probabilities over the bins, float64, (N, K).
        returns: R, λ-returns of N ≥ 1 states pooled over batch and time, float64, (N,); constants, no gradient.
        bins: centres of the K ≥ 2 bins in raw values, strictly increasing, float64, (K,).
        space: space of the interpolation, "raw" (A23, default) or "symlog".

    Returns:
        The loss as a float, at least the mean entropy of the targets.

    Raises:
        TypeError: if an array is not float64.
        ValueError: if shapes do not match, returns is empty or contains NaN, bins do not increase, or space is unknown.

    Example:
        >>> round(value_loss(np.zeros((1, 2)), np.array([0.5]), np.array([0.0, 1.0])), 3)
        0.693
    """
    target = _target(logits, returns, bins, space)
    return float(-(target * log_softmax(logits)).sum(-1).mean())


def value_loss_gradient(
    logits: Float64[np.ndarray, "N K"],
    returns: Float64[np.ndarray, " N"],
    bins: Float64[np.ndarray, " K"],
    *,
    space: Space = "raw",
) -> Float64[np.ndarray, "N K"]:
    """Gradient of `value_loss` with respect to the logits: ∂L/∂logits = (p − two-hot)/N.

    Args:
        logits: unnormalised log-probabilities over the bins, float64, (N, K).
        returns: R, λ-returns of N ≥ 1 states pooled over batch and time, float64, (N,).
        bins: centres of the K ≥ 2 bins in raw values, strictly increasing, float64, (K,).
        space: space of the interpolation, "raw" (A23, default) or "symlog".

    Returns:
        The gradient, float64, (N, K); every row sums to 0.

    Raises:
        TypeError: if an array is not float64.
        ValueError: if shapes do not match, returns is empty or contains NaN, bins do not increase, or space is unknown.

    Example:
        >>> value_loss_gradient(np.zeros((1, 2)), np.array([1.0]), np.array([0.0, 1.0])).tolist()
        [[0.5, -0.5]]
    """
    target = _target(logits, returns, bins, space)
    return np.asarray((softmax(logits) - target) / len(logits))


def _target(logits: np.ndarray, returns: np.ndarray, bins: np.ndarray, space: Space) -> np.ndarray:
    target = twohot_encode(returns, bins, space=space)
    require_shape("logits", logits, target.shape, equation="Eq. (10)")
    if len(target) == 0:
        raise ValueError("Eq. (10): returns is empty, but a mean needs at least one return")
    return target
