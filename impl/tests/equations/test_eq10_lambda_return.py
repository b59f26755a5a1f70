"""Eq. (10): λ-returns, advantages and the value loss."""

import math

import pytest
import torch

from dreamer4_impl.equations.eq10_lambda_return import advantages, lambda_returns, value_loss
from dreamer4_impl.equations.twohot import TwoHot


def trajectory(batch, horizon, dtype=torch.float64):
    generator = torch.Generator().manual_seed(horizon)
    reward, cont = torch.randn(2, batch, horizon, generator=generator, dtype=torch.float64)
    value = torch.randn(batch, horizon + 1, generator=generator, dtype=torch.float64)
    return reward.to(dtype), value.to(dtype), cont.sigmoid().to(dtype)


def recursion(reward, value, cont, gamma, lam):
    """Eq. (10), step by step from the end, in Python floats."""
    rows = []
    for r, v, c in zip(reward.tolist(), value.tolist(), cont.tolist(), strict=True):
        returns, following = [], v[-1]
        for t in reversed(range(len(r))):
            following = r[t] + gamma * c[t] * ((1 - lam) * v[t + 1] + lam * following)
            returns.insert(0, following)
        rows.append(returns)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("horizon", [1, 2, 3, 4, 5, 15, 16, 17, 64])
@pytest.mark.parametrize(("gamma", "lam"), [(0.997, 0.95), (0.9, 0.0), (0.9, 1.0), (0.0, 0.5), (1.0, 1.0)])
def test_equals_the_recursion_at_every_horizon(horizon, gamma, lam):
    given = trajectory(3, horizon)
    got = lambda_returns(*given, gamma, lam)
    torch.testing.assert_close(got, recursion(*given, gamma, lam), rtol=1e-13, atol=1e-13)


def test_float32_stays_within_its_rounding_over_a_long_horizon():
    given = trajectory(4, 256, torch.float32)
    torch.testing.assert_close(
        lambda_returns(*given).double(), recursion(*(x.double() for x in given), 0.997, 0.95), rtol=1e-5, atol=1e-5
    )


def test_horizon_one_is_reward_plus_discounted_value():
    reward, value, cont = torch.tensor([[2.0]]), torch.tensor([[9.0, 4.0]]), torch.tensor([[0.5]])
    assert lambda_returns(reward, value, cont, gamma=0.5).tolist() == [[3.0]]


def test_an_episode_end_cuts_everything_after_it():
    reward, value, cont = trajectory(1, 6)
    cont[0, 3] = 0
    changed_reward, changed_value = reward.clone(), value.clone()
    changed_reward[0, 4:] += 100
    changed_value[0, 4:] += 100
    before, after = lambda_returns(reward, value, cont), lambda_returns(changed_reward, changed_value, cont)
    assert torch.equal(before[0, :4], after[0, :4])
    assert before[0, 3] == reward[0, 3]
    assert not torch.equal(before[0, 4:], after[0, 4:])


def test_the_first_value_never_enters_a_return():
    reward, value, cont = trajectory(1, 4)
    moved = value.clone()
    moved[0, 0] += 100
    assert torch.equal(lambda_returns(reward, value, cont), lambda_returns(reward, moved, cont))


def test_gradient_equals_that_of_the_recursion():
    assert torch.autograd.gradcheck(
        lambda *given: lambda_returns(*given, 0.9, 0.8), [x.requires_grad_() for x in trajectory(2, 5)]
    )


def test_advantage_is_the_return_minus_the_value_of_the_state():
    reward, value, cont = trajectory(3, 7)
    expected = recursion(reward, value, cont, 0.997, 0.95) - value[:, :7]
    torch.testing.assert_close(advantages(reward, value, cont), expected)


def test_value_loss_is_the_mean_two_hot_cross_entropy():
    logits = torch.randn(5, 255, generator=torch.Generator().manual_seed(0)).requires_grad_()
    returns = torch.tensor([0.0, 1.5, -20.0, 300.0, 1e9], requires_grad=True)
    loss = value_loss(logits, returns)
    loss.backward()
    expected = -(TwoHot().encode(returns.detach()) * logits.detach().log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss.detach(), expected)
    assert returns.grad is None
    assert logits.grad.abs().sum() > 0


def test_nan_reward_is_visible():
    reward, value, cont = trajectory(1, 3)
    reward[0, 2] = math.nan
    assert lambda_returns(reward, value, cont).isnan().all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reward": torch.zeros(2, 0), "cont": torch.zeros(2, 0)}, ValueError, "reward must have a horizon H of 1"),
        ({"reward": torch.zeros(3)}, ValueError, r"reward must have shape \(B, H\); got \(3,\)"),
        ({"value": torch.zeros(2, 3)}, ValueError, r"value must have shape \(B, H\+1\) = \(2, 4\); got \(2, 3\)"),
        ({"cont": torch.zeros(2, 4)}, ValueError, r"cont must have shape \(B, H\) = \(2, 3\); got \(2, 4\)"),
        ({"cont": torch.zeros(2, 3, dtype=torch.bool)}, TypeError, "cont must be a floating-point tensor"),
        ({"gamma": 1.5}, ValueError, r"gamma must lie in \[0, 1\]; got 1.5"),
        ({"lam": -0.5}, ValueError, r"lam must lie in \[0, 1\]; got -0.5"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(change, error, message):
    given = {"reward": torch.zeros(2, 3), "value": torch.zeros(2, 4), "cont": torch.zeros(2, 3)}
    with pytest.raises(error, match=message):
        lambda_returns(**{**given, **change})
