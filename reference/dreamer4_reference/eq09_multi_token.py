"""Eq. (9), Sec. 3.3, p. 7: multi-token prediction of actions and rewards from the agent token.

    L = − Σ_{n=0}^{L} ln p(a_{t+n} | h_t) − Σ_{n=0}^{L} ln p(r_{t+n} | h_t),   L = 8

The functions below handle one of the two sums: call them once for actions and once for rewards.
Read as: the set of distances n is declared, 0…8, 0…7 or 1…8 (A17). The terms of the distances are added (A19). Each
term is averaged over the positions whose target lies inside the sequence (A29).

n → distances, ints ≥ 0.   a, r → x (B, T).   ln p(x_{t+n} | h_t) → log_prob (B, T, N), one column per distance.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from dreamer4_reference.levels import require_float64, require_option, require_shape


def multi_token_targets(
    x: Shaped[np.ndarray, "B T"], distances: tuple[int, ...]
) -> tuple[Shaped[np.ndarray, "B T N"], Bool[np.ndarray, "B T N"]]:
    """Targets x_{t+n} for every position t and distance n, and a mask of the targets inside the sequence.

    Args:
        x: actions or rewards x_t for t in [0, T), any dtype, (B, T).
        distances: the N values of n, ints ≥ 0; (0, 1, …, 8) as printed (A17).

    Returns:
        (targets, valid), both (B, T, N). targets has the dtype of x; valid is bool, True where t + n < T. Where valid
        is False the target is 0 and must not enter the loss.

    Raises:
        ValueError: if x is not two-dimensional, or distances is empty or has an entry that is not an int ≥ 0.

    Example:
        >>> targets, valid = multi_token_targets(np.array([[5, 6, 7]]), (0, 2))
        >>> targets[0].tolist(), valid[0, :, 1].tolist()
        ([[5, 7], [6, 0], [7, 0]], [True, False, False])
    """
    require_shape("x", x, (None, None), equation="Eq. (9)")
    if not distances or any(not isinstance(n, int) or n < 0 for n in distances):
        raise ValueError(f"Eq. (9): distances is {distances}, but must hold whole numbers ≥ 0, at least one")
    index = np.arange(x.shape[1])[:, None] + np.array(distances)
    valid = np.broadcast_to(index < x.shape[1], (len(x), *index.shape))
    return np.where(valid, x[:, np.where(index < x.shape[1], index, 0)], x.dtype.type(0)), valid


def multi_token_loss(
    log_prob: Float64[np.ndarray, "B T N"],
    valid: Bool[np.ndarray, "B T N"],
    *,
    over: Literal["sum", "mean"] = "sum",
    positions: Literal["valid", "all", "complete", "pooled"] = "valid",
) -> float:
    """Negative log-likelihood over all positions and distances.

    Args:
        log_prob: ln p(x_{t+n} | h_t), float64, (B, T, N); entries where valid is False are ignored, NaN included.
        valid: bool, (B, T, N), True where t + n < T, as from `multi_token_targets`.
        over: combination of the N distances: "sum" (A19, default) or "mean".
        positions: positions that each distance is averaged over: "valid" (A29, default), those whose target is valid;
            "all", with 0 where it is not; "complete", those where the targets of all distances are valid. "pooled"
            averages over the valid pairs of position and distance together, so that every pair has the same weight.

    Returns:
        The loss as a float. A distance without valid positions contributes 0.

    Raises:
        TypeError: if log_prob is not a float64 array or valid is not bool.
        ValueError: if shapes do not match or an option is unknown.

    Example:
        >>> multi_token_loss(np.array([[[-1.0, -2.0], [-3.0, np.nan]]]), np.array([[[True, True], [True, False]]]))
        4.0
    """
    require_option("over", over, ("sum", "mean"), equation="Eq. (9)")
    require_option("positions", positions, ("valid", "all", "complete", "pooled"), equation="Eq. (9)")
    require_float64(equation="Eq. (9)", log_prob=log_prob)
    require_shape("log_prob", log_prob, (None,) * 3, equation="Eq. (9)")
    require_shape("valid", valid, log_prob.shape, equation="Eq. (9)")
    if valid.dtype != np.bool_:
        raise TypeError(f"Eq. (9): valid has dtype {valid.dtype}, but must be bool")
    if positions == "complete":
        valid = np.broadcast_to(valid.all(-1, keepdims=True), valid.shape)
    total = -np.where(valid, log_prob, 0.0).sum((0, 1))
    count = np.full(total.shape, valid[..., 0].size) if positions == "all" else valid.sum((0, 1))
    if positions == "pooled":
        count = np.full(total.shape, valid.sum() / len(total))
    per_distance = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return float(per_distance.sum() if over == "sum" else per_distance.mean())
