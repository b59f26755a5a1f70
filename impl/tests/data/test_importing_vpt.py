"""Recordings of OpenAI's Video PreTraining as episodes."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from dreamer4_impl.data.command import main
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.importing.vpt import SWITCHES, open_vpt, read_steps
from dreamer4_impl.data.source import DamageWarning, write_source
from dreamer4_impl.layers.actions import Binary, Categorical
from dreamer4_impl.layers.mouse import mouse_class

from .films import film
from .vpt_folders import line, recording


def pressed(row):
    return {name for name, value in zip(SWITCHES, row, strict=True) if value}


def test_an_action_arrives_with_the_frame_that_follows_it(tmp_path):
    lines = [
        line(keys=["w", "left.shift", "x"], dx=10.0),
        line(keys=["1"], buttons=[0, 2, 5], dy=-30.0),
        line(mouse=None),
        line(keys=["space"]),
    ]
    source = open_vpt(recording(tmp_path / "house" / "10.0", "a", lines).parent, FrameView(2, 2))
    dataset = write_source(source, tmp_path / "out")
    clip = dataset.clip(0, 0, 4)
    assert dataset.components == (Binary("keys", 23), Categorical("mouse", 121))
    assert (clip.frames[:, 0, 1, 0] // 20).tolist() == [0, 1, 2, 3]
    assert clip.labelled.tolist() == [False, True, True, False]
    assert [pressed(row) for row in clip.actions["keys"]] == [
        set(),
        {"forward", "sneak"},
        {"hotbar.1", "attack", "pickItem"},
        set(),
    ]
    degrees = torch.tensor([[0.0, 1.5], [-4.5, 0.0]])  # down and right; 2400 pixels are 360 degrees
    assert clip.actions["mouse"].tolist() == [0, *mouse_class(degrees).tolist(), 0]
    assert (dataset.tasks, dataset.meta["fps"]) == (("house",), 20)
    assert clip.continues.all()


def test_a_button_that_counts_as_pressed_from_the_start_and_the_wheel_are_corrected(tmp_path):
    lines = [line(buttons=[0], new=[0]), line(buttons=[0]), line(buttons=[0], hotbar=4), line(buttons=[0], new=[0])]
    steps = read_steps(recording(tmp_path, "a", lines) / "a.jsonl")
    assert [pressed(row) for row in steps.switches] == [set(), set(), {"hotbar.5"}, {"hotbar.1", "attack"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"mouse": {"dx": 0}}', "line 2 lacks 'keyboard'"),
        ('{"mouse": {"dx": 0, "dy": "x", "buttons": []}, "keyboard": {"keys": []}}', "line 2 is not an action"),
        ('{"mouse": {}, "keyboard": {"keys": []}}', "line 2 lacks 'buttons'"),
        (json.dumps(line(dx=float("nan"))), "a movement must be finite; got nan"),
        (json.dumps(line(hotbar=9)), "line 2 is not an action: 9 is not in range"),
        (json.dumps(line(new=[0]) | {"mouse": line()["mouse"] | {"newButtons": 0}}), "line 2 is not an action"),
        ('{"mouse": {', "line 2 is not an action"),
        ("[" * 5000, "line 2 is not an action"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, content, message):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(line()) + "\n" + content)
    with pytest.raises(DatasetError, match=message):
        read_steps(file)


def test_recordings_that_cannot_be_used_are_refused_or_left_out(tmp_path, capsys):
    folder = recording(tmp_path / "in", "a", [line()] * 8, frames=4)
    recording(folder, "b", [line()] * 8, frames=7)
    (recording(folder, "c", [line()] * 3) / "c.jsonl").unlink()
    command = ["import", str(folder), "--out", str(tmp_path / "out"), "--size", "2"]
    assert main(command) == 2
    assert "a.mp4 has 4 frames, and a.jsonl 8 lines: actions and frames do not belong" in capsys.readouterr().err
    assert main([*command, "--damaged", "skip", "--task", "survive"]) == 1
    said = capsys.readouterr().err
    assert "b.mp4 has 7 frames, and b.jsonl 8 lines; the surplus at the end is left out" in said
    assert "left out: " in said
    assert "c.jsonl cannot be read" in said
    dataset = Dataset.open(tmp_path / "out")
    assert ([episode.length for episode in dataset.episodes], dataset.tasks) == ([7], ("survive",))


def test_a_folder_without_recordings_is_refused(tmp_path, capsys):
    film(tmp_path / "a.mp4")
    assert main(["import", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no pairs of files NAME.mp4 and NAME.jsonl (VPT), no meta/info.json (LeRobot)" in capsys.readouterr().err


def test_frames_without_a_line_are_reported(tmp_path):
    source = open_vpt(recording(tmp_path / "in", "a", [line()] * 3, frames=4), FrameView(2, 2))
    with pytest.warns(DamageWarning, match="4 frames, and a.jsonl 3 lines"):
        dataset = write_source(source, tmp_path / "out")
    assert np.array_equal([episode.length for episode in dataset.episodes], [3])
