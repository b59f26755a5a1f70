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
    """Draw which patches are dropped, True = dropped.

    Args:
        batch, time, patches: B, T and N.
        most: upper end of the law of p, in [0, 1]; the paper's is 0.9.
        generator: where the draws come from, on `device`; None is torch's global state.

    Compiles without graph breaks when `generator` is None (a compiled graph cannot take one); no host synchronisation.

    >>> patch_dropout(2, 3, 4).shape
    torch.Size([2, 3, 4])
    """
    p = most * torch.rand(batch, time, 1, generator=generator, device=device)
    return torch.rand(batch, time, patches, generator=generator, device=device) < p


def replace_dropped(
    tokens: Float[Tensor, "B T N D"], dropped: Bool[Tensor, "B T N"], embedding: Float[Tensor, "D"]
) -> Float[Tensor, "B T N D"]:
    """Put the learned embedding in the place of every dropped patch token.

    Exact, in the dtype of tokens; gradient flows to the embedding from the dropped places and to the tokens from the
    others; compiles without graph breaks; no host synchronisation.

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
