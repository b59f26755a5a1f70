"""Sec. 3.4: preparation of queries and keys for their product: QK-norm, then RoPE.

    q ← R g_q ⊙ q / rms(q),   k ← R g_k ⊙ k / rms(k)

for each head separately. The norm bounds attention logits whatever the size of the activations. Read as (A31): root
mean square over the channels of a head, a learned gain that the heads share; then the rotation R of `rope`.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.layers.rms_norm import rms_norm
from dreamer4_impl.layers.rope import Rotation, rotate
from dreamer4_impl.precision import compute_dtype


class Preparation(NamedTuple):
    """How raw queries or keys become those that attention multiplies.

    Args:
        gain: g, (D,); None is 1.
        eps: 0 or more, added to the mean square, so that a zero vector stays zero.
        angles: cos and sin from `rotation`, one row for each position along the axis of attention, (L, D/2) each.
    """

    gain: Float[Tensor, "D"] | None
    eps: float
    angles: Rotation


def prepare(x: Float[Tensor, "B T S H D"], preparation: Preparation, axis: str) -> Float[Tensor, "B T S H D"]:
    """Normalise and rotate queries or keys, in plain torch.

    Computed in float32 (float64 for float64) and rounded once. Deterministic; differentiable in x and the gain;
    compiles without graph breaks; no host synchronisation.

    Args:
        x: raw queries or keys, as projected, floating, (B, T, S, H, D).
        preparation: with angles for S positions along space, or T along time.
        axis: "space" or "time", along which positions count.

    Returns:
        Prepared queries or keys, shape and dtype of x.

    Raises:
        TypeError: if x or the gain is not a floating-point tensor.
        ValueError: if ε is negative, or the gain has another shape than (D,) or is on another device than x.

    Example:
        >>> import torch
        >>> rest = torch.ones(1, 1), torch.zeros(1, 1)  # cos and sin of angle 0
        >>> x = torch.tensor([3.0, -3.0]).view(1, 1, 1, 1, 2)
        >>> prepare(x, Preparation(None, 0.0, rest), "space").flatten().tolist()
        [1.0, -1.0]
    """
    normal = rms_norm(x.to(compute_dtype(x)), preparation.gain, preparation.eps)
    # `rotate` expects (…, L, H, D); over time all S·H heads of a frame rotate together.
    rotated = rotate(normal if axis == "space" else normal.flatten(2, 3), preparation.angles)
    return rotated.view(x.shape).to(x.dtype)
