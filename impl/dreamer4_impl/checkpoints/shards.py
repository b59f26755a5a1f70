"""Shards of a checkpoint: tensors of a sharded model, written and read without gathering them.

    shard-00001-model-00001-of-00001.safetensors   shards of rank 0, with the offset of each in its tensor
    shard-00002-…                                  shards of rank 1, …

`torch.distributed.checkpoint` writes them as safetensors: unlike its own format, they contain no code, which would be
executed when they are read. A name in a file is GROUP/NAME, where the group is the file of a checkpoint that the shards
replace.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from dreamer4_impl.checkpoints.header import fingerprint

Result = TypeVar("Result")

PATTERN = "shard-*.safetensors"
"""Names of the files."""


def write_shards(directory: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Write the shards of this process, and wait until the disk holds them; all processes must call it.

    Args:
        directory: the same in all processes.
        tensors: sharded ones (`DTensor`), of which each process writes its shards, and others, the same in all
            processes, each of which is written once; on any device.

    Returns:
        Fingerprints of the files of this process by name.

    Raises:
        OSError: in all processes, if one of them cannot write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(directory), save_distributed=True))
    except CheckpointException as exception:  # not an Exception
        raise OSError(_reason(exception)) from None
    own = directory.glob(PATTERN.replace("*", f"{dist.get_rank() + 1:05d}-*"))
    return {path.name: fingerprint(path) for path in own}


def read_shards(directory: Path, group: str) -> dict[str, Tensor]:
    """Put the tensors of a group together from the shards of all processes; one process suffices.

    Args:
        directory: directory of a checkpoint, whose files match its header: a missing shard would not be noticed here.
        group: first part of the tensors' names.

    Returns:
        Complete tensors on the CPU by the rest of their names; empty if the directory has no shards.

    Raises:
        ValueError: if the shards cannot be put together.
        SafetensorError: if a file is damaged.
    """
    if not any(directory.glob(PATTERN)):
        return {}
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader, prefix = HuggingFaceStorageReader(str(directory)), f"{group}/"
    described: dict[str, Any] = reader.read_metadata().state_dict_metadata  # only tensors
    tensors: dict[str, Any] = {
        name: torch.empty(tensor.size, dtype=tensor.properties.dtype)
        for name, tensor in described.items()
        if name.startswith(prefix)
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process suffices
            load(tensors, storage_reader=reader, no_dist=True)
    except CheckpointException as exception:
        raise ValueError(f"the shards in {directory} cannot be read: {_reason(exception)}") from None
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def in_all_processes(action: Callable[[], Result], *, first_only: bool = False) -> list[Result]:
    """Run an action in every process, and wait for all; all processes must call it.

    Args:
        action: function without arguments; its result can be pickled.
        first_only: run it on rank 0 only; the results of the other processes are None.

    Returns:
        Results by rank.

    Raises:
        OSError: in all processes, if the action failed in one of them.
    """
    result, failure = None, None
    try:
        if not first_only or dist.get_rank() == 0:
            result = action()
    except (OSError, SafetensorError, RuntimeError) as error:
        failure = str(error) or type(error).__name__
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, (result, failure))
    for _, failure in gathered:
        if failure is not None:
            raise OSError(failure)
    return [result for result, _ in gathered]


def _reason(exception: Any) -> str:
    """Message of the first failure in a CheckpointException."""
    rank, (error, _) = next(iter(exception.failures.items()))
    return f"process {rank}: {error}"
