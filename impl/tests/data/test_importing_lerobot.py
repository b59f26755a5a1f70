"""Datasets in LeRobot's format as episodes."""

import json

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("pyarrow")

import pyarrow as pa

from dreamer4_impl.data.command import main
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.importing.lerobot import open_lerobot
from dreamer4_impl.data.source import DamageWarning, write_source
from dreamer4_impl.layers.actions import Continuous

from . import lerobot_folders as folders
from .contents import contents

VIEW = FrameView(2, 2)


def changed(folder, **changes):
    """Replace entries of info.json."""
    file = folder / "meta" / "info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize("layout", ["2.1", "3.0", "3.0 with pictures"])
def test_frames_actions_rewards_ends_and_tasks_are_kept(tmp_path, layout):
    if layout == "2.1":
        folder = folders.version_2(tmp_path / "in")
    else:
        folder = folders.version_3(tmp_path / "in", "video" if layout == "3.0" else "image")
    assert main(["import", str(folder), "--out", str(tmp_path / "out"), "--size", "2"]) == 0
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.components, dataset.tasks) == ((Continuous("action", 2),), folders.TEXTS)
    assert dataset.meta["action_names"] == {"action": ["shoulder", "gripper"]}
    for number, length in enumerate(folders.LENGTHS):
        clip = dataset.clip(number, 0, length + 1)
        t = np.arange(length)
        # The last frame is repeated for the last action, reward and end, whose frame is not recorded.
        assert (clip.frames[:, 0, 1, 0] - 100 * number).tolist() == [*(20 * t), 20 * (length - 1)]
        assert clip.rewards.tolist() == [0, *(t + 1)]
        assert clip.continues.tolist() == [True] * length + [False]
        assert clip.labelled.tolist() == [False] + [True] * length
        raw = clip.actions["action"][1:] * dataset.meta["scale"] + dataset.meta["offset"]
        assert np.allclose(raw, np.stack([10 * number + t, np.full(length, 100)], 1), atol=1e-5)
        assert dataset.episodes[number].task == number


def test_actions_get_mean_zero_and_deviation_one(tmp_path):
    dataset = write_source(open_lerobot(folders.version_3(tmp_path / "in"), VIEW), tmp_path / "out")
    actions = np.concatenate(
        [dataset.clip(number, 1, length).actions["action"] for number, length in enumerate(folders.LENGTHS)]
    )
    assert np.allclose(actions.mean(0), 0, atol=1e-6)
    assert np.allclose(actions.std(0), [1, 0], atol=1e-6)  # the second number is constant


def test_without_rewards_no_frame_is_repeated(tmp_path):
    dataset = write_source(open_lerobot(folders.version_2(tmp_path / "in", rewards=False), VIEW), tmp_path / "out")
    assert [episode.length for episode in dataset.episodes] == list(folders.LENGTHS)
    clip = dataset.clip(0, 0, 4)
    assert not clip.rewards.any()
    assert clip.continues.all()
    raw = clip.actions["action"][1:] * dataset.meta["scale"] + dataset.meta["offset"]
    assert raw[:, 0].tolist() == pytest.approx([0, 1, 2], abs=1e-6)


def test_an_interrupted_import_resumes_to_the_same_bytes(tmp_path):
    def write(out, resume=False, progress=lambda frames: None):
        source = open_lerobot(folder, VIEW)
        return write_source(source, tmp_path / out, resume, progress=progress, shard_frames=5)

    def stop(frames):
        raise KeyboardInterrupt

    folder = folders.version_3(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        write("killed", progress=stop)
    write("killed", resume=True)
    write("whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_metadata_that_are_missing_or_damaged_are_named(tmp_path):
    folder = folders.version_2(tmp_path / "in")
    info = json.loads((folder / "meta" / "info.json").read_text())

    def refused(**changes):
        with pytest.raises(DatasetError) as error:
            open_lerobot(changed(folder, **changes), VIEW)
        changed(folder, **info)
        return str(error.value)

    assert "has version v1.6; it must be v2.0, v2.1, v3.0" in refused(codebase_version="v1.6")
    assert "info.json lacks fps" in refused(fps=None)
    features = info["features"]
    assert "lacks the feature action; it has" in refused(features={folders.CAMERA: features[folders.CAMERA]})
    assert "the dataset has no pictures; got None" in refused(features={"action": features["action"]})
    two = features | {"observation.images.wrist": features[folders.CAMERA]}
    assert "choose one, --camera KEY; got None" in refused(features=two)
    for feature in ({"dtype": "float32"}, {"dtype": "float32", "shape": [None]}, {"dtype": 1, "shape": [2]}, []):
        assert "every feature must have a dtype and a shape" in refused(features={"action": feature})
    for fps in ("30", -1, [30], True):
        assert f"fps must be a number above 0; got {fps!r}" in refused(fps=fps)
    assert "lacks 'size'" in refused(data_path="data/{size}.parquet")
    (folder / "meta" / "episodes.jsonl").write_text('{"episode_index": 0}')
    assert "lacks 'length'" in refused()
    (folder / "meta" / "tasks.jsonl").write_text('{"task_index": 0}')
    assert "a task lacks its index or text" in refused()
    (folder / "meta" / "info.json").write_text("{")
    with pytest.raises(DatasetError, match=r"info.json is damaged"):
        open_lerobot(folder, VIEW)


def damaged(folder, change):
    """Message of the episode that is left out after a change of the first episode's file."""
    folders.version_2(folder)
    change(folder)
    with pytest.warns(DamageWarning) as messages:
        dataset = write_source(open_lerobot(folder, VIEW), folder / "out", damaged="skip")
    assert dataset.tasks == folders.TEXTS[1:]
    assert len(dataset) == folders.LENGTHS[1] + 1
    (message,) = messages
    return str(message.message)


def test_damaged_episodes_are_left_out_by_choice_and_named(tmp_path):
    def rows(change):
        def write(folder):
            folders.write_table(folder / "data" / "chunk-000" / "episode_000000.parquet", change(folders.columns(0)))

        return write

    def film(folder):
        return folder / "videos" / "chunk-000" / folders.CAMERA / "episode_000000.mp4"

    early = pa.array([True, False, False, True])
    cases = {
        "lacks the columns ['action']": rows(lambda table: table.drop(["action"])),
        "must have the rows 0 to 3; got 2 rows": rows(lambda table: table[:2]),
        "next.done is true in row 0, not in the last": rows(
            lambda table: table.set_column(table.column_names.index("next.done"), "next.done", early)
        ),
        "episode_000000.parquet cannot be read": lambda folder: (
            folder / "data" / "chunk-000" / "episode_000000.parquet"
        ).write_bytes(b"PAR1"),
        "has no frame at 0.200 s": lambda folder: folders.film(film(folder), 2, folders.FPS),
        "cannot be read as a video": lambda folder: film(folder).unlink(),
        "lacks the task 7": rows(
            lambda table: table.set_column(table.column_names.index("task_index"), "task_index", [[7] * 4])
        ),
    }
    for number, (message, change) in enumerate(cases.items()):
        assert message in damaged(tmp_path / str(number), change)


def test_the_extra_to_install_is_named(tmp_path, monkeypatch, capsys):
    folder = folders.version_2(tmp_path / "in")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert main(["import", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "needs pyarrow: pip install 'dreamer4-conformance[lerobot]'" in capsys.readouterr().err
