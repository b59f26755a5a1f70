"""Train a small network by Eq. (7), with the loss of `dreamer4_impl`, and measure it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from dreamer4_impl.constants import K_MAX
from dreamer4_impl.equations.eq04_grid import sample_tau_d
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss_at
from dreamer4_impl.equations.network_types import Network
from studies.bootstrap.data import Data
from studies.bootstrap.network import Kind, build

#: Callback after every training step: (number of steps done, loss).
Progress = Callable[[int, float], None]
#: Numbers of denoising steps K that samples are made with.
STEPS_OF_SAMPLING: Final = (1, 2, 4)


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training: AdamW, its rate falling linearly to zero.

    Args:
        kind: kind of network, see `studies.bootstrap.network`.
        d_min_share: share of the timesteps at d_min in [0, 1] (A2); None is uniform over the step sizes, 1 is flow
            matching alone.
        steps: number of optimiser steps.
        batch: sequences per step.
        rate: initial learning rate.
        k_max: K_max, a power of two.
    """

    kind: Kind
    d_min_share: float | None
    steps: int = 12000
    batch: int = 512
    rate: float = 3e-3
    k_max: int = K_MAX


@dataclass(frozen=True)
class Trained:
    """Result of a training: the network and the loss of every step."""

    network: nn.Module
    losses: list[float]


def train(data: Data, recipe: Recipe, seed: int, progress: Progress = lambda step, loss: None) -> Trained:
    """Train a network; the same seed gives the same network on the same machine."""
    generator = torch.Generator().manual_seed(seed)
    network = _start(recipe, data, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / recipe.steps)
    losses = []
    for step in range(recipe.steps):
        z1 = data.draw(recipe.batch, generator)
        tau, d = draw_labels(recipe, z1.shape[:2], generator)
        z0 = torch.randn(z1.shape, generator=generator)
        loss = shortcut_forcing_loss_at(network, z1, z0, tau, d, k_max=recipe.k_max)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        progress(step + 1, losses[-1])
    return Trained(network, losses)


def distances(network: Network, data: Data, k_max: int, seed: int) -> dict[int, float | None]:
    """Energy distance of samples made in K = 1, 2 and 4 steps; None where they are not finite."""
    result = {}
    for num_steps in STEPS_OF_SAMPLING:
        value = data.distance(network, num_steps, k_max, torch.Generator().manual_seed(1_000_000 + seed))
        result[num_steps] = value if math.isfinite(value) else None
    return result


def labelled_d_min(network: Network, k_max: int) -> Network:
    """Wrap a network to receive the label d_min at every step size, as flow matching is usually sampled."""

    def labelled(z: Tensor, tau: Tensor, d: Tensor, actions: Any) -> Tensor:
        return network(z, tau, torch.full_like(d, 1 / k_max), actions)

    return labelled


@torch.no_grad()
def gain(network: Network, data: Data, k_max: int, radius: float = 100.0) -> float:
    """Largest ‖f(z, τ, d)‖/‖z‖ over random directions z far outside the data, on a few labels.

    >>> from studies.bootstrap.data import RING
    >>> round(gain(lambda z, tau, d, actions: 2 * z, RING, k_max=64), 4)
    2.0
    """
    z = torch.randn(256, *data.shape, generator=torch.Generator().manual_seed(0))
    z = radius * z / z.flatten(1).norm(dim=1)[:, None, None, None]
    unit = torch.ones(z.shape[:2])
    labels = ((0.0, 1.0), (0.5, 0.25), (0.75, 1 / k_max))
    out = [network(z, tau * unit, d * unit, None).flatten(1).norm(dim=1).max() for tau, d in labels]
    return float(torch.stack(out).max()) / radius


def draw_labels(recipe: Recipe, shape: torch.Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw τ and d of every timestep; the share at d_min is one of timesteps, at any position in a sequence.

    A sampler labels past frames d_min whatever the step size of the current frame (A11), so training must contain
    such sequences.
    """
    tau, d = sample_tau_d(shape.numel(), 1, k_max=recipe.k_max, generator=generator, d_min_share=recipe.d_min_share)
    order = torch.randperm(shape.numel(), generator=generator)
    return tau[order].view(shape), d[order].view(shape)


def _start(recipe: Recipe, data: Data, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(recipe.kind, data.shape, recipe.k_max)
