"""Write a dataset, episode by episode; an interruption leaves whole shards."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike

from dreamer4_impl.data.episode_rows import Rows, episode_rows
from dreamer4_impl.data.format import HEADER, DatasetError, Header, Shard, checksum, read_header, sync, write_header

#: Frames after which a shard is closed, at the end of an episode.
SHARD_FRAMES = 4096


class DatasetWriter:
    """Write episodes into the directory `path`; a context manager.

    A shard is written beside and renamed, then dataset.json is replaced: at every moment the directory is a dataset of
    whole shards. Left by an exception, the writer drops the episodes that are not in a whole shard. With `resume`,
    `episodes` says where to go on, and what results is byte for byte what an uninterrupted writer makes.

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
        self.path, self.shard_frames = Path(path), shard_frames
        self.path.mkdir(parents=True, exist_ok=True)
        self.header = self._begun(replace(header, tasks=(), shards=()), resume)
        self.frames = sum(shard.length for shard in self.header.shards)
        self.episodes = sum(shard.episodes for shard in self.header.shards)
        self._pending: list[Rows] = []
        write_header(self.path, self.header)

    def _begun(self, header: Header, resume: bool) -> Header:
        """The header of the dataset that is there, or this one."""
        if not (self.path / HEADER).exists():
            return header
        if not resume:
            raise DatasetError(f"{self.path} holds a dataset already: resume it, or choose another directory")
        found = read_header(self.path)
        names = ("name", "height", "width", "channels", "components", "meta")
        changed = [name for name in names if getattr(found, name) != getattr(header, name)]
        if changed:
            said = ", ".join(f"{name} was {getattr(found, name)}, is {getattr(header, name)}" for name in changed)
            raise DatasetError(f"{self.path} was begun with other settings and cannot be resumed with these: {said}")
        return found

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
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
        """Append an episode of N frames; row t holds what arrives together with frame t, see `format`.

        Args:
            frames: uint8 (N, H, W, C).
            actions: a_{t−1}, every component by name, (N, …); None where nobody knows them, as in a video.
            rewards: (N,); None is 0.
            continues: bool (N,), False in the last row where the episode terminated; None is True.
            labelled: bool (N,), where an action is known, elsewhere its value does not matter; None is everywhere but in the
                first row, and without actions nowhere.
            task: its name.
        """
        tasks = tuple(dict.fromkeys([*self.header.tasks, task]))
        rows = episode_rows(self.header, tasks.index(task), frames, actions, rewards, continues, labelled)
        self.header = replace(self.header, tasks=tasks)
        self._pending.append(rows)
        self.frames += len(rows["first"])
        self.episodes += 1
        if self._pending_frames() >= self.shard_frames:
            self._close_shard()

    def _pending_frames(self) -> int:
        return sum(len(rows["first"]) for rows in self._pending)

    def _close_shard(self) -> None:
        name = f"{len(self.header.shards):05d}"
        beside = self.path / f".{name}.partial"
        # What an interruption left, which dataset.json does not name.
        for leftover in (beside, self.path / name):
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir()
        checksums = {}
        for column in self.header.columns():
            file = beside / f"{column}.npy"
            np.save(file, np.concatenate([rows[column] for rows in self._pending]))
            sync(file)
            checksums[file.name] = checksum(file)
        sync(beside)
        beside.rename(self.path / name)
        shard = Shard(name, self._pending_frames(), len(self._pending), checksums)
        self.header = replace(self.header, shards=(*self.header.shards, shard))
        write_header(self.path, self.header)
        self._pending = []
