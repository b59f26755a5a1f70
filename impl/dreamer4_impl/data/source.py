"""Recordings made elsewhere, read episode by episode, and the loop that writes them as a dataset."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from numpy.typing import ArrayLike

from dreamer4_impl.arguments import require_option
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.progress import OnFrames, ignore
from dreamer4_impl.data.writer import SHARD_FRAMES, DatasetWriter


class DamageWarning(UserWarning):
    """Part of a source is damaged and was left out; the message says which."""


class EpisodeArrays(TypedDict, total=False):
    """Arguments of `DatasetWriter.add_episode`."""

    frames: ArrayLike
    actions: Mapping[str, ArrayLike] | None
    rewards: ArrayLike | None
    continues: ArrayLike | None
    labelled: ArrayLike | None
    task: str


@dataclass(frozen=True)
class Unit:
    """Smallest piece of a source that is read at once: a file, or an episode of one.

    Args:
        name: the piece, for messages.
        episodes: reads its episodes, the same ones in each call.
    """

    name: str
    episodes: Callable[[], Iterator[EpisodeArrays]]


@dataclass(frozen=True)
class Source:
    """Recordings to be written as a dataset.

    Args:
        header: header of the dataset, without tasks and shards.
        units: pieces in the order of the dataset.
        frames: number of all frames, for the progress bar; None if unknown.
    """

    header: Header
    units: Sequence[Unit]
    frames: int | None = None


def write_source(
    source: Source,
    path: Path | str,
    resume: bool = False,
    damaged: Literal["refuse", "skip"] = "refuse",
    progress: OnFrames = ignore,
    shard_frames: int = SHARD_FRAMES,
) -> Dataset:
    """Write a dataset from a source.

    A resumed dataset is byte for byte the same as one that is written without an interruption. Units that are
    completely stored are not read again.

    Args:
        source: the recordings.
        path: directory of the dataset.
        resume: continue an existing dataset of the same source.
        damaged: treatment of a unit that cannot be read: "refuse" raises, "skip" warns and leaves out the rest of it.
        progress: called with the number of frames in the dataset after each episode.
        shard_frames: frames after which a shard is closed at the end of an episode, 1 or more.

    Returns:
        The dataset.

    Raises:
        DatasetError: if a unit is damaged and `damaged` is "refuse", no episode can be read, the directory holds a
            dataset and `resume` is False, or the existing dataset is of another source.
        ValueError: if an option is unknown.
    """
    require_option("damaged", damaged, ("refuse", "skip"))
    with DatasetWriter(path, source.header, shard_frames, resume) as writer:
        start, stored = writer.position or (0, 0)
        for number, unit in enumerate(source.units[start:], start):
            try:
                _add_episodes(writer, unit, number, stored if number == start else 0, progress)
            except DatasetError as error:
                if damaged == "refuse":
                    raise
                warnings.warn(f"left out: {error}", DamageWarning, stacklevel=2)
        if not writer.frames:
            raise DatasetError(f"{source.header.name} holds no episode that can be read")
    return Dataset.open(path)


def _add_episodes(writer: DatasetWriter, unit: Unit, number: int, stored: int, progress: OnFrames) -> None:
    for count, episode in enumerate(islice(unit.episodes(), stored, None), stored + 1):
        try:
            writer.add_episode(**episode, position=(number, count))
        except ValueError as error:
            raise DatasetError(f"{unit.name} cannot be used: {error}") from error
        progress(writer.frames)


def episode_of_steps(
    frames: UInt8[np.ndarray, "N H W C"],
    taken: Mapping[str, Shaped[np.ndarray, "T ..."]],
    rewards: Shaped[np.ndarray, " T"] | None,
    terminated: bool,
    recorded: Bool[np.ndarray, " T"] | None = None,
    task: str = "",
) -> EpisodeArrays:
    """Convert steps (frame, action taken at it, reward that follows) to rows that hold what arrives with a frame.

    Args:
        frames: frame t for t in [0, N), N of 1 or more.
        taken: a_t by component, taken at frame t, for t in [0, N − 1) or more; further ones are dropped, because they
            led to frames that were not recorded.
        rewards: r_{t+1}, received after a_t, for t in [0, N − 1) or more; None is 0.
        terminated: whether the episode terminated on arriving at the last frame.
        recorded: True where a_t is known; None if it always is.
        task: name of the task.

    Returns:
        Arguments of `DatasetWriter.add_episode`.

    Example:
        >>> steps = episode_of_steps(np.zeros((3, 1, 1, 1), np.uint8), {"a": np.array([5, 6])}, np.array([0, 1]), True)
        >>> steps["actions"]["a"].tolist(), steps["rewards"].tolist(), steps["continues"].tolist()
        ([0, 5, 6], [0.0, 0.0, 1.0], [True, True, False])
    """
    length = len(frames)
    labelled = np.arange(length) > 0
    if recorded is not None:
        labelled[1:] &= recorded[: length - 1]
    continues = np.ones(length, bool)
    continues[-1] = not terminated
    arrived: dict[str, Any] = {name: _after(values, length) for name, values in taken.items()}
    return {
        "frames": frames,
        "actions": arrived,
        "rewards": None if rewards is None else _after(rewards.astype(np.float64), length),
        "continues": continues,
        "labelled": labelled,
        "task": task,
    }


def _after(values: Shaped[np.ndarray, "T ..."], length: int) -> Shaped[np.ndarray, "N ..."]:
    """Move values one row down; the first row gets 0."""
    return np.concatenate([np.zeros_like(values[:1], shape=(1, *values.shape[1:])), values[: length - 1]])
