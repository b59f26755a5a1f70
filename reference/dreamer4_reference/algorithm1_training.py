"""Algorithm 1, Sec. 3, 3.3, 3.4 and App. A: training phases, the modules that each trains, and the batches.

    Phase 1   tokenizer by Eq. (5);   dynamics by Eq. (7) on frozen latents, with actions where available
    Phase 2   dynamics, policy and reward heads by Eq. (7) and Eq. (9), with task inputs, on noisy frames
    Phase 3   policy by Eq. (11) and value by Eq. (10), on trajectories of the world model and the policy; nothing else

    lengths   T₁, …, T₁, T₂, T₁, …, T₁, T₂, …;   then T₂, T₂, …;   T₁ < C < T₂
    images    0.3 of the videos of a batch are treated as separate images
    mixture   ½ uniform, ½ relevant sequences; behaviour cloning on the relevant half, Eq. (7) on the uniform half

The paper states neither how often a long batch occurs nor when training continues on long batches only: both are
arguments. A share of B sequences must be a whole number; it is read as the nearest one below or above.
T₁ = 64, T₂ = 256, C = 192 frames. "transformer" below is the dynamics.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Final, Literal

from dreamer4_reference.constants import T1, T2, C

Phase = Literal["dynamics", "agent", "imagine"]

TRAINED: Final[Mapping[Phase, tuple[str, ...]]] = {
    "dynamics": ("transformer",),
    "agent": ("transformer", "policy", "reward"),
    "imagine": ("policy", "value"),
}
"""Modules that each phase trains."""

FROZEN: Final[Mapping[Phase, tuple[str, ...]]] = {
    "dynamics": ("tokenizer",),
    "agent": (),
    "imagine": ("transformer", "reward", "prior"),
}
"""Modules that no gradient may reach in each phase, as far as the paper says."""


def batch_lengths(steps: int, *, long_every: int, long_only: int, short: int = T1, long: int = T2) -> list[int]:
    """Frames per batch over a whole run: every `long_every`-th batch is long, and so are the last `long_only` batches.

    Args:
        steps: number of batches, at least 2.
        long_every: period of long batches, at least 2; batches long_every − 1, 2 long_every − 1, … (from 0) are long.
        long_only: number of batches at the end that are all long, in 1 … steps − 1.
        short: T₁, frames of a short batch, at least 1.
        long: T₂, frames of a long batch, more than `short` and more than the context C = 192.

    Returns:
        `steps` ints, one per batch i in [0, steps): `short` or `long`.

    Raises:
        ValueError: if long_only or long_every lies outside its range, or short < long and long > C do not both hold.

    Example:
        >>> batch_lengths(8, long_every=3, long_only=2)
        [64, 64, 256, 64, 64, 256, 256, 256]
    """
    if not 0 < long_only < steps or long_every < 2:
        needs = "needs 0 < long_only < steps and long_every ≥ 2"
        raise ValueError(f"Algorithm 1: {needs}; got steps {steps}, long_only {long_only}, long_every {long_every}")
    if not short < long or not long > C:
        raise ValueError(f"Algorithm 1: needs short < long and long > C = {C}; got short {short} and long {long}")
    return [
        long if step % long_every == long_every - 1 or step >= steps - long_only else short for step in range(steps)
    ]


def rounded_share(batch: int, share: float) -> tuple[int, int]:
    """Whole numbers of sequences next to share · B, below and above; equal where share · B is whole.

    Args:
        batch: B, number of sequences, at least 1.
        share: fraction of the batch, in [0, 1]; its decimal digits are taken as exact, so 0.3 · 10 is 3.

    Returns:
        (floor, ceiling) of share · B, two ints in [0, B].

    Raises:
        ValueError: if batch < 1 or share lies outside [0, 1].

    Example:
        >>> rounded_share(8, 0.3), rounded_share(10, 0.3)
        ((2, 3), (3, 3))
    """
    if batch < 1 or not 0 <= share <= 1:
        raise ValueError(f"Algorithm 1: batch must be ≥ 1 and share must lie in [0, 1]; got {batch} and {share}")
    exact = Fraction(str(share)) * batch
    return floor(exact), ceil(exact)
