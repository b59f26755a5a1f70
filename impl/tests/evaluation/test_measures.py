"""Intervals say how sure a number is."""

import numpy as np
import pytest

from dreamer4_impl.evaluation.measures import estimate


def mean(x):
    return x


def test_interval_of_a_mean_is_that_of_the_normal_law():
    sample = np.random.default_rng(0).normal(size=400)
    found = estimate(mean, sample)
    half = 1.96 * sample.std() / np.sqrt(400)
    np.testing.assert_allclose([found.low, found.high], [sample.mean() - half, sample.mean() + half], atol=0.1 * half)
    assert found.n == 400


def test_pairing_removes_what_both_samples_share():
    draws = np.random.default_rng(0)
    shared = draws.normal(size=100)
    a, b = shared + 0.5, shared + 0.01 * draws.normal(size=100)
    paired = estimate(lambda x, y: x - y, a, b)
    apart = estimate(lambda x, y: x - y, a, b, paired=False)
    assert paired.high - paired.low < 0.01 < 0.3 < apart.high - apart.low


def test_statistic_is_applied_to_means_and_not_averaged():
    assert estimate(lambda x: x**2, [1.0, -1.0]).value == 0


def test_one_clip_has_no_interval():
    found = estimate(mean, [3.0])
    assert (found.value, found.n) == (3.0, 1)
    assert np.isnan([found.low, found.high]).all()


def test_infinite_draws_are_ends_of_an_interval_and_not_nan():
    with np.errstate(divide="ignore"):
        found = estimate(lambda x: -np.log10(x), [0.0, 0.1])
    assert found.high == np.inf
    assert found.low == 1


def test_samples_that_are_not_paired_are_refused():
    with pytest.raises(ValueError, match=r"as many as each other where paired; got \[2, 3\]"):
        estimate(lambda x, y: x - y, [1.0, 2.0], [1.0, 2.0, 3.0])
