"""The command `dreamer4-play`: playing, exporting, exit status and error messages."""

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

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, load_model, read, save, trained_tasks
from dreamer4_impl.checkpoints.header import CheckpointError
from dreamer4_impl.checkpoints.settings import Data, TrainingSettings
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.evaluation.subject import load_subject
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.play import command, loading
from dreamer4_impl.play.command import main
from dreamer4_impl.play.export import export
from dreamer4_impl.play.loading import held_out_clips, open_world
from dreamer4_impl.play.recorded_clip import RecordedClip, write_clip
from dreamer4_impl.play.session import Session

EPISODES, LENGTH = 20, 12


@pytest.fixture
def run(model, config, tmp_path) -> Path:
    """Run of the phase dynamics whose dataset does not exist."""
    save(
        tmp_path / "run",
        Checkpoint(TrainingSettings("dynamics", config, data=Data(paths=("/nowhere",))), 7, model.state_dict()),
    )
    return tmp_path / "run"


@pytest.fixture
def agent_run(tmp_path) -> Path:
    """Run of the phase agent with an average of some weights."""
    torch.manual_seed(0)
    model = Dreamer4(tiny())
    weights = {name: torch.randn_like(weight) for name, weight in model.state_dict().items()}
    average = {name: weight + 1 for name, weight in weights.items() if name.startswith("agent.")}
    settings = TrainingSettings(
        "agent", tiny(), data=Data(paths=("/nowhere",), tasks=("push", "games.py:pull")), init="/nowhere/else"
    )
    save(tmp_path / "run", Checkpoint(settings, 7, weights, average))
    return tmp_path / "run"


@pytest.fixture
def data(config, clip, tmp_path) -> Path:
    """Episodes of uniform frames with the grey level 10 · episode + row."""
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


def error_of(capsys, *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_exported_checkpoint_is_played_until_ctrl_c(run, data, tmp_path):
    """In a process that handles SIGINT, which a process started in the background ignores."""
    assert main(["--export", str(run), "--data", str(data), "--out", str(tmp_path / "exported")]) == 0
    handle_sigint = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{handle_sigint}; from dreamer4_impl.play.command import main; sys.exit(main())"
    words = [sys.executable, "-c", start, tmp_path / "exported", "--port", "0", "--no-browser"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        with urlopen(re.search(r"http://127\.0\.0\.1:\d+/", line)[0] + "api/world", timeout=20) as response:
            assert json.load(response)["name"] == "ALE/Greys-v0"
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "\nStopped\n", "")


def test_export_writes_the_model_in_half_precision_and_a_held_out_clip(run, data, tmp_path, model):
    out = tmp_path / "exported"
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


def test_full_export_is_one_folder_that_computes_the_same_bit_for_bit(agent_run, tmp_path, capsys):
    out = tmp_path / "my-model"
    assert main(["--export", str(agent_run), "--full", "--out", str(out)]) == 0
    assert "dreamer4-play" in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    (original, _), (shared, report) = load_model(agent_run), load_model(out, strict=True)
    assert not report
    assert shared.config == original.config
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, 6, 8, 3, generator=generator)
    z, tau = original.tokenizer.encode(video), torch.full((1, 3), 0.5)
    actions = {"keys": torch.ones(1, 3, 4), "mouse": torch.full((1, 3), 2)}
    assert torch.equal(shared.tokenizer.encode(video), z)
    assert torch.equal(shared.tokenizer.decode(z), original.tokenizer.decode(z))
    outputs = [model.dynamics(z, tau, torch.full((1, 3), 0.25), actions) for model in (original, shared)]
    assert all(torch.equal(*pair) for pair in zip(*outputs, strict=True))
    policies = [model.agent.state_dict() for model in (original, shared)]
    assert all(torch.equal(policies[0][name], policies[1][name]) for name in policies[0])
    assert "/nowhere" not in (out / "config.json").read_text()
    assert trained_tasks(out) == ("push", "games.py:pull")
    assert (read(out).step, read(out).settings.phase, read(out).state) == (7, "agent", {})


