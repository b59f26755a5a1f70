"""Write a dataset episode by episode; an interruption leaves complete shards."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike

from dreamer4_impl.data.episode_rows import Rows, episode_rows
from dreamer4_impl.data.format import HEADER, DatasetError, Header, Shard, read_header, write_header
from dreamer4_impl.durable import DirectoryLock, checksum, partial_name, remove_partials, sync

SHARD_FRAMES = 4096
"""Frames after which a shard is closed at the end of an episode."""


class DatasetWriter:
    """Context manager that writes episodes to a directory.

    A shard is written under a temporary name and renamed, then dataset.json is replaced, so that the directory is a
    dataset of complete shards at any time. If an exception ends the context, the episodes since the last complete shard
    are lost. After a resume, `episodes` is the index of the next episode; the result is byte for byte that of an
    uninterrupted writer. The writer holds the lock of the directory until the context ends.

    Args:
        path: directory, made if missing.
        header: name, sizes, components and meta; tasks and shards are filled in by the writer.
        shard_frames: frames after which a shard is closed at the end of an episode, 1 or more.
        resume: continue an existing dataset instead of refusing it.

    Attributes:
        frames: number of frames added, earlier ones included.
        episodes: number of episodes added, earlier ones included.
        position: `position` of the last episode; None if it has none.

    Raises:
        DatasetError: if the directory holds a dataset and `resume` is False, or a dataset with another header.
        InUseError: if another writer has the directory; the message names its process.

    Example:
        The way in for recordings of every other kind. Row t of an episode holds what arrives together with frame t: the
        action that led to it, its reward, and whether the episode goes on. `episode_of_steps` in `data.source`
        converts steps of the form (frame, action taken at it, reward that follows).

        >>> import tempfile
        >>> from dreamer4_impl.data.dataset import Dataset
        >>> from dreamer4_impl.layers.actions import Binary, Categorical
        >>> actions = (Binary("keys", 2), Categorical("mouse", 121))
        >>> header = Header("my game", height=48, width=64, channels=3, components=actions, meta={"fps": 20})
        >>> folder = tempfile.mkdtemp()
        >>> with DatasetWriter(folder, header) as writer:
        ...     for grey in (0, 255):  # episodes, one at a time
        ...         writer.add_episode(
        ...             frames=np.full((3, 48, 64, 3), grey, np.uint8),
        ...             actions={"keys": [[0, 0], [1, 0], [0, 1]], "mouse": [60, 60, 7]},  # the first row is ignored
        ...             rewards=[0.0, 0.0, 1.0],
        ...             continues=[True, True, False],  # terminated in the last frame; True if it was cut off
        ...             task="find the door",
        ...         )
        >>> dataset = Dataset.open(folder)
        >>> len(dataset), dataset.tasks, dataset.returns().tolist()
        (6, ('find the door',), [1.0, 1.0])
    """

    def __init__(
        self, path: Path | str, header: Header, shard_frames: int = SHARD_FRAMES, resume: bool = False
    ) -> None:
        self.path, self.shard_frames = Path(path), shard_frames
        self._lock = DirectoryLock(self.path)
        remove_partials(self.path)
        self.header = self._initial(replace(header, tasks=(), shards=()), resume)
        self.frames = sum(shard.length for shard in self.header.shards)
        self.episodes = sum(shard.episodes for shard in self.header.shards)
        self.position = self.header.position
        self._pending: list[Rows] = []
        write_header(self.path, self.header)

    def _initial(self, header: Header, resume: bool) -> Header:
        """Header of the existing dataset if there is one, else this header."""
        if not (self.path / HEADER).exists():
            return header
        existing = read_header(self.path)
        if not resume:
            if not existing.shards:  # an attempt that failed before its first shard
                return header
            raise DatasetError(f"{self.path} already holds a dataset: resume it, or choose another directory")
        names = ("name", "height", "width", "channels", "components", "meta")
        changes = [
            f"{name} was {getattr(existing, name)}, is {getattr(header, name)}"
            for name in names
            if getattr(existing, name) != getattr(header, name)
        ]
        if changes:
            raise DatasetError(f"{self.path} has other settings and cannot be resumed with these: {', '.join(changes)}")
        return existing

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
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
        position: tuple[int, int] | None = None,
    ) -> None:
        """Append an episode of N frames; row t holds what arrives together with frame t.

        Args:
            frames: uint8 (N, H, W, C), N of 1 or more.
            actions: a_{t−1} of every component by name, (N, …) each; None if they are unknown, as in a video.
            rewards: r_t for t in [0, N), finite numbers (N,); None is 0.
            continues: bool (N,), False in the last row if the episode terminated; None is True.
            labelled: bool (N,), True where the action is known; elsewhere its value is ignored. None is False in the
                first row and True in all others, or False everywhere if there are no actions.
            task: name of the task.
            position: where a source continues after this episode, kept in dataset.json with complete shards.

        Raises:
            ValueError: if an argument has another shape or dtype, is not finite, or is out of range.
            OSError: if a completed shard cannot be written.
        """
        tasks = tuple(dict.fromkeys([*self.header.tasks, task]))
        rows = episode_rows(self.header, tasks.index(task), frames, actions, rewards, continues, labelled)
        self.header = replace(self.header, tasks=tasks)
        self._pending.append(rows)
        self.frames += len(rows["first"])
        self.episodes += 1
        self.position = position
        if self._pending_frames() >= self.shard_frames:
            self._close_shard()

    def _pending_frames(self) -> int:
        return sum(len(rows["first"]) for rows in self._pending)

    def _close_shard(self) -> None:
        name = f"{len(self.header.shards):05d}"
        # Complete shard of an interrupted writer, which dataset.json does not name.
        shutil.rmtree(self.path / name, ignore_errors=True)
        partial = partial_name(self.path / name)
        partial.mkdir()
        checksums = {}
        for column in self.header.columns():
            file = partial / f"{column}.npy"
            np.save(file, np.concatenate([rows[column] for rows in self._pending]))
            sync(file)
            checksums[file.name] = checksum(file)
        sync(partial)
        partial.rename(self.path / name)
        shard = Shard(name, self._pending_frames(), len(self._pending), checksums)
        self.header = replace(self.header, shards=(*self.header.shards, shard), position=self.position)
        write_header(self.path, self.header)
        self._pending = []
