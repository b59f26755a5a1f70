"""Eq. (9), Sec. 3.3, p. 7: multi-token prediction.

    L = −Σₙ ln p(a_{t+n} | h_t) − Σₙ ln p(r_{t+n} | h_t),   n = 0, …, L

Read as: distances 0 to 8 (A17), summed (A19), each averaged over the positions whose target lies inside the sequence
(A29).
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from dreamer4_impl.arguments import require_between, require_floating, require_non_empty, require_rank, require_shape
from dreamer4_impl.constants import MTP_LENGTH
from dreamer4_impl.precision import compute_dtype


def multi_token_targets(
    x: Shaped[Tensor, "B T *rest"], length: int = MTP_LENGTH, *, first: int = 0
) -> tuple[Shaped[Tensor, "B T N *rest"], Bool[Tensor, "B T N"]]:
    """Gather the targets x_{t+n} of every position t and distance n = first, …, length.

    Exact; differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        x: actions or rewards of any dtype, (B, T, …), not empty.
        length: L, longest distance, 0 or more.
        first: shortest distance, in [0, length].

    Returns:
        Targets in the dtype of x, (B, T, N, …) with N = length − first + 1, and a bool mask, (B, T, N), True where
        t + n < T. Where it is False, the target repeats the last timestep and has no meaning.

    Raises:
        ValueError: if x is no tensor of at least two axes or is empty, or first lies outside [0, length].

    Example:
        >>> targets, valid = multi_token_targets(torch.tensor([[5, 6, 7]]), length=1)
        >>> targets.tolist(), valid[0, :, 1].tolist()
        ([[[5, 6], [6, 7], [7, 7]]], [True, True, False])
    """
    if not isinstance(x, Tensor) or x.ndim < 2:
        raise ValueError(f"x must be a tensor of shape (B, T, …); got {getattr(x, 'shape', type(x).__name__)}")
    require_non_empty("x", x)
    require_between("first", first, 0, length)
    batch, time = x.shape[:2]
    distances = torch.arange(first, length + 1, device=x.device)
    positions = torch.arange(time, device=x.device)[:, None] + distances
    return x[:, positions.clamp(max=time - 1)], (positions < time).expand(batch, -1, -1)


def multi_token_loss(log_prob: Float[Tensor, "B T N"], valid: Bool[Tensor, "B T N"]) -> Float[Tensor, ""]:
    """Negative log-likelihood: the mean over the valid positions of each distance, summed over the distances.

    A distance without a valid position contributes 0. Deterministic; differentiable; compiles without graph breaks; no
    host synchronisation.

    Args:
        log_prob: ln p(x_{t+n} | h_t), floating, (B, T, N).
        valid: positions that count, bool, (B, T, N); elsewhere log_prob may hold anything, NaN included.

    Returns:
        Scalar in float32 (float64 for float64).

    Raises:
        TypeError: if log_prob is not floating-point or valid not bool.
        ValueError: if shapes or devices do not match.

    Example:
        >>> multi_token_loss(torch.full((1, 3, 2), -1.0), multi_token_targets(torch.zeros(1, 3), length=1)[1])
        tensor(2.)
    """
    require_floating(log_prob=log_prob)
    require_rank("log_prob", log_prob, 3, "(B, T, N)")
    require_shape("valid", valid, log_prob.shape, "of log_prob", like=log_prob)
    if valid.dtype != torch.bool:
        raise TypeError(f"valid must be a bool tensor; got {valid.dtype}")
    total = torch.where(valid, log_prob.to(compute_dtype(log_prob)), 0).sum(dim=(0, 1))
    return -(total / valid.sum(dim=(0, 1)).clamp(min=1)).sum()
