"""Training step of the dynamics: shortcut forcing loss with two teacher passes, gradient, AdamW; bfloat16 autocast.

The share of attention is the time of all its calls, each measured separately at the same shape, divided by the step's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from benchmarks.gpu import kernels
from benchmarks.gpu.compiling import compile_layers
from benchmarks.gpu.rows import Row
from benchmarks.gpu.timing import median_ms
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss
from dreamer4_impl.models.configuration import DynamicsConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.presets import paper, tiny


@dataclass(frozen=True)
class Scale:
    """Model that fits into memory, and the number of frames of its batch of one sequence."""

    device: str
    model: DynamicsConfig
    frames: int
    samples: int


def _scale(smoke: bool) -> Scale:
    model = tiny().dynamics if smoke else paper().dynamics
    depth = 2 if smoke else model.transformer.depth // 2
    layers = replace(model.transformer, depth=depth, time_every=2 if smoke else 4)
    if smoke:
        layers = replace(layers, heads=2, kv_heads=1, head_width=32)
    return Scale("cpu" if smoke else "cuda", replace(model, transformer=layers), *((2, 1) if smoke else (64, 20)))


def training_rows(smoke: bool) -> Iterable[Row]:
    """Rows of training steps by backend, uncompiled and with compiled layers."""
    scale = _scale(smoke)
    detail = f"half of the paper's depth, 1 sequence of {scale.frames} frames of {scale.model.tokens} tokens"
    fused = "eager" if smoke else "triton"  # the interpreter would take minutes
    ways = {"triton": (fused, False), "eager attention": ("eager", False), "triton, layers compiled": (fused, True)}
    for name, (backend, compiled) in ways.items():
        facts = {"detail": detail}
        yield Row(
            "a training step", name, partial(_measure, scale, backend, compiled), facts, budget=120 if compiled else 60
        )


def _measure(scale: Scale, backend: str, compiled: bool) -> dict[str, Any]:
    config = replace(scale.model, transformer=replace(scale.model.transformer, backend=backend))
    with torch.device(scale.device):
        model = Dynamics(config)
        z1 = torch.randn(1, scale.frames, config.spatial_tokens, config.spatial_channels)
        actions = {
            component.name: torch.zeros(component.shape(1, scale.frames), dtype=torch.int64)
            for component in config.actions
        }
    if compiled:
        compile_layers(model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        with torch.autocast(scale.device, torch.bfloat16):
            loss = shortcut_forcing_loss(model.network, z1, actions, k_max=config.k_max, teacher_rows=slice(None))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    if scale.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ms = median_ms([step], scale.device, scale.samples)
    peak = torch.cuda.max_memory_allocated() / 2**30 if scale.device == "cuda" else None
    return {"ms": ms, "attention_share": _attention_ms(scale, backend) / ms, "peak_gib": peak}


def _attention_ms(scale: Scale, backend: str) -> float:
    """Milliseconds of attention in all layers: two teacher forward passes, the student's forward and backward pass."""
    kinds = scale.model.transformer.layer_kinds()
    return sum(
        kinds.count(axis) * (2 * _alone(scale, backend, axis, False) + _alone(scale, backend, axis, True))
        for axis in ("space", "time")
    )


def _alone(scale: Scale, backend: str, axis: Literal["space", "time"], backward: bool) -> float:
    layers = scale.model.transformer
    extents = kernels.Scale(
        scale.device,
        time=scale.frames,
        space=scale.model.tokens,
        heads=layers.heads,
        kv_heads=layers.kv_heads,
        context=layers.context,
        samples=scale.samples,
    )
    return float(kernels.measure(kernels.Case(extents, axis, layers.head_width, backward), backend)["ms"])
