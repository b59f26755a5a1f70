"""A world that is known: a square moves as the action says, and models of it that are exactly right."""

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
from dreamer4_impl.evaluation.held_out import HeldOut, held_out
from dreamer4_impl.layers.actions import Categorical
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny

SIDE, SQUARE, STEP, FRAMES = 16, 4, 2, 20
MOVES = Categorical("move", 3)
SHIFTS = torch.tensor([[0, 0], [0, STEP], [STEP, 0]])


def moved(frames: Tensor, actions: Tensor) -> Tensor:
    """Frames (B, H, W, C) after the actions: stay, right, down, around the edges."""
    pairs = zip(frames, SHIFTS[actions.long()].tolist(), strict=True)
    return torch.stack([frame.roll(tuple(shift), dims=(0, 1)) for frame, shift in pairs])


def episode(generator: np.random.Generator) -> dict[str, Any]:
    """A square that random actions move; a reward of 1 wherever it touches the left edge."""
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
    with DatasetWriter(path, Header("square", SIDE, SIDE, 1, (MOVES,))) as writer:
        for _ in range(50):
            writer.add_episode(**episode(generator), task="square")
    return path


@pytest.fixture(scope="session")
def square_clips(square_data: Path) -> HeldOut:
    training, rest = Dataset.open(square_data).split()
    return held_out(rest, training, clips=6, length=10)


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
    """A tokenizer that loses nothing: a token is a row of pixels."""

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
    """All that the right model needs to remember."""

    frame: Tensor | None = None

    def reset(self) -> None:
        self.frame = None


class RightDynamics(nn.Module):
    """Knows the rule of the square: ẑ₁ is the next frame, whatever the noise; or forgets the actions."""

    def __init__(self, *, sees_actions: bool = True) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))
        config = square_config().dynamics
        self.config = replace(config, spatial_tokens=SIDE, spatial_channels=SIDE, agent=False)
        self.sees_actions = sees_actions
        self.actions = lambda *given: None

    def empty_cache(self, batch: int) -> LastFrame:
        return LastFrame()

    def forward(self, z: Tensor, tau: Tensor, d: Tensor, actions: Any, *, cache: LastFrame, commit: bool) -> Any:
        if commit:
            # The noise of context is a tenth: what is bright still is.
            cache.frame = (z[:, -1:] > 0.5).to(z.dtype)
            return z, None
        taken = actions["move"][:, 0] if self.sees_actions else torch.zeros(len(z), dtype=torch.int64)
        return moved(cache.frame[:, 0, :, :, None], taken)[:, None, :, :, 0], None


@pytest.fixture
def right_model() -> Any:
    return SimpleNamespace(tokenizer=Pixels(), dynamics=RightDynamics(), agent=None)


@pytest.fixture
def deaf_model() -> Any:
    """Right but for the actions, which it does not see."""
    return SimpleNamespace(tokenizer=Pixels(), dynamics=RightDynamics(sees_actions=False), agent=None)
