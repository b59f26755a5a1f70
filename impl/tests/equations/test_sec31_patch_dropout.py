"""Sec. 3.1: patch dropout."""

import math

import pytest
import torch

from dreamer4_impl.equations.sec31_patch_dropout import patch_dropout, replace_dropped


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_drop_rate_of_an_image_is_uniform_up_to_nine_tenths():
    rate = patch_dropout(1000, 4, 2000, generator=seeded()).double().mean(2).flatten()
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs((rate < 0.9 * share).double().mean() - share) < 6 * math.sqrt(share * (1 - share) / 4000) + 0.005
    assert rate.max() < 0.95


def test_drop_rates_of_images_are_independent():
    rate = patch_dropout(4000, 2, 400, generator=seeded()).double().mean(2)
    for pair in (rate.T, torch.stack([rate[:-1, 0], rate[1:, 0]])):
        assert abs(torch.corrcoef(pair)[0, 1]) < 6 / math.sqrt(4000)


def test_patches_of_an_image_are_dropped_independently():
    dropped = patch_dropout(20000, 1, 40, generator=seeded())[:, 0].double()
    # Given p the halves are independent, and both have mean p: their covariance is the variance of p alone.
    halves = torch.stack([dropped[:, :20].mean(1), dropped[:, 20:].mean(1)])
    assert abs(torch.cov(halves)[0, 1] - 0.9**2 / 12) < 6 * 0.1 / math.sqrt(20000)


def test_patch_dropout_is_reproducible_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    assert torch.equal(patch_dropout(2, 3, 4, generator=seeded()), patch_dropout(2, 3, 4, generator=seeded()))
    assert torch.equal(before, torch.get_rng_state())


def test_only_dropped_patches_become_the_embedding():
    tokens, dropped, embedding = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4) < 0.5, torch.randn(5)
    replaced = replace_dropped(tokens, dropped, embedding)
    assert (replaced[dropped] == embedding).all()
    assert torch.equal(replaced[~dropped], tokens[~dropped])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dropped": torch.zeros(2, 3, 4)}, TypeError, "dropped must be a bool tensor"),
        ({"dropped": torch.zeros(2, 3, dtype=torch.bool)}, ValueError, r"dropped must have shape \(B, T, N\)"),
        ({"embedding": torch.zeros(4)}, ValueError, r"embedding must have shape \(D,\) = \(5,\); got \(4,\)"),
        ({"tokens": torch.zeros(2, 3, 4)}, ValueError, r"tokens must have shape \(B, T, N, D\)"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(change, error, message):
    given = {
        "tokens": torch.zeros(2, 3, 4, 5),
        "dropped": torch.zeros(2, 3, 4, dtype=torch.bool),
        "embedding": torch.zeros(5),
    }
    with pytest.raises(error, match=message):
        replace_dropped(**{**given, **change})
