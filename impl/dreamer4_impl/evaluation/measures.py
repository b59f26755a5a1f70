"""A number that was measured, with its interval and what it was measured on.

Intervals are percentile bootstraps: the clips (rollouts, episodes) are drawn anew with replacement, all means are taken
over the same draw where samples are paired, and the middle 95 % of what comes out is the interval. Clips of one
episode are not independent, so the interval says how much the choice of clips matters, and less about other episodes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

#: Draws of the bootstrap; the ends of an interval move by a few per cent of its width from one seed to another.
RESAMPLES: Final = 2000
#: Share of the draws that an interval leaves out on both sides together.
_OUTSIDE: Final = 0.05


@dataclass(frozen=True)
class Measure:
    """A measured value, the ends of its 95 % interval (NaN where n is below 2), and the number of clips behind it."""

    value: float
    low: float
    high: float
    n: int
    unit: str = ""


def estimate(
    statistic: Callable[..., Any], *samples: ArrayLike, unit: str = "", paired: bool = True, seed: int = 0
) -> Measure:
    """A function of means, with its interval.

    Args:
        statistic: of the means of the samples, one argument for each; of many such means at once too (leading axes).
        samples: (n, …) each, over clips.
        unit: of the value, for people.
        paired: whether row i of every sample is of the same clip; otherwise each has a number of rows of its own.
        seed: of the draws.

    >>> estimate(lambda mean: mean, [1.0, 1.0, 1.0])
    Measure(value=1.0, low=1.0, high=1.0, n=3, unit='')
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    lengths = [len(array) for array in arrays]
    if min(lengths) < 1 or (paired and len(set(lengths)) > 1):
        raise ValueError(f"samples must have at least one row, and as many as each other where paired; got {lengths}")
    value = float(statistic(*(array.mean(axis=0) for array in arrays)))
    if min(lengths) < 2:
        return Measure(value, np.nan, np.nan, min(lengths), unit)
    drawn = statistic(
        *(_means(array, np.random.default_rng([seed, 0 if paired else k])) for k, array in enumerate(arrays))
    )
    # No interpolation between draws: some of them may be infinite.
    low, high = np.quantile(drawn, [_OUTSIDE / 2, 1 - _OUTSIDE / 2], method="inverted_cdf")
    return Measure(value, float(low), float(high), min(lengths), unit)


def _means(array: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Means over draws with replacement, as products of how often each row was drawn."""
    n = len(array)
    counts = draws.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.tensordot(counts / n, array, axes=1)
