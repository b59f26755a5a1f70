"""Eq. (4): the law of the step sizes and of the grid."""

import math
from fractions import Fraction

import pytest
import torch

from dreamer4_impl.equations.eq04_grid import sample_tau_d


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k_max", [1, 2, 64, 1024])
def test_every_tau_is_a_whole_number_of_steps_below_one_exactly(k_max):
    tau, d = sample_tau_d(200, 5, k_max=k_max, generator=seeded())
    for level, step in zip(tau.flatten().tolist(), d.flatten().tolist(), strict=True):
        assert (Fraction(level) / Fraction(step)).denominator == 1
        assert 0 <= Fraction(level) <= 1 - Fraction(step)


def within(count, total, probability):
    """Six standard deviations: one false alarm in five hundred million counts."""
    return abs(count - total * probability) < 6 * math.sqrt(total * probability * (1 - probability))


def test_every_power_of_two_is_equally_likely():
    _, d = sample_tau_d(400, 100, k_max=64, generator=seeded())
    steps, counts = d.unique(return_counts=True)
    assert steps.tolist() == [2.0**-power for power in range(6, -1, -1)]
    assert all(within(count, d.numel(), 1 / 7) for count in counts.tolist())


def test_given_d_every_grid_point_is_equally_likely():
    tau, d = sample_tau_d(400, 100, k_max=8, generator=seeded())
    for step in (1.0, 0.5, 0.25, 0.125):
        levels, counts = tau[d == step].unique(return_counts=True)
        assert levels.tolist() == [index * step for index in range(round(1 / step))]
        assert all(within(count, int(counts.sum()), step) for count in counts.tolist() if step < 1)


def test_levels_of_neighbours_are_independent_given_d():
    tau, d = sample_tau_d(20000, 2, k_max=8, generator=seeded(), per="sequence")
    both = tau[d[:, 0] == 0.5]
    assert within(int(((both == 0).all(dim=1)).sum()), len(both), 0.25)
    assert within(int((both[:, 0] == both[:, 1]).sum()), len(both), 0.5)


def test_d_is_drawn_per_timestep_by_default():
    _, per_timestep = sample_tau_d(8, 16, generator=seeded())
    _, per_sequence = sample_tau_d(8, 16, generator=seeded(), per="sequence")
    assert all(len(row.unique()) > 1 for row in per_timestep)
    assert all(len(row.unique()) == 1 for row in per_sequence)


@pytest.mark.parametrize("per", ["timestep", "sequence"])
def test_declared_split_puts_exactly_its_share_of_sequences_at_d_min(per):
    _, d = sample_tau_d(2000, 3, k_max=8, generator=seeded(), per=per, d_min_share=0.25)
    assert (d[:500] == 1 / 8).all()
    steps, counts = d[500:, 0].unique(return_counts=True)
    assert steps.tolist() == [0.25, 0.5, 1.0]
    assert all(within(count, 1500, 1 / 3) for count in counts.tolist())


def test_split_of_a_ladder_of_one_step_is_that_step():
    _, d = sample_tau_d(2, 2, k_max=1, d_min_share=1.0)
    assert (d == 1).all()


def test_a_generator_determines_the_draws_and_not_the_global_state():
    before = torch.get_rng_state()
    first, again, other = (sample_tau_d(4, 8, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_generator_the_global_seed_decides():
    state = torch.get_rng_state()
    torch.manual_seed(3)
    first = sample_tau_d(4, 8)
    torch.manual_seed(3)
    again = sample_tau_d(4, 8)
    torch.set_rng_state(state)
    assert torch.equal(first[0], again[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_max": 0}, "k_max must be a power of two, 1 or more; got 0"),
        ({"k_max": 8.0}, "k_max must be a power of two, 1 or more; got 8.0"),
        ({"per": "batch"}, "per must be one of 'timestep', 'sequence'; got 'batch'"),
        ({"d_min_share": 1.5}, r"d_min_share must lie in \[0, 1\]; got 1.5"),
        ({"k_max": 1, "d_min_share": 0.0}, "d_min_share must be 1 where k_max is 1"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        sample_tau_d(2, 2, **options)
