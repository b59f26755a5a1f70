"""Sec. 3.3: distributions over actions, the heads and their behaviour-cloning losses."""

import math

import pytest
import torch

from dreamer4_impl.equations.eq11_pmpo import frozen_prior, policy_loss_factored
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.layers.actions import Binary, Categorical, Continuous
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.configuration import AgentConfig
from dreamer4_impl.models.heads import MultiTokenHead, PolicyHead, RewardHead, ValueHead
from dreamer4_impl.models.policy import Policy

COMPONENTS = (Binary("keys", 2), Categorical("mouse", 3))


def policy(*lead, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"keys": 2, "mouse": 3}
    return Policy(
        COMPONENTS,
        {name: 2 * torch.randn(*lead, size, generator=generator, dtype=dtype) for name, size in sizes.items()},
    )


def every_action():
    """All 2 · 2 · 3 actions, as a batch."""
    grid = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3))
    return {"keys": grid[:, :2], "mouse": grid[:, 2]}


def of_every_action(distribution):
    """ln π of each of the 12 actions in the one state of `distribution`."""
    logits = {name: part.expand(12, -1) for name, part in distribution.logits.items()}
    return Policy(COMPONENTS, logits).log_prob(every_action())


def test_probabilities_of_all_actions_sum_to_one():
    assert of_every_action(policy()).exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_log_prob_is_the_sum_over_components_and_switches():
    distribution = policy()
    keys, mouse = distribution.logits["keys"], distribution.logits["mouse"].log_softmax(-1)
    expected = keys[0].sigmoid().log() + (1 - keys[1].sigmoid()).log() + mouse[2]
    actions = {"keys": torch.tensor([1, 0]), "mouse": torch.tensor(2)}
    torch.testing.assert_close(distribution.log_prob(actions), expected)


def test_entropy_and_kl_are_exact_over_all_actions():
    ours, other = policy(seed=0), policy(seed=1)
    log_p, log_q = of_every_action(ours), of_every_action(other)
    torch.testing.assert_close(ours.entropy(), -(log_p.exp() * log_p).sum())
    torch.testing.assert_close(ours.kl(other), (log_p.exp() * (log_p - log_q)).sum())
    assert ours.kl(ours) == 0


def test_extreme_logits_stay_finite():
    distribution = Policy(COMPONENTS, {"keys": torch.tensor([1e4, -1e4]), "mouse": torch.tensor([1e4, 0.0, -1e4])})
    taken = {"keys": torch.tensor([1, 0]), "mouse": torch.tensor(0)}
    assert distribution.log_prob(taken) == 0
    assert distribution.entropy() == 0
    assert distribution.sample()["mouse"] == 0


def test_impossible_actions_have_no_entropy_and_are_never_drawn():
    inf = float("inf")

    def masked(scale):
        logits = {"keys": torch.tensor([-inf, scale]), "mouse": torch.tensor([scale, -inf, 0.0])}
        return Policy(COMPONENTS, logits)

    possible = Policy(
        (Binary("keys", 1), Categorical("mouse", 2)), {"keys": torch.ones(1), "mouse": torch.tensor([1.0, 0.0])}
    )
    ours, prior = masked(1.0), masked(0.5)
    torch.testing.assert_close(ours.entropy(), possible.entropy())
    assert 0 < ours.kl(prior) < 1
    assert prior.kl(Policy(COMPONENTS, {"keys": torch.zeros(2), "mouse": torch.zeros(3)})) < inf
    draws = [ours.sample(torch.Generator().manual_seed(seed)) for seed in range(50)]
    assert not any(draw["keys"][0] or draw["mouse"] == 1 for draw in draws)


def test_samples_follow_the_probabilities():
    distribution = policy()
    n = 40000
    many = Policy(COMPONENTS, {name: part.expand(n, -1) for name, part in distribution.logits.items()})
    drawn = many.sample(torch.Generator().manual_seed(0))
    assert drawn["keys"].shape == (n, 2)
    index = (drawn["keys"] * torch.tensor([6, 3])).sum(1) + drawn["mouse"]
    frequency, p = torch.bincount(index, minlength=12) / n, of_every_action(distribution).exp()
    assert ((frequency - p).abs() < 6 * (p * (1 - p) / n).sqrt() + 1e-4).all()


