"""Sec. 3.4: SwiGLU, the feed-forward network of every layer.

y = (silu(x W_gate) ⊙ x W_up) W_down,   silu(u) = u / (1 + e⁻ᵘ)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from dreamer4_impl.arguments import require_floating, require_shape
from dreamer4_impl.layers.joined import SharedInput


def swiglu(
    x: Float[Tensor, "*shape D"],
    w_gate: Float[Tensor, "D F"],
    w_up: Float[Tensor, "D F"],
    w_down: Float[Tensor, "F D"],
) -> Float[Tensor, "*shape D"]:
    """Apply the gated feed-forward network to every vector of x.

    Matrix products and the gate run in the dtype of x, in which each result is rounded; autocast applies.
    Differentiable; compiles without graph breaks.

    Args:
        x: vectors of D channels along the last axis, floating, (…, D).
        w_gate: (D, F), in the dtype of x unless autocast is on.
        w_up: (D, F), like w_gate.
        w_down: (F, D), like w_gate.

    Returns:
        Vectors of D channels, shape and dtype of x; under autocast its dtype.

    Raises:
        TypeError: if an argument is not a floating-point tensor.
        ValueError: if a matrix has another shape, or is on another device than x.

    Example:
        >>> matrix = torch.ones(1, 1)
        >>> round(float(swiglu(torch.ones(1), matrix, 2 * matrix, matrix)), 4)
        1.4621
    """
    require_floating(x=x, w_gate=w_gate, w_up=w_up, w_down=w_down)
    inner = (x.shape[-1], w_gate.shape[-1])
    require_shape("w_gate", w_gate, inner, "(D, F)", like=x)
    require_shape("w_up", w_up, inner, "(D, F)", like=x)
    require_shape("w_down", w_down, inner[::-1], "(F, D)", like=x)
    return silu(x @ w_gate) * (x @ w_up) @ w_down


class SwiGLU(SharedInput):
    """`swiglu` with learned matrices, drawn from N(0, 1/fan_in), the last one times `out_scale`.

    Args:
        width: D, 1 or more.
        inner: F, 1 or more.
        out_scale: factor on the initial standard deviation of w_down, above 0.

    Example:
        >>> SwiGLU(4, 8)(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, width: int, inner: int, out_scale: float = 1.0) -> None:
        super().__init__()
        self.w_gate = nn.Parameter(torch.randn(width, inner) * width**-0.5)
        self.w_up = nn.Parameter(torch.randn(width, inner) * width**-0.5)
        self.w_down = nn.Parameter(torch.randn(inner, width) * (out_scale * inner**-0.5))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """List the matrices that multiply the input.

        Returns:
            w_gate and w_up.
        """
        return self.w_gate, self.w_up

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """Apply the network to every vector, with the numerical contract of `swiglu`.

        Args:
            x: vectors of D channels along the last axis, in the dtype of the parameters unless autocast is on, (…, D).

        Returns:
            Vectors of D channels, shape and dtype of x; under autocast its dtype.

        Raises:
            TypeError: if x is not a floating-point tensor.
            ValueError: if the last axis of x is not D, or x is on another device than the parameters.

        Example:
            >>> SwiGLU(4, 8)(torch.zeros(4)).tolist()
            [0.0, 0.0, 0.0, 0.0]
        """
        if self.joined is None:
            return swiglu(x, self.w_gate, self.w_up, self.w_down)
        # Joined matrices are used without gradient, so both columns of the product may be overwritten.
        gate, up = self.products(x)
        return silu(gate, inplace=True).mul_(up) @ self.w_down
