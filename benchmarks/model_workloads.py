"""Workloads of models: the loss alone, and a training step and a generated frame of the `small` preset by backend."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import DEVICE, Run
from benchmarks.workload import Workload, distance
from dreamer4_impl.attention import BACKENDS
from dreamer4_impl.compilation import compiled
from dreamer4_impl.equations.eq04_grid import Granularity, sample_tau_d
from dreamer4_impl.equations.eq06_07_shortcut_forcing import EVERY_ROW, shortcut_forcing_loss, shortcut_forcing_loss_at
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.presets import small

BATCH, TIME = 1, 8


def model_workloads() -> Iterator[Workload]:
    """All workloads of this module; "sdpa" lacks the soft cap of the preset, and "triton" needs CUDA."""
    granularities: tuple[Granularity, ...] = ("timestep", "sequence")
    for per in granularities:
        yield Workload("loss", f"d per {per}", partial(loss, per), partial(_loss_error, per))
    for backend in BACKENDS:
        if backend != "sdpa" and (backend != "triton" or DEVICE.type == "cuda"):
            yield Workload("training step", backend, partial(training_step, backend), partial(_gradient_error, backend))
            yield Workload("frame", backend, partial(frame, backend), partial(_pass_error, backend))
    for backend in ("eager", "triton") if DEVICE.type == "cuda" else ("eager",):
        build, error = partial(frame, backend, merge_commit=True), partial(_pass_error, backend, ahead=True)
        yield Workload("frame, commit merged", backend, build, error)
        compiled_frame, compiled_error = partial(build, compile=True), partial(error, compile=True)
        yield Workload("frame, commit merged", f"{backend}, compiled", compiled_frame, compiled_error)


def loss(per: Granularity) -> Run:
    """Eq. (7) and its gradient on frames of the paper's size, with a network of one multiplication."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    z1 = torch.randn(2, 16, 256, 32, generator=generator, device=DEVICE)
    theta = torch.ones((), device=DEVICE, requires_grad=True)

    def network(z: Tensor, tau: Tensor, d: Tensor, actions: object) -> Tensor:
        return theta * z

    def run() -> tuple[Tensor, ...]:
        # Fixed draws: otherwise the number of rows with a teacher would vary between calls.
        drawn = shortcut_forcing_loss(network, z1, generator=generator.manual_seed(1), per=per)
        return torch.autograd.grad(drawn, theta)

    return run


def training_step(backend: str) -> Run:
    """One training step: loss, gradient and AdamW update."""
    model, z1 = dynamics(backend), data()
    optimizer = torch.optim.AdamW(model.parameters())
    generator = torch.Generator(DEVICE)

    def run() -> None:
        optimizer.zero_grad()
        drawn = shortcut_forcing_loss(model.network, z1, generator=generator.manual_seed(1), teacher_rows=EVERY_ROW)
        torch.autograd.backward(drawn)
        optimizer.step()

    return run


def frame(backend: str, **options: Any) -> Run:
    """One generated frame with a full context: K denoising passes, and the commit pass or that of the frame before.

    options: of `FrameDecoder`; a base commit may lack them.
    """
    from dreamer4_impl.generation.decoder import (
        FrameDecoder,  # here, so that other workloads run on a base commit without it
    )

    model = dynamics(backend).requires_grad_(False)
    decoder = FrameDecoder(model, BATCH, **options)
    decoder.start(data(model.config.transformer.context))
    return decoder.step


def dynamics(backend: str) -> Dynamics:
    """Model of the `small` preset with fixed parameters."""
    config = small().dynamics
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dynamics(replace(config, transformer=replace(config.transformer, backend=backend))).to(DEVICE)


def data(time: int = TIME) -> Tensor:
    """Fixed z₁ of `time` frames for the `small` preset."""
    config = small().dynamics
    shape = (BATCH, time, config.spatial_tokens, config.spatial_channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)


def _loss_error(per: Granularity) -> float:
    generator = torch.Generator().manual_seed(0)
    z1, z0 = (torch.randn(2, 4, 8, 4, generator=generator).to(DEVICE) for _ in range(2))
    tau, d = (x.to(DEVICE) for x in sample_tau_d(2, 4, generator=generator, per=per))

    def gradient(dtype: torch.dtype) -> list[Tensor]:
        theta = torch.ones((), device=DEVICE, dtype=dtype, requires_grad=True)
        drawn = (x.to(dtype) for x in (z1, z0, tau, d))
        # The identity would have zero velocity, and zero loss.
        return list(torch.autograd.grad(shortcut_forcing_loss_at(lambda z, *_: theta * (z + 1), *drawn), theta))

    return distance(gradient(torch.float32), gradient(torch.float64))


def _gradient_error(backend: str) -> float:
    def gradient(model: Dynamics, dtype: torch.dtype) -> list[Tensor]:
        model = model.to(dtype)
        predicted, _ = model(*_labelled(data().to(dtype)))
        return [torch.cat([x.flatten() for x in torch.autograd.grad(predicted.square().sum(), _used(model))])]

    return distance(gradient(dynamics(backend), torch.float32), gradient(dynamics("eager"), torch.float64))


def _used(model: Dynamics) -> list[Any]:
    """Parameters that ẑ₁ depends on without actions: neither the action encoder nor the agent token."""
    return [x for name, x in model.transformer.named_parameters(prefix="transformer")]


@torch.no_grad()
def _pass_error(backend: str, *, ahead: bool = False, compile: bool = False) -> float:
    """Relative error of the last frame, computed with a cache of the frames before it, or after the one it commits."""

    def last(model: Dynamics, dtype: torch.dtype) -> list[Tensor]:
        model, z = model.to(dtype), data().to(dtype)
        cache = model.empty_cache(BATCH)
        if ahead and dtype == torch.float32:
            model(*_labelled(z[:, :-2]), cache=cache)
            network = compiled(model, dynamic=False) if compile else model
            return [network(*_labelled(z[:, -2:]), cache=cache, ahead=True)[0][:, 1:]]
        model(*_labelled(z[:, :-1]), cache=cache)
        return [model(*_labelled(z[:, -1:]), cache=cache)[0]]

    return distance(last(dynamics(backend), torch.float32), last(dynamics("eager"), torch.float64))


def _labelled(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z with its signal levels τ = 1/2 and step sizes d = 1/4."""
    return z, z.new_full(z.shape[:2], 0.5), z.new_full(z.shape[:2], 0.25)
