"""Sec. 3.4: rotary position embedding along one axis.

    θᵢ(p) = p · base^(−2i/D),   i = 0, …, D/2 − 1
    x[i], x[i+D/2]  ←  x[i] cos θᵢ − x[i+D/2] sin θᵢ,  x[i] sin θᵢ + x[i+D/2] cos θᵢ

Read as (A35): space layers count tokens, time layers count frames; neither counts the flattened space-time index.
Channels i and i + D/2 form a pair. The paper gives no base (A26); 10000 here.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_integer, require_shape
from dreamer4_impl.precision import compute_dtype

#: cos and sin of the angles, (L, D/2) each.
Rotation = tuple[Tensor, Tensor]


def rope(
    x: Float[Tensor, "*batch L H D"], positions: Int[Tensor, "L"], base: float = 10000.0
) -> Float[Tensor, "*batch L H D"]:
    """Rotate every vector of x by the angles of its position.

    Computed in float32 (float64 for float64) and rounded once. Deterministic; differentiable in x; compiles without
    graph breaks; no host synchronisation.

    Args:
        x: queries or keys, floating, (…, L, H, D); D is even, 2 or more.
        positions: integers of any size and sign, (L,); scores depend on their differences only.
        base: above 0; the longest wavelength is 2π base^(1 − 2/D) positions.

    Returns:
        Rotated vectors, shape and dtype of x.

    Raises:
        TypeError: if x is not a floating-point tensor, or the positions are not integers.
        ValueError: if the positions do not match the length or device of x, D is odd, or the base is not above 0.

    Example:
        >>> rope(torch.tensor([[[1.0, 0.0]]]), torch.tensor([0])).tolist()
        [[[1.0, 0.0]]]
    """
    require_floating(x=x)
    require_shape("positions", positions, x.shape[-3:-2], "(L,)", like=x)
    return rotate(x, rotation(positions, x.shape[-1], base))


def rotation(positions: Int[Tensor, "L"], head_width: int, base: float = 10000.0) -> Rotation:
    """Compute cos and sin of every position's angles for `rotate`, once for all layers.

    The angles are float64, so that they are exact far beyond any context: in float32 those of frame 10⁶ would be wrong
    in the second digit.

    Args:
        positions: integers of any size and sign, (L,).
        head_width: D, even, 2 or more.
        base: above 0.

    Returns:
        cos and sin of θᵢ(p) for p in positions and i in [0, D/2), float64 (L, D/2) each.

    Raises:
        TypeError: if the positions are not integers.
        ValueError: if D is odd or below 2, or the base is not above 0.

    Example:
        >>> cos, sin = rotation(torch.tensor([0]), head_width=4)
        >>> cos.tolist(), sin.tolist()
        ([[1.0, 1.0]], [[0.0, 0.0]])
    """
    require_integer(positions=positions)
    if head_width % 2 or head_width < 2:
        raise ValueError(f"head_width must be even, 2 or more, because channels turn in pairs; got {head_width!r}")
    if base <= 0:
        raise ValueError(f"base must be above 0; got {base!r}")
    exponent = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float64) / head_width
    angles = positions.double()[:, None] * base**-exponent
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "*batch L H D"], angles: Rotation) -> Float[Tensor, "*batch L H D"]:
    """Rotate x by angles from `rotation`, with the numerical contract of `rope`.

    Args:
        x: queries or keys, floating, (…, L, H, D); D is even.
        angles: cos and sin, (L, D/2) each, any floating dtype.

    Returns:
        Rotated vectors, shape and dtype of x.

    Example:
        >>> quarter_turn = (torch.tensor([[0.0]]), torch.tensor([[1.0]]))
        >>> rotate(torch.tensor([[[2.0, 3.0]]]), quarter_turn).tolist()
        [[[-3.0, 2.0]]]
    """
    compute = compute_dtype(x)
    cos, sin = (table.to(compute)[:, None] for table in angles)
    first, second = x.to(compute).chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
