"""Sec. 3.1, p. 5: masked autoencoding, the dropout of patches in the tokenizer's training.

    p ~ U(0, 0.9) for each image,   each patch dropped with probability p,   a dropped patch ← a learned embedding

Read as (A33): draw "bernoulli" drops each patch independently; "count" drops p N patches, rounded to the nearest whole
number, at random positions. Every image (frame) has its own p, also within a video. At inference nothing is dropped.

Patches N, batch B, time T.   mask bool (B, T, N), True = dropped.
"""

from fractions import Fraction
from math import comb
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.constants import MAE_MAX
from dreamer4_reference.levels import require_float64, require_option, require_shape

Draw = Literal["bernoulli", "count"]
P_MAX: Final = Fraction(str(MAE_MAX))
"""Upper end of p, exactly."""


def patch_dropout(
    rng: np.random.Generator, batch: int, time: int, patches: int, *, draw: Draw = "bernoulli"
) -> Bool[np.ndarray, "B T N"]:
    """Draw the mask of dropped patches for a training batch.

    Args:
        rng: source of randomness; only this generator is advanced.
        batch: B, number of videos, at least 1.
        time: T, frames per video, at least 1; each frame has its own p.
        patches: N, patches per frame, at least 1.
        draw: "bernoulli" (A33, default) or "count".

    Returns:
        bool, (B, T, N), True = dropped.

    Raises:
        TypeError: if rng is not a numpy.random.Generator.
        ValueError: if a size is below 1 or draw is unknown.

    Example:
        >>> patch_dropout(np.random.default_rng(0), 2, 3, 5).shape
        (2, 3, 5)
    """
    require_option("draw", draw, ("bernoulli", "count"), equation="patch dropout")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"patch dropout: rng is of type {type(rng).__name__}, but must be a numpy.random.Generator")
    if min(batch, time, patches) < 1:
        raise ValueError(f"patch dropout: batch, time, patches are {batch}, {time}, {patches}, but each must be ≥ 1")
    p, u = rng.uniform(0, MAE_MAX, (batch, time, 1)), rng.random((batch, time, patches))
    if draw == "bernoulli":
        return u < p
    rank = u.argsort(-1).argsort(-1)
    return rank < np.floor(p * patches + 0.5)


def drop_count_law(patches: int, *, draw: Draw = "bernoulli") -> Float64[np.ndarray, " counts"]:
    """Exact distribution of the number n of dropped patches in one image.

        bernoulli   ∫ Binomial(N, p)(n) dp/0.9 over 0 … 0.9  =  P[Binomial(N + 1, 0.9) > n] / (0.9 (N + 1))
        count       length of [n − ½, n + ½] within [0, 0.9 N], divided by 0.9 N

    Args:
        patches: N, at least 1.
        draw: "bernoulli" (A33, default) or "count".

    Returns:
        P(n) for n in [0, N], float64, (N + 1,), rounded from exact fractions that sum to 1.

    Raises:
        ValueError: if patches < 1 or draw is unknown.

    Example:
        >>> drop_count_law(1).round(3).tolist(), drop_count_law(1, draw="count").round(3).tolist()
        ([0.55, 0.45], [0.556, 0.444])
    """
    require_option("draw", draw, ("bernoulli", "count"), equation="patch dropout")
    if patches < 1:
        raise ValueError(f"patch dropout: patches is {patches}, but must be ≥ 1")
    law = _bernoulli_law(patches) if draw == "bernoulli" else _count_law(patches)
    return np.array([float(probability) for probability in law])


def _bernoulli_law(patches: int) -> list[Fraction]:
    trials, (keep, drop) = patches + 1, (P_MAX.denominator - P_MAX.numerator, P_MAX.numerator)
    ways = [comb(trials, n) * drop**n * keep ** (trials - n) for n in range(trials + 1)]
    above = np.cumsum(np.array(ways[::-1], dtype=object))[::-1][1:]
    return [Fraction(more, P_MAX.denominator**trials) / (P_MAX * trials) for more in above]


def _count_law(patches: int) -> list[Fraction]:
    half, end = Fraction(1, 2), P_MAX * patches
    return [max(Fraction(0), min(n + half, end) - max(n - half, Fraction(0))) / end for n in range(patches + 1)]


def replace_dropped(
    tokens: Float64[np.ndarray, "B T N D"], mask: Bool[np.ndarray, "B T N"], embedding: Float64[np.ndarray, " D"]
) -> Float64[np.ndarray, "B T N D"]:
    """Replace dropped patches by the learned embedding, the same in every position and frame.

    Args:
        tokens: embedded patches, float64, (B, T, N, D).
        mask: bool, (B, T, N), True = dropped.
        embedding: learned embedding of a dropped patch, float64, (D,).

    Returns:
        float64, (B, T, N, D); tokens that are not dropped are unchanged.

    Raises:
        TypeError: if tokens or embedding is not a float64 array, or mask is not bool.
        ValueError: if shapes do not match.

    Example:
        >>> replace_dropped(np.ones((1, 1, 2, 1)), np.array([[[True, False]]]), np.array([7.0])).ravel().tolist()
        [7.0, 1.0]
    """
    require_float64(equation="patch dropout", tokens=tokens, embedding=embedding)
    require_shape("tokens", tokens, (None,) * 4, equation="patch dropout")
    require_shape("mask", mask, tokens.shape[:3], equation="patch dropout")
    require_shape("embedding", embedding, tokens.shape[3:], equation="patch dropout")
    if mask.dtype != np.bool_:
        raise TypeError(f"patch dropout: mask has dtype {mask.dtype}, but must be bool")
    return np.where(mask[..., None], embedding, tokens)
