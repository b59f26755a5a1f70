"""A recording of the room whose goal moves, and a small model for it."""

from dataclasses import replace

import pytest

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.game import View
from dreamer4_impl.data.record import Recording, record
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.presets import tiny

ROOMS = "dreamer4_impl.examples.rooms"


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """Directory of 500 frames, half to wholly random play."""
    path = tmp_path_factory.mktemp("rooms") / "data"
    view, policy = View(48, frame_skip=1), f"{ROOMS}:ShortestPath"
    record(Recording(f"{ROOMS}:MovingGoal-v0", 500, view, policy, epsilon=(0.5, 1.0)), path)
    return path


@pytest.fixture(scope="session")
def room_model(rooms):
    """Configuration of the smallest model that takes these frames and actions."""
    config = tiny()
    return ModelConfig(
        replace(config.tokenizer, height=48, width=48, channels=3, patch=8),
        replace(config.dynamics, actions=Dataset.open(rooms).components, tasks=0),
        config.agent,
    )