def test_small_export_of_an_agent_plays_by_its_policy_and_has_no_other_head(agent_run, tmp_path, capsys):
    out, generator = tmp_path / "my-agent", np.random.default_rng(0)
    export(agent_run, None, out)
    frames, keys = generator.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8), np.zeros((5, 4), np.uint8)
    moves = {"keys": keys, "mouse": np.zeros(5, np.int32)}
    write_clip(out / "clip.npz", RecordedClip(frames, moves, np.ones(5, bool), title="games.py:pull"))
    session = Session(open_world(out, None, None, "cpu"), clip=0, seed=0, steps=1)
    session.step("policy")
    assert session.frame == 1
    assert session.world.about["autopilot"]["about"].startswith("the autopilot is the cloned policy")
    assert session.world.task(0) == torch.tensor([1])
    assert session.world.name == "pull"
    assert main([str(out), "--gif", str(tmp_path / "new" / "play.gif"), "--frames", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"play.gif: 2 frames, .* the cloned policy", printed.out)
    assert printed.err == ""
    (trained, _), (small, report) = load_model(agent_run), load_model(out)
    torch.testing.assert_close(
        small.agent.policy.state_dict(), trained.agent.policy.state_dict(), rtol=2**-10, atol=2**-24
    )
    assert {name.split(".")[1] for name in report.missing} == {"reward", "value"}
    assert "| heads of the agent | policy |" in (out / "README.md").read_text()
    assert "lacks weights of the agent" in load_subject(out, "cpu").absent["agent"]


def test_damage_to_a_shared_folder_is_named_and_its_card_is_free(agent_run, tmp_path):
    out = tmp_path / "my-model"
    export(agent_run, None, out, full=True)
    (out / "README.md").write_text("my own card")
    load_model(out)
    content = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"model.safetensors does not match its checksum"):
        load_model(out)
    (out / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="is not a checkpoint of this program"):
        load_model(out)


