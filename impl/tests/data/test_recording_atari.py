"""Recording of real Atari games, if they are installed."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("ale_py")

from dreamer4_impl.data.game import View
from dreamer4_impl.data.record import Recording, record
from dreamer4_impl.layers.actions import Categorical

VIEW = View(64, grey=True)


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