def test_samples_are_reproducible_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    first, again = (policy(5, 4).sample(torch.Generator().manual_seed(0)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())


def test_factors_give_the_loss_of_equation_11():
    ours, prior = policy(7, seed=0), policy(7, seed=1)
    actions = ours.sample(torch.Generator().manual_seed(0))
    loss = policy_loss_factored(
        ours.factors(), prior.factors(), ours.factor_actions(actions), torch.ones(7), alpha=0.5, beta=0.3
    )
    torch.testing.assert_close(loss, -0.5 * ours.log_prob(actions).mean() + 0.3 * ours.kl(prior).mean())


@pytest.mark.parametrize("components", [(), (Continuous("joystick", 2),), (*COMPONENTS, Continuous("joystick", 2))])
def test_a_policy_without_or_with_continuous_components_raises(components):
    with pytest.raises(ValueError, match="a policy needs categorical and binary actions, at least one; got"):
        PolicyHead(4, 8, components)


def test_logits_of_wrong_shape_raise():
    with pytest.raises(ValueError, match=r"logits must hold the components \['keys', 'mouse'\]; got \['keys'\]"):
        Policy(COMPONENTS, {"keys": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"logits\['mouse'\] must have shape \(…, size\) = \(3,\); got \(4,\)"):
        Policy(COMPONENTS, {"keys": torch.zeros(2), "mouse": torch.zeros(4)})
    with pytest.raises(ValueError, match=r"actions\['mouse'\] must have shape of its choices = \(\); got \(1,\)"):
        policy().log_prob({"keys": torch.zeros(2), "mouse": torch.zeros(1)})


def test_each_distance_has_an_output_layer_of_its_own():
    head = MultiTokenHead(4, 8, outputs=5, length=2, output_std=1.0)
    h = torch.randn(2, 3, 4)
    before = head(h)
    assert before.shape == (2, 3, 3, 5)
    with torch.no_grad():
        head.read.weight[5:10] = 0
    after = head(h)
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert (after[:, :, 1] == 0).all()


def test_rewards_and_values_start_at_zero_and_the_policy_nearly_uniform():
    h = torch.randn(2, 3, 4)
    assert (RewardHead(4, 8).predict(h) == 0).all()
    assert (ValueHead(4, 8).predict(h) == 0).all()
    head = PolicyHead(4, 8, COMPONENTS, length=2)
    assert head(h).logits["mouse"].shape == (2, 3, 3, 3)
    assert head(h).logits["keys"].shape == (2, 3, 3, 2)
    assert ((head.act(h).entropy() - 2 * math.log(2) - math.log(3)).abs() < 0.01).all()


def test_actions_come_from_the_policy_at_distance_zero(tiny_on, device):
    tiny = tiny_on(device)
    head, h = tiny.agent().policy, torch.randn(2, 3, 24, device=device, dtype=torch.float64)
    for name, logits in head.act(h).logits.items():
        assert torch.equal(logits, head(h).logits[name][:, :, 0])


def test_a_frozen_prior_starts_at_no_divergence_and_never_trains(tiny_on):
    agent, h = tiny_on().agent(), torch.randn(2, 3, 24, dtype=torch.float64)
    prior = frozen_prior(agent.policy)
    assert (agent.policy.act(h).kl(prior.act(h)) == 0).all()
    agent.policy.act(h).kl(prior.act(h)).sum().backward()
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_behaviour_cloning_sums_means_over_valid_positions(tiny_on, device):
    tiny = tiny_on(device)
    agent, h = tiny.agent(), torch.randn(2, 4, 24, device=device, dtype=torch.float64)
    actions, rewards = tiny.actions(2, 4), torch.randn(2, 4, device=device, dtype=torch.float64)
    policies, logits = agent.policy(h).logits, agent.reward(h)
    of_policy = of_reward = 0.0
    for n in range(3):
        last = 4 - n
        shifted = {name: action[:, n:] for name, action in actions.items()}
        at_n = Policy(agent.policy.components, {name: part[:, :last, n] for name, part in policies.items()})
        of_policy = of_policy - at_n.log_prob(shifted).mean()
        of_reward = of_reward + agent.reward.twohot.cross_entropy(logits[:, :last, n], rewards[:, n:]).mean()
    torch.testing.assert_close(agent.policy_loss(h, actions), of_policy)
    torch.testing.assert_close(agent.reward_loss(h, rewards), of_reward)


def test_gradient_reaches_every_parameter_of_the_heads(tiny_on, device):
    tiny = tiny_on(device)
    agent, h = tiny.agent(), torch.randn(2, 4, 24, device=device, dtype=torch.float64, requires_grad=True)
    rewards = torch.randn(2, 4, device=device, dtype=torch.float64)
    value = agent.value.twohot.cross_entropy(agent.value(h), rewards).mean()
    (agent.policy_loss(h, tiny.actions(2, 4)) + agent.reward_loss(h, rewards) + value).backward()
    assert [name for name, parameter in agent.named_parameters() if not parameter.grad.any()] == []
    assert h.grad.abs().sum(-1).all()


def test_cloning_learns_actions_and_rewards(tiny_on):
    torch.manual_seed(0)
    agent = Agent(AgentConfig(hidden=32, length=1, twohot=TwoHot(21, 5.0)), 8, COMPONENTS)
    h = torch.randn(4, 6, 8)
    rewards = h[..., 0]
    actions = {"keys": (h[..., 1:3] > 0).long(), "mouse": h[..., 3:6].argmax(-1)}
    optimiser = torch.optim.Adam(agent.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        (agent.policy_loss(h, actions) + agent.reward_loss(h, rewards)).backward()
        optimiser.step()
    assert (agent.policy.act(h).log_prob(actions).exp() > 0.5).all()
    assert (agent.reward.predict(h) - rewards).abs().max() < 0.5


def test_an_output_of_another_width_raises():
    with pytest.raises(ValueError, match=r"h must have 4 channels on the last axis; got \(2, 3, 5\)"):
        ValueHead(4, 8)(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"h must have shape \(B, T, W\); got \(2, 4\)"):
        ValueHead(4, 8)(torch.zeros(2, 4))


def test_a_policy_raises_on_unknown_components():
    taken = {"keys": torch.zeros(2, 2), "mouse": torch.zeros(2)}
    for wrong in ({**taken, "labelled": torch.zeros(2)}, {"keys": taken["keys"]}):
        with pytest.raises(ValueError, match=r"actions must hold the components \['keys', 'mouse'\] and nothing else"):
            policy(2).log_prob(wrong)
