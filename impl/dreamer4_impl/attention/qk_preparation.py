"""Sec. 3.4: queries and keys before they meet: QK-norm, then RoPE.

    q ← R g_q ⊙ q / rms(q),   k ← R g_k ⊙ k / rms(k)

for each head by itself. The norm keeps attention logits bounded whatever the size of the activations. Read as (A31): root
mean square over the channels of a head, a learned gain that the heads share; then the rotation R of `rope`.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.layers.rms_norm import rms_norm
from dreamer4_impl.layers.rope import Rotation, rotate
from dreamer4_impl.precision import compute_dtype


class Preparation(NamedTuple):
    """What turns raw queries or keys into those that attention multiplies.

    Args:
        gain: g, (D,); None is 1.
        eps: 0 or more, added to the mean square, so that a zero vector stays zero.
        angles: from `rotation`, of the positions along the axis of attention: (L, D/2) each.
    """

    gain: Float[Tensor, "D"] | None
    eps: float
    angles: Rotation


def prepare(
    x: Float[Tensor, "B T S H D"], preparation: Preparation, axis: str, backend: str = "eager"
) -> Float[Tensor, "B T S H D"]:
    """Normalise and rotate queries or keys.

    Args:
        x: raw, as projected.
        preparation: with one angle for every position of x along `axis`.
        axis: "space" or "time", along which positions count.
        backend: of `attention`; "triton" does it in one kernel.

    Computed in float32 (float64 for float64) and rounded once, to the dtype of x. Deterministic; differentiable in x and
    the gain; compiles without graph breaks; no host synchronisation.

    >>> import torch
    >>> still = torch.ones(1, 1), torch.zeros(1, 1)
    >>> prepare(torch.tensor([3.0, -3.0]).view(1, 1, 1, 1, 2), Preparation(None, 0.0, still), "space").flatten().tolist()
    [1.0, -1.0]
    """
    if backend == "triton":
        from dreamer4_impl.attention.triton.operators import prepare_keys

        return prepare_keys(x, preparation, axis)
    normal = rms_norm(x.to(compute_dtype(x)), preparation.gain, preparation.eps)
    # Over time the heads of all places turn together, so that the frames come last but two.
    turned = rotate(normal if axis == "space" else normal.flatten(2, 3), preparation.angles)
    return turned.view(x.shape).to(x.dtype)
