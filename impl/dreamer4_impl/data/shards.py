"""Shards of a dataset: mapped into memory once they are found to be what was written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dreamer4_impl.data.format import DatasetError, Header, Shard, checksum

#: Arrays of a shard by name, one row per frame.
Arrays: TypeAlias = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class OpenShard:
    """A shard's directory, what dataset.json says of it, and its memory-mapped arrays."""

    path: Path
    entry: Shard
    arrays: Arrays


@dataclass(frozen=True)
class Episode:
    """Where an episode lies.

    Args:
        shard: index into the dataset's open shards.
        start: its first row there.
        length: its frames.
        task: index into the dataset's tasks.
        number: its place in the recording, whichever shards are skipped.
    """

    shard: int
    start: int
    length: int
    task: int
    number: int


def open_shard(path: Path, entry: Shard, header: Header, verify: str) -> OpenShard:
    """Map the arrays of a shard; DatasetError says what is damaged. `verify`: as for `Dataset.open`."""
    arrays = {}
    for name, (dtype, row) in header.columns().items():
        file = path / f"{name}.npy"
        arrays[name] = _map(file, dtype, (entry.length, *row))
        if verify == "full" and checksum(file) != entry.checksums.get(file.name):
            raise DatasetError(f"shard {path} is damaged: {file.name} has another checksum than was written")
    return OpenShard(path, entry, arrays)


def _map(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    shard = f"shard {file.parent} is damaged"
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DatasetError(f"{shard}: {file.name} is missing") from None
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{shard}: {file.name} cannot be mapped: {error}") from error
    if (array.dtype, array.shape) != (dtype, shape):
        raise DatasetError(f"{shard}: {file.name} must be {dtype} {shape}; it is {array.dtype} {array.shape}")
    return array


def episodes_of(shard: OpenShard, index: int, number: int, tasks: int) -> list[Episode]:
    """The episodes of a shard, from its rows.

    Args:
        shard: they are in it.
        index: its place among the open shards.
        number: of its first episode in the recording.
        tasks: how many tasks the dataset names.
    """
    starts = np.flatnonzero(shard.arrays["first"])
    if len(starts) != shard.entry.episodes or not len(starts) or starts[0] != 0:
        raise DatasetError(f"shard {shard.path} is damaged: its episodes are not those that were written")
    lengths = np.diff(starts, append=shard.entry.length)
    of_task = shard.arrays["task"][starts]
    if of_task.min() < 0 or of_task.max() >= tasks:
        raise DatasetError(f"shard {shard.path} is damaged: it has tasks that the dataset does not name")
    return [
        Episode(index, int(start), int(length), int(task), number + i)
        for i, (start, length, task) in enumerate(zip(starts, lengths, of_task, strict=True))
    ]
