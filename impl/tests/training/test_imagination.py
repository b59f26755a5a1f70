"""Phase 3: rollouts of the policy in the world model, and the losses of its two heads."""

from dataclasses import replace

import pytest
import torch

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.equations.eq02_sampling import context_label, sample_frame
from dreamer4_impl.equations.eq10_lambda_return import lambda_returns, value_loss
from dreamer4_impl.equations.eq11_pmpo import policy_loss_factored
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.generation.draws import normal_draws
from dreamer4_impl.generation.imagination import imagine
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.policy import Policy
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training.phases.imagine import ImaginePhase, policy_means, policy_term

KEYS = [("imagine", 0, sample) for sample in range(2)]
CONTEXT, HORIZON = 4, 3


@pytest.fixture
def model(tiny_on):
    tiny_model = tiny_on(dtype=torch.float32)
    return tiny_model.random(lambda: Dreamer4(tiny())).eval()


def rolled_out(model, options, policy=None):
    torch.manual_seed(0)
    context = torch.randn(2, CONTEXT, 5, 6).tanh()
    actions = {"keys": torch.randint(2, (2, CONTEXT, 4)), "mouse": torch.randint(5, (2, CONTEXT))}
    task = torch.tensor([0, 2])
    found = imagine(model, policy or model.agent.policy, context, actions, task, options, 0, KEYS)
    led = {name: torch.cat([actions[name], found.actions[name]], dim=1) for name in actions}
    return found, context, led, task


def test_imagined_frames_are_those_of_the_sampler_given_the_policys_actions(model):
    found, context, led, _ = rolled_out(model, ImagineOptions(horizon=HORIZON, context=CONTEXT, context_level=1.0))
    start = normal_draws(0, KEYS, "start", (HORIZON, 5, 6))
    for t in range(HORIZON):
        past = torch.cat([context, found.z[:, :t]], dim=1)
        seen = {name: values[:, : CONTEXT + t + 1] for name, values in led.items()}
        frame = sample_frame(model.dynamics.network, past, actions=seen, k_max=8, context_level=1.0, noise=start[:, t])
        torch.testing.assert_close(found.z[:, t], frame, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("steps", "level"), [(1, 0.9), (4, 0.9), (2, 1.0)])
def test_rollouts_equal_their_passes_written_out_bit_for_bit(model, steps, level):
    options = ImagineOptions(horizon=HORIZON, context=CONTEXT, steps=steps, context_level=level)
    imagined, context, actions, task = rolled_out(model, options)
    cache, label = model.dynamics.empty_cache(2), context_label(level, 8)

    def committed(frames, noise, first):
        z = (1 - torch.tensor(level)) * noise + torch.tensor(level) * frames
        tau = torch.full(z.shape[:2], label)
        block = {name: values[:, first : first + z.shape[1]] for name, values in actions.items()}
        return model.dynamics(z, tau, torch.full_like(tau, 1 / 8), block, task, cache=cache)[1][:, -1]

    past, start, noise = (
        normal_draws(0, KEYS, name, (length, 5, 6))
        for name, length in (("past", CONTEXT), ("start", HORIZON), ("kept", HORIZON))
    )
    with torch.no_grad():
        h = [committed(context, past, 0)]
        for t in range(HORIZON):
            z, d = start[:, t], torch.full((2, 1), 1 / steps)
            block = {name: values[:, CONTEXT + t, None] for name, values in actions.items()}
            for k in range(steps):
                z1_hat, _ = model.dynamics(z[:, None], k * d, d, block, task, cache=cache, commit=False)
                z = z + (z1_hat[:, 0] - z) / (1 - k / steps) * (1 / steps)
            assert torch.equal(z, imagined.z[:, t])
            h.append(committed(z[:, None], noise[:, t, None], CONTEXT + t))
    assert torch.equal(torch.stack(h, dim=1), imagined.h)


def test_a_model_with_tasks_needs_a_task(model):
    with pytest.raises(ValueError, match=r"task must hold the task of each sequence, .* got None"):
        imagine(model, model.agent.policy, torch.zeros(2, 1, 5, 6), {}, None, ImagineOptions(), 0, KEYS)


