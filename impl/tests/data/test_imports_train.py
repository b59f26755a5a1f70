"""Every import trains: two steps of the tokenizer, then two of the dynamics, which see its actions."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("h5py")
pytest.importorskip("minari")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

import torch
from gymnasium.spaces import Discrete

from dreamer4_impl.data.clips import ClipSampler
from dreamer4_impl.data.command import main as record
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training.command import main as train
from dreamer4_impl.training.metrics import read_metrics

from . import lerobot_folders, minari_datasets, vpt_folders

SETTINGS = """\
steps = 2
[model]
preset = "tiny"
[batches]
size = 2
[records]
tensorboard = false
[execution]
device = "cpu"
"""


def minari(folder):
    actions, images = np.arange(7) % 3, minari_datasets.images(7)
    minari_datasets.create("game-v0", minari_datasets.IMAGE, Discrete(3), 7, observations=images, actions=actions)
    return folder / "game-v0"


def vpt(folder):
    for name in ("a", "b"):
        vpt_folders.recording(folder, name, [vpt_folders.line(keys=["w"], dx=5.0)] * 8)
    return folder


IMPORTS = pytest.mark.parametrize("write", [minari, vpt, lerobot_folders.version_3], ids=["minari", "vpt", "lerobot"])


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "in"))


def imported(folder, write):
    data = folder / "data"
    assert record(["import", str(write(folder / "in")), "--out", str(data), "--size", "6x8"]) == 0
    return data


@IMPORTS
def test_two_steps_on_an_import_lower_the_loss_of_the_dynamics(tmp_path, write):
    dataset = Dataset.open(imported(tmp_path, write))
    dynamics = replace(tiny().dynamics, actions=dataset.components)
    torch.manual_seed(0)
    model = Dreamer4(replace(tiny(), dynamics=dynamics, agent=None))
    batch = ClipSampler(dataset, seed=0).batch(0, range(4), 3, [False] * 4)
    with torch.no_grad():
        z = model.tokenizer.encode(batch.video.float() / 255)
    optimiser = torch.optim.AdamW(model.dynamics.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        draws = torch.Generator().manual_seed(0)
        loss = shortcut_forcing_loss(model.dynamics.network, z, batch.actions, k_max=dynamics.k_max, generator=draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert all(parameter.grad.abs().max() > 0 for parameter in model.dynamics.actions.encoders.parameters())


@pytest.mark.nightly
@IMPORTS
def test_an_import_trains_two_steps_of_tokenizer_and_dynamics(tmp_path, write):
    data = imported(tmp_path, write)
    (tmp_path / "tiny.toml").write_text(SETTINGS)
    for phase, init in (("tokenizer", []), ("dynamics", ["--init", str(tmp_path / "tokenizer")])):
        run = ["--run", str(tmp_path / phase), "--data", str(data), *init]
        assert train([phase, str(tmp_path / "tiny.toml"), *run]) == 0
        losses = [line["loss"] for line in read_metrics(tmp_path / phase / "metrics.jsonl")]
        assert len(losses) == 2
        assert np.isfinite(losses).all(), json.dumps(losses)
