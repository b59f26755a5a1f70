"""Eq. (10), Sec. 3.3, p. 7: λ-returns and the loss of the value head.

    R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}),   R_H = v_H,   L = − ln p(R_t | s_t),   γ = 0.997

Read as: the print has (1 − λ) v_t; only v_{t+1} makes R_t a mixture of n-step returns (A13, mixture "v_next";
"v_same" is as printed). r_t and c_t belong to the same step (A15, pairing "t"; "next" takes c_{t+1},
and past the end c = 1).
The paper gives no λ; 0.95 (A26). The return is a constant in L: no gradient reaches it.

r → reward (B, H), c → cont (B, H), 0 where the episode ends, in [0, 1].   v → value (B, H + 1).
t → rows 0 … H − 1; the last value v_H stands in for everything after.   p → logits (N, K), two-hot over bins (K,).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.constants import GAMMA
from dreamer4_reference.levels import require_float64, require_option, require_shape
from dreamer4_reference.twohot import Space, log_softmax, softmax, twohot_encode

Mixture = Literal["v_next", "v_same"]
Pairing = Literal["t", "next"]


def lambda_returns(
    reward: Float64[np.ndarray, "B H"],
    value: Float64[np.ndarray, "B H+1"],
    cont: Float64[np.ndarray, "B H"],
    gamma: float = GAMMA,
    lam: float = 0.95,
    *,
    mixture: Mixture = "v_next",
    pairing: Pairing = "t",
) -> Float64[np.ndarray, "B H"]:
    """R_0 … R_{H−1}.

    >>> reward, value, cont = np.array([[1.0, 2.0]]), np.array([[9.0, 8.0, 4.0]]), np.ones((1, 2))
    >>> lambda_returns(reward, value, cont, gamma=0.5, lam=1.0).tolist()
    [[3.0, 4.0]]
    """
    _check(reward, value, cont, gamma, lam)
    require_option("mixture", mixture, ("v_next", "v_same"), equation="Eq. (10)")
    require_option("pairing", pairing, ("t", "next"), equation="Eq. (10)")
    discount = gamma * (cont if pairing == "t" else np.append(cont[:, 1:], np.ones((len(cont), 1)), axis=1))
    v = value[:, 1:] if mixture == "v_next" else value[:, :-1]
    returns, following = np.empty_like(reward), value[:, -1]
    for t in reversed(range(reward.shape[1])):
        following = reward[:, t] + discount[:, t] * ((1 - lam) * v[:, t] + lam * following)
        returns[:, t] = following
    return returns


def _check(reward: np.ndarray, value: np.ndarray, cont: np.ndarray, gamma: float, lam: float) -> None:
    require_float64(equation="Eq. (10)", reward=reward, value=value, cont=cont)
    require_shape("reward", reward, (None, None), equation="Eq. (10)")
    require_shape("value", value, (reward.shape[0], reward.shape[1] + 1), equation="Eq. (10)")
    require_shape("cont", cont, reward.shape, equation="Eq. (10)")
    if reward.shape[1] == 0:
        raise ValueError(f"Eq. (10): reward has shape {reward.shape}, but the horizon must be at least 1")
    for name, factor in (("gamma", gamma), ("lam", lam)):
        if not 0 <= factor <= 1:
            raise ValueError(f"Eq. (10): {name} is {factor}, but must lie in [0, 1]")
    if not ((cont >= 0) & (cont <= 1)).all():
        raise ValueError("Eq. (10): cont holds a value outside [0, 1], but it is a probability to continue")


def advantages(
    reward: Float64[np.ndarray, "B H"],
    value: Float64[np.ndarray, "B H+1"],
    cont: Float64[np.ndarray, "B H"],
    gamma: float = GAMMA,
    lam: float = 0.95,
    *,
    mixture: Mixture = "v_next",
    pairing: Pairing = "t",
) -> Float64[np.ndarray, "B H"]:
    """A_t = R_t − v_t (Eq. 11), neither centred nor scaled.

    >>> advantages(np.array([[1.0]]), np.array([[3.0, 4.0]]), np.ones((1, 1)), gamma=0.5).tolist()
    [[0.0]]
    """
    returns = lambda_returns(reward, value, cont, gamma, lam, mixture=mixture, pairing=pairing)
    return np.asarray(returns - value[:, :-1])


def value_loss(
    logits: Float64[np.ndarray, "N K"],
    returns: Float64[np.ndarray, " N"],
    bins: Float64[np.ndarray, " K"],
    *,
    space: Space = "raw",
) -> float:
    """Mean over N of − ln p(R): cross-entropy against the two-hot return.

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
    """∂L/∂logits = (p − two-hot)/N.

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
