"""Memory and operations of a training step of the paper's model on 1, 8 and 64 GPUs, from arithmetic.

    python -m benchmarks.many_gpus    # half a minute on a CPU; writes results/many_gpus.md

The model's tensors are fake: they have shapes and dtypes, and no numbers. Bytes that the forward pass saves, and
operations of the whole step, are counted on them. `MEASURED` is for figures of a run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.growth import RESULTS
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.models.presets import paper
from dreamer4_impl.models.transformer import Transformer

PAGE: Final = RESULTS / "many_gpus.md"
GPUS: Final = (1, 8, 64)
FRAMES: Final = 64
#: Data sheet of the H200 SXM: dense bfloat16, and memory.
OPERATIONS_PER_SECOND: Final = 989e12
GPU_GB: Final = 141

MEASURED: Final[Mapping[tuple[str, int], tuple[str, str]]] = {}
"""(phase, number of GPUs) → peak of the memory and time of a step; none yet."""


def tokenizer_loss(model: Dreamer4, frames: int) -> Tensor:
    """Mean square error of one clip with dropped patches, without LPIPS."""
    config = model.config.tokenizer
    video = torch.rand(1, frames, config.height, config.width, config.channels)
    return (model.tokenizer(video).float() - video).square().mean()


def dynamics_loss(model: Dreamer4, frames: int) -> Tensor:
    """Eq. (7) on the cached latents of one clip, with two passes of the teacher."""
    config = model.config.dynamics
    z1 = torch.randn(1, frames, config.spatial_tokens, config.spatial_channels)
    actions = {action.name: torch.zeros(action.shape(1, frames), dtype=torch.int64) for action in config.actions}
    return shortcut_forcing_loss(model.dynamics.network, z1, actions, k_max=config.k_max, teacher_rows=slice(None))


LOSSES: Final[Mapping[str, Callable[[Dreamer4, int], Tensor]]] = {
    "tokenizer": tokenizer_loss,
    "dynamics": dynamics_loss,
}
"""Loss of one clip of a number of frames, by phase."""


@dataclass(frozen=True)
class Costs:
    """Costs of a step with one clip on one GPU, in bytes and operations.

    parameters: numbers of the whole model.
    trained: numbers that the phase trains.
    copies: bytes of the bfloat16 copies of matrices, which autocast makes once for all passes.
    activations: bytes that the student's forward pass saves for the gradient.
    operations: floating-point operations of products, forward and backward; masked attention counts as a whole.
    """

    parameters: int
    trained: int
    copies: int
    activations: int
    operations: int

    def memory(self, gpus: int) -> dict[str, float]:
        """Bytes on each GPU: with one GPU, or sharded over several by FSDP2 as one unit."""
        state = {"weights": 4 * self.parameters, "gradients": 4 * self.trained, "moments of AdamW": 8 * self.trained}
        shards = {name: size / gpus for name, size in state.items()}
        gathered = {
            "all weights, gathered for the step": state["weights"] if gpus > 1 else 0,
            "all gradients, before they are exchanged": state["gradients"] if gpus > 1 else 0,
        }
        return {**shards, **gathered, "bfloat16 copies of the matrices": self.copies}


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the floating-point operations of products by torch's formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        if formula := flop_registry.get(function.overloadpacket):
            self.total += formula(*arguments, **(options or {}), out_val=result)
        return result


def costs(phase: str, config: Callable[[str], ModelConfig], frames: int, recompute: bool) -> Costs:
    """Costs of a step.

    Args:
        phase: "tokenizer" or "dynamics".
        config: configuration of the model for a backend of attention. Bytes are those of "triton", whose operators have
            no formula: operations are those of "eager".
        frames: T of the clip, 1 or more.
        recompute: recompute the activations of layers.
    """
    # On fake tensors the kernels do not run, so they need no GPU.
    from dreamer4_impl.attention.triton import kernels

    with FakeTensorMode(), mock.patch.object(kernels, "INTERPRETED", mock.Mock(value=True)):
        model = _model(config("triton"), recompute)
        # Where layers are recomputed, copies are made and used, and not saved.
        copies, stored = saved(_model(config("triton"), False), phase, frames)
        activations = saved(model, phase, frames)[1] if recompute else stored
        operations = counted(_model(config("eager"), recompute), phase, frames)
    trained = count_parameters(getattr(model, phase))
    return Costs(count_parameters(model), trained, copies, activations, operations)


def _model(config: ModelConfig, recompute: bool) -> Dreamer4:
    model = Dreamer4(config)
    for module in model.modules():
        if isinstance(module, Transformer):
            module.recompute = recompute
    return model


def saved(model: Dreamer4, phase: str, frames: int) -> tuple[int, int]:
    """Bytes that the forward pass saves for the gradient: copies of matrices, and all others, gains included.

    Args:
        model: on the CPU, real or fake; bfloat16 by autocast.
        phase: "tokenizer" or "dynamics".
        frames: T of the clip, 1 or more.
    """
    matrices = {tuple(parameter.shape) for parameter in model.parameters()}
    storages: dict[int, tuple[torch.UntypedStorage, bool]] = {}  # kept, so that no identity is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        copy = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in matrices
        storages[storage._cdata] = (storage, copy)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        loss = LOSSES[phase](model, frames)
    del loss
    sizes = [(storage.nbytes(), copy) for storage, copy in storages.values()]
    return sum(size for size, copy in sizes if copy), sum(size for size, copy in sizes if not copy)


def counted(model: Dreamer4, phase: str, frames: int) -> int:
    """Operations of a step, forward and backward."""
    with Operations() as operations:
        with torch.autocast("cpu", torch.bfloat16):
            loss = LOSSES[phase](model, frames)
        torch.autograd.backward(loss)
    return operations.total


def table(phase: str, stored: Costs, recomputed: Costs) -> str:
    """Markdown table of a phase: GB and times on each GPU.

    Args:
        phase: "tokenizer" or "dynamics".
        stored: costs where activations are stored.
        recomputed: costs where they are recomputed.
    """
    ways = {"stored": stored, "recomputed": recomputed}
    sizes = [stored.memory(gpus) for gpus in GPUS]
    rows = [[f"{name}, GB", *(_gb(size[name]) for size in sizes)] for name in sizes[0]]
    rows += [[f"activations, {way}, GB", *[_gb(cost.activations)] * len(GPUS)] for way, cost in ways.items()]
    for way, cost in ways.items():
        rows.append([f"**sum, {way}, GB**", *(_gb(sum(size.values()) + cost.activations) for size in sizes)])
    for way, cost in ways.items():
        seconds = cost.operations / OPERATIONS_PER_SECOND
        rows.append([f"operations, {way}, 10¹²", *[f"{cost.operations / 1e12:.0f}"] * len(GPUS)])
        rows.append([f"time at the full rate of the card, {way}, s", *[f"{seconds:.2f}"] * len(GPUS)])
    for index, name in enumerate(("peak of the memory, measured", "time of a step, measured")):
        rows.append([name, *(MEASURED.get((phase, gpus), ["not measured"] * 2)[index] for gpus in GPUS)])
    header = [f"{phase}, each GPU", *(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)]
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}" if size else "–"


def page() -> str:
    """Markdown with a table for each phase."""
    text = (
        f"Arithmetic, not measurements: one clip of {FRAMES} frames on each GPU, float32 weights, bfloat16 autocast, "
        f"backend `triton`, without LPIPS, several GPUs by FSDP2. An H200 has {GPU_GB} GB and at most "
        f"{OPERATIONS_PER_SECOND / 1e12:.0f}·10¹² operations a second (data sheet). Activations and operations are "
        "proportional to the clips of a GPU, and activations to their frames. The sum is an upper bound of what it "
        "counts, because gradients come while activations go; temporary tensors of a layer and buffers of the exchange "
        "are not counted. Written by `python -m benchmarks.many_gpus`.\n"
    )
    for phase in LOSSES:
        cost = partial(costs, phase, paper, FRAMES)
        text += f"\n{table(phase, cost(recompute=False), cost(recompute=True))}\n"
    return text


if __name__ == "__main__":
    Path(PAGE).write_text(page(), encoding="utf-8")
