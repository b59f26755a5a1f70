"""Reading of datasets: round trip, split, damage, concatenation."""

import json
import re
import shutil
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from dreamer4_impl.data.dataset import Dataset, concatenate
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.layers.actions import Binary

LENGTHS = [4, 7, 3, 9, 5]


def test_reads_what_was_written(dataset, header, episode):
    assert replace(dataset.header, tasks=(), shards=()) == header
    assert dataset.tasks == ("task 0", "task 1")
    assert len(dataset) == sum(LENGTHS)
    assert [whole.length for whole in dataset.episodes] == LENGTHS
    for number, length in enumerate(LENGTHS):
        clip, written = dataset.clip(number, 0, length), episode(number, length)
        np.testing.assert_array_equal(clip.frames, written["frames"])
        np.testing.assert_array_equal(clip.rewards, written["rewards"])
        np.testing.assert_array_equal(clip.continues, written["continues"])
        for name, values in written["actions"].items():
            np.testing.assert_array_equal(clip.actions[name], values)
        assert clip.labelled.tolist() == clip.first.__invert__().tolist() == [False] + [True] * (length - 1)
        assert clip.task == number % 2


def test_a_clip_starts_at_the_requested_frame(dataset):
    clip = dataset.clip(3, start=2, length=4)
    assert clip.frames[:, 0, :2, 0].tolist() == [[3, 2], [3, 3], [3, 4], [3, 5]]


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 0), (2, 3)])
def test_refuses_a_clip_outside_its_episode(dataset, start, length):
    with pytest.raises(ValueError, match=r"must lie in episode 0 of 4 frames; got"):
        dataset.clip(0, start, length)


def test_mapped_arrays_are_read_only(dataset):
    with pytest.raises(ValueError, match="read-only"):
        dataset.clip(0, 0, 1).frames[:] = 1


def test_no_episode_spans_two_shards(dataset):
    assert [(whole.shard, whole.start) for whole in dataset.episodes] == [(0, 0), (0, 4), (1, 0), (1, 3), (2, 0)]


def test_returns_are_sums_of_rewards(dataset):
    assert dataset.returns().tolist() == [6, 60 + 21, 40 + 3, 240 + 36, 160 + 10]


# Held out


def test_every_nth_episode_from_the_first_is_held_out(write):
    train, held_out = Dataset.open(write([3] * 7)).split(held_out=1 / 3)
    assert [whole.number for whole in held_out.episodes] == [0, 3, 6]
    assert [whole.number for whole in train.episodes] == [1, 2, 4, 5]
    assert len(train) + len(held_out) == 21


def test_at_least_one_episode_is_held_out(dataset):
    train, held_out = dataset.split(held_out=0.01)
    assert (len(train.episodes), len(held_out.episodes)) == (4, 1)


def test_skipping_a_damaged_shard_keeps_the_split_of_all_other_episodes(write):
    path = write([10] * 6)
    _, before = Dataset.open(path).split(0.5)
    shutil.rmtree(path / "00001")
    with pytest.warns(UserWarning, match="00001"):
        _, after = Dataset.open(path, damaged="skip").split(0.5)
    assert [whole.number for whole in before.episodes] == [0, 2, 4]
    assert [whole.number for whole in after.episodes] == [0, 2, 4]


@pytest.mark.parametrize("held_out", [0, 0.6, -1])
def test_refuses_a_held_out_share_outside_zero_to_one_half(dataset, held_out):
    with pytest.raises(ValueError, match=r"held_out must lie in \(0, 0.5\]"):
        dataset.split(held_out)


def test_refuses_to_split_a_single_episode(write):
    with pytest.raises(DatasetError, match="record more episodes"):
        Dataset.open(write([5])).split()


# Damage


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def other_length(path):
    np.save(path, np.load(path)[:-1])


def pickled(path):
    np.save(path, np.array([object()]), allow_pickle=True)


QUICK = [truncate, empty, other_length, pickled, lambda path: path.unlink(), lambda path: shutil.rmtree(path.parent)]


@pytest.mark.parametrize("file", ["frames.npy", "task.npy", "action.stick.npy"])
@pytest.mark.parametrize("damage", QUICK)
@pytest.mark.parametrize("verify", ["quick", "full"])
def test_a_damaged_shard_is_refused_and_named(write, damage, verify, file):
    path = write(LENGTHS)
    damage(path / "00001" / file)
    with pytest.raises(DatasetError, match=r"shard .*00001 is damaged: .*\.npy (is missing|cannot be|must be)"):
        Dataset.open(path, verify=verify)


@pytest.mark.parametrize("column", ["frames", "rewards", "continues", "first", "labelled", "task", "action.keys"])
def test_a_flipped_bit_is_found_by_the_checksum(write, column):
    path = write([10, 10])
    flip(path / "00001" / f"{column}.npy")
    with pytest.raises(DatasetError, match=rf"00001 is damaged: {column}.npy does not match its checksum"):
        Dataset.open(path, verify="full")


@pytest.mark.parametrize("verify", ["quick", "full"])
def test_option_skip_leaves_out_a_damaged_shard_with_a_warning(write, verify):
    path = write(LENGTHS)
    truncate(path / "00001" / "frames.npy")
    with pytest.warns(UserWarning, match=r"skipped: shard .*00001 is damaged"):
        dataset = Dataset.open(path, damaged="skip", verify=verify)
    assert [dataset.clip(i, 0, 1).frames[0, 0, 0, 0] for i in range(len(dataset.episodes))] == [0, 1, 4]
    assert [whole.number for whole in dataset.episodes] == [0, 1, 4]