def test_export_does_not_overwrite(run, data, tmp_path, capsys):
    assert "already exists" in error_of(capsys, "--export", run, "--data", data, "--out", data)
    assert "--export needs --out DIR" in error_of(capsys, "--export", run, "--data", data)
    assert "and --data DIR without --full" in error_of(capsys, "--export", run, "--out", tmp_path / "exported")
    assert "is not a dataset" in error_of(capsys, "--export", run, "--data", run, "--out", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_play_starts_in_the_middle_of_held_out_episodes(data):
    clips = held_out_clips(data, 4)
    assert [clip.frames[:, 0, 0, 0].tolist() for clip in clips] == [[4, 5, 6, 7], [104, 105, 106, 107]]
    assert clips[0].actions["move"].tolist() == [4, 5, 0, 1]
    assert list(clips[0].names["move"])[:2] == ["NOOP", "FIRE"]


def test_recorded_atari_game_keeps_the_names_of_its_actions(tmp_path):
    pytest.importorskip("ale_py", reason="needs the extra atari")
    from dreamer4_impl.data.record import Recording, record

    record(Recording("ALE/Breakout-v5", frames=4), tmp_path / "breakout")
    (clip,) = held_out_clips(tmp_path / "breakout", 4)
    assert list(clip.names["action"]) == ["NOOP", "FIRE", "RIGHT", "LEFT"]


def test_dataset_of_the_training_is_the_default(model, config, data, tmp_path):
    save(
        tmp_path / "run",
        Checkpoint(TrainingSettings("dynamics", config, data=Data(paths=(str(data),))), 1, model.state_dict()),
    )
    assert len(open_world(tmp_path / "run", None, None, "cpu").recordings) == 2


@pytest.mark.parametrize("kind", [Path, str])
def test_named_clip_is_used(run, clip, tmp_path, kind):
    write_clip(tmp_path / "mine.npz", clip)
    (recording,) = open_world(kind(run), None, kind(tmp_path / "mine.npz"), "cpu").recordings
    np.testing.assert_array_equal(recording.frames, clip.frames)


def test_model_with_triton_attention_is_played_on_the_cpu(config, clip, tmp_path):
    eager = replace(config.dynamics, transformer=replace(config.dynamics.transformer, head_width=32))
    fast = replace(config, dynamics=replace(eager, transformer=replace(eager.transformer, backend="triton")))
    save(tmp_path / "run", Checkpoint(TrainingSettings("dynamics", fast), 1, Dreamer4(fast).state_dict()))
    write_clip(tmp_path / "clip.npz", clip)
    world = open_world(tmp_path / "run", None, tmp_path / "clip.npz", "cpu")
    assert world.model.config.dynamics == eager


def test_unexpected_weights_are_named(config, model, clip, tmp_path, capsys):
    weights = {name: value for name, value in model.state_dict().items() if name != "dynamics.registers"}
    weights["old.name"] = torch.zeros(1)
    save(tmp_path / "run", Checkpoint(TrainingSettings("dynamics", config), 1, weights))
    write_clip(tmp_path / "clip.npz", clip)
    open_world(tmp_path / "run", None, tmp_path / "clip.npz", "cpu")
    assert "old.name" in capsys.readouterr().err


def test_errors_have_a_clear_message(run, data, clip, model, config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loading, "DEMO", "dreamer4_absent_demo")
    save(tmp_path / "first", Checkpoint(TrainingSettings("tokenizer", config), 1, model.state_dict()))
    write_clip(tmp_path / "clip.npz", replace(clip, frames=clip.frames[:, 1:]))
    without_demo = error_of(capsys)
    assert "separate package, pip install 'dreamer4-conformance[demo]'" in without_demo
    assert without_demo.count("\n") == 1
    assert "there is no autopilot, because" in error_of(capsys, run, "--data", data, "--gif", tmp_path / "a.gif")
    assert "already exists" in error_of(capsys, run, "--data", data, "--gif", tmp_path / "clip.npz")
    assert "--data DIR, or a clip, --clip FILE" in error_of(capsys, run)
    assert "there is no checkpoint in" in error_of(capsys, tmp_path / "nothing")
    assert "a checkpoint of the tokenizer alone" in error_of(capsys, tmp_path / "first", "--data", data)
    assert "does not fit the model" in error_of(capsys, run, "--clip", tmp_path / "clip.npz")
    assert "does not exist" in error_of(capsys, run, "--clip", tmp_path / "none.npz")
    assert "steps must be a power of two from 1 to 8; got 3" in error_of(capsys, run, "--data", data, "--steps", 3)
    assert "seed must be" in error_of(capsys, run, "--data", data, "--seed", -1)


@pytest.mark.parametrize("words", [["--fps", "0"], ["--fps", "x"], ["--port", "65536"], ["--port", "-1"],
                                   ["--frames", "0"], ["--frames", "x"],
                                   ["--data", "a", "--clip", "b"], ["--device", "tpu"]])  # fmt: skip
def test_invalid_option_exits_with_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_gpu_is_reported(run, data, capsys):
    assert "no CUDA device is available" in error_of(capsys, run, "--data", data, "--device", "cuda")


def test_port_in_use_is_reported(run, data, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert f"port {port} is in use: choose another, or --port 0" in error_of(
            capsys, run, "--data", data, "--port", port
        )


def test_unavailable_address_is_reported(run, data, capsys):
    assert "cannot listen on 192.0.2.1" in error_of(capsys, run, "--data", data, "--host", "192.0.2.1")


def test_missing_package_is_reported(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dreamer4_impl.play.loading", None)

    def missing(options):
        raise ModuleNotFoundError(name="PIL")

    monkeypatch.setattr(command, "_play", missing)
    assert "needs PIL: pip install 'dreamer4-conformance[train]'" in error_of(capsys)


def test_browser_in_the_terminal_is_not_opened(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.get", lambda: command.webbrowser.GenericBrowser("lynx"))
    monkeypatch.setattr(command.threading, "Thread", lambda **options: opened.append(options))
    command.open_page("http://localhost:1/")
    assert not opened
