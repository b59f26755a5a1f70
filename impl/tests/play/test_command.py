"""The command: what it plays, what it exports, how it ends, and what it says when it cannot."""

import json
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch

pytest.importorskip("safetensors", reason="needs safetensors, of the extra train")

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, save
from dreamer4_impl.checkpoints.settings import Data, Settings
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.play import command, loading
from dreamer4_impl.play.command import main
from dreamer4_impl.play.export import export
from dreamer4_impl.play.loading import clips_of, open_world
from dreamer4_impl.play.recorded_clip import write_clip

EPISODES, LENGTH = 20, 12


@pytest.fixture
def run(model, config, tmp_path) -> Path:
    """A run of the dynamics, without a dataset that could be found."""
    save(
        tmp_path / "run",
        Checkpoint(Settings("dynamics", config, data=Data(paths=("/nowhere",))), 7, model.state_dict()),
    )
    return tmp_path / "run"


@pytest.fixture
def data(config, clip, tmp_path) -> Path:
    """Episodes whose frames are all of one grey, 10 · episode + row."""
    header = Header(
        "greys", 6, 8, 3, config.dynamics.actions, meta={"action_names": {"move": list(clip.names["move"])}}
    )
    with DatasetWriter(tmp_path / "data", header) as writer:
        for episode in range(EPISODES):
            frames = (
                np.full((LENGTH, 6, 8, 3), 10 * episode, np.uint8)
                + np.arange(LENGTH, dtype=np.uint8)[:, None, None, None]
            )
            writer.add_episode(frames, {"move": np.arange(LENGTH) % 6}, task="ALE/Greys-v0")
    return tmp_path / "data"


def said(capsys, *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_what_is_exported_is_played_until_ctrl_c(run, data, tmp_path):
    """In a process of its own that heeds ctrl-c, as a person's does even where these tests run in the background."""
    assert main(["--export", str(run), "--data", str(data), "--out", str(tmp_path / "gift")]) == 0
    heed = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{heed}; from dreamer4_impl.play.command import main; sys.exit(main())"
    words = [sys.executable, "-c", start, tmp_path / "gift", "--port", "0", "--no-browser"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        with urlopen(re.search(r"http://127\.0\.0\.1:\d+/", line)[0] + "api/world", timeout=20) as answer:
            assert json.load(answer)["name"] == "ALE/Greys-v0"
    finally:
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "\nStopped\n", "")


def test_what_is_exported_is_the_model_in_half_precision_and_a_held_out_clip(run, data, tmp_path, model):
    out = tmp_path / "gift"
    size = export(run, data, out)
    assert size == sum(file.stat().st_size for file in out.iterdir()) < 5e6
    world = open_world(out, None, None, "cpu")
    assert world.model.agent is None
    for name, weight in world.model.state_dict().items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, model.state_dict()[name], rtol=2**-10, atol=2**-24)
    assert "/nowhere" not in "".join(file.read_text(errors="replace") for file in out.iterdir())
    (clip,) = world.recordings
    assert (clip.frames[:, 0, 0, 0].tolist(), clip.title) == (list(range(LENGTH)), "ALE/Greys-v0")


def test_export_writes_over_nothing(run, data, tmp_path, capsys):
    assert "there already" in said(capsys, "--export", run, "--data", data, "--out", data)
    assert "and --out DIR" in said(capsys, "--export", run, "--data", data)
    assert "no dataset" in said(capsys, "--export", run, "--data", run, "--out", tmp_path / "gift")
    assert not (tmp_path / "gift").exists()


def test_play_begins_in_the_middle_of_held_out_episodes(data):
    clips = clips_of(data, 4)
    assert [clip.frames[:, 0, 0, 0].tolist() for clip in clips] == [[4, 5, 6, 7], [104, 105, 106, 107]]
    assert clips[0].actions["move"].tolist() == [4, 5, 0, 1]
    assert list(clips[0].names["move"])[:2] == ["NOOP", "FIRE"]


def test_a_recorded_atari_game_is_played_with_arrows_and_space(tmp_path):
    pytest.importorskip("ale_py", reason="needs the extra atari")
    from dreamer4_impl.data.record import Recording, record

    record(Recording("ALE/Breakout-v5", frames=4), tmp_path / "breakout")
    (clip,) = clips_of(tmp_path / "breakout", 4)
    assert list(clip.names["action"]) == ["NOOP", "FIRE", "RIGHT", "LEFT"]


