"""Random draws of training and imagination, with a separate generator for every sample and purpose.

    generator = keyed_generator(seed, phase, step, sample, purpose)

The draws of a sample therefore depend neither on the number of processes nor on the number of micro-batches.
"""

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamer4_impl.constants import MAE_MAX_DROP
from dreamer4_impl.equations.eq04_grid import Granularity, sample_tau_d
from dreamer4_impl.equations.sec31_patch_dropout import patch_dropout

#: Numbers and names that identify a sample, such as (phase, step, sample).
Key = tuple[int | str, ...]


def keyed_generator(seed: int, *key: int | str) -> torch.Generator:
    """Seed a generator with the SHA-256 of seed and key, so that different keys give independent draws.

    Args:
        seed: seed of the run, 0 or more.
        key: integers of any type, and names, that identify sample and purpose.

    Returns:
        New generator on the CPU.

    Example:
        >>> keyed_generator(0, "tokenizer", 3).initial_seed() == keyed_generator(0, "tokenizer", 3).initial_seed()
        True
    """
    entries = tuple(entry if isinstance(entry, str) else operator.index(entry) for entry in (seed, *key))
    digest = hashlib.sha256(repr(entries).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


class ShortcutDraws(NamedTuple):
    """Draws of Eq. (7) for B samples: τ and d (Eq. 4), and standard normal noise z₀ (Eq. 6)."""

    tau: Float[Tensor, "B T"]
    d: Float[Tensor, "B T"]
    z0: Float[Tensor, "B T S D"]


def shortcut_draws(
    seed: int,
    keys: Sequence[Key],
    shape: tuple[int, int, int],
    *,
    k_max: int,
    per: Granularity = "timestep",
    d_min_share: float | None = None,
) -> ShortcutDraws:
    """Draw τ, d and z₀ of every sample.

    Args:
        seed: seed of the run, 0 or more.
        keys: one key for each of B samples.
        shape: (T, S, D) of a sample's clean data.
        k_max: K_max, a power of two.
        per: draw d for each "timestep" or once for each "sequence" (A3).
        d_min_share: None is the uniform law. A number in [0, 1] is the declared split (A2): with this probability all
            timesteps of a sample have d = d_min, otherwise d is uniform above it.

    Returns:
        The draws, float32, on the CPU.

    Raises:
        ValueError: if k_max is no power of two, per is unknown, or d_min_share cannot be drawn.

    Example:
        >>> draws = shortcut_draws(0, [("dynamics", 0, 0), ("dynamics", 0, 1)], (3, 4, 5), k_max=8)
        >>> [tuple(draw.shape) for draw in draws]
        [(2, 3), (2, 3), (2, 3, 4, 5)]
    """

    def _draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        share = d_min_share
        if share is not None:
            share = float(torch.rand((), generator=generator) < share)
        tau, d = sample_tau_d(1, shape[0], k_max=k_max, generator=generator, per=per, d_min_share=share)
        return tau[0], d[0], torch.randn(shape, generator=generator)

    tau, d, z0 = zip(*(_draw(keyed_generator(seed, *key, "shortcut")) for key in keys), strict=True)
    return ShortcutDraws(torch.stack(tau), torch.stack(d), torch.stack(z0))


def dropout_draws(
    seed: int, keys: Sequence[Key], time: int, patches: int, *, most: float = MAE_MAX_DROP
) -> Bool[Tensor, "B T N"]:
    """Draw the patches that are dropped from every sample.

    Args:
        seed: seed of the run, 0 or more.
        keys: one key for each of B samples.
        time: T, images of a sample, 1 or more.
        patches: N, patches of an image, 1 or more.
        most: upper end of the law of p, in [0, 1].

    Returns:
        Bool, (B, T, N), on the CPU, True for a dropped patch.

    Example:
        >>> dropout_draws(0, [("tokenizer", 0, 0)], time=3, patches=4).shape
        torch.Size([1, 3, 4])
    """
    return _stack(
        seed, keys, "dropout", lambda generator: patch_dropout(1, time, patches, most=most, generator=generator)[0]
    )


def normal_draws(seed: int, keys: Sequence[Key], purpose: str, shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Draw standard normal noise for every sample.

    Args:
        seed: seed of the run, 0 or more.
        keys: one key for each of B samples.
        purpose: name of the draw; different names give independent draws.
        shape: shape of a sample's noise.

    Returns:
        Noise, float32, (B, *shape), on the CPU.

    Example:
        >>> normal_draws(0, [("imagine", 0, 0)], "start", (2, 3)).shape
        torch.Size([1, 2, 3])
    """
    return _stack(seed, keys, purpose, lambda generator: torch.randn(shape, generator=generator))


def uniform_draws(seed: int, keys: Sequence[Key], purpose: str, shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Draw uniform numbers in [0, 1) for every sample.

    Args:
        seed: seed of the run, 0 or more.
        keys: one key for each of B samples.
        purpose: name of the draw; different names give independent draws.
        shape: shape of a sample's numbers.

    Returns:
        Numbers, float32, (B, *shape), on the CPU.

    Example:
        >>> uniform_draws(0, [("imagine", 0, 0)], "action", (2, 3)).shape
        torch.Size([1, 2, 3])
    """
    return _stack(seed, keys, purpose, lambda generator: torch.rand(shape, generator=generator))


def _stack(seed: int, keys: Sequence[Key], purpose: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    return torch.stack([draw(keyed_generator(seed, *key, purpose)) for key in keys])
