"""Datasets of Minari as episodes."""

import numpy as np
import pytest

pytest.importorskip("minari")
pytest.importorskip("h5py")
pytest.importorskip("gymnasium")

from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text

from dreamer4_impl.data.command import main
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.importing.minari import camera_of, components_of, open_minari
from dreamer4_impl.data.source import DamageWarning, write_source
from dreamer4_impl.layers.actions import Binary, Categorical, Continuous

from .minari_datasets import IMAGE, create, images


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """Folder of Minari's datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def test_all_frames_actions_rewards_and_ends_are_kept(tmp_path):
    create("game/test-v0", IMAGE, Discrete(5, start=2), observations=images(), actions=np.array([2, 6, 4]))
    assert main(["import", "game/test-v0", "--out", str(tmp_path / "out"), "--size", "3x4"]) == 0
    dataset = Dataset.open(tmp_path / "out")
    clip = dataset.clip(0, 0, 4)
    assert dataset.components == (Categorical("action", 5),)
    assert clip.frames[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert clip.frames.shape == (4, 3, 4, 3)
    assert clip.actions["action"].tolist() == [0, 0, 4, 2]
    assert clip.labelled.tolist() == [False, True, True, True]
    assert clip.rewards.tolist() == [0, 1, 2, 3]
    assert [dataset.clip(e, 0, 4).continues.tolist()[-1] for e in (0, 1)] == [False, True]
    assert dataset.tasks == ("game/test-v0",)


def test_observations_by_key_have_one_camera_and_a_mission(tmp_path, store):
    space = Dict({"image": Box(0, 255, (6, 8), np.uint8), "mission": Text(20), "direction": Discrete(4)})
    observations = {"image": images()[..., 0], "mission": ["open the door"] * 4, "direction": np.zeros(4, np.int64)}
    actions = {"push": np.array([[0, 1]] * 3, np.int8), "turn": np.array([[0.5]] * 3, np.float32)}
    spaces = Dict({"turn": Box(-1, 1, (1,)), "push": MultiBinary(2)})
    create("grid-v0", space, spaces, observations=observations, actions=actions)
    dataset = write_source(open_minari(str(store / "grid-v0"), FrameView(6, 8, grey=True)), tmp_path / "out")
    clip = dataset.clip(1, 0, 4)
    assert dataset.components == (Binary("push", 2), Continuous("turn", 1))
    assert clip.actions["push"].tolist() == [[0, 0], [0, 1], [0, 1], [0, 1]]
    assert clip.actions["turn"].ravel().tolist() == [0, 0.5, 0.5, 0.5]
    assert clip.frames[:, 0, 0].tolist() == [[0], [10], [20], [30]]
    assert dataset.tasks == ("open the door",)


def test_the_camera_is_chosen_by_its_key():
    space = Dict({"left": IMAGE, "right": Box(0, 255, (3, 6, 8), np.uint8), "pose": Box(-1, 1, (3,))})
    assert camera_of(space, "right") == "right"
    assert camera_of(IMAGE, None) is None
    with pytest.raises(
        DatasetError, match=r"one of its images must be chosen, --camera KEY; images: \['left', 'right'\]"
    ):
        camera_of(space, None)
    with pytest.raises(DatasetError, match="it must hold uint8 images; images: none"):
        camera_of(Box(-1, 1, (3,)), None)
    with pytest.raises(DatasetError, match="must be Discrete from 0"):
        components_of(Text(3))


def test_a_dataset_that_is_not_there_or_damaged_is_refused(tmp_path, store, capsys):
    def refused(name, *options):
        assert main(["import", str(name), "--out", str(tmp_path / "out"), *options]) == 2
        return capsys.readouterr().err

    assert "neither a folder nor a dataset of Minari on this machine: `minari download atari/none-v0`" in refused(
        "atari/none-v0"
    )
    (store / "empty" / "data").mkdir(parents=True)
    (store / "empty" / "data" / "metadata.json").write_text("{")
    assert "cannot be read as a dataset of Minari" in refused(store / "empty")
    create("game-v0", IMAGE, Discrete(2), observations=images(), actions=np.array([0, 1, 1]))
    import h5py

    with h5py.File(store / "game-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0"]["rewards"]
    assert "episode 0 of game-v0 is damaged" in refused("game-v0")
    with pytest.warns(DamageWarning, match="left out: episode 0 of game-v0"):
        dataset = write_source(open_minari("game-v0", FrameView(2, 2)), tmp_path / "skipped", damaged="skip")
    assert len(dataset) == 4


def test_the_extra_to_install_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    assert main(["import", "game-v0", "--out", str(tmp_path / "out")]) == 2
    assert "needs Minari: pip install 'dreamer4-conformance[minari]'" in capsys.readouterr().err
