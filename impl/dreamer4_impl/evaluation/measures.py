"""Measured values with bootstrap intervals.

Intervals are 95 % percentile bootstraps: clips (rollouts, episodes) are resampled with replacement; paired samples
share the resampled indices. Clips of one episode are not independent, so an interval reflects the choice of clips more
than the choice of episodes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

#: Bootstrap resamples; between seeds, the ends of an interval vary by a few per cent of its width.
RESAMPLES: Final = 2000
#: Share of the resamples outside an interval, both sides together.
_OUTSIDE: Final = 0.05


@dataclass(frozen=True)
class Measure:
    """Measured value with its 95 % interval.

    Args:
        value: point estimate; may be infinite, as the PSNR of an exact prediction.
        low: lower end of the interval; NaN if n < 2.
        high: upper end of the interval; NaN if n < 2.
        n: number of clips, rollouts or episodes; the smaller one if two samples were compared.
        unit: unit for display; empty if dimensionless.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = ""


def estimate(
    statistic: Callable[..., Any], *samples: ArrayLike, unit: str = "", paired: bool = True, seed: int = 0
) -> Measure:
    """Estimate a function of sample means with its bootstrap interval, in float64.

    Args:
        statistic: function of the mean of each sample, (…) each; must broadcast over a leading axis of resamples.
        samples: one row per clip, (n, …) each, n ≥ 1.
        unit: unit for display, such as "dB".
        paired: True if row i of every sample is from the same clip; False if samples are independent, of any n each.
        seed: seed of the resampling, 0 or more.

    Returns:
        The estimate; its interval is NaN if a sample has a single row.

    Raises:
        ValueError: if a sample has no rows, or paired samples differ in their number of rows.

    Example:
        >>> estimate(lambda mean: mean, [1.0, 1.0, 1.0])
        Measure(value=1.0, low=1.0, high=1.0, n=3, unit='')
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    lengths = [len(array) for array in arrays]
    if min(lengths) < 1 or (paired and len(set(lengths)) > 1):
        raise ValueError(f"samples must have at least one row, and equally many rows if paired; got {lengths}")
    value = float(statistic(*(array.mean(axis=0) for array in arrays)))
    if min(lengths) < 2:
        return Measure(value, np.nan, np.nan, min(lengths), unit)
    resampled = statistic(
        *(_means(array, np.random.default_rng([seed, 0 if paired else k])) for k, array in enumerate(arrays))
    )
    # No interpolation between resamples: some may be infinite.
    low, high = np.quantile(resampled, [_OUTSIDE / 2, 1 - _OUTSIDE / 2], method="inverted_cdf")
    return Measure(value, float(low), float(high), min(lengths), unit)


def _means(array: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means of the resamples, (RESAMPLES, …), computed from how often each row was drawn."""
    n = len(array)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.tensordot(counts / n, array, axes=1)
