"""Shards of a dataset: checked against dataset.json and memory-mapped."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dreamer4_impl.data.format import DatasetError, Header, Shard
from dreamer4_impl.durable import DAMAGED_ARRAY, checksum

Arrays: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
"""Arrays of a shard by name, one row per frame."""


@dataclass(frozen=True)
class OpenShard:
    """Shard whose arrays are memory-mapped.

    Args:
        path: its directory.
        entry: its entry in dataset.json.
        arrays: read-only arrays of N rows each.
    """

    path: Path
    entry: Shard
    arrays: Arrays


@dataclass(frozen=True)
class Episode:
    """Position of an episode in a dataset.

    Args:
        shard: index into the dataset's open shards, from 0.
        start: first row in that shard, from 0.
        length: number of frames, 1 or more.
        task: index into the dataset's tasks, from 0.
        number: index in the recording, from 0, skipped shards included.
    """

    shard: int
    start: int
    length: int
    task: int
    number: int


def open_shard(path: Path, entry: Shard, header: Header, verify: str) -> OpenShard:
    """Map the arrays of a shard into memory.

    Args:
        path: directory of the shard.
        entry: its entry in dataset.json.
        header: header of the dataset.
        verify: "quick" compares files, sizes, dtypes and shapes; "full" reads every byte and compares checksums.

    Returns:
        The shard; its arrays are read-only.

    Raises:
        DatasetError: if an array is missing, damaged, or of another dtype or shape than the header says.
    """
    arrays = {}
    for name, (dtype, row) in header.columns().items():
        file = path / f"{name}.npy"
        arrays[name] = _map(file, dtype, (entry.length, *row))
        if verify == "full" and checksum(file) != entry.checksums.get(file.name):
            raise DatasetError(f"shard {path} is damaged: {file.name} does not match its checksum")
    return OpenShard(path, entry, arrays)


def _map(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    shard = f"shard {file.parent} is damaged"
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DatasetError(f"{shard}: {file.name} is missing") from None
    except DAMAGED_ARRAY as error:
        raise DatasetError(f"{shard}: {file.name} cannot be mapped: {error}") from error
    if (array.dtype, array.shape) != (dtype, shape):
        raise DatasetError(f"{shard}: {file.name} must be {dtype} {shape}; got {array.dtype} {array.shape}")
    return array


def episodes_of(shard: OpenShard, index: int, number: int, tasks: int) -> list[Episode]:
    """Find the episodes of a shard in its array `first`.

    Args:
        shard: shard whose episodes are listed.
        index: index of the shard among the open ones, from 0.
        number: index of its first episode in the recording, from 0.
        tasks: number of tasks in the header, 0 or more.

    Returns:
        Episodes in the order of the recording.

    Raises:
        DatasetError: if there are not as many episodes as dataset.json says, or a task is out of range.
    """
    starts = np.flatnonzero(shard.arrays["first"])
    if len(starts) != shard.entry.episodes or not len(starts) or starts[0] != 0:
        raise DatasetError(f"shard {shard.path} is damaged: its episodes differ from those in dataset.json")
    lengths = np.diff(starts, append=shard.entry.length)
    task_of = shard.arrays["task"][starts]
    if task_of.min() < 0 or task_of.max() >= tasks:
        raise DatasetError(f"shard {shard.path} is damaged: it has tasks that are not in dataset.json")
    return [
        Episode(index, int(start), int(length), int(task), number + i)
        for i, (start, length, task) in enumerate(zip(starts, lengths, task_of, strict=True))
    ]
