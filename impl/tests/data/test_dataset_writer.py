"""Writing of datasets: complete at any time, and invalid episodes are refused."""

import os
from dataclasses import replace

import numpy as np
import pytest

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.durable import InUseError

from .contents import contents


class Killed(BaseException):
    """Not an Exception, so that no handler catches it by accident."""


def add(writer, episode, first, last):
    for number in range(first, last):
        writer.add_episode(**episode(number, 4), task="numbers")


def write_interrupted(path, header, episode):
    with DatasetWriter(path, header, shard_frames=8) as writer:
        add(writer, episode, 0, 5)
        raise Killed


def test_complete_shards_survive_an_exception(tmp_path, header, episode):
    with pytest.raises(Killed):
        write_interrupted(tmp_path, header, episode)
    dataset = Dataset.open(tmp_path, verify="full")
    assert [shard.entry.length for shard in dataset.shards] == [8, 8]


@pytest.mark.parametrize("killed_in", ["numpy.save", "pathlib.Path.rename", "pathlib.Path.replace"])
@pytest.mark.parametrize("shard", [0, 1])
def test_complete_shards_survive_a_kill_and_writing_can_resume(
    tmp_path, header, episode, monkeypatch, killed_in, shard
):
    def die(*args):
        raise Killed

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    writer = DatasetWriter(killed, header, shard_frames=8)
    add(writer, episode, 0, 2 * shard)
    monkeypatch.setattr(killed_in, die)
    with pytest.raises(Killed):
        add(writer, episode, 2 * shard, 5)
    monkeypatch.undo()
    del writer  # the system releases the lock of a killed process
    assert len(Dataset.open(killed, verify="full")) == 8 * shard
    with DatasetWriter(killed, header, shard_frames=8, resume=True) as writer:
        assert (writer.frames, writer.episodes) == (8 * shard, 2 * shard)
        add(writer, episode, writer.episodes, 5)
    with DatasetWriter(whole, header, shard_frames=8) as writer:
        add(writer, episode, 0, 5)
    assert contents(killed) == contents(whole)


def test_a_second_writer_is_refused_and_names_the_first(tmp_path, header, episode):
    with DatasetWriter(tmp_path, header) as writer:
        with pytest.raises(InUseError, match=f"is in use by process {os.getpid()} on"):
            DatasetWriter(tmp_path, header, resume=True)
        writer.add_episode(**episode(0, 4))
    assert len(Dataset.open(tmp_path, verify="full")) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000", "dataset.json"]


def test_refuses_to_overwrite_a_dataset(write):
    write([3])
    with pytest.raises(DatasetError, match="already holds a dataset: resume it, or choose another directory"):
        write([3])


def test_refuses_to_resume_with_other_settings(write, header):
    with pytest.raises(DatasetError, match=r"width was 3, is 4, meta was {'by': \['hand'\]}, is {}"):
        DatasetWriter(write([3]), replace(header, width=4, meta={}), resume=True)


def test_resume_without_a_dataset_starts_one(tmp_path, header):
    with DatasetWriter(tmp_path, header, resume=True) as writer:
        assert writer.episodes == 0


def test_unlabelled_actions_are_stored_as_zero(tmp_path, header, episode):
    content = episode(1, 4)
    content["actions"]["stick"][2] = np.nan
    content["actions"]["mouse"][2] = 999
    with DatasetWriter(tmp_path, header) as writer:
        writer.add_episode(**content, labelled=np.array([False, True, False, True]))
    clip = Dataset.open(tmp_path).clip(0, 0, 4)
    assert clip.labelled.tolist() == [False, True, False, True]
    assert clip.actions["mouse"].tolist() == [0, 1, 0, 3]
    assert clip.actions["stick"].tolist() == [[0, 0], [0.5, -0.25], [0, 0], [1.5, -0.75]]


def test_frames_without_actions_are_unlabelled_with_zero_reward(tmp_path, header, episode):
    with DatasetWriter(tmp_path, header) as writer:
        writer.add_episode(episode(0, 3)["frames"])
    clip = Dataset.open(tmp_path).clip(0, 0, 3)
    assert not clip.labelled.any()
    assert not clip.rewards.any()
    assert clip.continues.all()
    assert not any(values.any() for values in clip.actions.values())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frames", np.zeros((4, 2, 3, 1)), r"frames must be uint8 \(4, 2, 3, 1\); got float64"),
        ("frames", np.zeros((4, 3, 2, 1), np.uint8), r"frames must be uint8 \(4, 2, 3, 1\); got uint8 \(4, 3, 2, 1\)"),
        ("frames", np.zeros((0, 2, 3, 1), np.uint8), "frames must hold at least one"),
        ("rewards", np.zeros(3), r"rewards must be finite numbers \(4,\)"),
        ("rewards", [0, np.nan, 0, 0], "rewards must be finite numbers"),
        ("continues", [1, 1, 1, 1], r"continues must be bool \(4,\); got int64"),
        ("continues", [True, False, True, True], "continues must be True except in an episode's last row"),
        ("labelled", [False, True], r"labelled must be bool \(4,\)"),
        ("actions", None, "labelled must be False where there are no actions"),
        ("actions", {"mouse": np.zeros(4)}, r"actions must hold the components \['keys', 'mouse', 'stick'\]"),
    ],
)
def test_refuses_arrays_of_wrong_shape_dtype_or_value(tmp_path, header, episode, name, value, message):
    content = episode(0, 4) | {"labelled": np.arange(4) > 0} | {name: value}
    with pytest.raises(ValueError, match=message):
        DatasetWriter(tmp_path, header).add_episode(**content)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mouse", [0, 121, 0, 0], r"actions\['mouse'\] must be whole numbers in \[0, 120\]"),
        ("mouse", [0, -1, 0, 0], r"actions\['mouse'\] must be whole numbers in \[0, 120\]"),
        ("mouse", [0, 0.5, 0, 0], r"actions\['mouse'\] must be whole numbers in \[0, 120\]"),
        ("mouse", np.zeros((4, 1)), r"actions\['mouse'\] must have shape \(4,\); got \(4, 1\)"),
        ("keys", np.full((4, 3), 2), r"actions\['keys'\] must be whole numbers in \[0, 1\]"),
        ("keys", np.zeros((4, 2)), r"actions\['keys'\] must have shape \(4, 3\)"),
        ("stick", np.full((4, 2), np.inf), r"actions\['stick'\] must be finite numbers"),
    ],
)
def test_refuses_actions_out_of_range(tmp_path, header, episode, name, value, message):
    content = episode(0, 4)
    content["actions"][name] = value
    with pytest.raises(ValueError, match=message):
        DatasetWriter(tmp_path, header).add_episode(**content)


def test_a_refused_episode_is_not_written(tmp_path, header, episode):
    with DatasetWriter(tmp_path, header) as writer:
        with pytest.raises(ValueError, match="rewards"):
            writer.add_episode(**episode(0, 4) | {"rewards": [np.inf] * 4}, task="bad")
        writer.add_episode(**episode(1, 4), task="good")
    dataset = Dataset.open(tmp_path)
    assert (dataset.tasks, len(dataset)) == (("good",), 4)
