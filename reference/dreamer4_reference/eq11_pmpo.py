"""Eq. (11), Sec. 3.3, p. 8: PMPO, the loss of the policy head.

    L = (1 − α)/|D⁻| Σ_{D⁻} ln π(a|s) − α/|D⁺| Σ_{D⁺} ln π(a|s) + β/N Σ KL[π(·|s) ‖ π_prior(·|s)]
    D⁺ = {A ≥ 0},   D⁻ = {A < 0},   A = R − v,   α = 0.5,   β = 0.3

Only the sign of A enters. An empty set contributes 0. The prior is frozen: no gradient reaches it.
With several action components, ln π and KL are sums over the components.

π → logits (N, A), π_prior → prior_logits (N, A).   a → action (N,), class indices.   A → advantage (N,).
The N states are pooled over batch and time.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Integer

from dreamer4_reference.constants import ALPHA, BETA
from dreamer4_reference.levels import require_float64, require_shape
from dreamer4_reference.twohot import log_softmax, softmax


def policy_loss(
    logits: Float64[np.ndarray, "N A"],
    prior_logits: Float64[np.ndarray, "N A"],
    action: Integer[np.ndarray, " N"],
    advantage: Float64[np.ndarray, " N"],
    alpha: float = ALPHA,
    beta: float = BETA,
) -> float:
    """Policy loss for one categorical action component.

    Args:
        logits: unnormalised log-probabilities of π, float64, (N, A), N ≥ 1.
        prior_logits: unnormalised log-probabilities of the frozen prior, float64, (N, A).
        action: classes in [0, A) of the actions taken, any integer dtype, (N,).
        advantage: R − v of each state, float64, (N,); only the sign enters, 0 counts as positive.
        alpha: weight α in [0, 1] of D⁺; 0.5 in the paper.
        beta: weight β of the KL term, at least 0; 0.3 in the paper.

    Returns:
        The loss as a float.

    Raises:
        TypeError: if logits, prior_logits or advantage is not a float64 array, or action is not of an integer dtype.
        ValueError: if shapes do not match, N is 0, a class is out of range, advantage contains NaN, or alpha lies
            outside [0, 1].

    Example:
        >>> round(policy_loss(np.zeros((1, 2)), np.zeros((1, 2)), np.array([0]), np.array([1.0])), 3)
        0.347
    """
    require_shape("action", action, (None,), equation="Eq. (11)")
    return policy_loss_factored([logits], [prior_logits], action[:, None], advantage, alpha, beta)


def policy_loss_factored(
    logits: Sequence[Float64[np.ndarray, "N _"]],
    prior_logits: Sequence[Float64[np.ndarray, "N _"]],
    action: Integer[np.ndarray, "N F"],
    advantage: Float64[np.ndarray, " N"],
    alpha: float = ALPHA,
    beta: float = BETA,
) -> float:
    """Policy loss for F independent action components: ln π and KL are summed over the components.

    Args:
        logits: F arrays of unnormalised log-probabilities of π, float64, (N, A_f) for f in [0, F), N ≥ 1.
        prior_logits: F arrays of unnormalised log-probabilities of the frozen prior, float64, (N, A_f).
        action: classes of the actions taken, column f in [0, A_f), any integer dtype, (N, F).
        advantage: R − v of each state, float64, (N,); only the sign enters, 0 counts as positive.
        alpha: weight α in [0, 1] of D⁺; 0.5 in the paper.
        beta: weight β of the KL term, at least 0; 0.3 in the paper.

    Returns:
        The loss as a float.

    Raises:
        TypeError: if an array of logits, of prior_logits or advantage is not float64, or action is not of an integer
            dtype.
        ValueError: if shapes or numbers of components do not match, N is 0, a class is out of range, advantage contains
            NaN, or alpha lies outside [0, 1].

    Example:
        >>> uniform = [np.zeros((1, 2)), np.zeros((1, 2))]
        >>> round(policy_loss_factored(uniform, uniform, np.array([[0, 1]]), np.array([-1.0])), 3)
        -0.693
    """
    _require_policy_inputs(logits, prior_logits, action, advantage)
    row = np.arange(len(action))
    log_prob = sum(log_softmax(component)[row, action[:, f]] for f, component in enumerate(logits))
    kl = sum(kl_to_prior(component, prior) for component, prior in zip(logits, prior_logits, strict=True))
    return float((log_prob_weight(advantage, alpha) * log_prob).sum() + beta * np.mean(kl))


def policy_loss_gradient(
    logits: Float64[np.ndarray, "N A"],
    prior_logits: Float64[np.ndarray, "N A"],
    action: Integer[np.ndarray, " N"],
    advantage: Float64[np.ndarray, " N"],
    alpha: float = ALPHA,
    beta: float = BETA,
) -> Float64[np.ndarray, "N A"]:
    """Gradient of `policy_loss` with respect to the logits.

    Uses ∂ ln π(a)/∂logits = onehot(a) − π and ∂KL/∂logits = π (ln π − ln π_prior − KL).

    Args:
        logits: unnormalised log-probabilities of π, float64, (N, A), N ≥ 1.
        prior_logits: unnormalised log-probabilities of the frozen prior, float64, (N, A).
        action: classes in [0, A) of the actions taken, any integer dtype, (N,).
        advantage: R − v of each state, float64, (N,); only the sign enters, 0 counts as positive.
        alpha: weight α in [0, 1] of D⁺; 0.5 in the paper.
        beta: weight β of the KL term, at least 0; 0.3 in the paper.

    Returns:
        ∂L/∂logits, float64, (N, A); every row sums to 0.

    Raises:
        TypeError: if logits, prior_logits or advantage is not a float64 array, or action is not of an integer dtype.
        ValueError: if shapes do not match, N is 0, a class is out of range, advantage contains NaN, or alpha lies
            outside [0, 1].

    Example:
        >>> policy_loss_gradient(np.zeros((1, 2)), np.zeros((1, 2)), np.array([0]), np.array([1.0])).tolist()
        [[-0.25, 0.25]]
    """
    require_shape("action", action, (None,), equation="Eq. (11)")
    _require_policy_inputs([logits], [prior_logits], action[:, None], advantage)
    pi, log_ratio = softmax(logits), log_softmax(logits) - log_softmax(prior_logits)
    onehot = np.eye(logits.shape[1])[action]
    likelihood = log_prob_weight(advantage, alpha)[:, None] * (onehot - pi)
    divergence = pi * (log_ratio - kl_to_prior(logits, prior_logits)[:, None])
    return np.asarray(likelihood + beta / len(action) * divergence)


def log_prob_weight(advantage: Float64[np.ndarray, " N"], alpha: float = ALPHA) -> Float64[np.ndarray, " N"]:
    """Factor of ln π(a|s) in the loss: (1 − α)/|D⁻| for states in D⁻, −α/|D⁺| for states in D⁺.

    Args:
        advantage: R − v of each state, float64, (N,); 0 counts as positive.
        alpha: weight α in [0, 1] of D⁺; 0.5 in the paper.

    Returns:
        The factors, float64, (N,). They sum to 1 − α over a non-empty D⁻ and to −α over a non-empty D⁺.

    Raises:
        ValueError: if alpha lies outside [0, 1] or advantage contains NaN, which belongs to neither set.

    Example:
        >>> log_prob_weight(np.array([-3.0, -1.0, 0.0]), alpha=0.25).tolist()
        [0.375, 0.375, -0.25]
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"Eq. (11): alpha is {alpha}, but must lie in [0, 1]")
    if np.isnan(advantage).any():
        raise ValueError("Eq. (11): advantage contains NaN, which belongs to neither D⁺ nor D⁻")
    negative = advantage < 0
    size = np.where(negative, negative.sum(), (~negative).sum())
    return np.asarray(np.where(negative, 1 - alpha, -alpha) / size)


