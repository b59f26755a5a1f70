"""Shortcut forcing on numbers: trains the networks of the tutorial and writes the results that its figures show.

python -m docs.shortcut_forcing
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_impl import shortcut_forcing_loss
from studies.bootstrap.energy import energy_distance

K_MAX = 64
RESULTS = Path(__file__).with_suffix(".json")


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Draw data: −1 with probability 1/4 and 1 with probability 3/4, with a little noise, (N, 1, 1, 1).

    Args:
        count: N.
        generator: source of randomness.
    """
    sign = 2.0 * (torch.rand(count, generator=generator) < 0.75) - 1.0
    return (sign + 0.05 * torch.randn(count, generator=generator))[:, None, None, None]


class Network(nn.Module):
    """Predicts the number x₁ from x_τ, τ and d, with RMSNorm before the output as in the paper's transformer."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.RMSNorm(width),
            nn.Linear(width, width), nn.SiLU(), nn.RMSNorm(width),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, z: Tensor, tau: Tensor, d: Tensor, actions: None = None) -> Tensor:
        """Return x̂₁, shaped like z: (N, 1, 1, 1)."""
        labels = torch.stack([tau, d.log2() / 6], dim=-1)
        return self.layers(torch.cat([z.flatten(2), labels], dim=-1)).view(z.shape)


def train(d_min_share: float, steps: int = 4000, seed: int = 0) -> Network:
    """Train a network; with `d_min_share` 1 every timestep is at d_min, which is flow matching.

    Args:
        d_min_share: share of the timesteps at d_min, the rest uniform above it (A2).
        steps: of the optimiser, with 512 numbers each.
        seed: of the parameters, the data and the noise.
    """
    torch.manual_seed(seed)
    generator, network = torch.Generator().manual_seed(seed), Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(steps):
        z1 = draw(512, generator)
        loss = shortcut_forcing_loss(network, z1, k_max=K_MAX, generator=generator, d_min_share=d_min_share)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network


@torch.no_grad()
def path(network: Network, x: Tensor, num_steps: int, label: float) -> list[Tensor]:
    """Sample by Eq. 2, and return all states.

    Args:
        network: predicts x₁.
        x: noise, (N, 1, 1, 1).
        num_steps: K.
        label: step size that the network is told, 1/K for a shortcut model, d_min for flow matching.

    Returns:
        K + 1 states, the first is the noise.
    """
    states, unit = [x], torch.ones(x.shape[:2])
    for step in range(num_steps):
        tau = step / num_steps
        velocity = (network(x, tau * unit, label * unit) - x) / (1 - tau)
        x = x + velocity / num_steps
        states.append(x)
    return states


def measure(network: Network, *, shortcut: bool, count: int = 4096) -> dict[str, Any]:
    """Paths from fixed starts for some K, and the energy distance of samples to the data for every K.

    Args:
        network: trained.
        shortcut: True labels each step with its size, False with d_min.
        count: number of samples and of data for the distance.
    """
    starts = torch.linspace(-2, 2, 17)[:, None, None, None]
    generator = torch.Generator().manual_seed(1)
    noise, data = torch.randn(count, 1, 1, 1, generator=generator), draw(count, generator)
    paths, distances = {}, {}
    for num_steps in (1, 2, 4, 8, 16, 32, 64):
        label = 1 / num_steps if shortcut else 1 / K_MAX
        samples = path(network, noise, num_steps, label)[-1]
        distances[num_steps] = float(energy_distance(samples.flatten(1), data.flatten(1)))
        if num_steps in (1, 4, 64):
            states = torch.stack(path(network, starts, num_steps, label)).flatten(1)
            paths[num_steps] = [[round(x, 4) for x in row] for row in states.tolist()]
    return {"distances": distances, "paths": paths}


def main() -> None:
    """Train both networks and write the results."""
    results = {
        "flow matching": measure(train(1.0), shortcut=False),
        "shortcut forcing": measure(train(0.5), shortcut=True),
    }
    RESULTS.write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
