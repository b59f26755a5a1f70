"""Eq. (1), (2), (4), (6), (7), (8): properties that hold for every input."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer4_reference.constants import K
from dreamer4_reference.eq01_corruption import corrupt
from dreamer4_reference.eq02_sampling import corrupt_context, sample
from dreamer4_reference.eq04_grid import on_grid, sample_tau_d, signal_levels, step_law, step_sizes
from dreamer4_reference.eq06_07_shortcut_forcing import average, flow_error, shortcut_forcing_loss
from dreamer4_reference.eq08_ramp_weight import ramp_weight

Array = np.ndarray
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
k_maxes = st.sampled_from([1, 2, 4, 64])
sizes = st.tuples(*[st.integers(1, 3)] * 4)


def draw(seed: int, shape: tuple[int, ...], k_max: int) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    tau, d = sample_tau_d(rng, k_max, shape[:2])
    return rng.normal(size=shape), rng.normal(size=shape), tau, d


class Recorder:
    """A nonlinear network that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Array, Array, Array, object]] = []

    def __call__(self, z: Array, tau: Array, d: Array, actions: object = None) -> Array:
        self.calls.append((z, tau, d, actions))
        return np.asarray(np.sin(z) + (tau * d)[..., None, None])


@few
@given(seeds, sizes)
def test_exchanging_noise_and_data_with_1_minus_tau_changes_nothing(seed: int, shape: tuple[int, ...]) -> None:
    z0, z1, tau, _ = draw(seed, shape, 64)
    np.testing.assert_allclose(corrupt(z0, z1, tau), corrupt(z1, z0, 1 - tau), rtol=1e-12)


@few
@given(seeds, sizes)
def test_each_timestep_has_its_own_level(seed: int, shape: tuple[int, ...]) -> None:
    z0, z1, tau, _ = draw(seed, shape, 64)
    tau[:, -1] = 1.0
    z_tilde = corrupt(z0, z1, tau)
    np.testing.assert_array_equal(z_tilde[:, -1], z1[:, -1])
    np.testing.assert_array_equal(z_tilde[:, :-1], corrupt(z0[:, :-1], z1[:, :-1], tau[:, :-1]))


@pytest.mark.parametrize("num_steps", [1, 2, K, 64])
def test_a_perfect_predictor_is_reproduced_after_any_number_of_steps(num_steps: int) -> None:
    z0, z1, _, _ = draw(0, (2, 3, 2, 2), 1)
    np.testing.assert_allclose(sample(lambda x, tau, d: z1, z0, num_steps), z1, rtol=1e-12, atol=1e-12)


def test_the_sampler_calls_the_network_k_times_at_the_levels_it_has_reached() -> None:
    x0 = draw(0, (2, 3, 2, 2), 1)[0]
    network = Recorder()
    end = sample(network, x0, K)
    assert [np.unique(tau).tolist() for _, tau, _, _ in network.calls] == [[0.0], [0.25], [0.5], [0.75]]
    assert all((d == 1 / K).all() and d.shape == (2, 3) for _, _, d, _ in network.calls)
    inputs = [call[0] for call in network.calls]
    np.testing.assert_array_equal(inputs[0], x0)
    np.testing.assert_array_equal(end, sample(Recorder(), x0, K))


def test_context_is_nine_tenths_data_and_one_tenth_noise() -> None:
    noise, context, _, _ = draw(0, (2, 3, 2, 2), 1)
    np.testing.assert_allclose(corrupt_context(context, noise), 0.1 * noise + 0.9 * context, rtol=1e-12)
    np.testing.assert_array_equal(corrupt_context(context, noise, level=1), context)


@few
@given(seeds, k_maxes)
def test_every_pair_that_is_drawn_lies_on_the_grid(seed: int, k_max: int) -> None:
    tau, d = sample_tau_d(np.random.default_rng(seed), k_max, (3, 5))
    assert on_grid(tau, d).all()
    for level, size in zip(tau.ravel(), d.ravel(), strict=True):
        assert Fraction(size) in step_sizes(k_max)
        assert Fraction(level) in signal_levels(Fraction(size))


@few
@given(seeds)
def test_same_generator_state_draws_the_same_pairs(seed: int) -> None:
    draws = [sample_tau_d(np.random.default_rng(seed), 64, (2, 3)) for _ in range(2)]
    np.testing.assert_array_equal(draws[0], draws[1])


def test_draws_follow_their_distributions() -> None:
    """One fixed draw; a count leaves six standard deviations with probability 2e-9."""
    n, k_max = 200_000, 8
    tau, d = sample_tau_d(np.random.default_rng(0), k_max, (n,))
    assert abs(d.mean() - float(sum(size * p for size, p in step_law(k_max).items()))) < 6 * d.std() / n**0.5
    for size, p in step_law(k_max).items():
        for level in signal_levels(size):
            share = float(p * size)
            count = ((d == float(size)) & (tau == float(level))).sum()
            assert abs(count - n * share) < 6 * (n * share * (1 - share)) ** 0.5