def test_a_different_number_of_episodes_is_damage(write):
    path = write(LENGTHS)
    first = np.load(path / "00000" / "first.npy")
    first[2] = True
    np.save(path / "00000" / "first.npy", first)
    with pytest.raises(DatasetError, match=r"its episodes differ from those in dataset\.json"):
        Dataset.open(path)


def test_a_task_out_of_range_is_damage(write):
    path = write(LENGTHS)
    np.save(path / "00000" / "task.npy", np.full(11, 2, np.int32))
    with pytest.raises(DatasetError, match=r"tasks that are not in dataset\.json"):
        Dataset.open(path)


def change(path, **changes):
    file = path / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_another_version_is_refused_with_advice(write):
    path = write([3])
    change(path, version=2)
    with pytest.raises(DatasetError, match=r"has version 2; this program reads version 1: record the dataset again"):
        Dataset.open(path)


def test_another_format_is_refused(write):
    path = write([3])
    change(path, format="zip")
    with pytest.raises(DatasetError, match="its format must be 'dreamer4-dataset'"):
        Dataset.open(path)


@pytest.mark.parametrize(
    "changes", [{"actions": [{"kind": "analog"}]}, {"height": None}, {"shards": [{}]}, {"tasks": None}]
)
def test_an_invalid_header_is_refused(write, changes):
    path = write([3])
    change(path, **changes)
    with pytest.raises(DatasetError, match=r"dataset.json is damaged"):
        Dataset.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../elsewhere"}, "a shard must be a directory in that of the dataset; got the name '../elsewhere'"),
        ({"name": "/etc"}, "got the name '/etc'"),
        ({"name": ".."}, "got the name '..'"),
        ({"name": ""}, "got the name ''"),
        ({"name": 0}, "got the name 0"),
        ({"length": -3}, "length of the shard '00000' must be a whole number, 1 or more; got -3"),
        ({"episodes": 1.5}, "episodes of the shard '00000' must be a whole number, 1 or more; got 1.5"),
    ],
)
def test_an_impossible_shard_is_refused(write, changes, message):
    path = write([3])
    (shard,) = json.loads((path / "dataset.json").read_text())["shards"]
    change(path, shards=[shard | changes])
    with pytest.raises(DatasetError, match=re.escape(message)):
        Dataset.open(path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"1" * 5000])
def test_a_header_that_is_not_json_is_refused(write, content):
    path = write([3])
    (path / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"dataset.json cannot be read"):
        Dataset.open(path)


@pytest.mark.parametrize("damage", [b"(", b"'", b"\n", b"\\", b"\xff"])
def test_every_damage_in_the_header_of_an_array_is_named(write, damage):
    path = write([3])
    file = path / "00000" / "rewards.npy"
    content = file.read_bytes()
    for position in range(0, 70, 3):
        file.write_bytes(content[:position] + damage + content[position + 1 :])
        with suppress(DatasetError):  # a changed space of the header
            Dataset.open(path)


def test_a_truncated_header_is_refused(write):
    path = write([3])
    truncate(path / "dataset.json")
    with pytest.raises(DatasetError, match=r"dataset.json cannot be read"):
        Dataset.open(path)


def test_a_directory_without_a_header_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"is not a dataset: dataset\.json is missing; dreamer4-record makes one"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("options", [{"damaged": "ignore"}, {"verify": "no"}])
def test_refuses_an_unknown_option(write, options):
    with pytest.raises(ValueError, match="must be one of"):
        Dataset.open(write([3]), **options)


# Several


def test_concatenation_joins_episodes_and_tasks_of_the_same_name(write, tmp_path, header, episode):
    one = Dataset.open(write([4, 5]))
    with DatasetWriter(tmp_path / "other", header) as writer:
        writer.add_episode(**episode(7, 3), task="task 1")
        writer.add_episode(**episode(8, 3), task="task 9")
    both = concatenate([one, Dataset.open(tmp_path / "other")])
    assert both.tasks == ("task 0", "task 1", "task 9")
    assert [both.clip(i, 0, 1).task for i in range(4)] == [0, 1, 1, 2]
    assert [both.clip(i, 0, 1).frames[0, 0, 0, 0] for i in range(4)] == [0, 1, 7, 8]


def test_split_of_a_concatenation_is_that_of_its_parts(dataset):
    of_both = concatenate([dataset, dataset]).split(0.5)[1]
    of_each = concatenate([dataset.split(0.5)[1]] * 2)
    assert of_both.episodes == of_each.episodes


@pytest.mark.parametrize("change", [{"height": 9}, {"components": (Binary("keys", 3),)}])
def test_refuses_datasets_of_different_spaces(dataset, tmp_path, change):
    with DatasetWriter(tmp_path / "other", replace(dataset.header, name="other", **change)):
        pass
    with pytest.raises(DatasetError, match=f"datasets must agree in {next(iter(change))}; 'numbered' has .* 'other'"):
        concatenate([dataset, Dataset.open(tmp_path / "other")])


def test_a_dataset_without_episodes_has_length_zero(tmp_path):
    with DatasetWriter(tmp_path, Header("nothing", 1, 1, 1, ())):
        pass
    assert len(Dataset.open(tmp_path)) == 0
