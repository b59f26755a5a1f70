"""Write a dataset, episode by episode; an interruption leaves whole shards."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dreamer4_impl.actions import Binary, Categorical, Component
from dreamer4_impl.data.format import (
    HEADER,
    DatasetError,
    Header,
    Shard,
    action_column,
    checksum,
    read_header,
    sync,
    write_header,
)

#: Frames after which a shard is closed, at the end of an episode.
SHARD_FRAMES = 4096


class DatasetWriter:
    """Write episodes into the directory `path`; a context manager.

    A shard is written beside and renamed, then dataset.json is replaced: at every moment the directory is a dataset of
    whole shards. Left by an exception, the writer drops the episodes that are not in a whole shard; `episodes` then says
    after `resume` where to go on, and what results is byte for byte what an uninterrupted writer makes.

    Args:
        path: made where it is missing.
        header: name, sizes, components and meta; its tasks and shards are the writer's.
        shard_frames: frames after which a shard is closed, at the end of an episode.
        resume: go on with the dataset that is there, if one is.

    Attributes:
        frames, episodes: how many were added, those before a resume included.
    """

    def __init__(
        self, path: Path | str, header: Header, shard_frames: int = SHARD_FRAMES, resume: bool = False
    ) -> None:
        self.path = Path(path)
        self.shard_frames = shard_frames
        self.path.mkdir(parents=True, exist_ok=True)
        self._pending: list[dict[str, np.ndarray[Any, Any]]] = []
        self.header = self._existing(header, resume)
        self.frames = sum(shard.length for shard in self.header.shards)
        self.episodes = sum(shard.episodes for shard in self.header.shards)
        write_header(self.path, self.header)

    def _existing(self, header: Header, resume: bool) -> Header:
        header = replace(header, tasks=(), shards=())
        if not (self.path / HEADER).exists():
            return header
        if not resume:
            raise DatasetError(f"{self.path} holds a dataset already: resume it, or choose another directory")
        existing = read_header(self.path)
        if replace(existing, tasks=(), shards=()) != header:
            raise DatasetError(
                f"{self.path} was begun with other settings, and cannot be resumed with these: "
                f"{_differences(existing, header)}"
            )
        return existing

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._close_shard()

    def add_episode(
        self,
        frames: ArrayLike,
        actions: Mapping[str, ArrayLike] | None = None,
        rewards: ArrayLike | None = None,
        continues: ArrayLike | None = None,
        labelled: ArrayLike | None = None,
        task: str = "",
    ) -> None:
        """Append an episode of N frames; see `format` for what row t holds.

        Args:
            frames: uint8 (N, H, W, C).
            actions: every component by name, (N, …); None where no action is known, as in a video.
            rewards: (N,); None is 0.
            continues: bool (N,), False in the last row where the episode terminated; None is True.
            labelled: bool (N,), where an action is known; None is everywhere but in the first row, or nowhere without actions.
            task: its name.
        """
        frames = np.asarray(frames)
        length = len(frames)
        known = np.arange(length) > 0 if actions is not None else np.zeros(length, bool)
        known = known if labelled is None else np.asarray(labelled)
        rows: dict[str, Any] = {
            "frames": frames,
            "rewards": np.zeros(length) if rewards is None else rewards,
            "continues": np.ones(length, bool) if continues is None else continues,
            "first": np.arange(length) == 0,
            "labelled": known,
            "task": np.full(length, self._task(task)),
        }
        for part in self.header.components:
            rows[action_column(part)] = _action(part, actions, known)
        self._pending.append(self._columns(rows))
        self.frames += length
        self.episodes += 1
        if sum(len(episode["first"]) for episode in self._pending) >= self.shard_frames:
            self._close_shard()

    def _task(self, task: str) -> int:
        if task not in self.header.tasks:
            self.header = replace(self.header, tasks=(*self.header.tasks, task))
        return self.header.tasks.index(task)

    def _columns(self, rows: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        length = len(rows["first"])
        columns = {}
        for name, (dtype, row) in self.header.columns().items():
            values = np.asarray(rows[name])
            if values.shape != (length, *row) or length == 0:
                raise ValueError(f"{name} must have shape {('N', *row)}, N ≥ 1; got {values.shape}, N = {length}")
            if dtype.kind in "bu" and name != f"action.{name[7:]}" and values.dtype != dtype:
                raise ValueError(f"{name} must be {dtype}; got {values.dtype}")
            columns[name] = np.ascontiguousarray(values, dtype)
        if not columns["continues"][:-1].all():
            raise ValueError("continues may be False in an episode's last row alone; got it earlier")
        if not np.isfinite(columns["rewards"]).all():
            raise ValueError("rewards must be finite")
        return columns

    def _close_shard(self) -> None:
        if not self._pending:
            return
        name = f"{len(self.header.shards):05d}"
        beside = self.path / f".{name}.partial"
        for leftover in (beside, self.path / name):
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir()
        checksums = {}
        for column in self.header.columns():
            file = beside / f"{column}.npy"
            np.save(file, np.concatenate([episode[column] for episode in self._pending]))
            sync(file)
            checksums[file.name] = checksum(file)
        os.rename(beside, self.path / name)
        length = sum(len(episode["first"]) for episode in self._pending)
        shard = Shard(name, length, len(self._pending), checksums)
        self.header = replace(self.header, shards=(*self.header.shards, shard))
        write_header(self.path, self.header)
        self._pending = []


def _action(
    part: Component, actions: Mapping[str, ArrayLike] | None, known: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    shape = (len(known), *part.shape(1, 1)[2:])
    if actions is None or part.name not in actions:
        if known.any():
            raise ValueError(f"actions must hold {part.name!r} where labelled is True; got none")
        return np.zeros(shape)
    values = np.asarray(actions[part.name])
    if values.shape != shape:
        raise ValueError(f"actions[{part.name!r}] must have shape {shape}; got {values.shape}")
    values = np.where(known.reshape(-1, *(1,) * (values.ndim - 1)), values, 0)
    top = {Categorical: part.size - 1, Binary: 1}.get(type(part))
    if top is not None and ((values < 0) | (values > top) | (values != np.round(values))).any():
        raise ValueError(f"actions[{part.name!r}] must be whole numbers in [0, {top}] where they are labelled")
    if not np.isfinite(values).all():
        raise ValueError(f"actions[{part.name!r}] must be finite where they are labelled")
    return values


def _differences(one: Header, other: Header) -> str:
    names: Sequence[str] = ("name", "height", "width", "channels", "components", "meta")
    return ", ".join(
        f"{name} was {getattr(one, name)}, is {getattr(other, name)}"
        for name in names
        if getattr(one, name) != getattr(other, name)
    )
