"""Kinds of imagined steps, and the rewards predicted for them."""

import json
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("minigrid")

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, save
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.evaluation.held_out import load_clips
from dreamer4_impl.generation.imagination import Imagined
from dreamer4_impl.models.dreamer4 import Dreamer4
from studies.rooms import imagined
from studies.rooms.cells import recorded_cells
from studies.rooms.imagined import KINDS, draw_scenes, main, rewards_by_kind, step_kinds

OPTIONS = ImagineOptions(horizon=8, context=4)


def encode(video):
    """Latents that are the frames."""
    return video.flatten(-3)[..., None, :]


def lossless():
    """Model whose latents are the frames, and whose reward head returns h."""
    agent = SimpleNamespace(policy=None, reward=SimpleNamespace(predict=lambda h: h[..., 0]))
    return SimpleNamespace(
        agent=agent,
        tokenizer=SimpleNamespace(encode=encode),
        dynamics=SimpleNamespace(registers=torch.zeros(()), config=SimpleNamespace(tasks=0)),
    )


def recording(clips, frames=lambda z: z):
    """Replace `imagine` by the recorded frames and rewards of the clips, one batch after the other."""
    batches = clips.batches(64)

    def imagine(*_):
        batch = next(batches)
        z = frames(encode(batch.pixels(torch.device("cpu")))[:, 4:])
        return Imagined(batch.rewards[:, 3:, None], {"action": batch.actions["action"][:, 4:]}, z)

    return imagine


def test_scenes_are_all_places_of_agent_and_goal():
    scenes = draw_scenes(lossless())
    assert len(scenes.z) == len(scenes.z.unique(dim=0)) == 16 * 15 * 4
    assert (recorded_cells(scenes.z.view(-1, 48, 48, 3)) == torch.stack([scenes.agent, scenes.goal], 1)).all()
    index, error = scenes.nearest(scenes.z[[5, 700]].view(1, 2, 1, -1))
    assert (index.tolist(), error.tolist()) == ([[5, 700]], [[0, 0]])


def test_kinds_of_recorded_steps_are_those_of_the_game(rooms):
    clips, scenes = load_clips(Dataset.open(rooms), 40, 12), draw_scenes(lossless())
    index = scenes.nearest(encode(clips.pixels(torch.device("cpu"))))[0]
    kinds = step_kinds(scenes, index[:, :-1], clips.actions["action"][:, 1:])
    stays = scenes.agent[index[:, 1:]] == scenes.agent[index[:, :-1]]
    assert torch.equal(kinds == KINDS.index("goal"), clips.rewards[:, 1:] > 0)
    assert torch.equal((kinds == KINDS.index("wall")) | (kinds == KINDS.index("turn")), stays)
    assert kinds.unique().tolist() == [0, 1, 2, 3]


def test_recording_has_all_rewards_where_they_belong(rooms, monkeypatch):
    clips = load_clips(Dataset.open(rooms), 100, 12)
    monkeypatch.setattr(imagined, "imagine", recording(clips))
    measures = rewards_by_kind(lossless(), clips, OPTIONS)
    assert {kind: row["reward"] for kind, row in measures.items()} == {"goal": 1, "free": 0, "wall": 0, "turn": 0}
    assert {kind: row["moved"] for kind, row in measures.items()} == {"goal": 1, "free": 0, "wall": 0, "turn": 0}
    assert sum(row["n"] for row in measures.values()) == 100 * 8
    assert all(row["distance"] < 1e-9 for row in measures.values())


def test_frames_between_scenes_have_a_distance(rooms, monkeypatch):
    clips = load_clips(Dataset.open(rooms), 10, 12)
    monkeypatch.setattr(imagined, "imagine", recording(clips, lambda z: (z + z.roll(1, 0)) / 2))
    measures = rewards_by_kind(lossless(), clips, OPTIONS)
    assert measures["turn"]["distance"] > 0.1


def test_a_kind_without_steps_has_no_means(rooms, monkeypatch):
    clips = load_clips(Dataset.open(rooms), 1, 12)
    monkeypatch.setattr(imagined, "imagine", recording(clips))
    monkeypatch.setattr(imagined, "FORWARD", 9)  # every step is a turn
    measures = rewards_by_kind(lossless(), clips, OPTIONS)
    assert measures["goal"] == {"n": 0, "reward": None, "moved": None, "distance": None}
    assert measures["turn"]["n"] == 8


def test_command_prints_the_rewards_of_a_run(rooms, room_model, tmp_path, capsys):
    save(tmp_path / "run", Checkpoint(TrainingSettings("agent", room_model), 7, Dreamer4(room_model).state_dict()))
    options = [str(tmp_path / "run"), "--data", str(rooms), "--starts", "3", "--steps", "1", "--device", "cpu"]
    assert main([*options, "--json", str(tmp_path / "imagined.json")]) == 0
    assert "K = 1\nstep           n    reward     moved  distance\ngoal  " in capsys.readouterr().out
    document = json.loads((tmp_path / "imagined.json").read_text())
    assert sum(row["n"] for row in document["measures"].values()) == document["starts"] * 16
    assert main([*options, "--starts", "0"]) == 2
    assert "--starts must be 1 or more; got 0" in capsys.readouterr().err
