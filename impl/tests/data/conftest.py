"""Shared fixtures: a small dataset whose values encode their position."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.layers.actions import Binary, Categorical, Continuous

COMPONENTS = (Categorical("mouse", 121), Binary("keys", 3), Continuous("stick", 2))


def numbered_episode(number: int, length: int) -> dict[str, Any]:
    """Frame t of episode e is e, t in its first pixels; the action that led to it is t, its reward 10 e + t."""
    t = np.arange(length)
    frames = np.zeros((length, 2, 3, 1), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 1, 0] = number, t
    return {
        "frames": frames,
        "actions": {
            "mouse": t % 121,
            "keys": t[:, None] // np.array([1, 2, 4]) % 2,
            "stick": t[:, None] / np.array([2.0, -4.0]),
        },
        "rewards": np.where(t > 0, 10.0 * number + t, 0),
        "continues": t < length - 1 if number % 2 else np.ones(length, bool),
    }


@pytest.fixture
def episode() -> Callable[[int, int], dict[str, Any]]:
    return numbered_episode


@pytest.fixture
def header() -> Header:
    return Header("numbered", 2, 3, 1, COMPONENTS, meta={"by": ["hand"]})


@pytest.fixture
def write(tmp_path: Path, header: Header) -> Callable[..., Path]:
    """Write numbered episodes of these lengths, several to a shard, and return the directory."""

    def write(lengths: Sequence[int], shard_frames: int = 10, name: str = "dataset", **changes: Any) -> Path:
        with DatasetWriter(tmp_path / name, header, shard_frames) as writer:
            for number, length in enumerate(lengths):
                writer.add_episode(**(numbered_episode(number, length) | changes), task=f"task {number % 2}")
        return tmp_path / name

    return write


@pytest.fixture
def dataset(write: Callable[..., Path]) -> Dataset:
    return Dataset.open(write([4, 7, 3, 9, 5]))
