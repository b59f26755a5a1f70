"""Eq. (9): targets and loss of multi-token prediction."""

import math

import pytest
import torch

from dreamer4_impl.equations.eq09_multi_token import multi_token_loss, multi_token_targets


@pytest.mark.parametrize("time", [1, 3, 12])
@pytest.mark.parametrize(("first", "length"), [(0, 8), (0, 7), (1, 8)])
def test_the_target_at_distance_n_is_the_value_n_steps_ahead(time, first, length):
    x = torch.arange(2 * time).reshape(2, time)
    targets, valid = multi_token_targets(x, length, first=first)
    assert targets.shape == valid.shape == (2, time, length - first + 1)
    for t in range(time):
        for column, n in enumerate(range(first, length + 1)):
            assert bool(valid[0, t, column]) == (t + n < time)
            if t + n < time:
                assert torch.equal(targets[:, t, column], x[:, t + n])


def test_nine_distances_by_default():
    assert multi_token_targets(torch.zeros(1, 2))[0].shape == (1, 2, 9)


def test_components_of_an_action_are_indexed_together():
    x = torch.arange(12.0).reshape(1, 4, 3)
    targets, _ = multi_token_targets(x, 2)
    assert targets.shape == (1, 4, 3, 3)
    assert torch.equal(targets[0, 1, 2], x[0, 3])


def test_distances_are_averaged_over_valid_positions_and_summed():
    log_prob = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, valid = multi_token_targets(torch.zeros(3, 4), 5)
    expected = -sum(log_prob[:, : 4 - n, n].mean() for n in range(4))
    torch.testing.assert_close(multi_token_loss(log_prob, valid), expected)


def test_values_past_the_end_do_not_matter_even_nan():
    _, valid = multi_token_targets(torch.zeros(2, 3), 4)
    log_prob = torch.full((2, 3, 5), -1.0)
    poisoned = torch.where(valid, log_prob, math.nan).requires_grad_(True)
    loss = multi_token_loss(poisoned, valid)
    loss.backward()
    assert torch.equal(loss, multi_token_loss(log_prob, valid))
    assert (poisoned.grad[~valid] == 0).all()
    assert (poisoned.grad[valid] < 0).all()


def test_nan_inside_the_sequence_is_visible():
    log_prob = torch.zeros(1, 3, 2)
    log_prob[0, 0, 1] = math.nan
    assert multi_token_loss(log_prob, torch.ones(1, 3, 2, dtype=torch.bool)).isnan()


def test_invalid_input_raises_and_names_the_argument():
    with pytest.raises(ValueError, match=r"x must be a tensor of shape \(B, T, …\)"):
        multi_token_targets(torch.zeros(3))
    with pytest.raises(ValueError, match=r"first must lie in \[0, 2\]; got 3"):
        multi_token_targets(torch.zeros(1, 3), 2, first=3)
    with pytest.raises(TypeError, match=r"valid must be a bool tensor; got torch\.float32"):
        multi_token_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="valid must have shape of log_prob"):
        multi_token_loss(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2, dtype=torch.bool))
