"""Statistics of dependence between random draws, for the bounds of `tail_bounds`.

Neighbours alone are not enough: draws that are reused with a period, or between rows that are far apart, are found by
pairs at every distance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.judging.tail_bounds import alignment_bound, union_bound

BLOCK = 16


def clustering(x: np.ndarray, axis: int) -> float:
    """Mean square of the sums of up to 16 neighbours along an axis, over that of their independent sum.

    It is 1 for uncorrelated values and the length of the block for equal ones.

    Args:
        x: values of mean 0, (rows, T); 0 where there is none.
        axis: 0 for rows, 1 for timesteps.

    Returns:
        The ratio; 1 without any value.

    >>> clustering(np.array([[1.0, 1.0], [-1.0, -1.0]]), 1), clustering(np.array([[1.0, -1.0], [1.0, 1.0]]), 1)
    (2.0, 1.0)
    """
    along = np.moveaxis(x, axis, 0)
    block = min(BLOCK, len(along))
    blocks = along[: len(along) // block * block].reshape(-1, block, along.shape[1])
    total = float((blocks**2).sum())
    return float((blocks.sum(1) ** 2).sum()) / total if total else 1.0


def distant_pairs(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield products of rows at distance 1, 2, 4, … in disjoint pairs, each distance in its two alignments.

    >>> [products.tolist() for products in distant_pairs(np.array([1.0, 2.0, 3.0, 4.0]))]
    [[2.0, 12.0], [6.0], [3.0, 8.0]]
    """
    for distance in (2**power for power in range(len(x).bit_length() - 1)):
        for start in (0, distance):
            count = (len(x) - start) // (2 * distance)
            if count:
                pairs = x[start : start + 2 * count * distance].reshape(count, 2, distance, *x.shape[1:])
                yield (pairs[:, 0] * pairs[:, 1]).reshape(count * distance, *x.shape[1:])


def excess_equality(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """1[first = second in a row] − 1[first = second in two rows], one for each disjoint pair of rows of a group.

    Its mean is 0 if first and second are independent given the group, whatever their distributions, and positive if
    one value is used for both.

    Args:
        first: values (N,).
        second: values (N,).
        groups: keys (N,) of rows with the same distribution.

    Returns:
        Values −1, 0 or 1.

    >>> excess_equality(np.array([1, 2, 3]), np.array([1, 2, 3]), np.zeros(3)).tolist()
    [1.0]
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=np.nan) != 0)
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    left = np.flatnonzero((within[:-1] % 2 == 0) & (within[1:] % 2 == 1))
    i, j = order[left], order[left + 1]
    return (first[i] == second[i]).astype(float) - (first[i] == second[j])


def largest_alignment(vectors: np.ndarray, reference: np.ndarray | None = None) -> tuple[float, tuple[int, int], float]:
    """The largest |cosine| between two vectors, and the probability of one as large among all pairs of normal noise.

    Args:
        vectors: standard normal noise, (N, size); vectors with NaN are left out.
        reference: anything independent of it, (M, size); None for the vectors themselves.

    Returns:
        The cosine, its pair of indices, and the bound; (0, (0, 0), 1) without a pair.

    >>> cosine, pair, bound = largest_alignment(np.random.default_rng(0).standard_normal((8, 64))[[0, 1, 2, 3, 0]])
    >>> round(cosine, 3), pair, bound < 1e-9
    (1.0, (0, 4), True)
    """
    scaled, same = _directions(vectors), reference is None
    cosines = np.abs(scaled @ (scaled if reference is None else _directions(reference)).T)
    if same:
        cosines = np.triu(cosines, 1)
    pairs = len(vectors) * (len(vectors) - 1) // 2 if same else cosines.size
    if not pairs:
        return 0.0, (0, 0), 1.0
    i, j = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
    cosine = min(float(cosines[i, j]), 1.0)
    return cosine, (int(i), int(j)), min(1.0, pairs * alignment_bound(cosine, vectors.shape[1]))


def _directions(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors; 0 for those with NaN or of length 0."""
    finite = np.where(np.isfinite(vectors).all(1, keepdims=True), vectors, 0.0)
    length = np.linalg.norm(finite, axis=1, keepdims=True)
    return np.asarray(finite / np.where(length > 0, length, 1.0))


def off_label(excess: np.ndarray, z1: np.ndarray, eps: float) -> float:
    """Probability that z̃ − τ z1 is as correlated with z1, in any timestep, if it is normal noise of any scale.

    Args:
        excess: z̃ − τ z1, (M, T, S, D), 0 or NaN where it is unknown.
        z1: data of these rows, (M, T, S, D).
        eps: spacing of 1 in the adapter's dtype: a level may be off by four roundings.
    """
    excess, power = np.nan_to_num(excess), (z1**2).sum((2, 3))
    gap = np.maximum(np.abs((excess * z1).sum((2, 3)) / power) - 4 * eps, 0)
    length = np.sqrt((excess**2).sum((2, 3)))
    cosines = gap * np.sqrt(power) / np.where(length > 0, length, 1.0)
    return union_bound(alignment_bound(float(cosine), z1[0, 0].size) for cosine in cosines.flat)
