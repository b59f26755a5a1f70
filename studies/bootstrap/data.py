"""Data whose next value is not determined by the past: mixtures in the plane, and a video with a coin flip per frame.

All are latents (B, T, S, D) of about the magnitude of a tokenizer's tanh output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.equations.eq02_sampling import sample_frame
from dreamer4_impl.equations.network_types import Network
from studies.bootstrap.energy import energy_distance, energy_distance_to_atoms

#: Positions on the ring of the video's dot, and positions it moves per coin flip.
POSITIONS: Final = 3
STEP: Final = 1
#: Frames of a clip of the video: two of context and the one that is generated.
FRAMES: Final = 3
#: Samples per estimate of a distance, in total over the video's six contexts.
SAMPLES: Final = 2048


@dataclass(frozen=True)
class Data:
    """A data distribution, and the distance of a network's samples from it.

    Args:
        name: key in the results and on the command line.
        shape: (T, S, D) of one draw.
        draw: (number, generator) → draws (number, T, S, D).
        distance: (network, K, k_max, generator) → energy distance of samples that the network makes in K steps.
    """

    name: str
    shape: tuple[int, int, int]
    draw: Callable[[int, torch.Generator], Tensor]
    distance: Callable[[Network, int, int, torch.Generator], float]


def ring(number: int, generator: torch.Generator) -> Float[Tensor, "N 1 1 2"]:
    """Eight narrow modes on a circle of radius 2.

    >>> ring(3, torch.Generator()).shape
    torch.Size([3, 1, 1, 2])
    """
    angle = torch.randint(8, (number,), generator=generator) * (pi / 4)
    modes = 2 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return (modes + 0.1 * torch.randn(number, 2, generator=generator))[:, None, None]


def pair(number: int, generator: torch.Generator) -> Float[Tensor, "N 1 1 2"]:
    """Two modes of unequal probability, a quarter at (−1, 0) and three quarters at (1, 0).

    >>> pair(3, torch.Generator()).shape
    torch.Size([3, 1, 1, 2])
    """
    right = (torch.rand(number, generator=generator) < 0.75).float()
    modes = torch.stack([2 * right - 1, torch.zeros(number)], dim=-1)
    return (modes + 0.1 * torch.randn(number, 2, generator=generator))[:, None, None]


def coin_video(number: int, generator: torch.Generator) -> Float[Tensor, "N 3 2 1"]:
    """A dot on a ring of three positions; in every frame a coin flip moves it one position left or right.

    >>> coin_video(5, torch.Generator()).shape
    torch.Size([5, 3, 2, 1])
    """
    start = torch.randint(POSITIONS, (number, 1), generator=generator)
    coins = STEP * (2 * torch.randint(2, (number, FRAMES - 1), generator=generator) - 1)
    return frames(torch.cat([start, start + coins.cumsum(dim=1)], dim=1))


def frames(position: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 2 1"]:
    """The dot at a position of angle θ, as two tokens: cos θ and sin θ.

    >>> frames(torch.tensor(3)).round().tolist()
    [[1.0], [0.0]]
    """
    angle = position * (2 * pi / POSITIONS)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)[..., None]


def _mixture_distance(draw: Callable[[int, torch.Generator], Tensor]) -> Callable[..., float]:
    def distance(network: Network, num_steps: int, k_max: int, generator: torch.Generator) -> float:
        no_context = torch.zeros(SAMPLES, 0, 1, 2)
        samples = sample_frame(network, no_context, num_steps, k_max=k_max, generator=generator)
        return float(energy_distance(samples.flatten(1), draw(SAMPLES, generator).flatten(1)))

    return distance


def _coin_distance(network: Network, num_steps: int, k_max: int, generator: torch.Generator) -> float:
    """Mean over all contexts of the distance to the two possible next frames."""
    last = torch.arange(POSITIONS).repeat(2)
    before = last + STEP * torch.tensor([-1, 1]).repeat_interleave(POSITIONS)
    context = frames(torch.stack([before, last], dim=1)).repeat_interleave(SAMPLES // len(last), dim=0)
    samples = sample_frame(network, context, num_steps, k_max=k_max, generator=generator).flatten(1)
    atoms = frames(last[:, None] + STEP * torch.tensor([-1, 1])).flatten(2)
    return float(energy_distance_to_atoms(samples.view(len(last), -1, 2), atoms).mean())


RING: Final = Data("ring", (1, 1, 2), ring, _mixture_distance(ring))
PAIR: Final = Data("pair", (1, 1, 2), pair, _mixture_distance(pair))
COIN: Final = Data("coin", (FRAMES, 2, 1), coin_video, _coin_distance)
DATA: Final = {data.name: data for data in (RING, PAIR, COIN)}