def kl_to_prior(
    logits: Float64[np.ndarray, "N A"], prior_logits: Float64[np.ndarray, "N A"]
) -> Float64[np.ndarray, " N"]:
    """KL[π ‖ π_prior] of each state, exact over the actions.

    Args:
        logits: unnormalised log-probabilities of π, float64, (N, A).
        prior_logits: unnormalised log-probabilities of the prior, float64, (N, A).

    Returns:
        KL in nats, float64, (N,), at least 0 up to rounding.

    Raises:
        TypeError: if an argument is not a float64 array.

    Example:
        >>> kl_to_prior(np.array([[0.0, np.log(3)]]), np.zeros((1, 2))).round(3).tolist()
        [0.131]
    """
    log_ratio = log_softmax(logits) - log_softmax(prior_logits)
    return np.asarray((softmax(logits) * log_ratio).sum(-1))


def _require_policy_inputs(
    logits: Sequence[np.ndarray], prior_logits: Sequence[np.ndarray], action: np.ndarray, advantage: np.ndarray
) -> None:
    require_float64(equation="Eq. (11)", advantage=advantage)
    require_shape("advantage", advantage, (None,), equation="Eq. (11)")
    require_shape("action", action, (len(advantage), len(logits)), equation="Eq. (11)")
    if not np.issubdtype(action.dtype, np.integer):
        raise TypeError(f"Eq. (11): action has dtype {action.dtype}, but must hold class indices")
    if len(advantage) == 0 or len(prior_logits) != len(logits):
        raise ValueError(
            f"Eq. (11): {len(advantage)} states, {len(logits)} logits and {len(prior_logits)} prior_logits, "
            "but at least one state and one prior per component are needed"
        )
    for f, (component, prior) in enumerate(zip(logits, prior_logits, strict=True)):
        require_shape(f"logits[{f}]", component, (len(advantage), None), equation="Eq. (11)")
        require_shape(f"prior_logits[{f}]", prior, component.shape, equation="Eq. (11)")
        if not ((action[:, f] >= 0) & (action[:, f] < component.shape[1])).all():
            raise ValueError(f"Eq. (11): action contains a class outside 0 … {component.shape[1] - 1} in component {f}")
