"""Proofs about Eq. (4): the range of the grid of signal levels, and why it is not read as printed."""

from fractions import Fraction

import pytest
import sympy as sp

from dreamer4_reference.eq04_grid import level_law, signal_levels, step_law, step_sizes

K_MAX = 64

# A grid point k of a step size 1/n, with m points above it: n = k + m + 1 covers every pair and no other.
k, m = sp.symbols("k m", integer=True, nonnegative=True)
d = 1 / (k + m + 1)
tau = k * d


def test_symbolic_grid_equals_the_code() -> None:
    level, step = sp.lambdify((k, m), tau, "sympy"), sp.lambdify((k, m), d, "sympy")
    for size in step_sizes(K_MAX):
        n = size.denominator
        drawn = [(Fraction(str(level(i, n - 1 - i))), Fraction(str(step(i, n - 1 - i)))) for i in range(n)]
        assert drawn == [(grid_point, size) for grid_point in signal_levels(size)]


def test_no_step_from_the_grid_exceeds_clean_data() -> None:
    slack = sp.simplify(1 - (tau + d))
    assert slack.is_nonnegative
    assert all(point + size <= 1 for size in step_sizes(K_MAX) for point in signal_levels(size))


def test_no_velocity_of_eq07_divides_by_zero() -> None:
    assert sp.simplify(1 - tau).is_positive
    assert sp.simplify(1 - (tau + d / 2)).is_positive


def test_half_steps_stay_on_the_grid_of_the_half_step() -> None:
    for size in step_sizes(K_MAX)[:-1]:
        finer = set(signal_levels(size / 2))
        assert all({point, point + size / 2} <= finer for point in signal_levels(size))


def test_the_printed_grid_is_empty_for_every_step_below_one() -> None:
    below_one = 1 / (1 + sp.Symbol("excess", positive=True))
    step = sp.Symbol("d", positive=True)
    first, last = sp.Integer(0), 1 - 1 / step
    assert sp.simplify((last - first).subs(step, below_one)).is_negative
    assert sp.simplify((last - first).subs(step, 1)) == 0


def test_grid_as_read_has_1_over_d_levels_and_as_printed_d() -> None:
    step = sp.Symbol("d", positive=True)

    def size(spacing: sp.Expr) -> sp.Expr:
        return sp.simplify((1 - spacing) / spacing + 1)

    assert sp.simplify(size(1 / step) - step) == 0
    assert sp.simplify(size(step) - 1 / step) == 0
    count = sp.lambdify(step, size(step), "sympy")
    assert all(len(signal_levels(one)) == count(sp.Rational(str(one))) for one in step_sizes(K_MAX))


def test_in_noise_levels_the_grid_runs_from_d_to_one() -> None:
    assert sp.simplify((1 - tau) - (m + 1) * d) == 0
    for size in step_sizes(K_MAX):
        assert {1 - point for point in signal_levels(size)} == {i * size for i in range(1, size.denominator + 1)}


@pytest.mark.parametrize("k_max", [1, 2, 64])
def test_both_laws_are_uniform_and_sum_to_one(k_max: int) -> None:
    for law in [step_law(k_max), *(level_law(size) for size in step_sizes(k_max))]:
        assert sum(law.values()) == 1
        assert len(set(law.values())) == 1
