"""Upper bounds, in closed form, on the probability of a fixed-seed draw under the paper's distribution.

Each function bounds the probability of an event at least as extreme: Chernoff's and Bernstein's bounds and the
inequality of Dvoretzky, Kiefer, Wolfowitz and Massart. A decision at 1e-9 therefore rejects a correct implementation
with at most that probability, for any sample size. The bounds on counts hold for stratified designs too, whose counts
vary less than independent ones (Hoeffding 1956, 1963).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np


def count_bound(count: float, draws: int, probability: float) -> float:
    """P(a count as far from draws · probability), on its side: 2 exp(−n KL(count/n ‖ p)).

    >>> count_bound(50, 100, 0.5), count_bound(0, 100, 0.5) < 1e-29
    (1.0, True)
    """
    share = count / draws
    divergence = _relative_entropy(share, probability) + _relative_entropy(1 - share, 1 - probability)
    return min(1.0, 2 * math.exp(-draws * divergence)) if math.isfinite(divergence) else 0.0


def _relative_entropy(share: float, probability: float) -> float:
    if share <= 0:
        return 0.0
    return share * math.log(share / probability) if probability > 0 else math.inf


def union_bound(bounds: Iterable[float]) -> float:
    """P(any of the events), by n times the smallest bound.

    >>> union_bound([0.5, 0.01, 1.0])
    0.03
    """
    listed = list(bounds)
    return min(1.0, len(listed) * min(listed)) if listed else 1.0


def uniform_bound(counts: np.ndarray) -> float:
    """P(a count as far from equal counts in any cell).

    >>> uniform_bound(np.array([25, 27, 23])), uniform_bound(np.array([75, 0, 0])) < 1e-9
    (1.0, True)
    """
    return union_bound(count_bound(float(count), int(counts.sum()), 1 / len(counts)) for count in counts)


def mean_bound(mean: float, draws: int, variance: float, largest: float) -> float:
    """P(|mean of n independent variables| this large), of mean 0, this variance and at most `largest` (Bernstein).

    >>> mean_bound(0.1, 10_000, 1.0, 3.0) < 1e-9 < mean_bound(0.05, 10_000, 1.0, 3.0)
    True
    """
    return min(1.0, 2 * math.exp(-draws * mean**2 / 2 / (variance + largest * abs(mean) / 3)))


def normal_tail(score: float) -> float:
    """P(|x| ≥ score) of a standard normal x: exact.

    >>> round(normal_tail(1.959964), 6)
    0.05
    """
    return math.erfc(abs(score) / math.sqrt(2))


def mean_square_bound(mean_square: float, draws: int) -> float:
    """P(the mean square of n standard normal variables is as far from 1), on its side (chi-square, Chernoff).

    >>> mean_square_bound(1.0, 100), mean_square_bound(4.0, 100) < 1e-9
    (1.0, True)
    """
    if not 0 < mean_square < math.inf:
        return 0.0
    return min(1.0, 2 * math.exp(-draws / 2 * (mean_square - 1 - math.log(mean_square))))


def product_bound(mean: float, draws: int) -> float:
    """P(|mean of n products of two independent standard normal variables| this large).

    Chernoff's, with E exp(t x y) = (1 − t²)^−½.

    >>> product_bound(0.0, 1000), product_bound(0.5, 1000) < 1e-9
    (1.0, True)
    """
    t = min(abs(mean), 0.9)
    return min(1.0, 2 * math.exp(-draws * (t * abs(mean) + math.log1p(-(t**2)) / 2)))


def alignment_bound(cosine: float, size: int) -> float:
    """P(|cosine| this large between standard normal noise and an independent vector of `size` numbers).

    Directions so close to an axis are a cap of the sphere, no larger than the half sphere over its rim.

    >>> alignment_bound(0.0, 10), alignment_bound(1.0, 10), alignment_bound(0.5, 200) < 1e-9
    (1.0, 0.0, True)
    """
    return float((1 - min(cosine**2, 1.0)) ** ((size - 1) / 2)) if size > 1 else 1.0


def mean_cosine_bound(mean: float, pairs: int, size: int) -> float:
    """P(|mean of n cosines| this large), each of normal noise and an independent vector of `size` numbers.

    A cosine is sub-Gaussian with the variance 1 / size.

    >>> mean_cosine_bound(0.0, 100, 128), mean_cosine_bound(0.1, 100, 128) < 1e-9
    (1.0, True)
    """
    return min(1.0, 2 * math.exp(-pairs * size * mean**2 / 2))


def tail_bound(values: np.ndarray) -> float:
    """P(as few or as many values beyond 2, 2.5, 3, 3.5 and 4 of n standard normal variables).

    Noise that is cut off at 3 has almost the normal distribution function, but no value beyond 3.

    >>> rng = np.random.default_rng(0)
    >>> tail_bound(rng.standard_normal(20_000)) > 1e-3, tail_bound(rng.standard_normal(20_000).clip(-3, 3)) < 1e-9
    (True, True)
    """
    size = np.abs(values.ravel())
    edges = (2.0, 2.5, 3.0, 3.5, 4.0)
    return union_bound(count_bound(float((size > edge).sum()), size.size, normal_tail(edge)) for edge in edges)


def correlation(noise: np.ndarray, axis: int) -> tuple[float, int]:
    """Correlation of disjoint pairs of neighbours along an axis, and the number of pairs; (0, 0) without pairs.

    It is at most as likely to be large as the mean of that many products of standard normal variables.

    >>> correlation(np.array([1.0, 1.0, -1.0, -1.0, 5.0]), 0), correlation(np.ones((1, 4)), 0)
    ((1.0, 2), (0.0, 0))
    """
    along = np.moveaxis(noise, axis, 0)
    first, second = along[:-1:2], along[1::2]
    scale = float(((first**2).sum() * (second**2).sum()) ** 0.5)
    return (float((first * second).sum()) / scale, first.size) if scale else (0.0, 0)


def distance_bound(distance: float, draws: int) -> float:
    """P(the empirical distribution function of n draws is this far from the true one somewhere): 2 exp(−2 n distance²).

    >>> distance_bound(0.0, 100), distance_bound(0.4, 100) < 1e-9
    (1.0, True)
    """
    return min(1.0, 2 * math.exp(-2 * draws * distance**2))


def normal_distance_bound(values: np.ndarray) -> float:
    """P(the empirical distribution is as far from the standard normal one).

    >>> rng = np.random.default_rng(0)
    >>> normal_distance_bound(rng.standard_normal(4000)) > 1e-3, normal_distance_bound(rng.uniform(-1, 1, 4000)) < 1e-9
    (True, True)
    """
    ordered = np.sort(values.ravel())
    expected = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in ordered])
    below = np.arange(ordered.size) / ordered.size
    distance = np.max(np.maximum(np.abs(expected - below), np.abs(expected - below - 1 / ordered.size)))
    return distance_bound(float(distance), ordered.size)
