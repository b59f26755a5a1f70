"""Sec. 3.4: RMSNorm, the normalisation before every sublayer.

    y = w ⊙ x / √(mean(x²) + ε)

over the last axis. The paper gives no ε; 1e-6 here.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_shape
from dreamer4_impl.precision import compute_dtype


def rms_norm(
    x: Float[Tensor, "*shape D"], weight: Float[Tensor, "D"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "*shape D"]:
    """Divide every vector by its root mean square and multiply it by the gain.

    Computed in float32 (float64 for float64) and rounded once. Deterministic; differentiable in x and weight; compiles
    without graph breaks.

    Args:
        x: vectors of D channels along the last axis, floating, (…, D).
        weight: w, (D,), floating: the full gain, not its difference from 1; None is a gain of 1.
        eps: ε, 0 or more, added to the mean square.

    Returns:
        Normalised vectors, shape and dtype of x.

    Raises:
        TypeError: if x or weight is not a floating-point tensor.
        ValueError: if ε is negative, or weight has another shape than (D,) or is on another device than x.

    Example:
        >>> rms_norm(torch.tensor([3.0, -3.0]), torch.tensor([1.0, 2.0]), eps=0.0).tolist()
        [1.0, -2.0]
    """
    require_floating(x=x)
    if eps < 0:
        raise ValueError(f"eps must be 0 or more; got {eps!r}")
    wide = x.to(compute_dtype(x))
    normal = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    if weight is not None:
        require_floating(weight=weight)
        require_shape("weight", weight, x.shape[-1:], "(D,)", like=x)
        normal = normal * weight
    return normal.to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain that starts at 1.

    Args:
        width: D, the length of the last axis, 1 or more.
        eps: ε, 0 or more.

    Example:
        >>> RMSNorm(2)(torch.tensor([5.0, -5.0])).tolist()
        [1.0, -1.0]
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """Normalise vectors, with the numerical contract of `rms_norm`.

        Args:
            x: vectors of D channels along the last axis, floating, (…, D).

        Returns:
            Normalised vectors, shape and dtype of x.

        Raises:
            TypeError: if x is not a floating-point tensor.
            ValueError: if the last axis of x is not D, or x is on another device than the gain.

        Example:
            >>> RMSNorm(1)(torch.tensor([[7.0]])).tolist()
            [[1.0]]
        """
        return rms_norm(x, self.weight, self.eps)
