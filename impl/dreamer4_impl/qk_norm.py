"""Sec. 3.4: QK-norm, which keeps attention logits bounded whatever the size of the activations.

    q ← g_q ⊙ q / rms(q),   k ← g_k ⊙ k / rms(k)

for each head by itself. Read as (A31): root mean square over the channels of a head, a learned gain that the heads
share, before RoPE.
"""

from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.rms_norm import rms_norm


def qk_norm(
    q: Float[Tensor, "*q_shape D"],
    k: Float[Tensor, "*k_shape D"],
    q_gain: Float[Tensor, "D"] | None = None,
    k_gain: Float[Tensor, "D"] | None = None,
    eps: float = 1e-6,
) -> tuple[Float[Tensor, "*q_shape D"], Float[Tensor, "*k_shape D"]]:
    """Normalise queries and keys, each head's channels by themselves.

    Args:
        q: queries, the channels of one head along the last axis.
        k: keys; the other axes are free, so they may be fewer heads.
        q_gain: g_q; None is 1.
        k_gain: g_k; None is 1.
        eps: 0 or more, added to the mean square, so that a zero vector stays zero.

    The numerical contract is that of `rms_norm`.

    >>> import torch
    >>> q, k = qk_norm(torch.tensor([[3.0, -3.0]]), torch.tensor([[0.5, 0.5]]), eps=0.0)
    >>> q.tolist(), k.tolist()
    ([[1.0, -1.0]], [[1.0, 1.0]])
    """
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"k must have the head width of q, {q.shape[-1]}; got {k.shape[-1]}")
    return rms_norm(q, q_gain, eps), rms_norm(k, k_gain, eps)
