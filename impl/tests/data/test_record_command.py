"""The command `dreamer4-record`: output and exit status."""

import errno

import numpy as np
import pytest

from dreamer4_impl.data.command import main
from dreamer4_impl.data.dataset import Dataset

GAME = "Blinking-v0"


@pytest.fixture(scope="module", autouse=True)
def game():
    gymnasium = pytest.importorskip("gymnasium")

    class Blinking(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros((8, 8, 3), np.uint8), {}

        def step(self, action):
            return np.full((8, 8, 3), action, np.uint8), 1.0, False, False, {}

    gymnasium.register(GAME, Blinking)


def test_records_a_game_and_prints_a_summary(tmp_path, capsys):
    options = ["--frames", "30", "--longest", "12", "--size", "4", "--grey", "--frame-skip", "2", "--epsilon", "0:1"]
    assert main([GAME, "--out", str(tmp_path / "out"), *options, "--policy", "sticky", "--seed", "5"]) == 0
    said = capsys.readouterr().out
    for part in ("30 of 4×4×1", "3 in 1 shards", "6 to 12", "10 to 22", "action: categorical, 2", GAME):
        assert part in said
    dataset = Dataset.open(tmp_path / "out", verify="full")
    assert dataset.meta == {
        "view": {"size": 4, "grey": True, "frame_skip": 2, "repeat_probability": 0.0},
        "policy": "sticky",
        "epsilon": [0.0, 1.0],
        "seed": 5,
        "longest": 12,
    }


def test_resumes_only_with_the_option(tmp_path, capsys):
    command = [GAME, "--out", str(tmp_path), "--frames", "20", "--size", "4"]
    assert main(command) == 0
    assert main(command) == 2
    assert "already holds a dataset: resume it, or choose another directory" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


def test_interruption_reports_that_complete_shards_are_kept(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("dreamer4_impl.data.game.Game.step", interrupt)
    assert main([GAME, "--out", str(tmp_path), "--frames", "20"]) == 130
    assert "complete shards are kept" in capsys.readouterr().err
    assert len(Dataset.open(tmp_path)) == 0


def test_a_full_disk_is_reported_and_leaves_a_dataset(tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    assert main([GAME, "--out", str(tmp_path), "--frames", "20", "--size", "4"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(Dataset.open(tmp_path)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["Chess-v9"], "Chess-v9 cannot be played"),
        ([GAME, "--frames", "1"], "frames and longest must be 2 or more"),
        ([GAME, "--size", "0"], "size must be 1 or more"),
        ([GAME, "--policy", "scripted"], "scripted policy"),
    ],
)
def test_errors_are_messages_with_status_2(tmp_path, capsys, options, message):
    assert main([*options, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "dreamer4-record: " in error
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "line", [[], [GAME], [GAME, "--out", "x", "--epsilon", "much"], ["video", "f.mp4", "--out", "x", "--size", "big"]]
)
def test_a_mistyped_command_line_is_status_2(line):
    with pytest.raises(SystemExit) as stopped:
        main(line)
    assert stopped.value.code == 2


@pytest.mark.parametrize("line", [["--help"], ["video", "--help"], ["check", "--help"]])
def test_help_shows_examples(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(line)
    assert stopped.value.code == 0
    assert "dreamer4-record " in capsys.readouterr().out


def test_check_names_the_damaged_shard_and_summarises_the_rest(write, capsys):
    path = write([10, 10])
    assert main(["check", str(path)]) == 0
    capsys.readouterr()
    file = path / "00001" / "rewards.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr()
    assert "00001 is damaged: rewards.npy does not match its checksum" in said.err
    assert "1 in 1 shards" in said.out


def test_check_refuses_a_directory_without_dataset(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "is not a dataset" in capsys.readouterr().err


def test_videos_take_the_action_components_of_a_game(tmp_path, capsys):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "bgr0"
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame(16, 8, "bgr0")))
        container.mux(stream.encode(None))
    assert main([GAME, "--out", str(tmp_path / "game"), "--frames", "20", "--size", "4"]) == 0
    like = ["--actions-like", str(tmp_path / "game")]
    line = ["video", str(tmp_path / "film.mkv"), "--out", str(tmp_path / "out"), "--size", "4x6", "--every", "2", *like]
    assert main(line) == 0
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.height, dataset.width, len(dataset)) == (4, 6, 3)
    assert dataset.components == Dataset.open(tmp_path / "game").components
    assert "3 of 4×6×3" in capsys.readouterr().out
