"""Sec. 3.2, p. 6: the (τ, d) token, two discrete embeddings concatenated along the channels.

    token = [table_τ[round(τ K_max)] | table_d[log₂(1/d)]]

Read as: K_max levels are embedded; a clean frame, τ = 1, counts as the last of them (A12), and a level off the grid as
the nearest (A10).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_power_of_two, require_rank, require_shape
from dreamer4_impl.layers.initialisation import learned


def level_index(tau: Float[Tensor, "*shape"], k_max: int) -> Int[Tensor, "*shape"]:
    """Index the nearest of the embedded levels 0, 1/k_max, …, 1 − 1/k_max.

    Args:
        tau: signal levels τ in [0, 1] (1 is clean), floating, any shape; not checked.
        k_max: K_max, a power of two.

    Returns:
        Rows of the table in [0, k_max), int64, shape of tau. Deterministic; no host synchronisation.

    Example:
        >>> level_index(torch.tensor([0.0, 0.5, 1.0]), k_max=4).tolist()
        [0, 2, 3]
    """
    return (tau * k_max).round().long().clamp(0, k_max - 1)


def step_index(d: Float[Tensor, "*shape"], k_max: int) -> Int[Tensor, "*shape"]:
    """Index a step size: log₂(1/d).

    Args:
        d: step sizes in {1, 1/2, …, 1/k_max}, floating, any shape; not checked.
        k_max: K_max, a power of two.

    Returns:
        Rows of the table in [0, log₂ k_max], int64, shape of d. Deterministic; no host synchronisation.

    Example:
        >>> step_index(torch.tensor([1.0, 0.5, 0.25]), k_max=4).tolist()
        [0, 1, 2]
    """
    return (-d.log2()).round().long().clamp(0, k_max.bit_length() - 1)


class LabelToken(nn.Module):
    """Embed τ and d of every timestep as one token.

    Output in the dtype of the parameters; deterministic; compiles without graph breaks; no host synchronisation.

    Args:
        width: channels of the token, even: one half for each label.
        k_max: K_max, a power of two.

    Raises:
        ValueError: if the width is odd, or k_max is not a power of two.

    Example:
        >>> LabelToken(width=4, k_max=8)(torch.zeros(2, 3), torch.ones(2, 3)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, width: int, k_max: int) -> None:
        super().__init__()
        require_power_of_two("k_max", k_max)
        if width % 2:
            raise ValueError(f"width must be even, one half for τ and one for d; got {width!r}")
        self.k_max = k_max
        self.tau_table = learned(k_max, width // 2)
        self.d_table = learned(k_max.bit_length(), width // 2)

    def forward(self, tau: Float[Tensor, "B T"], d: Float[Tensor, "B T"]) -> Float[Tensor, "B T W"]:
        """Embed the labels of every timestep.

        Args:
            tau: signal levels in [0, 1], floating, (B, T); values are not checked but moved to the nearest embedded
                level.
            d: step sizes in {1, 1/2, …, 1/k_max}, on the device of tau, floating, (B, T); values are not checked but
                rounded to the nearest step size in log₂.

        Returns:
            One token per timestep, (B, T, W), in the dtype of the parameters.

        Raises:
            TypeError: if tau or d is not a floating-point tensor.
            ValueError: if tau has another shape than (B, T), or d another shape or device than tau.
        """
        require_floating(tau=tau, d=d)
        require_rank("tau", tau, 2, "(B, T)")
        require_shape("d", d, tau.shape, "(B, T)", like=tau)
        level = nn.functional.embedding(level_index(tau, self.k_max), self.tau_table)
        step = nn.functional.embedding(step_index(d, self.k_max), self.d_table)
        return torch.cat([level, step], dim=-1)
