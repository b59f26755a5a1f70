"""Energy distance (Székely): 2 E|X − Y| − E|X − X'| − E|Y − Y'|, zero where X and Y have one law and nowhere else.

Estimated without bias, so that it may come out slightly below zero.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

#: Pairwise distances without the matrix product, which loses small ones.
EXACT: Final = "donot_use_mm_for_euclid_dist"


def energy_distance(x: Float[Tensor, "... N D"], y: Float[Tensor, "... M D"]) -> Float[Tensor, "..."]:
    """Of two sets of independent samples, N and M two or more; leading axes are compared one by one.

    >>> energy_distance(torch.zeros(5, 2), torch.tensor([[3.0, 4.0]] * 5))
    tensor(10.)
    """
    return 2 * _distances(x, y).mean((-2, -1)) - _spread(x) - _spread(y)


def energy_distance_to_atoms(x: Float[Tensor, "... N D"], atoms: Float[Tensor, "... M D"]) -> Float[Tensor, "..."]:
    """Of samples and the law that gives each of M points the same probability, known exactly.

    >>> energy_distance_to_atoms(torch.zeros(4, 1), torch.tensor([[-1.0], [1.0]]))
    tensor(1.)
    """
    return 2 * _distances(x, atoms).mean((-2, -1)) - _spread(x) - _distances(atoms, atoms).mean((-2, -1))


def _spread(x: Tensor) -> Tensor:
    """E|X − X'| of two different samples."""
    n = x.shape[-2]
    if n < 2:
        raise ValueError(f"x and y must hold two samples or more; got {n}")
    return _distances(x, x).sum((-2, -1)) / (n * (n - 1))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode=EXACT)
