"""Train a small network by Eq. (7), with the product's own loss, and measure it."""

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

#: What is told to somebody who waits: steps done, loss.
Progress = Callable[[int, float], None]
#: How many evaluations the samples are made with.
STEPS_OF_SAMPLING: Final = (1, 2, 4)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: AdamW, its rate falling linearly to zero.

    Args:
        kind: of the network.
        d_min_share: A2, of the timesteps; None is uniform over the step sizes, 1 trains by flow matching alone.
        steps, batch, rate: of the optimiser.
        k_max: K_max.
    """

    kind: Kind
    d_min_share: float | None
    steps: int = 12000
    batch: int = 512
    rate: float = 3e-3
    k_max: int = K_MAX


@dataclass(frozen=True)
class Trained:
    """A network after its training, and the loss of every step."""

    network: nn.Module
    losses: list[float]


def train(data: Data, recipe: Recipe, seed: int, progress: Progress = lambda step, loss: None) -> Trained:
    """The same seed gives the same network, on the same machine."""
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
    found = {}
    for num_steps in STEPS_OF_SAMPLING:
        value = data.distance(network, num_steps, k_max, torch.Generator().manual_seed(1_000_000 + seed))
        found[num_steps] = value if math.isfinite(value) else None
    return found


def labelled_d_min(network: Network, k_max: int) -> Network:
    """The network, told d_min whatever the step is: flow matching sampled in few steps as it is everywhere."""

    def told(z: Tensor, tau: Tensor, d: Tensor, actions: Any) -> Tensor:
        return network(z, tau, torch.full_like(d, 1 / k_max), actions)

    return told


@torch.no_grad()
def gain(network: Network, data: Data, k_max: int, radius: float = 100.0) -> float:
    """Largest ‖f(z, τ, d)‖/‖z‖ over random directions z far outside the data, on a few labels.

    >>> from studies.bootstrap.data import RING
    >>> round(gain(lambda z, tau, d, actions: 2 * z, RING, k_max=64), 4)
    2.0
    """
    z = torch.randn(256, *data.shape, generator=torch.Generator().manual_seed(0))
    z = radius * z / z.flatten(1).norm(dim=1)[:, None, None, None]
    ones = torch.ones(z.shape[:2])
    labels = ((0.0, 1.0), (0.5, 0.25), (0.75, 1 / k_max))
    out = [network(z, tau * ones, d * ones, None).flatten(1).norm(dim=1).max() for tau, d in labels]
    return float(torch.stack(out).max()) / radius


def draw_labels(recipe: Recipe, shape: torch.Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """τ and d of every timestep; the share at d_min is one of timesteps, anywhere in a sequence.

    A sampler's past is at d_min, whatever the step of the frame after it (A11), and so must some of training be.
    """
    tau, d = sample_tau_d(shape.numel(), 1, k_max=recipe.k_max, generator=generator, d_min_share=recipe.d_min_share)
    order = torch.randperm(shape.numel(), generator=generator)
    return tau[order].view(shape), d[order].view(shape)


def _start(recipe: Recipe, data: Data, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(recipe.kind, data.shape, recipe.k_max)
