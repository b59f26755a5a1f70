"""Data with known dynamics, a square that moves as the action says, and exact models of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.evaluation.held_out import HeldOut, load_held_out
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny

SIDE, SQUARE, STEP, FRAMES = 16, 4, 2, 20
MOVES = Categorical("move", 3)
SHIFTS = torch.tensor([[0, 0], [0, STEP], [STEP, 0]])


def moved(frames: Tensor, actions: Tensor) -> Tensor:
    """Frames (B, H, W, C) after the actions stay, right or down; the square wraps around at the edges."""
    pairs = zip(frames, SHIFTS[actions.long()].tolist(), strict=True)
    return torch.stack([frame.roll(tuple(shift), dims=(0, 1)) for frame, shift in pairs])


def episode(generator: np.random.Generator) -> dict[str, Any]:
    """Episode of random actions; the reward is 1 while the square touches the left edge."""
    frame = torch.zeros(1, SIDE, SIDE, 1, dtype=torch.uint8)
    frame[:, :SQUARE, :SQUARE] = 255
    frame = frame.roll(tuple(2 * generator.integers(0, SIDE // 2, size=2)), dims=(1, 2))
    frames, actions = [frame], np.concatenate([[0], generator.integers(3, size=FRAMES - 1)])
    for action in actions[1:]:
        frames.append(moved(frames[-1], torch.tensor([action])))
    video = torch.cat(frames).numpy()
    return {
        "frames": video,
        "actions": {"move": actions},
        "rewards": (video[:, :, 0, 0] > 0).any(1) * (np.arange(FRAMES) > 0),
    }


@pytest.fixture(scope="session")
def square_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, generator = tmp_path_factory.mktemp("square") / "data", np.random.default_rng(0)
    with DatasetWriter(path, Header("square", SIDE, SIDE, 1, (MOVES,), meta={"view": {"size": SIDE}})) as writer:
        for _ in range(50):
            writer.add_episode(**episode(generator), task="square")
    return path


@pytest.fixture(scope="session")
def square_clips(square_data: Path) -> HeldOut:
    training, held_out = Dataset.open(square_data).split()
    return load_held_out(held_out, training, clips=6, length=10)


def square_config() -> ModelConfig:
    config = tiny()
    return replace(
        config,
        tokenizer=replace(config.tokenizer, height=SIDE, width=SIDE, channels=1),
        dynamics=replace(config.dynamics, actions=(MOVES,), tasks=0),
        agent=replace(config.agent, length=1),
    )


@pytest.fixture
def square_model() -> Dreamer4:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Dreamer4(square_config())


class Pixels(nn.Module):
    """Lossless tokenizer: a token is a row of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = SimpleNamespace(queries=torch.zeros(()))
        self.config = replace(square_config().tokenizer, latents=SIDE, spatial_tokens=SIDE, latent_channels=SIDE)

    def encode(self, video: Tensor) -> Tensor:
        return video[..., 0]

    def decode(self, z: Tensor) -> Tensor:
        return z[..., None]

    def reconstruct(self, video: Tensor) -> Tensor:
        return video


@dataclass
class LastFrame:
    """Cache of ExactDynamics."""

    frame: Tensor | None = None

    def reset(self) -> None:
        self.frame = None


class ExactDynamics(nn.Module):
    """Exact dynamics of the square: ẑ₁ is the next frame for any noise; optionally ignores the actions."""

    def __init__(self, *, uses_actions: bool = True) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))
        config = square_config().dynamics
        self.config = replace(config, spatial_tokens=SIDE, spatial_channels=SIDE, agent=False)
        self.uses_actions = uses_actions
        self.actions = lambda *inputs: None

    def empty_cache(self, batch: int) -> LastFrame:
        return LastFrame()

    def forward(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, task: None = None, *, cache: LastFrame, commit: bool
    ) -> Any:
        if commit:
            # The context is corrupted by a tenth of noise, so a threshold recovers it.
            cache.frame = (z[:, -1:] > 0.5).to(z.dtype)
            return z, None
        taken = actions["move"][:, 0] if self.uses_actions else torch.zeros(len(z), dtype=torch.int64)
        return moved(cache.frame[:, 0, :, :, None], taken)[:, None, :, :, 0], None


@pytest.fixture
def exact_model() -> Any:
    return SimpleNamespace(tokenizer=Pixels(), dynamics=ExactDynamics(), agent=None)


@pytest.fixture
def action_blind_model() -> Any:
    """Exact dynamics under the action `stay`, whatever the actions are."""
    return SimpleNamespace(tokenizer=Pixels(), dynamics=ExactDynamics(uses_actions=False), agent=None)
