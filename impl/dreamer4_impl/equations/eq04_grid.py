"""Eq. (4), Sec. 2, p. 3: step sizes and the grid of signal levels.

    d ~ 1/U({1, 2, 4, …, K_max}),   τ ~ U({0, d, 2d, …, 1 − d})

Read as: every step size is equally likely (A2), and the grid holds the multiples of d (A1; the print is empty for
d < 1). All of it is integer arithmetic: the laws are exact and so are the floats, which are multiples of 1/K_max.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_between, require_option, require_power_of_two
from dreamer4_impl.constants import K_MAX

Granularity = Literal["timestep", "sequence"]


def d_min_rows(batch: int, d_min_share: float) -> int:
    """Number of leading sequences of a batch that have d = d_min under a declared split (A2).

    Args:
        batch: B, sequences of the batch, 0 or more.
        d_min_share: share of sequences with d = d_min, in [0, 1].

    Returns:
        The share of B, rounded to the nearest integer.

    Raises:
        ValueError: if the share lies outside [0, 1].

    Example:
        >>> d_min_rows(8, 0.75)
        6
    """
    require_between("d_min_share", d_min_share, 0.0, 1.0)
    return round(batch * d_min_share)


def sample_tau_d(
    batch: int,
    time: int,
    *,
    k_max: int = K_MAX,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    per: Granularity = "timestep",
    d_min_share: float | None = None,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Draw a signal level τ for every timestep, and the step size d of its grid.

    Compiles without graph breaks when `generator` is None (a compiled graph cannot take one); no host synchronisation.

    Args:
        batch: B, sequences, 0 or more.
        time: T, timesteps of a sequence, 0 or more.
        k_max: K_max, a power of two; d is one of 1, 1/2, …, 1/k_max.
        generator: source of the draws, on `device`; the global state is then neither read nor changed. None is torch's
            global state.
        device: device of the result; None is that of the generator, or torch's default.
        per: draw d for each "timestep", as in Eq. (6), or once for each "sequence" (A3). τ is always per timestep.
        d_min_share: None is the uniform law. A number in [0, 1] is the declared split (A2): the first
            `d_min_rows(batch, d_min_share)` sequences have d = d_min, the others are uniform above it.

    Returns:
        τ and d, float32, (B, T) each. Exact: τ/d is a whole number and τ + d ≤ 1.

    Raises:
        ValueError: if k_max is no power of two, per is unknown, d_min_share lies outside [0, 1], or k_max is 1 and the
            share leaves sequences above d_min.

    Example:
        >>> tau, d = sample_tau_d(2, 3, generator=torch.Generator().manual_seed(0))
        >>> tau.shape, bool(((tau / d) % 1 == 0).all()), bool((tau + d <= 1).all())
        (torch.Size([2, 3]), True, True)
    """
    require_power_of_two("k_max", k_max)
    require_option("per", per, ("timestep", "sequence"))
    device = _device(device, generator)
    log2_k_max = k_max.bit_length() - 1
    exponent = _draw_exponent(batch, time if per == "timestep" else 1, log2_k_max, d_min_share, generator, device)
    exponent = exponent.expand(batch, time)
    # Dropping the low bits of a uniform integer below k_max leaves a uniform integer below 1/d.
    finest = torch.randint(k_max, (batch, time), generator=generator, device=device)
    d = 1.0 / (torch.ones_like(exponent) << exponent).float()
    return (finest >> (log2_k_max - exponent)).float() * d, d


def _draw_exponent(
    batch: int,
    time: int,
    log2_k_max: int,
    d_min_share: float | None,
    generator: torch.Generator | None,
    device: torch.device,
) -> Int[Tensor, "B T"]:
    if d_min_share is None:
        return torch.randint(log2_k_max + 1, (batch, time), generator=generator, device=device)
    at_d_min = d_min_rows(batch, d_min_share)
    if log2_k_max == 0 and at_d_min < batch:
        raise ValueError(f"d_min_share must be 1 where k_max is 1, as no step lies above d_min; got {d_min_share!r}")
    exponent = torch.randint(max(log2_k_max, 1), (batch, time), generator=generator, device=device)
    exponent[:at_d_min].fill_(log2_k_max)
    return exponent


def _device(device: torch.device | str | None, generator: torch.Generator | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    return generator.device if generator is not None else torch.get_default_device()
