"""Sections of the agent: predicted rewards and imagined returns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.evaluation.bars import judge_bars, named_bars
from dreamer4_impl.evaluation.held_out import load_clips, load_windows
from dreamer4_impl.evaluation.results import SkippedError
from dreamer4_impl.evaluation.sections.imagined import imagined_returns
from dreamer4_impl.evaluation.sections.reward import predict_rewards, reward_prediction

from .toy_games import with_rewards

OPTIONS = ImagineOptions(horizon=3, context=2, steps=1)


@pytest.fixture
def windows(square_data):
    return load_windows(Dataset.open(square_data), 12, length=10, context=3)


def test_untrained_head_explains_no_more_than_the_mean(square_model, windows):
    measures = reward_prediction(square_model, windows, torch.ones(1)).measures  # predicts 0 at the start
    rewards = windows.clips.rewards[windows.scored].numpy()
    assert measures["reward.error"].value == pytest.approx((rewards**2).mean())
    assert measures["reward.error_of_mean"].value == pytest.approx(((rewards - 1) ** 2).mean())
    assert measures["reward.explained"].value < 1
    assert [measures[f"reward.{name}"].value for name in ("correlation", "precision", "recall")] == [0, 0, 0]


def predicted(model, windows, monkeypatch, predict):
    target = "dreamer4_impl.evaluation.sections.reward.predict_rewards"
    monkeypatch.setattr(target, lambda model, clips, noise: predict(clips.rewards.double()))
    measures = reward_prediction(model, windows, torch.zeros(1)).measures
    return {name.removeprefix("reward."): measure.value for name, measure in measures.items()}


def test_exact_head_explains_all_variance_and_finds_every_reward(square_model, windows, monkeypatch):
    exact = predicted(square_model, windows, monkeypatch, lambda rewards: rewards)
    assert exact == {"error": 0, "error_of_mean": exact["error_of_mean"]} | dict.fromkeys(
        ("explained", "correlation", "precision", "recall"), pytest.approx(1)
    )
    linear = predicted(square_model, windows, monkeypatch, lambda rewards: 2 * rewards + 1)
    assert linear["correlation"] == pytest.approx(1)


def test_precision_and_recall_count_frames_with_a_reward_of_the_predicted_sign(square_model, windows, monkeypatch):
    share = windows.clips.rewards[windows.scored].double().mean().item()  # of the frames, which are rewarded with 1
    everywhere = predicted(square_model, windows, monkeypatch, torch.ones_like)
    assert (everywhere["precision"], everywhere["recall"]) == (pytest.approx(share), 1)
    below_half = predicted(square_model, windows, monkeypatch, lambda rewards: 0.49 * rewards)
    wrong_sign = predicted(square_model, windows, monkeypatch, lambda rewards: -rewards)
    assert [values[name] for values in (below_half, wrong_sign) for name in ("precision", "recall")] == [0, 0, 0, 0]


def test_head_that_predicts_the_mean_reward_misses_the_bars_of_agent_and_game(square_model, windows):
    mean = windows.clips.rewards[windows.scored].double().mean()
    measures = reward_prediction(with_rewards(square_model, mean), windows, mean[None]).measures
    assert measures["reward.explained"].value == pytest.approx(0, abs=1e-4)
    for name in ("agent", "game"):
        verdicts = judge_bars([bar for bar in named_bars(name) if bar.text.startswith("reward.")], measures)
        assert [verdict.met for verdict in verdicts] == [False] * 3


def test_windows_score_every_frame_but_the_first_once_with_its_context(square_data):
    dataset = Dataset.open(square_data).subset(range(3))
    short = replace(dataset.episodes[2], length=2)
    dataset = Dataset(dataset.header, dataset.shards, [*dataset.episodes[:2], short])
    windows = load_windows(dataset, 100, length=9, context=4)
    assert windows.scored.sum() == 19 + 19 + 1
    recorded = np.concatenate([dataset.clip(e, 0, n).frames[1:] for e, n in ((0, 20), (1, 20), (2, 2))])
    np.testing.assert_array_equal(windows.clips.video[windows.scored].numpy(), recorded)
    first = windows.scored.int().argmax(1)
    assert first.tolist() == [1, 4, 4, 4, 1, 4, 4, 4, 1]
    assert len(load_windows(dataset, 4, length=9, context=4).clips) == 4


def test_imagination_does_not_begin_at_a_frame_that_ended_its_episode(square_data, tmp_path):
    with DatasetWriter(tmp_path, replace(Dataset.open(square_data).header, shards=(), tasks=())) as writer:
        for ends in (True, False):
            frames = np.zeros((5, *Dataset.open(square_data).clip(0, 0, 1).frames.shape[1:]), np.uint8)
            frames[:, 0, 0, 0] = np.arange(5)
            writer.add_episode(frames, continues=np.arange(5) < 5 - ends, task="square")
    last = {
        ended: load_clips(Dataset.open(tmp_path), 9, 2, ended=ended).video[:, 1, 0, 0, 0] for ended in (True, False)
    }
    assert last[True].tolist() == [1, 2, 3, 4, 1, 2, 3, 4]
    assert last[False].tolist() == [1, 2, 3, 1, 2, 3, 4]


def test_padding_of_a_short_episode_does_not_change_its_predictions(square_model, square_data):
    dataset = Dataset.open(square_data).subset([0])
    whole = load_windows(dataset, 1, length=20, context=3).clips
    short = Dataset(dataset.header, dataset.shards, [replace(dataset.episodes[0], length=6)])
    with torch.no_grad():
        square_model.agent.reward.head.read.bias.normal_(generator=torch.Generator().manual_seed(0))
        square_model.agent.reward.head.read.weight.normal_(generator=torch.Generator().manual_seed(1))
    of_whole, of_short = (
        predict_rewards(square_model.eval(), clips, torch.Generator().manual_seed(0))[0, :6]
        for clips in (whole, load_windows(short, 1, length=20, context=3).clips)
    )
    torch.testing.assert_close(of_short, of_whole)
    assert of_whole.std() > 0


def test_clips_without_rewards_skip_the_section(square_model, windows):
    clips = replace(windows.clips, rewards=torch.zeros_like(windows.clips.rewards))
    with pytest.raises(SkippedError, match="no frame of the held-out clips has a reward"):
        reward_prediction(square_model, replace(windows, clips=clips), torch.zeros(1))


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


def test_clips_start_at_different_frames(square_data):
    clips = load_clips(Dataset.open(square_data), 32, 2)
    assert len(clips) == 32
    assert len({frame.numpy().tobytes() for frame in clips.video[:, 0]}) > 16
