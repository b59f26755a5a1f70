"""Sec. 3.4: SwiGLU, the feed-forward part of every layer.

y = (silu(x W_gate) ⊙ x W_up) W_down,   silu(u) = u / (1 + e⁻ᵘ)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from dreamer4_impl.arguments import require_floating, require_shape


def swiglu(
    x: Float[Tensor, "*shape D"],
    w_gate: Float[Tensor, "D F"],
    w_up: Float[Tensor, "D F"],
    w_down: Float[Tensor, "F D"],
) -> Float[Tensor, "*shape D"]:
    """Apply the gated feed-forward network to every vector of x.

    Args:
        x: vectors along the last axis.
        w_gate, w_up: matrices from width to inner width.
        w_down: the matrix back.

    Matrix products and the gate run in the dtype of x, in which each result is rounded; autocast applies. Differentiable;
    compiles without graph breaks.

    >>> one = torch.ones(1, 1)
    >>> round(float(swiglu(torch.ones(1), one, 2 * one, one)), 4)
    1.4621
    """
    require_floating(x=x, w_gate=w_gate, w_up=w_up, w_down=w_down)
    inner = (x.shape[-1], w_gate.shape[-1])
    require_shape("w_gate", w_gate, inner, "(D, F)", like=x)
    require_shape("w_up", w_up, inner, "(D, F)", like=x)
    require_shape("w_down", w_down, inner[::-1], "(F, D)", like=x)
    return silu(x @ w_gate) * (x @ w_up) @ w_down


class SwiGLU(nn.Module):
    """`swiglu` with learned matrices, each drawn from N(0, 1/fan_in), times `out_scale` for the last one.

    Args:
        width: D.
        inner: F.
        out_scale: factor on the deviation of w_down.

    >>> SwiGLU(4, 8)(torch.zeros(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, width: int, inner: int, out_scale: float = 1.0) -> None:
        super().__init__()
        self.w_gate = nn.Parameter(torch.randn(width, inner) * width**-0.5)
        self.w_up = nn.Parameter(torch.randn(width, inner) * width**-0.5)
        self.w_down = nn.Parameter(torch.randn(inner, width) * (out_scale * inner**-0.5))

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """x (…, D) → (…, D), with the numerical contract of `swiglu`.

        >>> SwiGLU(4, 8)(torch.zeros(4)).tolist()
        [0.0, 0.0, 0.0, 0.0]
        """
        return swiglu(x, self.w_gate, self.w_up, self.w_down)
