"""Bootstrap estimates and their intervals."""

import numpy as np
import pytest

from dreamer4_impl.evaluation.measures import estimate


def mean(x):
    return x


def test_interval_of_a_mean_agrees_with_the_normal_approximation():
    sample = np.random.default_rng(0).normal(size=400)
    measure = estimate(mean, sample)
    half = 1.96 * sample.std() / np.sqrt(400)
    np.testing.assert_allclose(
        [measure.low, measure.high], [sample.mean() - half, sample.mean() + half], atol=0.1 * half
    )
    assert measure.n == 400


def test_pairing_removes_shared_variance():
    generator = np.random.default_rng(0)
    shared = generator.normal(size=100)
    a, b = shared + 0.5, shared + 0.01 * generator.normal(size=100)
    paired = estimate(lambda x, y: x - y, a, b)
    unpaired = estimate(lambda x, y: x - y, a, b, paired=False)
    assert paired.high - paired.low < 0.01 < 0.3 < unpaired.high - unpaired.low


def test_statistic_is_applied_to_means_and_not_averaged():
    assert estimate(lambda x: x**2, [1.0, -1.0]).value == 0


def test_one_clip_has_no_interval():
    measure = estimate(mean, [3.0])
    assert (measure.value, measure.n) == (3.0, 1)
    assert np.isnan([measure.low, measure.high]).all()


def test_infinite_resamples_are_ends_of_an_interval_and_not_nan():
    with np.errstate(divide="ignore"):
        measure = estimate(lambda x: -np.log10(x), [0.0, 0.1])
    assert measure.high == np.inf
    assert measure.low == 1


def test_paired_samples_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"equally many rows if paired; got \[2, 3\]"):
        estimate(lambda x, y: x - y, [1.0, 2.0], [1.0, 2.0, 3.0])
