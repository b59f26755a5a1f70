"""Energy distance (Székely): 2 E|X − Y| − E|X − X'| − E|Y − Y'|, zero only for equal distributions.

The estimates are unbiased and therefore can be slightly negative.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

#: Compute mode without the matrix product, which is inaccurate for small distances.
EXACT: Final = "donot_use_mm_for_euclid_dist"


def energy_distance(x: Float[Tensor, "... N D"], y: Float[Tensor, "... M D"]) -> Float[Tensor, "..."]:
    """Energy distance of two sets of independent samples.

    Args:
        x: samples, (…, N, D), N ≥ 2; leading axes are compared pair by pair.
        y: samples, (…, M, D), M ≥ 2.

    Returns:
        Unbiased estimates, (…).

    Raises:
        ValueError: if a set has fewer than two samples.

    Example:
        >>> energy_distance(torch.zeros(5, 2), torch.tensor([[3.0, 4.0]] * 5))
        tensor(10.)
    """
    return 2 * _distances(x, y).mean((-2, -1)) - _spread(x) - _spread(y)


def energy_distance_to_atoms(x: Float[Tensor, "... N D"], atoms: Float[Tensor, "... M D"]) -> Float[Tensor, "..."]:
    """Energy distance of samples to the uniform distribution over M points, which is known exactly.

    Args:
        x: samples, (…, N, D), N ≥ 2.
        atoms: points of equal probability, (…, M, D).

    Returns:
        Unbiased estimates, (…).

    Raises:
        ValueError: if x has fewer than two samples.

    Example:
        >>> energy_distance_to_atoms(torch.zeros(4, 1), torch.tensor([[-1.0], [1.0]]))
        tensor(1.)
    """
    return 2 * _distances(x, atoms).mean((-2, -1)) - _spread(x) - _distances(atoms, atoms).mean((-2, -1))


def _spread(x: Tensor) -> Tensor:
    """Mean distance E|X − X'| over pairs of different samples."""
    n = x.shape[-2]
    if n < 2:
        raise ValueError(f"x and y must contain at least two samples; got {n}")
    return _distances(x, x).sum((-2, -1)) / (n * (n - 1))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode=EXACT)
