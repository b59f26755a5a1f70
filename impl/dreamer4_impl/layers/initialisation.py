"""Initial values of learned embeddings and tokens. The paper gives none; these are a stated choice.

Embeddings and learned tokens start about as large as the outputs of layers that are added to them. With a standard
deviation of 0.02 in place of 0.5 those outputs dominate: latents, queries and labels become almost equal, and training
must separate them first (observed on Atari frames: a tokenizer whose output stays near the mean frame for hundreds of
steps).
"""

from typing import Final

import torch
from torch import nn

#: Standard deviation of learned embeddings and tokens.
EMBEDDING_STD: Final = 0.5


def learned(*shape: int, spread: float | None = None) -> nn.Parameter:
    """Create a parameter of normal values with standard deviation 0.5, drawn from torch's global generator.

    Args:
        shape: extents, one argument each.
        spread: standard deviation of the vectors, along the last axis, about one vector that they share, 0 or more;
            None is independent vectors.

    Returns:
        A float32 parameter on the CPU, or of torch's default dtype and device.

    Example:
        >>> learned(2, 3).shape
        torch.Size([2, 3])
    """
    if spread is None:
        return nn.Parameter(torch.empty(shape).normal_(std=EMBEDDING_STD))
    shared = torch.empty(shape[-1]).normal_(std=EMBEDDING_STD)
    return nn.Parameter(shared + torch.empty(shape).normal_(std=spread))
