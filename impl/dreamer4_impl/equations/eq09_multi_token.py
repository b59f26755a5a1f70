"""Eq. (9), Sec. 3.3, p. 7: multi-token prediction.

    L = −Σₙ ln p(a_{t+n} | h_t) − Σₙ ln p(r_{t+n} | h_t),   n = 0, …, L

Read as: distances 0…8 (A17), added up (A19), each averaged over the positions whose target lies inside the sequence
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
    """Targets x_{t+n} of every position t and distance n = first, …, length, and whether t + n < T.

    Args:
        x: actions or rewards (B, T, …), of any dtype.
        length: L, the longest distance.
        first: the shortest distance; N = length − first + 1.

    Where a target lies past the end, `valid` is False and the target repeats the last timestep, which means nothing.
    Exact, in the dtype of x; differentiable; compiles without graph breaks; no host synchronisation.

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
    """Negative log-likelihood: the mean over the valid positions of each distance, added up over the distances.

    Args:
        log_prob: ln p(x_{t+n} | h_t).
        valid: positions that count; what log_prob holds elsewhere, NaN included, never matters.

    A distance without a valid position contributes 0. Computed and returned in float32 (float64 for float64);
    differentiable; deterministic; compiles without graph breaks; no host synchronisation.

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
