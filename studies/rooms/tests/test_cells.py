"""Cells of agent and goal, read from pixels."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("minigrid")

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, save
from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.evaluation.held_out import load_clips
from dreamer4_impl.evaluation.sections import open_loop
from dreamer4_impl.evaluation.sections.open_loop import OpenLoopSettings
from dreamer4_impl.models.dreamer4 import Dreamer4
from studies.rooms.cells import main, recorded_cells, rewarded_clips, room_cells, share, shares

PLAN = OpenLoopSettings(4, (1, 4, 8), (4,), batch=5)


def lossless():
    """Model whose latents are the frames."""
    tokenizer = SimpleNamespace(
        decoder=SimpleNamespace(queries=torch.zeros(())), encode=lambda video: video, decode=lambda z: z
    )
    return SimpleNamespace(tokenizer=tokenizer)


def test_cells_are_those_of_the_game_for_every_place_and_direction():
    game = Game("dreamer4_impl.examples.rooms:MovingGoal-v0", View(48, frame_skip=1))
    for seed in range(20):
        game.reset(seed)
        room = game.environment.unwrapped
        for room.agent_dir in range(4):
            for at_goal in (False, True):
                position = room.goal() if at_goal else tuple(map(int, room.agent_pos))
                frame = torch.from_numpy(room.grid.render(8, position, room.agent_dir)) / 255
                expected = [x + 6 * y for x, y in (position, room.goal())]
                assert recorded_cells(frame).tolist() == expected
    game.close()


def test_missing_doubled_and_spread_objects_are_in_no_cell(rooms):
    frame = torch.from_numpy(Dataset.open(rooms).clip(0, 0, 1).frames[0].copy()) / 255
    agent, goal = room_cells(frame).tolist()
    cells = frame.unfold(0, 8, 8).unfold(1, 8, 8)
    empty = next(n for n in (7, 8, 9) if n not in (agent, goal))
    without, doubled = frame.clone(), frame.clone()
    for target, source in ((without, empty), (doubled, agent)):
        row, column = divmod(agent if target is without else empty, 6)
        patch = cells[source // 6, source % 6].permute(1, 2, 0)
        target[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = patch
    assert room_cells(without).tolist() == [-1, goal]
    assert room_cells(doubled).tolist() == [-1, goal]
    assert room_cells(frame.roll(4, 0)).tolist()[1] == -1
    with pytest.raises(ValueError, match="1 of 1 frames have not exactly one of each"):
        recorded_cells(without)
    with pytest.raises(ValueError, match="colour frames of 8×8 pixels a cell; got 48×44×3"):
        room_cells(frame[:, :44])


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (8, 0.0)])
def test_perfect_copy_is_right_and_a_shifted_frame_is_wrong(rooms, monkeypatch, shift, expected):
    dataset = Dataset.open(rooms)
    clips = load_clips(dataset, 12, PLAN.length)
    monkeypatch.setattr(open_loop.OpenLoopBatch, "predict", lambda batch, clips, k: batch.truth.roll(shift, 3))
    measures = shares(lossless(), clips, PLAN)
    for h in PLAN.horizons:
        for name in ("agent", "goal", "both"):
            assert (measures[f"model.{name}.h{h}"].value, measures[f"model.{name}.h{h}"].n) == (expected, 12)
            assert measures[f"reconstruction.{name}.h{h}"].value == 1
    cells = recorded_cells(clips.pixels(torch.device("cpu")))
    for index, name in enumerate(("agent", "goal")):
        unchanged = (cells[:, 3, index] == cells[:, 3 + 8, index]).double().mean()
        assert measures[f"copy.{name}.h8"].value == pytest.approx(float(unchanged))


def test_clips_that_end_with_a_reward_show_a_goal_that_moves(rooms, monkeypatch):
    dataset, plan = Dataset.open(rooms), replace(PLAN, horizons=(1,))
    clips = rewarded_clips(dataset, 1000, plan.length)
    assert len(clips) == sum(int((rewards[4:] > 0).sum()) for rewards in dataset.rewards())
    assert (clips.rewards[:, -1] > 0).all()
    predictions = {"truth": lambda batch: batch.truth, "lost": lambda batch: torch.zeros_like(batch.truth)}
    for name, expected in {"truth": 1.0, "lost": 0.0}.items():
        monkeypatch.setattr(open_loop.OpenLoopBatch, "predict", lambda batch, *_, name=name: predictions[name](batch))
        measures = shares(lossless(), clips, plan)
        assert measures["model.moved.h1"].value == expected
    assert measures["copy.moved.h1"].value == measures["copy.goal.h1"].value == 0
    with pytest.raises(ValueError, match="no held-out frame with 999 frames before it is rewarded"):
        rewarded_clips(dataset, 1, 1000)


def test_interval_of_a_share_is_that_of_wilson():
    none, some = share(torch.zeros(100).bool()), share(torch.arange(100) < 30)
    assert (none.low, none.high) == pytest.approx((0, 0.0370), abs=1e-4)
    assert (some.low, some.high) == pytest.approx((0.2189, 0.3958), abs=1e-4)


@pytest.mark.parametrize("phase", ["tokenizer", "dynamics"])
def test_command_prints_the_shares_of_a_run(rooms, room_model, tmp_path, capsys, phase):
    save(tmp_path / "run", Checkpoint(TrainingSettings(phase, room_model), 7, Dreamer4(room_model).state_dict()))
    options = [str(tmp_path / "run"), "--data", str(rooms), "--clips", "2", "--horizons", "1", "--device", "cpu"]
    assert main([*options, "--json", str(tmp_path / "cells.json")]) == 0
    assert "\n1             reconstruction  0.000 [0.000, 0.658]" in capsys.readouterr().out
    measures = json.loads((tmp_path / "cells.json").read_text())["measures"]
    assert measures["reconstruction.both.h1"]["n"] == 2
    assert ("model.both.h1" in measures) == (phase == "dynamics")
    assert main([*options, "--clips", "0"]) == 2
    assert "--clips must be 1 or more; got 0" in capsys.readouterr().err
