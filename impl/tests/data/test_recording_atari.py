"""Recording of real Atari games, if they are installed."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("ale_py")

from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.record import Recording, record
from dreamer4_impl.layers.actions import Categorical

VIEW = View(64, grey=True)
#: Games that keep memory in a reset of the emulator.
REMEMBERING = ("Tennis", "BeamRider")


def test_a_resumed_recording_of_breakout_equals_an_uninterrupted_one(tmp_path):
    def interrupt(frames):
        if frames >= 150:
            raise KeyboardInterrupt

    recording = Recording("ALE/Breakout-v5", 200, VIEW, policy="scripted", epsilon=(0.0, 1.0), longest=70)
    with pytest.raises(KeyboardInterrupt):
        record(recording, tmp_path / "cut", progress=interrupt, shard_frames=60)
    resumed = record(recording, tmp_path / "cut", resume=True, shard_frames=60)
    whole = record(recording, tmp_path / "whole", shard_frames=60)
    assert [shard.entry for shard in resumed.shards] == [shard.entry for shard in whole.shards]
    assert whole.components == (Categorical("action", 4),)
    assert whole.meta["action_names"] == {"action": ["NOOP", "FIRE", "RIGHT", "LEFT"]}
    assert [episode.length for episode in whole.episodes] == [70, 70, 60]
    assert len(np.unique(whole.clip(0, 0, 70).frames.reshape(70, -1), axis=0)) > 35


@pytest.mark.parametrize(("game", "frames", "least"), [("Boxing", 250, 10), ("Breakout", 250, 4), ("Pong", 400, -2)])
def test_scripts_play_better_than_random_actions(tmp_path, game, frames, least):
    def total(policy):
        recording = Recording(f"ALE/{game}-v5", frames, VIEW, policy=policy)
        return float(record(recording, tmp_path / policy).returns().sum())

    assert total("scripted") >= least > total("random")


def played(game: Game, seed: int, steps: int) -> list[np.ndarray]:
    """First frame, then frames and memory of an episode of random actions."""
    shown, rng = [game.reset(seed)], np.random.default_rng(0)
    for _ in range(steps):
        step = game.step(int(rng.integers(game.component.size)))
        shown += [step.frame, game.memory(), np.array([step.reward, step.terminated])]
        if step.terminated or step.truncated:
            break
    return shown


def assert_starts_equal(name: str, steps: int) -> int:
    """Compare an episode after another one with that of a new emulator; return how often the ROM was loaded again."""
    loads, (used, new) = [], (Game(f"ALE/{name}-v5", VIEW) for _ in range(2))
    load = used.environment.unwrapped.load_game
    used.environment.unwrapped.load_game = lambda: loads.append(load())
    played(used, 1, steps)
    for seed in (2, 3):
        for got, expected in zip(played(used, seed, steps), played(new, 3, steps), strict=True):
            assert np.array_equal(got, expected), name
    return len(loads)


@pytest.mark.parametrize("name", REMEMBERING)
def test_episodes_start_as_in_a_new_emulator_with_the_rom_loaded_once(name):
    assert assert_starts_equal(name, 40) == 0


@pytest.mark.nightly
def test_every_game_starts_as_in_a_new_emulator():
    import gymnasium

    ids = [spec.id for spec in gymnasium.registry.values() if spec.id.startswith("ALE/") and spec.id.endswith("-v5")]
    for task in ids:
        if task != "ALE/Combat-v5":  # for two players only
            assert_starts_equal(task.removeprefix("ALE/").removesuffix("-v5"), 30)


def test_sticky_actions_depend_on_the_seed():
    game = Game("ALE/Tennis-v5", View(64, grey=True, repeat_probability=0.5))
    first, second, repeated = (np.concatenate([x.ravel() for x in played(game, seed, 60)]) for seed in (1, 2, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, repeated)
