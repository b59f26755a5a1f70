"""Everything random in training is drawn for one sample of a step at a time, from a generator of its own.

    generator = generator(seed, phase, step, sample, what)

So neither the number of processes nor the number of micro-batches changes what a sample is given.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dreamer4_impl.constants import MAE_MAX_DROP
from dreamer4_impl.equations.eq04_grid import Granularity, sample_tau_d
from dreamer4_impl.equations.sec31_patch_dropout import patch_dropout

#: What a draw belongs to: numbers and names, such as (phase, step, sample).
Key = tuple[int | str, ...]


def keyed_generator(seed: int, *key: int | str) -> torch.Generator:
    """A generator on the CPU, seeded from a SHA-256 of seed and key: different keys, independent draws.

    >>> keyed_generator(0, "tokenizer", 3).initial_seed() == keyed_generator(0, "tokenizer", 3).initial_seed()
    True
    """
    digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


class ShortcutDraws(NamedTuple):
    """What Eq. (7) draws for B samples: τ and d (Eq. 4), and standard normal noise z₀ (Eq. 6)."""

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
    """Draw τ, d and z₀ of every sample, on the CPU.

    Args:
        seed: of the run.
        keys: one for each sample.
        shape: (T, S, D) of a sample's clean data.
        k_max, per: as for `sample_tau_d`.
        d_min_share: None is the uniform law. A number is the declared split (A2): with this probability a sample stands at
            d_min, otherwise it is uniform above it.

    >>> draws = shortcut_draws(0, [("dynamics", 0, 0), ("dynamics", 0, 1)], (3, 4, 5), k_max=8)
    >>> [tuple(draw.shape) for draw in draws]
    [(2, 3), (2, 3), (2, 3, 4, 5)]
    """

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        share = d_min_share
        if share is not None:
            share = float(torch.rand((), generator=generator) < share)
        tau, d = sample_tau_d(1, shape[0], k_max=k_max, generator=generator, per=per, d_min_share=share)
        return tau[0], d[0], torch.randn(shape, generator=generator)

    tau, d, z0 = zip(*(draw(keyed_generator(seed, *key, "shortcut")) for key in keys), strict=True)
    return ShortcutDraws(torch.stack(tau), torch.stack(d), torch.stack(z0))


def dropout_draws(
    seed: int, keys: Sequence[Key], time: int, patches: int, *, most: float = MAE_MAX_DROP
) -> Bool[Tensor, "B T N"]:
    """Draw which patches of every sample are dropped, with p ~ U(0, most), on the CPU; True = dropped.

    >>> dropout_draws(0, [("tokenizer", 0, 0)], time=3, patches=4).shape
    torch.Size([1, 3, 4])
    """
    return _stack(
        seed, keys, "dropout", lambda generator: patch_dropout(1, time, patches, most=most, generator=generator)[0]
    )


def normal_draws(seed: int, keys: Sequence[Key], what: str, shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Draw standard normal noise of this shape for every sample, on the CPU.

    >>> normal_draws(0, [("imagine", 0, 0)], "start", (2, 3)).shape
    torch.Size([1, 2, 3])
    """
    return _stack(seed, keys, what, lambda generator: torch.randn(shape, generator=generator))


def uniform_draws(seed: int, keys: Sequence[Key], what: str, shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Draw uniform numbers in [0, 1) of this shape for every sample, on the CPU.

    >>> uniform_draws(0, [("imagine", 0, 0)], "action", (2, 3)).shape
    torch.Size([1, 2, 3])
    """
    return _stack(seed, keys, what, lambda generator: torch.rand(shape, generator=generator))


def _stack(seed: int, keys: Sequence[Key], what: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    return torch.stack([draw(keyed_generator(seed, *key, what)) for key in keys])
