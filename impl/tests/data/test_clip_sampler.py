"""Distribution of the clips, and the meaning of a row."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer4_impl.data.clips import ClipSampler, Positions, upper_half
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.layers.actions import ActionEncoder


def positions_of(batch):
    """(episode, first frame) of every clip, read from its pixels."""
    return [tuple(pixels) for pixels in batch.video[:, 0, 0, :2, 0].tolist()]


def tensors(batch):
    for field in fields(batch):
        value = getattr(batch, field.name)
        yield from value.values() if isinstance(value, dict) else [value] if isinstance(value, Tensor) else []


# Time


@pytest.fixture
def batch(write):
    return ClipSampler(Dataset.open(write([9])), seed=0).batch(0, range(20), length=3, relevant=[False] * 20)


def test_row_t_holds_the_action_that_led_to_frame_t(batch):
    t = batch.video[..., 0, 1, 0].long()
    assert torch.equal(batch.actions["mouse"], t)
    assert torch.equal(batch.actions["keys"].long(), t[..., None] // torch.tensor([1, 2, 4]) % 2)
    assert torch.equal(batch.actions["stick"], t[..., None] / torch.tensor([2.0, -4.0]))


def test_the_action_taken_at_frame_t_led_to_frame_t_plus_1(batch):
    t = batch.video[..., 0, 1, 0].long() + 1
    t[t == 9] = 0  # after the last frame of an episode there is no action
    assert torch.equal(batch.taken_labelled, t > 0)
    assert torch.equal(batch.taken["mouse"], t)
    assert torch.equal(batch.taken["keys"].long(), t[..., None] // torch.tensor([1, 2, 4]) % 2)
    assert torch.equal(batch.taken["stick"], t[..., None] / torch.tensor([2.0, -4.0]))
    assert "labelled" not in batch.taken


def test_no_action_led_to_the_first_frame_of_an_episode(batch):
    t = batch.video[..., 0, 1, 0]
    assert (t == 0).any()
    assert torch.equal(batch.actions["labelled"], t > 0)


def test_rewards_and_ends_arrive_with_their_frame(write, episode):
    path = write([1, 6])
    batch = ClipSampler(Dataset.open(path), seed=0).batch(0, range(20), length=2, relevant=[False] * 20, taken=False)
    t = batch.video[..., 0, 1, 0]
    assert torch.equal(batch.rewards, torch.where(t > 0, 10.0 + t, 0))
    assert (t == 5).any()
    assert torch.equal(batch.continues, t < 5)


def test_a_clip_may_end_with_its_episode_where_the_action_is_unknown(write):
    sampler = ClipSampler(Dataset.open(write([3], continues=[True, True, False])), seed=0)
    batch = sampler.batch(0, [0], length=3, relevant=[False])
    assert batch.continues.tolist() == [[True, True, False]]
    assert batch.rewards[0, -1] == 2
    assert batch.taken_labelled.tolist() == [[True, True, False]]
    assert all(not values[0, -1].any() for values in batch.taken.values())
    batch = sampler.batch(0, [0], length=3, relevant=[False], taken=False)
    assert (batch.taken, batch.taken_labelled) == ({}, None)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_every_frame_of_every_episode_is_drawn(write, length):
    sampler = ClipSampler(Dataset.open(write([5, 7])), seed=0)
    batch = sampler.batch(0, range(400), length, [False] * 400)
    drawn = {tuple(pixels) for pixels in batch.video[:, :, 0, :2, 0].reshape(-1, 2).tolist()}
    assert drawn == {(episode, t) for episode, frames in enumerate((5, 7)) for t in range(frames)}


def test_shapes_and_dtypes_are_those_that_models_take(batch):
    assert (batch.video.shape, batch.video.dtype) == ((20, 3, 2, 3, 1), torch.uint8)
    assert (batch.actions["mouse"].shape, batch.actions["mouse"].dtype) == ((20, 3), torch.int64)
    assert (batch.actions["keys"].shape, batch.actions["keys"].dtype) == ((20, 3, 3), torch.uint8)
    assert (batch.actions["stick"].shape, batch.actions["stick"].dtype) == ((20, 3, 2), torch.float32)
    assert (batch.rewards.dtype, batch.continues.dtype) == (torch.float32, torch.bool)
    assert (batch.task.shape, batch.task.dtype, batch.relevant.dtype) == ((20,), torch.int64, torch.bool)
    assert batch.latents is None


def test_the_action_encoder_takes_the_actions(batch, header):
    encoder = ActionEncoder(header.components, tokens=2, width=4)
    assert encoder(batch.actions, batch=20, time=3).shape == (20, 3, 2, 4)


def test_all_tensors_of_a_batch_but_the_relevant_marks_move_to_the_device(batch):
    moved = batch.to("meta")
    assert torch.equal(moved.relevant, batch.relevant)
    assert [tensor.device.type for tensor in tensors(moved) if tensor is not moved.relevant] == ["meta"] * 12
    assert len(list(tensors(batch))) == 13


# Episodes shorter than a clip


def test_an_episode_shorter_than_a_clip_is_padded_after_its_last_frame(write):
    sampler = ClipSampler(Dataset.open(write([6, 3])), seed=0)
    batch = sampler.batch(0, range(40), length=5, relevant=[False] * 40)
    short = batch.video[:, 0, 0, 0, 0] == 1
    assert short.any()
    assert torch.equal(batch.valid, (torch.arange(5) < 3) | ~short[:, None])
    assert batch.video[short, :, 0, 1, 0].tolist()[0] == [0, 1, 2, 0, 0]
    assert batch.rewards[short].tolist()[0] == [0, 11, 12, 0, 0]
    assert batch.continues[short].tolist()[0] == [True, True, False, True, True]
    assert batch.actions["labelled"][short].tolist()[0] == [False, True, True, False, False]
    assert batch.taken_labelled[short].tolist()[0] == [True, True, False, False, False]
    assert batch.taken["mouse"][short].tolist()[0] == [1, 2, 0, 0, 0]


def test_batches_without_short_episodes_have_no_mask(write):
    sampler = ClipSampler(Dataset.open(write([6, 3])), seed=0)
    assert sampler.batch(0, [0], length=3, relevant=[False]).valid is None
    for step in range(6):  # whether a batch has a mask does not depend on its samples: all processes agree on it
        assert sampler.batch(step, [0], length=4, relevant=[False]).valid is not None


# Draws


def test_positions_enumerate_every_clip_once():
    lengths, rows = [4, 1, 0, 3, 2, 9], 3
    positions = Positions(lengths, rows)
    expected = [(e, start) for e, length in enumerate(lengths) for start in range(max(length - rows + 1, length > 0))]
    assert [positions[k] for k in range(len(positions))] == expected


def test_no_clip_leaves_its_episode(dataset):
    batch = ClipSampler(dataset, seed=3).batch(0, range(200), length=2, relevant=[False] * 200)
    numbers, times = batch.video[:, :, 0, 0, 0], batch.video[:, :, 0, 1, 0].long()
    assert (numbers[:, 0] == numbers[:, 1]).all()
    assert (times[:, 1] == times[:, 0] + 1).all()
    assert set(positions_of(batch)) == {(e, s) for e, n in enumerate([4, 7, 3, 9, 5]) for s in range(n - 1)}


def test_draws_are_uniform_over_positions_not_over_episodes(write):
    """13 positions; counts of 1300 draws have mean 100 and deviation 9.6. The draws never change: seed 0."""
    sampler = ClipSampler(Dataset.open(write([3, 12])), seed=0)
    counts = Counter(
        place for step in range(13) for place in positions_of(sampler.batch(step, range(100), 2, [False] * 100))
    )
    assert len(counts) == 13
    assert all(60 < count < 140 for count in counts.values())


@pytest.mark.parametrize("length", [2, 6])
def test_a_sample_does_not_depend_on_the_number_of_processes(dataset, length):
    relevant = [i % 2 == 0 for i in range(12)]
    whole = ClipSampler(dataset, seed=5).batch(7, range(12), length, relevant)
    for world in (2, 3, 4):
        for rank in range(world):
            own = range(rank, 12, world)
            part = ClipSampler(dataset, seed=5).batch(7, own, length, [relevant[i] for i in own])
            for a, b in zip(tensors(part), tensors(whole), strict=True):
                assert torch.equal(a, b[rank::world])


@pytest.mark.parametrize("integer", [np.int64, np.uint8, torch.tensor])
def test_clips_do_not_depend_on_the_type_of_an_integer(dataset, integer):
    expected = ClipSampler(dataset, seed=5).batch(7, range(4), 2, [False] * 4).video
    indices = [integer(index) for index in range(4)]
    assert torch.equal(ClipSampler(dataset, integer(5)).batch(integer(7), indices, 2, [False] * 4).video, expected)


def test_order_and_earlier_draws_change_nothing(dataset):
    sampler = ClipSampler(dataset, seed=5)
    first = sampler.batch(1, [4], 2, [False])
    sampler.batch(2, range(9), 3, [True] * 9)
    for again in (sampler.batch(1, [4], 2, [False]), sampler.batch(1, [6, 4], 2, [True, False])):
        assert positions_of(again)[-1:] == positions_of(first)


@pytest.mark.parametrize("other", [(6, 1), (5, 2)])
def test_seed_and_step_change_the_clips(dataset, other):
    seed, step = other
    one = ClipSampler(dataset, seed=5).batch(1, range(30), 2, [False] * 30)
    two = ClipSampler(dataset, seed=seed).batch(step, range(30), 2, [False] * 30)
    assert positions_of(one) != positions_of(two)


# Relevant episodes


def test_relevant_clips_are_from_episodes_of_the_upper_half_of_returns(dataset):
    relevant = [True, False] * 50
    batch = ClipSampler(dataset, seed=0).batch(0, range(100), 2, relevant)
    assert batch.relevant.tolist() == relevant
    # Returns 6, 43, 170 of task 0 and 81, 276 of task 1.
    assert {place[0] for place in positions_of(batch)[::2]} == {3, 4}
    assert {place[0] for place in positions_of(batch)[1::2]} == {0, 1, 2, 3, 4}


def test_relevance_can_be_defined_by_a_function(dataset):
    def short(dataset):
        return np.array([episode.length < 5 for episode in dataset.episodes])

    batch = ClipSampler(dataset, seed=0, relevant=short).batch(0, range(50), 2, [True] * 50)
    assert {place[0] for place in positions_of(batch)} == {0, 2}


def test_relevant_clips_can_be_those_with_a_reward(tmp_path, header, episode):
    rewards = [0, 0, 0, 0, 2, 0, 0], [0, 0, 0], [-1, 0], [0, 1]
    with DatasetWriter(tmp_path, header) as writer:
        for number, values in enumerate(rewards):
            writer.add_episode(**episode(number, len(values)) | {"rewards": values})
    sampler = ClipSampler(Dataset.open(tmp_path), seed=0, relevant="rewards")
    batch = sampler.batch(0, range(60), 3, [True, False] * 30)
    assert Counter(positions_of(batch)[::2]).keys() == {(0, 2), (0, 3), (0, 4), (3, 0)}
    assert {place[0] for place in positions_of(batch)[1::2]} == {0, 1, 2, 3}
    assert sampler.relevant_episodes().tolist() == [True, False, False, True]
    with pytest.raises(DatasetError, match="must have relevant episodes"):
        ClipSampler(Dataset.open(tmp_path).subset([1, 2]), seed=0, relevant="rewards").require(relevant=True)


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([1, 2, 3, 4], [False, False, True, True]),
        ([3, 1, 2], [True, False, False]),
        ([0, 0, 0, 1], [False, False, False, True]),
        ([5, 5, 5, 1], [True, True, True, False]),
        ([2, 2], [True, True]),
        ([7], [True]),
    ],
)
def test_upper_half_is_above_the_median_or_at_it_if_none_is_above(tmp_path, header, episode, returns, expected):
    with DatasetWriter(tmp_path, header) as writer:
        for number, reward in enumerate(returns):
            writer.add_episode(**episode(number, 2) | {"rewards": [0, reward]})
    assert upper_half(Dataset.open(tmp_path)).tolist() == expected


def test_missing_relevant_episodes_and_samples_are_refused(dataset):
    sampler = ClipSampler(dataset, seed=0, relevant=lambda dataset: np.zeros(5, bool))
    sampler.require(relevant=False)
    for refused in (lambda: sampler.require(relevant=True), lambda: sampler.batch(0, [0], 2, [True])):
        with pytest.raises(DatasetError, match=r"must have relevant episodes .* none of its 5 is relevant"):
            refused()
    with pytest.raises(ValueError, match="indices must name at least one sample; got none"):
        sampler.batch(0, [], 2, [])


def test_number_of_relevance_marks_equals_number_of_samples(dataset):
    with pytest.raises(ValueError, match="shorter"):
        ClipSampler(dataset, seed=0).batch(0, [0, 1], 2, [True])
