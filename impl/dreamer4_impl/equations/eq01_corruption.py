"""Eq. (1), Sec. 2, p. 3, and Eq. (6), Sec. 3.2, p. 6: corruption of clean data with noise.

    z̃ = (1 − τ) z₀ + τ z₁,   z₀ ~ N(0, 1)

τ is the signal level: 0 is pure noise, 1 is clean data.
"""

from jaxtyping import Float, Shaped
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_shape
from dreamer4_impl.precision import compute_dtype


def per_frame(level: Shaped[Tensor, "*lead"], z: Float[Tensor, "*shape"]) -> Shaped[Tensor, "*lead_and_ones"]:
    """View a level or mask so that it broadcasts against z: append trailing axes of size 1.

    Args:
        level: value of each frame, any dtype; its axes are the leading axes of z.
        z: tensor to broadcast against; only its rank is used.

    Returns:
        A view of level with the rank of z.

    Example:
        >>> import torch
        >>> per_frame(torch.zeros(2, 3), torch.zeros(2, 3, 4, 5)).shape
        torch.Size([2, 3, 1, 1])
    """
    return level.reshape(level.shape + (1,) * (z.ndim - level.ndim))


def corrupt(
    z0: Float[Tensor, "*lead_and_rest"], z1: Float[Tensor, "*lead_and_rest"], tau: Float[Tensor, "*lead"]
) -> Float[Tensor, "*lead_and_rest"]:
    """Mix noise z₀ and data z₁ at signal level τ: z̃ = (1 − τ) z₀ + τ z₁.

    Computed in float32 (float64 where an input is float64) and rounded once; deterministic; differentiable in all
    arguments; compiles without graph breaks; no host synchronisation.

    Args:
        z0: noise, usually standard normal, floating, (B, T, S, D).
        z1: clean data, floating, (B, T, S, D).
        tau: signal levels in [0, 1], floating, one for each index of the leading axes of z1: usually (B, T), or fewer
            or more of its axes. Values are not checked.

    Returns:
        z̃ in the dtype of z1, (B, T, S, D).

    Raises:
        TypeError: if an argument is not a floating-point tensor.
        ValueError: if shapes or devices do not match.

    Example:
        >>> import torch
        >>> corrupt(torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1), torch.tensor([[0.25, 1.0]])).flatten().tolist()
        [0.25, 1.0]
    """
    require_floating(z0=z0, z1=z1, tau=tau)
    require_shape("z0", z0, z1.shape, "of z1", like=z1)
    require_shape("tau", tau, z1.shape[: tau.ndim], "of the leading axes of z1", like=z1)
    level = per_frame(tau.to(compute_dtype(z0, z1, tau)), z1)
    return ((1 - level) * z0 + level * z1).to(z1.dtype)
