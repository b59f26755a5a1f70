"""The bounds of tail_bounds.py against exact probabilities: never below them, and not far above."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dreamer4_conformance.judging import dependence, tail_bounds


def exact_binomial_tail(count: int, draws: int, probability: float) -> float:
    """P(X ≥ count) above the mean, P(X ≤ count) below it."""
    counts = range(count, draws + 1) if count > draws * probability else range(count + 1)
    return math.fsum(math.comb(draws, k) * probability**k * (1 - probability) ** (draws - k) for k in counts)


@pytest.mark.parametrize("probability", [0.02, 1 / 7, 0.5, 0.9])
def test_count_bound_is_never_below_the_binomial_tail(probability: float) -> None:
    for count in range(0, 201, 5):
        assert tail_bounds.count_bound(count, 200, probability) >= exact_binomial_tail(count, 200, probability)


def test_count_bound_is_within_a_small_factor_of_the_exponent() -> None:
    exact = exact_binomial_tail(180, 200, 0.5)
    assert math.log(tail_bounds.count_bound(180, 200, 0.5)) < 0.93 * math.log(exact)


@pytest.mark.parametrize("count", [0, 10])
def test_impossible_counts_have_bound_zero_and_certain_ones_have_bound_one(count: int) -> None:
    assert tail_bounds.count_bound(count, 10, count / 10) == 1.0
    assert tail_bounds.count_bound(10 - count, 10, count / 10) == 0.0


def test_normal_tail_at_tabulated_scores() -> None:
    for score, tail in ((1.0, 0.3173105078629141), (3.0, 0.0026997960632601866), (6.0, 1.973175290075396e-09)):
        assert tail_bounds.normal_tail(score) == pytest.approx(tail, rel=1e-9)


def test_mean_square_bound_is_never_below_the_chi_square_tail() -> None:
    # With two degrees of freedom P(X ≥ x) = exp(−x/2), in closed form.
    for mean_square in (1.5, 2.0, 5.0, 20.0):
        assert tail_bounds.mean_square_bound(mean_square, 2) >= math.exp(-mean_square)
        assert tail_bounds.mean_square_bound(1 / mean_square, 2) >= 1 - math.exp(-1 / mean_square)


def test_bounds_hold_for_the_laws_that_they_are_about() -> None:
    rng = np.random.default_rng(0)
    trials, draws = 400, 500
    x, y = rng.standard_normal((2, trials, draws))
    uniform = rng.uniform(-(3**0.5), 3**0.5, (trials, draws))
    for level in (0.5, 0.1, 0.02):
        allowed = trials * level + 4 * math.sqrt(trials * level)
        assert sum(tail_bounds.product_bound(float(m), draws) < level for m in (x * y).mean(1)) <= allowed
        assert sum(tail_bounds.mean_bound(float(m), draws, 1.0, 3**0.5) < level for m in uniform.mean(1)) <= allowed
        assert sum(tail_bounds.mean_square_bound(float(m), draws) < level for m in (x**2).mean(1)) <= allowed
        assert sum(tail_bounds.normal_distance_bound(row) < level for row in x) <= allowed
        assert sum(tail_bounds.tail_bound(row) < level for row in x) <= allowed


def test_bounds_of_cosines_hold_for_normal_noise() -> None:
    rng = np.random.default_rng(0)
    trials, pairs, size = 400, 12, 16
    x, y = rng.standard_normal((2, trials, pairs, size))
    cosines = (x * y).sum(2) / np.linalg.norm(x, axis=2) / np.linalg.norm(y, axis=2)
    for level in (0.5, 0.1, 0.02):
        allowed = trials * level + 4 * math.sqrt(trials * level)
        assert sum(tail_bounds.alignment_bound(float(c), size) < level for c in cosines[:, 0]) <= allowed
        assert sum(tail_bounds.mean_cosine_bound(float(m), pairs, size) < level for m in cosines.mean(1)) <= allowed
        assert sum(dependence.largest_alignment(rows)[2] < level for rows in x) <= allowed


def test_excess_equality_is_zero_for_independent_values_of_any_law() -> None:
    rng = np.random.default_rng(0)
    first, second, groups = (rng.integers(count, size=20_000) for count in (3, 2, 5))
    independent = dependence.excess_equality(first, second * groups, groups)
    assert tail_bounds.mean_bound(float(independent.mean()), independent.size, 1.0, 1.0) > 1e-3
    assert dependence.excess_equality(first, first, groups).mean() > 0.5


@pytest.mark.parametrize("other", ["uniform", "laplace", "scaled", "shifted"])
def test_normal_distance_finds_other_laws_of_mean_zero_and_variance_one(other: str) -> None:
    rng = np.random.default_rng(0)
    draws = {
        "uniform": rng.uniform(-(3**0.5), 3**0.5, 16_384),
        "laplace": rng.laplace(0, 0.5**0.5, 16_384),
        "scaled": 0.85 * rng.standard_normal(16_384),
        "shifted": rng.standard_normal(16_384) + 0.1,
    }
    assert tail_bounds.normal_distance_bound(draws[other]) < 1e-9
    assert tail_bounds.normal_distance_bound(rng.standard_normal(16_384)) > 1e-3


def test_nothing_to_decide_rejects_nothing() -> None:
    assert tail_bounds.union_bound([]) == 1.0
    assert tail_bounds.uniform_bound(np.array([5])) == 1.0