def test_h_equals_a_single_pass_over_the_corrupted_past(model):
    """With the noise that each frame keeps, labels and tasks as agent finetuning has them."""
    found, context, led, task = rolled_out(model, ImagineOptions(horizon=HORIZON, context=CONTEXT))
    past, kept = (normal_draws(0, KEYS, what, (n, 5, 6)) for what, n in (("past", CONTEXT), ("kept", HORIZON)))
    clean, noise = torch.cat([context, found.z], dim=1), torch.cat([past, kept], dim=1)
    level = torch.full(clean.shape[:2], context_label(0.9, 8))
    _, h = model.dynamics(0.1 * noise + 0.9 * clean, level, torch.full_like(level, 1 / 8), led, task)
    torch.testing.assert_close(found.h, h[:, CONTEXT - 1 :], rtol=1e-4, atol=1e-5)


def test_actions_are_those_of_the_policy_at_its_states(model):
    found, *_ = rolled_out(model, ImagineOptions(horizon=HORIZON, context=CONTEXT))
    sure = Policy(
        model.agent.policy.components, {"keys": torch.full((1, 1, 4), 30.0), "mouse": torch.eye(5)[None, :1] * 60}
    )
    assert found.actions["keys"].shape == (2, HORIZON, 4)
    model.agent.policy.act = lambda h: Policy(
        sure.components, {name: logits.expand(len(h), 1, -1) for name, logits in sure.logits.items()}
    )
    taken = rolled_out(model, ImagineOptions(horizon=HORIZON, context=CONTEXT))[0].actions
    assert taken["keys"].all()
    assert not taken["mouse"].any()


def started(model, **options):
    phase = ImaginePhase(
        TrainingSettings("imagine", tiny(), imagine=ImagineOptions(horizon=HORIZON, context=CONTEXT, **options))
    )
    prior = phase.companions(model)["prior"]
    return phase, prior


def test_prior_stays_the_policy_before_the_first_update(model):
    phase, prior = started(model)
    found, *_ = rolled_out(model, phase.settings.imagine)
    assert phase.means(model, phase.evaluated(model.agent, found))["kl"].total.abs() < 1e-5
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    with torch.no_grad():
        for parameter in model.agent.policy.parameters():
            parameter.add_(0.1)
    assert phase.means(model, phase.evaluated(model.agent, found))["kl"].total > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())


def test_both_losses_are_those_of_equations_10_and_11(model):
    phase, prior = started(model, alpha=0.7, beta=0.4)
    with torch.no_grad():
        for parameter in model.agent.policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    found, *_ = rolled_out(model, phase.settings.imagine)
    terms = phase.terms(
        {n: m.total / m.count.clamp(min=1) for n, m in phase.means(model, phase.evaluated(model.agent, found)).items()}
    )

    agent, states = model.agent, found.h[:, :-1]
    reward, value = agent.reward.predict(found.h[:, 1:]), agent.value.predict(found.h)
    returns = lambda_returns(reward, value, torch.ones_like(reward))
    policy = agent.policy.act(states)
    expected = policy_loss_factored(
        policy.factors(),
        prior.act(states).factors(),
        policy.factor_actions(found.actions),
        returns - value[:, :-1],
        alpha=0.7,
        beta=0.4,
    )
    torch.testing.assert_close(terms["policy"], expected)
    torch.testing.assert_close(terms["value"], value_loss(agent.value(states), returns, agent.value.twohot))


def test_an_empty_set_contributes_nothing_to_the_policy_loss():
    policy = Policy(tiny().dynamics.actions, {"keys": torch.randn(1, 2, 4), "mouse": torch.randn(1, 2, 5)})
    actions = {"keys": torch.ones(1, 2, 4, dtype=torch.int64), "mouse": torch.zeros(1, 2, dtype=torch.int64)}
    means = policy_means(policy, policy, actions, torch.ones(1, 2))
    assert means["below"].total == means["below"].count == 0
    averages = {name: mean.total / mean.count.clamp(min=1) for name, mean in means.items()}
    torch.testing.assert_close(policy_term(averages, 0.5, 0.3), -0.5 * policy.log_prob(actions).mean())


def test_the_same_keys_and_policy_give_the_same_rollout(model):
    _, prior = started(model)
    options = ImagineOptions(horizon=HORIZON, context=CONTEXT)
    first, second = (rolled_out(model, options, policy)[0] for policy in (model.agent.policy, prior))
    assert torch.equal(first.z, second.z)


