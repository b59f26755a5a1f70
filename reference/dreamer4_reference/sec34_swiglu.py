"""Sec. 3.4: SwiGLU, the transformer's MLP.

    silu(x) = x / (1 + e⁻ˣ),   SwiGLU(x) = (silu(x W_gate) ⊙ x W_up) W_down,   no biases

x (…, D).   W_gate, W_up → w_gate, w_up (D, F).   W_down → w_down (F, D).
"""

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import require_float64, require_shape


def silu(x: Float64[np.ndarray, "*batch"]) -> Float64[np.ndarray, "*batch"]:
    """SiLU x / (1 + e⁻ˣ): close to x for large x, close to 0 for very negative x; does not overflow.

    Args:
        x: float64, any shape.

    Returns:
        float64, shaped like x.

    Raises:
        TypeError: if x is not a float64 array.

    Example:
        >>> silu(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [-0.0, 0.0, 1000.0]
    """
    require_float64(equation="silu", x=x)
    # e⁻ˣ overflows for very negative x; logaddexp(0, −x) = ln(1 + e⁻ˣ) does not.
    return np.asarray(x * np.exp(-np.logaddexp(0, -x)))


def swiglu(
    x: Float64[np.ndarray, "*batch D"],
    w_gate: Float64[np.ndarray, "D F"],
    w_up: Float64[np.ndarray, "D F"],
    w_down: Float64[np.ndarray, "F D"],
) -> Float64[np.ndarray, "*batch D"]:
    """MLP (silu(x W_gate) ⊙ x W_up) W_down.

    Args:
        x: float64, (…, D).
        w_gate: W_gate, float64, (D, F).
        w_up: W_up, float64, (D, F).
        w_down: W_down, float64, (F, D).

    Returns:
        float64, (…, D).

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if shapes do not match.

    Example:
        >>> swiglu(np.array([2.0]), np.array([[1e9]]), np.array([[3.0]]), np.array([[1e-9]])).tolist()
        [12.0]
    """
    require_float64(equation="SwiGLU", x=x, w_gate=w_gate, w_up=w_up, w_down=w_down)
    require_shape("w_gate", w_gate, (x.shape[-1], None), equation="SwiGLU")
    require_shape("w_up", w_up, w_gate.shape, equation="SwiGLU")
    require_shape("w_down", w_down, w_gate.shape[::-1], equation="SwiGLU")
    return np.asarray((silu(x @ w_gate) * (x @ w_up)) @ w_down)
