"""Sec. 3.1, p. 5: masked autoencoding, patch dropout in the training of the tokenizer.

    p ~ U(0, 0.9) for each image,   a patch is dropped with probability p and replaced by a learned embedding

Read as (A33): a Bernoulli draw for every patch. Images are independent of each other, over time too.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_rank, require_shape
from dreamer4_impl.constants import MAE_MAX_DROP


def patch_dropout(
    batch: int,
    time: int,
    patches: int,
    *,
    most: float = MAE_MAX_DROP,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "B T N"]:
    """Draw the patches to drop.

    Compiles without graph breaks when `generator` is None (a compiled graph cannot take one); no host synchronisation.

    Args:
        batch: B, sequences, 0 or more.
        time: T, images of a sequence, 0 or more.
        patches: N, patches of an image, 0 or more.
        most: upper end of the law of p, in [0, 1]; 0.9 in the paper.
        generator: source of the draws, on `device`; None is torch's global state.
        device: device of the result; None is torch's default.

    Returns:
        Bool, (B, T, N), True for a dropped patch.

    Example:
        >>> patch_dropout(2, 3, 4).shape
        torch.Size([2, 3, 4])
    """
    p = most * torch.rand(batch, time, 1, generator=generator, device=device)
    return torch.rand(batch, time, patches, generator=generator, device=device) < p


def replace_dropped(
    tokens: Float[Tensor, "B T N D"], dropped: Bool[Tensor, "B T N"], embedding: Float[Tensor, "D"]
) -> Float[Tensor, "B T N D"]:
    """Replace every dropped patch token by the learned embedding.

    Exact; gradient flows to the embedding from the dropped patches and to the tokens from all others; compiles without
    graph breaks; no host synchronisation.

    Args:
        tokens: patch tokens, floating, (B, T, N, D).
        dropped: mask, bool, (B, T, N), True for a dropped patch.
        embedding: embedding of a dropped patch, floating, (D,).

    Returns:
        The tokens in their own dtype, (B, T, N, D).

    Raises:
        TypeError: if tokens or embedding is not floating-point, or dropped not bool.
        ValueError: if shapes or devices do not match.

    Example:
        >>> dropped = torch.tensor([[[True, False]]])
        >>> replace_dropped(torch.ones(1, 1, 2, 1), dropped, torch.tensor([5.0])).flatten().tolist()
        [5.0, 1.0]
    """
    require_floating(tokens=tokens, embedding=embedding)
    require_rank("tokens", tokens, 4, "(B, T, N, D)")
    require_shape("dropped", dropped, tokens.shape[:3], "(B, T, N)", like=tokens)
    require_shape("embedding", embedding, tokens.shape[3:], "(D,)", like=tokens)
    if dropped.dtype != torch.bool:
        raise TypeError(f"dropped must be a bool tensor; got {dropped.dtype}")
    return torch.where(dropped[..., None], embedding.to(tokens.dtype), tokens)
