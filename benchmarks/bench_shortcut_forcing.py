"""Eq. (7): what the shortcut forcing loss costs beside its network.

The network is one multiplication, so that what is timed is the loss itself: drawing, corruption, the two teacher steps
and the gradient. In training the network dominates; a change seen here says nothing about a whole training step.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dreamer4_impl.shortcut_forcing import shortcut_forcing_loss


@pytest.mark.parametrize("per", ["timestep", "sequence"])
def bench_loss_and_gradient(benchmark: Callable[..., None], per: str) -> None:
    """One loss and its gradient on frames of the paper's size, 256 tokens of 32 channels."""
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(2, 16, 256, 32, generator=generator)
    theta = torch.ones((), requires_grad=True)

    def network(z: Tensor, tau: Tensor, d: Tensor, actions: object = None) -> Tensor:
        return theta * z

    def step() -> None:
        shortcut_forcing_loss(network, z1, generator=generator, per=per).backward()

    benchmark(step)