def test_actions_drawn_by_inversion_follow_the_policy():
    policy = Policy(tiny().dynamics.actions, {"keys": torch.randn(1, 4), "mouse": torch.randn(1, 5)})
    many = Policy(policy.components, {name: logits.expand(4000, -1) for name, logits in policy.logits.items()})
    uniform = {"keys": torch.rand(4000, 4), "mouse": torch.rand(4000)}
    taken = many.quantile(uniform)
    for mouse, p in enumerate(policy.logits["mouse"][0].softmax(-1)):
        assert abs((taken["mouse"] == mouse).double().mean() - p) < 0.05
    assert ((taken["keys"].double().mean(0) - policy.logits["keys"][0].sigmoid()).abs() < 0.05).all()


@pytest.mark.parametrize(("odds", "weights"), [(-50.0, [1, 0, 0]), (50.0, [1, 1, 1]), (0.0, [1, 0.5, 0.25])])
def test_predicted_ends_cut_returns_and_the_weight_of_what_follows(tiny_on, odds, weights):
    config = replace(tiny(), agent=replace(tiny().agent, continues=True))
    model = tiny_on(dtype=torch.float32).random(lambda: Dreamer4(config))
    torch.nn.init.constant_(model.agent.continues.head.read.bias, odds)
    torch.nn.init.zeros_(model.agent.continues.head.read.weight)
    phase = ImaginePhase(TrainingSettings("imagine", config, imagine=ImagineOptions(horizon=HORIZON)))
    phase.companions(model)
    found, *_ = rolled_out(model, ImagineOptions(horizon=HORIZON, context=CONTEXT))
    inputs = phase.evaluated(model.agent, found, torch.tensor([True, False]))
    torch.testing.assert_close(inputs.weight, torch.tensor([weights, [0, 0, 0]], dtype=torch.float32))
    with torch.no_grad():
        rewards, value = model.agent.reward.predict(found.h[:, 1:]), model.agent.value.predict(found.h)
    cont = torch.full_like(rewards, odds).sigmoid()
    torch.testing.assert_close(inputs.returns, lambda_returns(rewards, value, cont, 0.997, 0.95))
    assert torch.allclose(inputs.returns, rewards) == (odds < 0)


@pytest.mark.nightly
def test_training_in_imagination_raises_the_predicted_return(model):
    """On a random world, over the prior's, each pair of rollouts with the same start and noise."""
    phase, prior = started(model)
    phase.settings = replace(phase.settings, imagine=ImagineOptions(horizon=4, context=2, steps=1))
    for parameter in (*model.agent.value.parameters(), *model.agent.policy.parameters()):
        torch.nn.init.normal_(parameter, std=0.01)
    prior.load_state_dict(model.agent.policy.state_dict())
    trained = [parameter for _, parameter in phase.trained(model)]
    optimiser, normalise = torch.optim.AdamW(trained, lr=3e-3), RunningRMS(phase.term_names)

    def rolled(policy, what, step, count):
        generator, keys = torch.Generator().manual_seed(step), [(what, step, sample) for sample in range(count)]
        context = torch.randn(count, 2, 5, 6, generator=generator).tanh()
        return imagine(
            model,
            policy,
            context,
            {"keys": torch.zeros(count, 2, 4), "mouse": torch.zeros(count, 2, dtype=torch.int64)},
            torch.zeros(count, dtype=torch.int64),
            phase.settings.imagine,
            0,
            keys,
        )

    def returns(policy):
        return model.agent.reward.predict(rolled(policy, "held out", 1000, 256).h[:, 1:]).sum(1)

    for step in range(40):
        means = phase.means(model, phase.evaluated(model.agent, rolled(model.agent.policy, "train", step, 16)))
        terms = phase.terms({name: mean.total / mean.count.clamp(min=1) for name, mean in means.items()})
        optimiser.zero_grad()
        phase.combine({name: normalise(name, value) for name, value in terms.items()}).backward()
        optimiser.step()
    gain = returns(model.agent.policy) - returns(prior)
    assert gain.mean() > 3 * gain.std() / 16
    assert 0 < means["kl"].total / means["kl"].count < 1
