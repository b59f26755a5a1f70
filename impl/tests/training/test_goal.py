"""A game that pays once, at its end, and whose episodes are often shorter than a clip: from the data to the heads."""

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.checkpoint import load_model
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.evaluation.held_out import load_windows
from dreamer4_impl.evaluation.sections.reward import predict_rewards
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.training.command import main

from .test_command import DOCUMENT


def record_goals(path):
    """Dark frames with some noise, and a bright last one with a reward of 1."""
    random = np.random.default_rng(0)
    with DatasetWriter(path, Header("goal", 6, 8, 3, (Categorical("move", 4),))) as writer:
        for _ in range(60):
            length = int(random.integers(3, 12))
            frames, t = random.integers(0, 60, (length, 6, 8, 3)).astype(np.uint8), np.arange(length)
            frames[-1] += 180
            moves = random.integers(0, 4, length)
            writer.add_episode(frames, {"move": moves}, (t == length - 1) * 1.0, t < length - 1, task="goal")


@pytest.mark.nightly
def test_a_reward_and_an_end_at_the_last_frame_are_learned(tmp_path):
    record_goals(tmp_path / "data")
    (tmp_path / "mine.toml").write_text(DOCUMENT.replace("size = 2", "size = 8"))
    init = []
    for phase, count in (("tokenizer", 150), ("agent", 400)):
        typed = [phase, str(tmp_path / "mine.toml"), "--data", str(tmp_path / "data"), "--run", str(tmp_path / phase)]
        changes = [f"steps={count}", "optimiser.learning_rate=0.003", "optimiser.warmup=20"]
        assert main([*typed, *init, *(word for change in changes for word in ("--set", change))]) == 0
        init = ["--init", str(tmp_path / phase)]
    model, _ = load_model(tmp_path / "agent")
    windows = load_windows(Dataset.open(tmp_path / "data").split(0.1)[1], 99, length=7, context=2)
    read = []
    model.agent.reward.register_forward_pre_hook(lambda module, h: read.append(h[0]))
    rewards = predict_rewards(model, windows.clips, torch.Generator().manual_seed(0))[windows.scored]
    with torch.no_grad():
        continues = model.agent.continues.predict(torch.cat(read))[windows.scored]
    goal = windows.clips.rewards[windows.scored] > 0
    assert goal.sum() == 6  # held-out episodes
    assert torch.equal(rewards > 0.5, goal)
    assert torch.equal(continues < 0.5, goal)