def test_off_grid_levels_are_recognised() -> None:
    tau = np.array([0.0, 0.5, 0.75, 1.0, -0.5, np.nan, np.inf, np.nextafter(0.5, 1)])
    assert on_grid(tau, np.full(8, 0.5)).tolist() == [True, True] + [False] * 6


@few
@given(seeds, sizes, k_maxes)
def test_every_timestep_has_its_own_loss(seed: int, shape: tuple[int, ...], k_max: int) -> None:
    z0, z1, tau, d = draw(seed, shape, k_max)
    whole = shortcut_forcing_loss(Recorder(), z0, z1, tau, d, k_max=k_max)
    assert whole.shape == shape[:2]
    for b, t in np.ndindex(*shape[:2]):
        one = tuple(x[b : b + 1, t : t + 1] for x in (z0, z1, tau, d))
        alone = shortcut_forcing_loss(Recorder(), *one, k_max=k_max)
        np.testing.assert_allclose(alone.item(), whole[b, t], rtol=1e-12)


@few
@given(seeds, sizes, k_maxes)
def test_student_and_teacher_calls_are_labelled_as_in_the_paper(seed: int, shape: tuple[int, ...], k_max: int) -> None:
    z0, z1, tau, d = draw(seed, shape, k_max)
    network, actions = Recorder(), np.zeros((*shape[:2], 1))
    shortcut_forcing_loss(network, z0, z1, tau, d, actions, k_max=k_max)
    student, first, second = network.calls
    above = d > 1 / k_max
    np.testing.assert_array_equal(student[1:3], (tau, d))
    np.testing.assert_array_equal(first[1][above], tau[above])
    np.testing.assert_array_equal(second[1][above], (tau + d / 2)[above])
    np.testing.assert_array_equal((first[2][above], second[2][above]), ((d / 2)[above],) * 2)
    assert all(call[3] is actions for call in network.calls)


@few
@given(seeds, sizes, k_maxes)
def test_teacher_calls_at_d_min_keep_their_input_and_label(seed: int, shape: tuple[int, ...], k_max: int) -> None:
    """The default of reading A4."""
    z0, z1, tau, d = draw(seed, shape, k_max)
    network = Recorder()
    shortcut_forcing_loss(network, z0, z1, tau, d, k_max=k_max)
    at_d_min = d == 1 / k_max
    for call in network.calls:
        np.testing.assert_array_equal(call[0][at_d_min], corrupt(z0, z1, tau)[at_d_min])
        np.testing.assert_array_equal(call[1][at_d_min], tau[at_d_min])
        np.testing.assert_array_equal(call[2][at_d_min], d[at_d_min])


def test_readings_of_the_loss_differ_as_documented() -> None:
    z0, z1, tau, d = draw(0, (4, 8, 3, 2), 4)
    network, at_d_min = Recorder(), d == 0.25
    loss = shortcut_forcing_loss(network, z0, z1, tau, d, k_max=4)
    assert at_d_min.any()
    assert not at_d_min.all()
    summed = shortcut_forcing_loss(network, z0, z1, tau, d, k_max=4, norm="sum")
    np.testing.assert_allclose(summed, 6 * loss, rtol=1e-12)
    flow_only = shortcut_forcing_loss(network, z0, z1, tau, d, k_max=4, weighted="flow")
    np.testing.assert_allclose(flow_only * np.where(at_d_min, 1, ramp_weight(tau)), loss, rtol=1e-12)
    mean = shortcut_forcing_loss(network, z0, z1, tau, d, k_max=4, reduction="mean")
    assert mean.shape == ()
    assert mean == average(loss, d, k_max=4) == loss.mean()
    per_term = average(loss, d, k_max=4, averaging="per_term")
    assert per_term == loss[at_d_min].mean() + loss[~at_d_min].mean()


def test_the_flow_term_is_the_squared_error_of_the_data() -> None:
    z0, z1, _, _ = draw(0, (2, 3, 4, 5), 1)
    tau, d = np.full((2, 3), 0.5), np.full((2, 3), 0.25)
    got = shortcut_forcing_loss(lambda z, tau, d, actions: z, z0, z1, tau, d, k_max=4)
    np.testing.assert_allclose(got, 0.55 * flow_error((z0 + z1) / 2, z1), rtol=1e-12)


def test_nan_in_the_data_is_visible_in_its_own_timestep_only() -> None:
    z0, z1, tau, d = draw(0, (2, 3, 2, 2), 4)
    z1[1, 2, 0, 0] = np.nan
    loss = shortcut_forcing_loss(Recorder(), z0, z1, tau, d, k_max=4)
    assert np.argwhere(np.isnan(loss)).tolist() == [[1, 2]]
