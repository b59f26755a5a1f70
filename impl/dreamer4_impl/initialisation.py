"""Initial values of what is learned. The paper gives none; small normal values are a stated choice."""

from typing import Final

import torch
from torch import nn

#: Standard deviation of learned embeddings and tokens.
EMBEDDING_STD: Final = 0.02


def learned(*shape: int) -> nn.Parameter:
    """A parameter of normal values with standard deviation 0.02.

    >>> learned(2, 3).shape
    torch.Size([2, 3])
    """
    return nn.Parameter(torch.empty(shape).normal_(std=EMBEDDING_STD))
