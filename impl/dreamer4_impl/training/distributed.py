"""One process or many: DistributedDataParallel or FSDP2 under `torchrun`.

A phase calls components of the model, not its `forward`. The engines therefore wrap a module whose forward calls a
function of the phase, so that they see every parameter. FSDP2 shards this module as one unit: sharding each block
separately would require that all processes call each block equally often.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dreamer4_impl.checkpoints.settings import Execution
from dreamer4_impl.models.dreamer4 import Dreamer4


@dataclass(frozen=True)
class Processes:
    """This process and the number of all processes that train together.

    Args:
        device: device on which it computes.
        rank: index of this process, in [0, world).
        world: number of processes, 1 or more.

    >>> Processes(torch.device("cpu")).samples(3)
    [0, 1, 2]
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """True on rank 0, the only process that writes files and logs.

        Returns:
            True on rank 0.
        """
        return self.rank == 0

    def samples(self, batch: int) -> list[int]:
        """Samples of a global batch that belong to this process: sample i belongs to process i mod world.

        Args:
            batch: B, samples of the global batch, 0 or more.

        Returns:
            Indices in [0, B), ascending.
        """
        return list(range(self.rank, batch, self.world))

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes; all of them must call it.

        Args:
            values: any shape, on the device or the CPU; changed in place.

        Returns:
            The tensor itself.
        """
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Combine a flag of all processes by "or", on the CPU; all of them must call it.

        Args:
            flag: flag of this process.

        Returns:
            True if it is true in at least one process.
        """
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag))).item())


@contextmanager
def processes(execution: Execution) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, if it did.

    Args:
        execution: device of the run.

    Returns:
        Context whose value describes this process; it leaves the process group at the end.

    Raises:
        ValueError: if the device is unknown or not available.
    """
    device, world = choose_device(execution.device), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # Flags and objects are exchanged on the CPU, so that no process waits for its GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, dist.get_rank(), world)
    finally:
        dist.destroy_process_group()


def choose_device(name: str, setting: str = "execution.device") -> torch.device:
    """Device by name.

    Args:
        name: "cpu", "cuda", "cuda:N", or "auto", which is "cuda" if a GPU is available, else "cpu".
        setting: name of the setting in messages.

    Returns:
        The device.

    Raises:
        ValueError: if the device is unknown or not available.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # no device that computes
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise ValueError(f"{setting} must be 'auto', 'cpu' or 'cuda'; got {name!r}")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise ValueError(f"{setting} is {name!r}, but PyTorch finds {torch.cuda.device_count()} GPUs")
    return device


class TrainedModel(nn.Module):
    """The model as a module that PyTorch's engines can wrap.

    Args:
        model: the whole model.
    """

    def __init__(self, model: Dreamer4) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[..., Any], *arguments: Any) -> tuple[Any, Tensor]:
        """Call a function with the model, whose parameters are complete inside this call only.

        Args:
            compute: function of the model and the arguments, such as `Phase.means`.
            arguments: its further arguments.

        Returns:
            Its result, and a zero that depends on every trained parameter: added to the loss, it gives a gradient to
            parameters that these samples do not use, as both engines require.
        """
        return compute(self.model, *arguments), sum_of_trained(self) * 0


def sum_of_trained(module: nn.Module) -> Tensor:
    """Sum all parameters with a gradient.

    Args:
        module: has at least one.

    Returns:
        Scalar.

    Example:
        >>> sum_of_trained(nn.Linear(2, 2)).shape
        torch.Size([])
    """
    return torch.stack([p.sum() for p in module.parameters() if p.requires_grad]).sum()


def distribute(model: TrainedModel, processes: Processes, execution: Execution) -> nn.Module:
    """Wrap the model in the engine that the settings name.

    Args:
        model: the model on the device of this process; FSDP2 replaces its parameters in place.
        processes: processes that train together.
        execution: names the engine, "ddp" or "fsdp".

    Returns:
        The model itself for a single process, else the engine.
    """
    if processes.world == 1:
        return model
    if execution.distributed == "ddp":
        index = [processes.device.index] if processes.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=index)
    # Imported late: a single process starts a second earlier without them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh(processes.device.type, (processes.world,)))
    return model


def delayed_gradient_exchange(engine: nn.Module) -> AbstractContextManager[object]:
    """Context for all micro-batches except the last, in which DDP does not exchange gradients.

    Args:
        engine: result of `distribute`.

    Returns:
        The context; without effect for FSDP2, which exchanges each time and saves memory.
    """
    return engine.no_sync() if isinstance(engine, DistributedDataParallel) else nullcontext()


def gathered(tensor: Tensor) -> Tensor:
    """Gather a tensor that may be sharded; all processes must call it.

    Args:
        tensor: any shape.

    Returns:
        The complete tensor in every process.

    Example:
        >>> gathered(torch.ones(2))
        tensor([1., 1.])
    """
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shard a complete tensor.

    Args:
        tensor: any shape.
        like: tensor of the same shape that may be sharded.

    Returns:
        The tensor with the sharding of `like`.

    Example:
        >>> shard_like(torch.ones(2), like=torch.zeros(2))
        tensor([1., 1.])
    """
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements)
