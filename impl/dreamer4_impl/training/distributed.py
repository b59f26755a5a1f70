"""One command for one process and for many: DistributedDataParallel or FSDP2 under `torchrun`.

A phase calls parts of the model, not its `forward`, so what is wrapped is a module whose forward is a phase's losses: both
engines then see every parameter that is used, once in a step. FSDP2 shards it as one unit. Sharding every block would
need all processes to call each block equally often, and they do not: images, clips and relevant sequences are calls of
their own, and not every process has all of them.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dreamer4_impl.checkpoints.settings import Execution
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.phase import PartialMean, Phase


@dataclass(frozen=True)
class Processes:
    """This process among all that train together.

    Args:
        device: where it computes.
        rank, world: its number, and how many there are.

    >>> Processes(torch.device("cpu")).samples(3)
    [0, 1, 2]
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def samples(self, batch: int) -> list[int]:
        """Its samples of a global batch: sample i belongs to process i mod world."""
        return list(range(self.rank, batch, self.world))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true in some process."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())


@contextmanager
def processes(execution: Execution) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, or be the only one."""
    device, world = choose_device(execution.device), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, dist.get_rank(), world)
    finally:
        dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is one.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"execution.device must be 'auto', 'cpu' or 'cuda'; got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("execution.device is 'cuda', and PyTorch sees no GPU here: take 'cpu' or 'auto'")
    return device


class Losses(nn.Module):
    """The losses of a phase as a module, so that PyTorch's engines can wrap it.

    Args:
        model: the whole model.
        phase: whose losses they are.
    """

    def __init__(self, model: Dreamer4, phase: Phase) -> None:
        super().__init__()
        self.model = model
        # The tuple hides it from torch, which would take a phase's companions for parts of the model.
        self._phase = (phase,)

    def forward(self, batch: Batch, step: int, indices: Sequence[int]) -> tuple[dict[str, PartialMean], Tensor]:
        """The phase's means, and a zero that depends on every trained parameter.

        Added to the loss, it gives a gradient to what these samples do not use, as both engines expect.
        """
        means = self._phase[0].means(self.model, batch, step, indices)
        return means, sum_of_trained(self) * 0


def sum_of_trained(module: nn.Module) -> Tensor:
    """The sum of all parameters with a gradient.

    >>> sum_of_trained(nn.Linear(2, 2)).shape
    torch.Size([])
    """
    return torch.stack([p.sum() for p in module.parameters() if p.requires_grad]).sum()


def distribute(losses: Losses, processes: Processes, execution: Execution) -> nn.Module:
    """The losses as they are, or in the engine that the settings name. FSDP2 replaces the parameters in place."""
    if processes.world == 1:
        return losses
    if execution.distributed == "ddp":
        index = [processes.device.index] if processes.device.type == "cuda" else None
        return DistributedDataParallel(losses, device_ids=index)
    # Imported where they are used: one process alone starts a second earlier without them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(losses, mesh=init_device_mesh(processes.device.type, (processes.world,)))
    return losses


def gradients_stay_here(engine: nn.Module) -> AbstractContextManager[object]:
    """For all micro-batches but the last: DDP waits with its exchange. FSDP2 exchanges each time and saves the memory."""
    return engine.no_sync() if isinstance(engine, DistributedDataParallel) else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded, in every process; all of them call it.

    >>> whole(torch.ones(2))
    tensor([1., 1.])
    """
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded as another one is.

    >>> shard_like(torch.ones(2), like=torch.zeros(2))
    tensor([1., 1.])
    """
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements)
