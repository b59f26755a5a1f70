"""Sections of the agent: predicted rewards, imagined returns and returns in the game."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.evaluation.held_out import load_clips
from dreamer4_impl.evaluation.results import SkippedError
from dreamer4_impl.evaluation.sections.game import game_returns
from dreamer4_impl.evaluation.sections.imagined import imagined_returns
from dreamer4_impl.evaluation.sections.reward import reward_prediction

OPTIONS = ImagineOptions(horizon=3, context=2, steps=1)


def with_rewards(model, constant):
    """Make the reward head predict a constant for every input."""
    head = model.agent.reward
    with torch.no_grad():
        logits = head.twohot.encode(torch.tensor(float(constant))).clamp(min=1e-9).log()
        head.head.read.bias.copy_(logits.repeat(head.head.distances))
    return model


def test_untrained_head_explains_no_more_than_the_mean(square_model, square_clips):
    measures = reward_prediction(square_model, square_clips, context=2).measures  # predicts 0 at the start
    rewards = square_clips.clips.rewards[:, 2:].numpy()
    assert measures["reward.error"].value == pytest.approx((rewards**2).mean())
    assert measures["reward.explained"].value < 0
    assert measures["reward.correlation"].value == 0


def test_exact_head_explains_all_variance(square_model, square_clips, monkeypatch):
    target = "dreamer4_impl.evaluation.sections.reward.predict_rewards"
    monkeypatch.setattr(target, lambda model, clips, noise: 2 * clips.rewards.double() + 1)
    measures = reward_prediction(square_model, square_clips, context=2).measures
    assert measures["reward.correlation"].value == pytest.approx(1)
    monkeypatch.setattr(target, lambda model, clips, noise: clips.rewards.double())
    assert reward_prediction(square_model, square_clips, context=2).measures["reward.explained"].value == 1


def test_clips_without_rewards_skip_the_section(square_model, square_clips):
    clips = replace(square_clips.clips, rewards=torch.zeros_like(square_clips.clips.rewards))
    with pytest.raises(SkippedError, match="no frame of the held-out clips has a reward"):
        reward_prediction(square_model, replace(square_clips, clips=clips), context=2)


def test_imagined_return_is_the_discounted_sum_of_predicted_rewards(square_model, square_clips):
    model = with_rewards(square_model, 0.5)
    prior = frozen_prior(model.agent.policy)
    measures = imagined_returns(model, prior, square_clips.clips, OPTIONS, 8, 4, seed=0).measures
    discounted = 0.5 * sum(OPTIONS.gamma**t for t in range(3))
    assert measures["imagined.policy"].value == pytest.approx(discounted, rel=1e-4)
    assert measures["imagined.policy"].n == 8


def test_policy_equal_to_the_prior_gains_exactly_zero(square_model, square_clips):
    prior = frozen_prior(square_model.agent.policy)
    measures = imagined_returns(square_model, prior, square_clips.clips, OPTIONS, 8, 4, seed=0).measures
    difference, kl = measures["imagined.difference"], measures["imagined.kl"]
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert kl.value == pytest.approx(0, abs=1e-6)


def test_kl_is_that_of_the_policy_to_the_prior(square_model, square_clips):
    prior = frozen_prior(square_model.agent.policy)
    with torch.no_grad():
        square_model.agent.policy.head.read.bias[0] += 30  # always the first action
    measures = imagined_returns(square_model, prior, square_clips.clips, OPTIONS, 4, 4, seed=0).measures
    assert measures["imagined.kl"].value == pytest.approx(np.log(3), abs=0.1)  # the prior starts nearly uniform


def test_missing_prior_skips_imagined_returns(square_model, square_clips):
    with pytest.raises(SkippedError, match="no prior in addition to its policy"):
        imagined_returns(square_model, None, square_clips.clips, OPTIONS, 4, 4, seed=0)


class CountingGame:
    """Game of five steps that rewards action 1 with 1."""

    def __init__(self, task, view):
        from dreamer4_impl.layers.actions import Categorical

        self.component, self.steps = Categorical("move", 3), 0

    def reset(self, seed):
        self.steps = 0
        return np.zeros((16, 16, 1), np.uint8)

    def step(self, action):
        from dreamer4_impl.data.game import Step

        self.steps += 1
        return Step(np.zeros((16, 16, 1), np.uint8), float(action == 1), self.steps == 5, False)

    def close(self):
        pass


@pytest.fixture
def viewed_data(square_data):
    dataset = Dataset.open(square_data)
    return Dataset(replace(dataset.header, meta={"view": {"size": 16}}), dataset.shards, dataset.episodes)


def test_policy_that_always_takes_the_rewarded_action_gets_every_reward(square_model, viewed_data, monkeypatch):
    monkeypatch.setattr("dreamer4_impl.evaluation.sections.game.Game", CountingGame)
    with torch.no_grad():
        square_model.agent.policy.head.read.bias[1] += 30
    result = game_returns(square_model.eval(), viewed_data, "square", episodes=6)
    assert result.measures["game.policy"].value == 5
    assert 0 < result.measures["game.random"].value < 4
    assert result.measures["game.difference"].low > 0
    assert "0 of the policy's were cut" in result.notes[0]


def test_world_model_receives_the_actions_of_the_policy(square_model, viewed_data, monkeypatch):
    inputs = []
    monkeypatch.setattr("dreamer4_impl.evaluation.sections.game.Game", CountingGame)
    forward = square_model.dynamics.forward

    def recorded(z, tau, d, actions, *rest, **options):
        inputs.append(copy.deepcopy(actions))
        return forward(z, tau, d, actions, *rest, **options)

    monkeypatch.setattr(square_model.dynamics, "forward", recorded)
    with torch.no_grad():
        square_model.agent.policy.head.read.bias[2] += 30
    game_returns(square_model.eval(), viewed_data, "square", episodes=2)
    assert not inputs[0]["labelled"].any()
    assert all(actions["labelled"].all() and (actions["move"] == 2).all() for actions in inputs[1:])


def test_episodes_that_never_end_are_cut_and_counted(square_model, viewed_data, monkeypatch):
    monkeypatch.setattr("dreamer4_impl.evaluation.sections.game.Game", CountingGame)
    result = game_returns(square_model.eval(), viewed_data, "square", episodes=2, longest=3)
    assert "2 of the policy's were cut after 3 frames" in result.notes[0]


@pytest.mark.parametrize("task", [None, "square"])
def test_missing_game_or_view_skips_the_section(square_model, square_data, task):
    with pytest.raises(SkippedError, match="no game was named" if task is None else "meta.view is missing"):
        game_returns(square_model, Dataset.open(square_data), task, episodes=2)


def test_clips_start_at_different_frames(square_data):
    clips = load_clips(Dataset.open(square_data), 32, 2)
    assert len(clips) == 32
    assert len({frame.numpy().tobytes() for frame in clips.video[:, 0]}) > 16
