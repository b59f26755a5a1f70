"""Returns in the real game, and imagined against real returns of the same policy."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.data.clips import as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq11_pmpo import frozen_prior
from dreamer4_impl.evaluation.measures import Measure
from dreamer4_impl.evaluation.played_game import Episode, PlayedGame, PolicyPlay
from dreamer4_impl.evaluation.results import SkippedError
from dreamer4_impl.evaluation.sections import returns
from dreamer4_impl.evaluation.sections.game import game_returns
from dreamer4_impl.evaluation.sections.returns import compare_returns, disagreement
from dreamer4_impl.models.dreamer4 import Dreamer4

from .toy_games import CountingGame, UnevenGame, with_action, with_rewards

OPTIONS = ImagineOptions(horizon=3, context=2, steps=1)
GAME = "dreamer4_impl.evaluation.played_game.Game"


@pytest.fixture
def viewed_data(square_data, monkeypatch):
    monkeypatch.setattr(GAME, CountingGame)
    return Dataset.open(square_data)


def test_policy_that_always_takes_the_rewarded_action_gets_every_reward(square_model, viewed_data):
    prior = frozen_prior(square_model.agent.policy)  # nearly uniform
    game = PlayedGame(with_action(square_model, 1).eval(), viewed_data, "square", episodes=6)
    result = game_returns(game, prior, random_episodes=8)
    values = {name.removeprefix("game."): measure for name, measure in result.measures.items()}
    assert (values["policy"].value, values["policy"].n) == (5, 6)
    assert 0 < values["prior"].value < 4
    assert values["prior"].n == 6
    assert 0 < values["random"].value < 4
    assert values["random"].n == 8
    assert values["difference"].low > 0
    assert "6 episodes of square of each policy and 8 of random play; 0 of the policy's were cut" in result.notes[0]
    assert "game.prior" not in game_returns(game).measures


def test_world_model_receives_the_actions_of_the_policy(square_model, viewed_data, monkeypatch):
    inputs, forward = [], square_model.dynamics.forward

    def recorded(z, tau, d, actions, *rest, **options):
        inputs.append(copy.deepcopy(actions))
        return forward(z, tau, d, actions, *rest, **options)

    monkeypatch.setattr(square_model.dynamics, "forward", recorded)
    play = PlayedGame(with_action(square_model, 2).eval(), viewed_data, "square", episodes=2).by_policy
    assert not inputs[0]["labelled"].any()
    assert all(actions["labelled"].all() and (actions["move"] == 2).all() for actions in inputs[1:])
    for name in ("move", "labelled"):
        assert torch.equal(play.actions[name], torch.cat([actions[name] for actions in inputs], dim=1))
    assert play.z.shape[:2] == (2, 5)


def test_game_that_is_over_leaves_the_batch_and_the_others_keep_their_past(square_model, viewed_data, monkeypatch):
    monkeypatch.setattr(GAME, UnevenGame)
    model = square_model.eval()
    passes, forward = [], model.dynamics.forward

    def recorded(z, tau, d, actions, **options):
        prediction = forward(z, tau, d, actions, **options)
        passes.append((z, tau, d, prediction[1]))
        return prediction

    monkeypatch.setattr(model.dynamics, "forward", recorded)
    play = PlayedGame(model, viewed_data, "square", episodes=3).by_policy
    assert [len(z) for z, *_ in passes] == [3, 3, 2, 1]
    assert [len(episode.rewards) for episode in play.episodes] == [3, 4, 5]
    for number, length in enumerate([2, 3, 4]):
        game, taken = UnevenGame(None, None), play.actions["move"][number, 1:length].tolist()
        frames = [game.reset(number), *(game.step(action).frame for action in taken)]
        z = model.tokenizer.encode(as_video(torch.from_numpy(np.stack(frames)))[None])
        torch.testing.assert_close(play.z[number, :length], z[0])
        assert not play.z[number, length:].any()
        assert play.actions["labelled"][number, :length].tolist() == [False] + [True] * (length - 1)
        row = number - 3  # from the end, because games end in the order of their numbers
        *inputs, h = (torch.cat([x[row] for x in tensors])[None] for tensors in zip(*passes[:length], strict=True))
        actions = {name: values[number : number + 1, :length] for name, values in play.actions.items()}
        torch.testing.assert_close(h, forward(*inputs, actions)[1].detach())


def test_episodes_that_never_end_are_cut_and_counted(square_model, viewed_data):
    game = PlayedGame(square_model.eval(), viewed_data, "square", episodes=2, longest=3)
    assert "2 of the policy's were cut after 3 frames" in game_returns(game).notes[0]
    with pytest.raises(SkippedError, match="every episode is cut before 3 frames follow its first one"):
        compare_returns(game, OPTIONS, 8, 4, seed=0)


@pytest.mark.parametrize("task", [None, "square"])
def test_missing_game_or_view_skips_the_section(square_model, square_data, task):
    dataset = Dataset.open(square_data)
    dataset = Dataset(replace(dataset.header, meta={}), dataset.shards, dataset.episodes)
    game = PlayedGame(square_model, dataset, task, episodes=2)
    for section in (game_returns, lambda game: compare_returns(game, OPTIONS, 8, 4, seed=0)):
        with pytest.raises(SkippedError, match="no game was named" if task is None else "meta.view is missing"):
            section(game)


def compared(model, data, constant, starts=100):
    game = PlayedGame(with_rewards(with_action(model, 1), constant).eval(), data, "square", episodes=4)
    measures = compare_returns(game, OPTIONS, starts, 3, seed=0).measures
    return {name.removeprefix("returns."): measure for name, measure in measures.items()}


def test_rewards_are_summed_over_as_many_frames_until_the_end_of_an_episode(square_model, viewed_data):
    """The real returns of the five starts of an episode are 3, 3, 3, 2 and 1; without a head for ends, 3 imagined."""
    measures = compared(square_model, viewed_data, 1.0)
    real, imagined = measures["real"], measures["imagined"]
    assert (real.value, real.low, real.high, real.n) == pytest.approx((2.4, 2.4, 2.4, 20))
    assert imagined.value == pytest.approx(3, rel=1e-4)
    assert measures["difference"].value == pytest.approx(0.6, rel=1e-3)
    assert measures["ratio"].value == pytest.approx(1.25, rel=1e-4)
    assert compared(square_model, viewed_data, 0.8, starts=10)["real"].n == 10


def test_predicted_ends_stop_the_imagined_return(square_model, viewed_data):
    config = square_model.config
    model = Dreamer4(replace(config, agent=replace(config.agent, continues=True)))  # c = 1/2 before training
    assert compared(model, viewed_data, 1.0)["imagined"].value == pytest.approx(1 + 1 / 2 + 1 / 4, rel=1e-4)


def test_no_start_reaches_beyond_the_limit_of_time(square_model, viewed_data, monkeypatch):
    monkeypatch.setattr(GAME, partial(CountingGame, truncated=True))
    measures = compared(square_model, viewed_data, 1.0)
    assert measures["real"].n == 4 * 3
    assert measures["real"].value == 3
    assert measures["ratio"].value == pytest.approx(1, rel=1e-4)


def test_starts_of_an_episode_do_not_depend_on_its_own_end():
    lengths = {9: True, 7: False, 5: True}
    episodes = [Episode([0.0] * length, terminated=ended) for length, ended in lengths.items()]
    starts = returns._starts(episodes, horizon=3)
    assert [[t for number, t in starts if number == n] for n in range(3)] == [[0, 1, 2, 3]] * 3


def test_context_of_a_start_is_the_frames_up_to_it(square_model):
    z = torch.arange(20.0).reshape(2, 10, 1, 1)
    play = PolicyPlay([], z, {"move": z[..., 0, 0].long()})
    last = torch.tensor([4, 0, 7])
    context, actions = returns._contexts(play, torch.tensor([0, 1, 1]), last, (last + 1).clamp(max=3), square_model)
    assert context[..., 0, 0].tolist() == [[2, 3, 4], [10, 10, 10], [15, 16, 17]]  # the second is padded
    assert torch.equal(actions["move"], context[..., 0, 0].long())


def test_intervals_are_over_episodes_and_a_real_return_of_0_is_no_agreement():
    sums = returns._sums_by_episode([0] * 100 + [1] * 100, np.ones(200), np.repeat([0.0, 1.0], 100))
    measures = returns._measures(sums, 200)
    real = measures["returns.real"]
    assert (real.value, real.low, real.high, real.n) == (0.5, 0, 1, 200)
    assert measures["returns.ratio"].high == np.inf
    none = returns._measures(sums * [1, 1, 0], 200)
    assert "the real return is 0" in disagreement(none)


@pytest.mark.parametrize(("ratio", "reliable"), [(0.81, True), (1.19, True), (0.79, False), (1.21, False), (-1, False)])
def test_imagined_return_is_reliable_within_a_fifth_of_the_real_one(ratio, reliable):
    assert (disagreement({"returns.ratio": Measure(ratio, 0, 2, n=400)}) is None) is reliable