def test_the_dataset_that_a_run_was_trained_on_is_found(model, config, data, tmp_path):
    save(
        tmp_path / "run", Checkpoint(Settings("dynamics", config, data=Data(paths=(str(data),))), 1, model.state_dict())
    )
    assert len(open_world(tmp_path / "run", None, None, "cpu").recordings) == 2


def test_a_clip_that_is_named_is_taken(run, clip, tmp_path):
    write_clip(tmp_path / "mine.npz", clip)
    (taken,) = open_world(run, None, tmp_path / "mine.npz", "cpu").recordings
    np.testing.assert_array_equal(taken.frames, clip.frames)


def test_a_model_for_a_gpu_is_played_without_one(config, clip, tmp_path):
    eager = replace(config.dynamics, transformer=replace(config.dynamics.transformer, head_width=32))
    fast = replace(config, dynamics=replace(eager, transformer=replace(eager.transformer, backend="triton")))
    save(tmp_path / "run", Checkpoint(Settings("dynamics", fast), 1, Dreamer4(fast).state_dict()))
    write_clip(tmp_path / "clip.npz", clip)
    world = open_world(tmp_path / "run", None, tmp_path / "clip.npz", "cpu")
    assert world.model.config.dynamics == eager


def test_missing_weights_are_named(config, model, clip, tmp_path, capsys):
    weights = {name: value for name, value in model.state_dict().items() if name != "dynamics.registers"}
    weights["old.name"] = torch.zeros(1)
    save(tmp_path / "run", Checkpoint(Settings("dynamics", config), 1, weights))
    write_clip(tmp_path / "clip.npz", clip)
    open_world(tmp_path / "run", None, tmp_path / "clip.npz", "cpu")
    assert "old.name" in capsys.readouterr().err


def test_what_cannot_be_played_is_said(run, data, clip, model, config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "DEMO", tmp_path / "nowhere")
    save(tmp_path / "first", Checkpoint(Settings("tokenizer", config), 1, model.state_dict()))
    write_clip(tmp_path / "clip.npz", replace(clip, frames=clip.frames[:, 1:]))
    assert "has no demo: name a checkpoint" in said(capsys)
    assert "--data DIR, or a clip, --clip FILE" in said(capsys, run)
    assert "there is no checkpoint in" in said(capsys, tmp_path / "nothing")
    assert "of the tokenizer alone" in said(capsys, tmp_path / "first", "--data", data)
    assert "does not fit the model" in said(capsys, run, "--clip", tmp_path / "clip.npz")
    assert "is not there" in said(capsys, run, "--clip", tmp_path / "none.npz")
    assert "steps must be a power of two from 1 to 8; got 3" in said(capsys, run, "--data", data, "--steps", 3)
    assert "seed must be" in said(capsys, run, "--data", data, "--seed", -1)


@pytest.mark.parametrize("words", [["--fps", "0"], ["--fps", "x"], ["--port", "65536"], ["--port", "-1"],
                                   ["--data", "a", "--clip", "b"], ["--device", "tpu"]])  # fmt: skip
def test_what_is_mistyped_is_a_mistake_of_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_said(run, data, capsys):
    assert "no CUDA device here" in said(capsys, run, "--data", data, "--device", "cuda")


def test_a_port_that_is_taken_is_said(run, data, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is taken: name another, or --port 0" in said(capsys, run, "--data", data, "--port", port)


def test_an_address_that_is_not_here_is_said(run, data, capsys):
    assert "cannot listen at 192.0.2.1" in said(capsys, run, "--data", data, "--host", "192.0.2.1")


def test_a_package_that_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dreamer4_impl.play.loading", None)

    def missing(options):
        raise ModuleNotFoundError(name="PIL")

    monkeypatch.setattr(command, "_play", missing)
    assert "needs PIL: pip install 'dreamer4-conformance[train]'" in said(capsys)


def test_a_browser_that_takes_the_terminal_is_not_opened(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.get", lambda: command.webbrowser.GenericBrowser("lynx"))
    monkeypatch.setattr(command.threading, "Thread", lambda **asked: opened.append(asked))
    command.open_page("http://localhost:1/")
    assert not opened
