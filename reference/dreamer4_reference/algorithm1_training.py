"""Algorithm 1, Sec. 3, 3.3, 3.4 and App. A: the phases of training, what each trains, and what its batches consist of.

    Phase 1   tokenizer by Eq. (5);   dynamics by Eq. (7) on its frozen latents, with actions where there are any
    Phase 2   dynamics, policy and reward heads by Eq. (7) and Eq. (9), with task inputs, on noisy frames
    Phase 3   policy by Eq. (11) and value by Eq. (10), on trajectories of the world model and the policy; nothing else

    lengths   T₁, …, T₁, T₂, T₁, …, T₁, T₂, …;   then T₂, T₂, …;   T₁ < C < T₂
    images    0.3 of the videos of a batch are treated as separate images
    mixture   ½ uniform, ½ relevant sequences; cloning on the relevant, Eq. (7) on the uniform ones

How often a long batch comes, and when only long ones do, is not given. A share of B sequences is a whole number, so it is read as the one
below or above. T₁ = 64, T₂ = 256, C = 192.
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
"""The parts that a phase trains."""

FROZEN: Final[Mapping[Phase, tuple[str, ...]]] = {
    "dynamics": ("tokenizer",),
    "agent": (),
    "imagine": ("transformer", "reward", "prior"),
}
"""The parts that no gradient of a phase may reach, so far as the paper says."""


def batch_lengths(steps: int, *, long_every: int, long_only: int, short: int = T1, long: int = T2) -> list[int]:
    """Frames of every batch of a run: each `long_every`-th is long, and so are the last `long_only`.

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
    """The whole numbers below and above share · B: the same where that is whole.

    >>> rounded_share(8, 0.3), rounded_share(10, 0.3)
    ((2, 3), (3, 3))
    """
    if batch < 1 or not 0 <= share <= 1:
        raise ValueError(f"Algorithm 1: batch must be ≥ 1 and share must lie in [0, 1]; got {batch} and {share}")
    exact = Fraction(str(share)) * batch
    return floor(exact), ceil(exact)
