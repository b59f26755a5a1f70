"""Recorded play: content of a row, and determinism by seed."""

from itertools import pairwise

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from dreamer4_impl.data.dataset import Dataset  # noqa: E402
from dreamer4_impl.data.format import DatasetError  # noqa: E402
from dreamer4_impl.data.game import Game, View, component_of  # noqa: E402
from dreamer4_impl.data.policies import POLICIES, mixed  # noqa: E402
from dreamer4_impl.data.record import Recording, record  # noqa: E402
from dreamer4_impl.layers.actions import Binary, Categorical, Continuous  # noqa: E402

SPACES = {
    "categorical": gymnasium.spaces.Discrete(5),
    "binary": gymnasium.spaces.MultiBinary(3),
    "continuous": gymnasium.spaces.Box(-1, 2, (2,)),
    "unbounded": gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
}


class Counting(gymnasium.Env):
    """Pixels: frames since the reset, previous action, a number from the seed. The reward is the frame's number."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8)

    def __init__(self, actions="categorical", ends=22, terminates=True, channels=3):
        self.action_space, self.ends, self.terminates = SPACES[actions], ends, terminates
        self.shape = (4, 4, channels)[: 2 if channels == 0 else 3]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.action, self.number = 0, 0, int(self.np_random.integers(200))
        return self._observe(), {}

    def step(self, action):
        self.t, self.action = self.t + 1, np.ravel(action)[0]
        over = self.t >= self.ends
        return self._observe(), float(self.t), over and self.terminates, over and not self.terminates, {}

    def _observe(self):
        pixels = np.zeros(self.shape, np.uint8)
        pixels[...] = self.t if self.shape[2:] != (3,) else [self.t, abs(10 * self.action), self.number]
        return pixels


gymnasium.register("Counting-v0", Counting)
gymnasium.register("CountingTruncated-v0", Counting, kwargs={"terminates": False})
for name in SPACES:
    gymnasium.register(f"Counting{name.title()}-v0", Counting, kwargs={"actions": name})
for channels in (0, 1, 4):
    gymnasium.register(f"Counting{channels}-v0", Counting, kwargs={"channels": channels})


def recorded(path, task="Counting-v0", frames=40, size=4, frame_skip=4, **options):
    return record(Recording(task, frames, View(size, frame_skip=frame_skip), **options), path, shard_frames=12)


def pixels(dataset, episode):
    whole = dataset.clip(episode, 0, dataset.episodes[episode].length)
    return whole, whole.frames[:, 0, 0].astype(int)


def test_action_of_row_t_led_to_frame_t_and_the_first_is_unlabelled(tmp_path):
    dataset = recorded(tmp_path)
    for episode in range(len(dataset.episodes)):
        clip, shown = pixels(dataset, episode)
        assert (10 * clip.actions["action"]).tolist() == shown[:, 1].tolist()
        assert clip.labelled.tolist() == [False] + [True] * (len(shown) - 1)


def test_an_action_is_held_for_the_skipped_frames_and_their_rewards_are_summed(tmp_path):
    clip, shown = pixels(recorded(tmp_path), 0)
    assert shown[:, 0].tolist() == [0, 4, 8, 12, 16, 20, 22]
    assert clip.rewards.tolist() == [0, 10, 26, 42, 58, 74, 21 + 22]


def test_termination_ends_an_episode_in_its_last_row(tmp_path):
    clip, _ = pixels(recorded(tmp_path), 0)
    assert clip.continues.tolist() == [True] * 6 + [False]


@pytest.mark.parametrize("options", [{"task": "CountingTruncated-v0"}, {"longest": 5}])
def test_truncation_is_not_termination(tmp_path, options):
    dataset = recorded(tmp_path, **options)
    assert len(dataset.episodes) > 1
    for episode in range(len(dataset.episodes)):
        assert pixels(dataset, episode)[0].continues.all()


def test_records_exactly_the_requested_number_of_frames(tmp_path):
    dataset = recorded(tmp_path, frames=16)
    assert [episode.length for episode in dataset.episodes] == [7, 7, 2]
    assert dataset.clip(2, 0, 2).continues.all()


def test_meta_describes_the_recording(tmp_path):
    dataset = recorded(tmp_path, policy="sticky", epsilon=(0.0, 0.5), seed=3)
    assert (dataset.name, dataset.tasks) == ("Counting-v0", ("Counting-v0",))
    assert View(**dataset.meta["view"]) == View(4)
    assert {**dataset.meta, "view": 0} == {
        "view": 0,
        "policy": "sticky",
        "epsilon": [0.0, 0.5],
        "seed": 3,
        "longest": None,
    }


def digests(dataset):
    return [shard.entry for shard in dataset.shards]


def test_a_recording_is_a_function_of_its_seed(tmp_path):
    one, two, other = (recorded(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert digests(one) == digests(two)
    assert digests(one) != digests(other)


def test_episodes_of_a_recording_differ(tmp_path):
    dataset = recorded(tmp_path)
    first, second = pixels(dataset, 0)[1], pixels(dataset, 1)[1]
    assert first[0, 2] != second[0, 2]
    assert first[:, 1].tolist() != second[:, 1].tolist()


@pytest.mark.parametrize("interrupted_at", [1, 13, 20, 30])
def test_a_resumed_recording_equals_an_uninterrupted_one(tmp_path, interrupted_at):
    def interrupt(frames):
        if frames >= interrupted_at:
            raise KeyboardInterrupt

    whole = recorded(tmp_path / "whole")
    recording = Recording("Counting-v0", 40, View(4))
    with pytest.raises(KeyboardInterrupt):
        record(recording, tmp_path / "cut", progress=interrupt, shard_frames=12)
    assert len(Dataset.open(tmp_path / "cut")) == (0 if interrupted_at < 14 else 14 if interrupted_at < 28 else 28)
    counted = []
    resumed = record(recording, tmp_path / "cut", resume=True, progress=counted.append, shard_frames=12)
    assert digests(resumed) == digests(whole)
    assert counted[-1] == 40


def test_resuming_a_finished_recording_changes_nothing(tmp_path):
    before = digests(recorded(tmp_path))
    assert digests(record(Recording("Counting-v0", 40, View(4)), tmp_path, resume=True)) == before


def test_refuses_to_resume_with_other_settings(tmp_path):
    recorded(tmp_path)
    with pytest.raises(DatasetError, match="cannot be resumed with these: meta was"):
        record(Recording("Counting-v0", 40, View(4), seed=1), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("kind", "component"),
    [
        ("categorical", Categorical("action", 5)),
        ("binary", Binary("action", 3)),
        ("continuous", Continuous("action", 2)),
        ("unbounded", Continuous("action", 2)),
    ],
)
@pytest.mark.parametrize("policy", ["random", "sticky"])
def test_actions_of_every_kind_are_played_and_recorded(tmp_path, kind, component, policy):
    dataset = recorded(tmp_path, task=f"Counting{kind.title()}-v0", policy=policy)
    assert dataset.components == (component,)
    actions = np.concatenate([pixels(dataset, e)[0].actions["action"][1:] for e in range(len(dataset.episodes))])
    assert all(SPACES[kind].contains(action.astype(SPACES[kind].dtype)) for action in actions)
    assert len(np.unique(actions)) > 1


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(3, start=1),
        gymnasium.spaces.Box(0, 1, (2, 2)),
        gymnasium.spaces.Box(0, 9, (2,), np.int32),
        gymnasium.spaces.MultiDiscrete([2, 2]),
    ],
)
def test_refuses_an_unsupported_action_space(space):
    with pytest.raises(DatasetError, match=r"actions must be Discrete from 0, MultiBinary\(n\) or Box"):
        component_of(space)


def test_half_of_the_actions_are_random_at_epsilon_one_half():
    """A policy whose action is always 7 is replaced in 500 ± 16 of 1000 steps by another action."""
    act = mixed(lambda: 7, lambda: 0, 0.5, np.random.default_rng(0))
    assert 430 < sum(act() == 0 for _ in range(1000)) < 570


def test_the_sticky_policy_holds_its_actions():
    game = Game("Counting-v0", View(4))
    act = POLICIES["sticky"](game, np.random.default_rng(0))
    actions = [act() for _ in range(1000)]
    kept = np.mean([a == b for a, b in pairwise(actions)])
    # Held with 3/4, and with 1/5 of the rest drawn again.
    assert abs(kept - 0.8) < 0.06


# Views


def test_view_sets_size_and_colours(tmp_path):
    assert Game("Counting-v0", View(2)).reset(0).shape == (2, 2, 3)
    assert Game("Counting-v0", View(2, grey=True)).reset(0).shape == (2, 2, 1)


@pytest.mark.parametrize("channels", [0, 1])
def test_a_grey_game_can_be_recorded_in_colour(channels):
    assert Game(f"Counting{channels}-v0", View(4)).reset(0).shape == (4, 4, 3)


def test_refuses_observations_that_are_not_images():
    with pytest.raises(DatasetError, match=r"observations of Counting4-v0 must be uint8 images.*got uint8 \(4, 4, 4\)"):
        Game("Counting4-v0", View(4)).reset(0)


@pytest.mark.parametrize("options", [{"size": 0}, {"frame_skip": 0}, {"repeat_probability": 1.0}])
def test_refuses_a_view_out_of_range(options):
    with pytest.raises(ValueError, match=rf"{next(iter(options))} must .*; got"):
        View(**options)


@pytest.mark.parametrize(
    "options",
    [{"policy": "clever"}, {"epsilon": (0.5, 0.4)}, {"epsilon": (0, 2)}, {"frames": 1}, {"longest": 1}, {"seed": -1}],
)
def test_refuses_recording_options_out_of_range(options):
    with pytest.raises(ValueError, match=rf"{next(iter(options))}.* must be"):
        Recording(**{"task": "Counting-v0", "frames": 10} | options)


def test_refuses_a_script_for_a_game_without_one(tmp_path):
    with pytest.raises(DatasetError, match=r"scripted policy for .*Pong-v5; got Counting-v0: play at random"):
        recorded(tmp_path, policy="scripted")


def test_refuses_a_game_that_does_not_exist():
    with pytest.raises(DatasetError, match="Chess-v9 cannot be played"):
        Game("Chess-v9", View())


@pytest.mark.parametrize(("missing", "task"), [("gymnasium", "Counting-v0"), ("ale_py", "ALE/Pong-v5")])
def test_error_names_the_extra_to_install(monkeypatch, missing, task):
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(DatasetError, match=r"needs .*: pip install 'dreamer4-conformance\[atari\]'"):
        Game(task, View())


class Reusing(Counting):
    """Writes every frame to the same array, as environments may."""

    screen = np.zeros((4, 4, 3), np.uint8)

    def _observe(self):
        self.screen[...] = super()._observe()
        return self.screen


class Flickering(Counting):
    """Draws one object in even frames and another one in odd frames."""

    def _observe(self):
        pixels = np.zeros((4, 4, 3), np.uint8)
        pixels[self.t % 2] = 255
        return pixels


gymnasium.register("Reusing-v0", Reusing)
gymnasium.register("Flickering-v0", Flickering)


@pytest.mark.parametrize("view", [View(4, frame_skip=1), View(4, grey=True, frame_skip=1), View(2, frame_skip=1)])
def test_frames_are_kept_if_the_environment_reuses_its_array(tmp_path, view):
    frames = record(Recording("Reusing-v0", 10, view), tmp_path / "reused").clip(0, 0, 10).frames
    copied = record(Recording("Counting-v0", 10, view), tmp_path / "copied").clip(0, 0, 10).frames
    np.testing.assert_array_equal(frames, copied)


def test_actions_are_kept_if_the_policy_reuses_its_array(tmp_path, monkeypatch):
    def counting(game, generator):
        action = np.zeros(3, np.int8)

        def policy():
            action[:] = (action + 1) % 2
            return action

        return policy

    monkeypatch.setitem(POLICIES, "random", counting)
    dataset = recorded(tmp_path, "CountingBinary-v0", frames=5, frame_skip=1)
    assert dataset.clip(0, 1, 4).actions["action"][:, 0].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(("flicker", "visible"), [(True, [255, 255]), (False, [255, 0]), (None, [255, 0])])
def test_flicker_shows_objects_of_the_last_two_frames(tmp_path, flicker, visible):
    view = View(4, frame_skip=4, flicker=flicker)
    dataset = record(Recording("Flickering-v0", 4, view), tmp_path)
    assert dataset.clip(0, 1, 3).frames[:, :2, 0, 0].tolist() == [visible] * 3


def test_view_of_an_older_dataset_shows_the_last_frame():
    meta = {"size": 64, "grey": True, "frame_skip": 4, "repeat_probability": 0.0}
    assert not View.recorded(meta).shows_maximum("ALE/Pong-v5")
    assert View(64, grey=True).meta("ALE/Pong-v5") == meta | {"flicker": True}
    assert View(64, grey=True, flicker=False).meta("ALE/Pong-v5") == meta
