"""Small causal networks for x-prediction with the signature of the loss: `network(z, tau, d, actions) -> z1_hat`.

A frame is predicted from itself, the preceding frame, and the labels of both: cosines of τ, and d as one of
log₂ K_max + 1 classes.
"""

from math import pi
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.layers.label_token import step_index
from dreamer4_impl.layers.rms_norm import RMSNorm

#: Number of cosines of τ at the input.
WAVES: Final = 6
#: `plain` grows with z without bound, like any stack of linear layers and SiLU. `normalised` is bounded: it has RMSNorm
#: before the second layer and before the output, as a transformer has. `separate` is one plain network per step size.
Kind = Literal["plain", "normalised", "separate"]


class SmallNetwork(nn.Module):
    """Causal network of two hidden layers over a frame and its predecessor.

    Args:
        shape: (T, S, D) of the data.
        k_max: K_max, a power of two.
        normalised: True adds RMSNorm before the second layer and before the output.
        width: channels of the hidden layers.

    >>> SmallNetwork((3, 4, 2), 64, normalised=True)(torch.zeros(5, 3, 4, 2), torch.zeros(5, 3), torch.ones(5, 3)).shape
    torch.Size([5, 3, 4, 2])
    """

    def __init__(self, shape: tuple[int, int, int], k_max: int, *, normalised: bool, width: int = 128) -> None:
        super().__init__()
        frame = shape[1] * shape[2]
        self.k_max = k_max
        labels = WAVES + k_max.bit_length()
        norm = [RMSNorm(width)] if normalised else []
        self.layers = nn.Sequential(
            nn.Linear(2 * (frame + labels), width), nn.SiLU(), *norm, nn.Linear(width, width), nn.SiLU(), *norm
        )
        self.read = nn.Linear(width, frame)

    def forward(
        self, z: Float[Tensor, "B T S D"], tau: Float[Tensor, "B T"], d: Float[Tensor, "B T"], actions: None = None
    ) -> Float[Tensor, "B T S D"]:
        """Predict the clean frames ẑ₁, shaped like z."""
        now = torch.cat([z.flatten(2), self._labels(tau, d)], dim=-1)
        before = nn.functional.pad(now[:, :-1], (0, 0, 1, 0))
        return self.read(self.layers(torch.cat([now, before], dim=-1))).view(z.shape)

    def _labels(self, tau: Tensor, d: Tensor) -> Float[Tensor, "B T L"]:
        waves = torch.cos(pi * tau[..., None] * torch.arange(1, WAVES + 1))
        return torch.cat([waves, nn.functional.one_hot(step_index(d, self.k_max), self.k_max.bit_length())], dim=-1)


class SeparateNetworks(nn.Module):
    """One network per step size, without shared parameters, for data of one frame.

    >>> SeparateNetworks((1, 1, 2), 4)(torch.zeros(5, 1, 1, 2), torch.zeros(5, 1), torch.ones(5, 1)).shape
    torch.Size([5, 1, 1, 2])
    """

    def __init__(self, shape: tuple[int, int, int], k_max: int) -> None:
        super().__init__()
        steps = k_max.bit_length()
        self.networks = nn.ModuleList(SmallNetwork(shape, k_max, normalised=False) for _ in range(steps))

    def forward(
        self, z: Float[Tensor, "B 1 S D"], tau: Float[Tensor, "B 1"], d: Float[Tensor, "B 1"], actions: None = None
    ) -> Float[Tensor, "B 1 S D"]:
        """Predict the clean frames, each by the network of its d."""
        out = torch.zeros_like(z)
        for exponent, network in enumerate(self.networks):
            rows = (d[:, 0] == 2.0**-exponent).nonzero()[:, 0]
            out = out.index_copy(0, rows, network(z[rows], tau[rows], d[rows]))
        return out


def build(kind: Kind, shape: tuple[int, int, int], k_max: int) -> nn.Module:
    """Build a network of one kind with random parameters.

    >>> type(build("separate", (1, 1, 2), 4)).__name__
    'SeparateNetworks'
    """
    if kind == "separate":
        return SeparateNetworks(shape, k_max)
    return SmallNetwork(shape, k_max, normalised=kind == "normalised")
