"""Eq. (8), Sec. 3.2, p. 6: ramp loss weight.

    w(τ) = 0.9 τ + 0.1

τ is the signal level: 0 is pure noise, 1 is clean data.
"""

from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.arguments import require_floating
from dreamer4_impl.precision import compute_dtype


def ramp_weight(tau: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Weight of one timestep's loss.

    Deterministic; differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        tau: signal levels in [0, 1], floating, any shape. Values are not checked.

    Returns:
        Weights in [0.1, 1], shaped like tau, in float32 (float64 for float64): 0.1 at pure noise, 1 at clean data.

    Raises:
        TypeError: if tau is not a floating-point tensor.

    Example:
        >>> import torch
        >>> ramp_weight(torch.tensor([0.0, 0.5])).tolist() == torch.tensor([0.1, 0.55]).tolist()
        True
    """
    require_floating(tau=tau)
    return 0.9 * tau.to(compute_dtype(tau)) + 0.1
