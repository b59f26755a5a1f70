"""Initial values of what is learned. The paper gives none; these are a stated choice.

Embeddings and learned tokens start as large as what layers add to them. With 0.02 in place of 0.5 the first layer drowns them:
latents, queries and labels are then all alike, and have to be told apart anew (seen on Atari frames: a tokenizer that
hardly leaves the mean frame for hundreds of steps).
"""

from typing import Final

import torch
from torch import nn

#: Standard deviation of learned embeddings and tokens.
EMBEDDING_STD: Final = 0.5


def learned(*shape: int) -> nn.Parameter:
    """A parameter of normal values with standard deviation 0.5.

    >>> learned(2, 3).shape
    torch.Size([2, 3])
    """
    return nn.Parameter(torch.empty(shape).normal_(std=EMBEDDING_STD))
