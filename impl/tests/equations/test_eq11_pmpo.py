"""Eq. (11): PMPO with a behavioural prior."""

import math

import pytest
import torch
from torch import nn

from dreamer4_impl.equations.eq11_pmpo import frozen_prior, policy_loss, policy_loss_factored


def batch(n=7, actions=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits, prior = torch.randn(2, n, actions, generator=generator, dtype=torch.float64)
    action = torch.randint(actions, (n,), generator=generator)
    advantage = torch.randn(n, generator=generator, dtype=torch.float64)
    advantage[0] = 0.0
    return logits, prior, action, advantage


def printed(logits, prior, action, advantage, alpha, beta):
    """Eq. (11) with sets of indices, in Python floats."""
    positive, negative, kl = [], [], 0.0
    for row, prior_row, a, gain in zip(
        logits.tolist(), prior.tolist(), action.tolist(), advantage.tolist(), strict=True
    ):
        pi = [math.exp(x) / sum(map(math.exp, row)) for x in row]
        of_prior = [math.exp(x) / sum(map(math.exp, prior_row)) for x in prior_row]
        (positive if gain >= 0 else negative).append(math.log(pi[a]))
        kl += sum(p * math.log(p / q) for p, q in zip(pi, of_prior, strict=True)) / len(logits)
    loss = beta * kl
    if negative:
        loss += (1 - alpha) / len(negative) * sum(negative)
    if positive:
        loss -= alpha / len(positive) * sum(positive)
    return loss


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.3), (0.8, 0.3), (0.0, 0.0), (1.0, 2.0)])
def test_equals_the_printed_equation(alpha, beta):
    for seed in range(5):
        given = batch(seed=seed)
        assert float(policy_loss(*given, alpha, beta)) == pytest.approx(printed(*given, alpha, beta), rel=1e-12)


def test_sets_are_pooled_over_batch_and_time():
    logits, prior, action, advantage = batch(6)
    shaped = policy_loss(logits.view(2, 3, 4), prior.view(2, 3, 4), action.view(2, 3), advantage.view(2, 3))
    torch.testing.assert_close(shaped, policy_loss(logits, prior, action, advantage))


def test_only_the_sign_of_the_advantage_matters_and_zero_is_positive():
    logits, prior, action, advantage = batch()
    scaled = advantage * torch.linspace(0.01, 100, 7, dtype=torch.float64)
    assert torch.equal(policy_loss(logits, prior, action, advantage), policy_loss(logits, prior, action, scaled))
    above, below = advantage.clone(), advantage.clone()
    above[0], below[0] = 1.0, -1.0
    zero = policy_loss(logits, prior, action, advantage)
    assert torch.equal(zero, policy_loss(logits, prior, action, above))
    assert not torch.equal(zero, policy_loss(logits, prior, action, below))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_empty_set_contributes_nothing(sign):
    logits, prior, action, advantage = batch()
    advantage = sign * (advantage.abs() + 1)
    loss = policy_loss(logits, prior, action, advantage, 0.7)
    assert float(loss) == pytest.approx(printed(logits, prior, action, advantage, 0.7, 0.3), rel=1e-12)


def test_duplicating_one_set_changes_nothing_without_the_prior():
    given = batch()
    negative = given[3] < 0
    doubled = [torch.cat([x, x[negative]]) for x in given]
    torch.testing.assert_close(policy_loss(*doubled, beta=0.0), policy_loss(*given, beta=0.0))


def test_gradient_reaches_the_policy_and_neither_prior_nor_advantage():
    logits, prior, action, advantage = (x.requires_grad_() if x.is_floating_point() else x for x in batch())
    policy_loss(logits, prior, action, advantage).backward()
    assert logits.grad.abs().sum() > 0
    assert prior.grad is None
    assert advantage.grad is None


def test_gradient_is_that_of_the_value():
    logits, prior, action, advantage = batch()
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, prior, action, advantage, 0.8), logits.requires_grad_())


def test_nan_advantage_is_visible():
    logits, prior, action, advantage = batch()
    advantage[3] = math.nan
    assert policy_loss(logits, prior, action, advantage).isnan()


def test_log_probabilities_and_divergences_of_components_are_added():
    first, second = batch(actions=3), batch(actions=5, seed=1)
    action, advantage = torch.stack([first[2], second[2]], dim=-1), first[3]
    got = policy_loss_factored([first[0], second[0]], [first[1], second[1]], action, advantage, 0.8)

    def joint(a, b):
        return (a.log_softmax(-1)[:, :, None] + b.log_softmax(-1)[:, None]).flatten(1)

    expected = policy_loss(
        joint(first[0], second[0]), joint(first[1], second[1]), first[2] * 5 + second[2], advantage, 0.8
    )
    torch.testing.assert_close(got, expected)


def test_a_frozen_prior_starts_at_no_divergence_and_does_not_follow_the_policy():
    head = nn.Linear(3, 4)
    prior, x = frozen_prior(head), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    action, advantage = torch.zeros(5, dtype=torch.int64), torch.ones(5)
    with_prior, without = (policy_loss(head(x), prior(x), action, advantage, beta=beta) for beta in (5.0, 0.0))
    assert torch.equal(with_prior, without)
    before = prior(x).clone()
    with torch.no_grad():
        head.weight += 1
    assert torch.equal(prior(x), before)
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    assert head.weight.requires_grad
    assert head.training


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"action": torch.zeros(7)}, TypeError, "action must be an integer tensor; got torch.float32"),
        ({"action": torch.zeros(6).long()}, ValueError, "action must have shape of advantage"),
        ({"logits": torch.zeros(6, 4)}, ValueError, "logits must have shape of advantage with A actions"),
        ({"prior_logits": torch.zeros(7, 5)}, ValueError, r"prior_logits must have shape of logits = \(7, 4\)"),
        ({"advantage": torch.zeros(7).long()}, TypeError, "advantage must be a floating-point tensor"),
        ({"alpha": 1.5}, ValueError, r"alpha must lie in \[0, 1\]; got 1.5"),
        ({"beta": -1.0}, ValueError, r"beta must lie in \[0, inf\]; got -1.0"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(change, error, message):
    given = dict(zip(("logits", "prior_logits", "action", "advantage"), batch(), strict=True))
    with pytest.raises(error, match=message):
        policy_loss(**{**given, **change})


def test_components_without_a_prior_and_empty_batches_raise():
    with pytest.raises(ValueError, match="prior_logits must match logits one by one; got 0 for 1"):
        policy_loss_factored([torch.zeros(2, 3)], [], torch.zeros(2, 1).long(), torch.zeros(2))
    with pytest.raises(ValueError, match="advantage must have at least one element"):
        policy_loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0).long(), torch.zeros(0))


def test_impossible_actions_change_neither_the_loss_nor_its_gradient():
    logits, prior, action, advantage = batch()
    impossible = torch.full((len(logits), 1), -math.inf, dtype=logits.dtype)

    def loss_and_gradient(*columns):
        logits_and_prior = [torch.cat([x, *columns], 1).requires_grad_() for x in (logits, prior)]
        loss = policy_loss(*logits_and_prior, action, advantage)
        return loss.detach(), torch.autograd.grad(loss, logits_and_prior[0])[0]

    (expected, gradient), (loss, masked) = loss_and_gradient(), loss_and_gradient(impossible)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(masked, torch.cat([gradient, torch.zeros_like(impossible)], 1))
