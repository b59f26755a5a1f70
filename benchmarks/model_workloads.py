"""The loss alone, and a training step and a generated frame of the `small` preset by every backend that can."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import DEVICE, Run
from benchmarks.workload import Workload, distance
from dreamer4_impl.attention import BACKENDS
from dreamer4_impl.equations.eq04_grid import Granularity, sample_tau_d
from dreamer4_impl.equations.eq06_07_shortcut_forcing import EVERY_ROW, shortcut_forcing_loss, shortcut_forcing_loss_at
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.presets import small

BATCH, TIME = 1, 8


def model_workloads() -> Iterator[Workload]:
    """Everything here; "sdpa" has no cap, which the preset has, and Triton's kernels are for CUDA."""
    granularities: tuple[Granularity, ...] = ("timestep", "sequence")
    for per in granularities:
        yield Workload("loss", f"d per {per}", partial(loss, per), partial(_loss_error, per))
    for backend in BACKENDS:
        if backend != "sdpa" and (backend != "triton" or DEVICE.type == "cuda"):
            yield Workload("training step", backend, partial(training_step, backend), partial(_gradient_error, backend))
            yield Workload("frame", backend, partial(frame, backend), partial(_pass_error, backend))


def loss(per: Granularity) -> Run:
    """Eq. (7) and its gradient on frames of the paper's size; the network is one multiplication, so that the loss is what costs."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    z1 = torch.randn(2, 16, 256, 32, generator=generator, device=DEVICE)
    theta = torch.ones((), device=DEVICE, requires_grad=True)

    def network(z: Tensor, tau: Tensor, d: Tensor, actions: object) -> Tensor:
        return theta * z

    def run() -> tuple[Tensor, ...]:
        # The same draws every time, or the number of rows with a teacher would vary.
        drawn = shortcut_forcing_loss(network, z1, generator=generator.manual_seed(1), per=per)
        return torch.autograd.grad(drawn, theta)

    return run


def training_step(backend: str) -> Run:
    """Loss, gradient and AdamW."""
    model, z1 = dynamics(backend), data()
    optimizer = torch.optim.AdamW(model.parameters())
    generator = torch.Generator(DEVICE)

    def run() -> None:
        optimizer.zero_grad()
        drawn = shortcut_forcing_loss(model.network, z1, generator=generator.manual_seed(1), teacher_rows=EVERY_ROW)
        torch.autograd.backward(drawn)
        optimizer.step()

    return run


def frame(backend: str) -> Run:
    """K denoising passes and the pass that commits, the context being full."""
    from dreamer4_impl.generation.decoder import (
        FrameDecoder,  # a base commit may lack it, and still be measured in all else
    )

    model = dynamics(backend).requires_grad_(False)
    decoder = FrameDecoder(model, BATCH)
    decoder.start(data(model.config.transformer.context))
    return decoder.step


def dynamics(backend: str) -> Dynamics:
    """The same parameters every time."""
    config = small().dynamics
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dynamics(replace(config, transformer=replace(config.transformer, backend=backend))).to(DEVICE)


def data(time: int = TIME) -> Tensor:
    """z₁ of `time` frames for the preset."""
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
        # A network that returned its input would be without velocity, and its loss 0.
        return list(torch.autograd.grad(shortcut_forcing_loss_at(lambda z, *_: theta * (z + 1), *drawn), theta))

    return distance(gradient(torch.float32), gradient(torch.float64))


def _gradient_error(backend: str) -> float:
    def gradient(model: Dynamics, dtype: torch.dtype) -> list[Tensor]:
        model = model.to(dtype)
        predicted, _ = model(*_labelled(data().to(dtype)))
        return [torch.cat([x.flatten() for x in torch.autograd.grad(predicted.square().sum(), _used(model))])]

    return distance(gradient(dynamics(backend), torch.float32), gradient(dynamics("eager"), torch.float64))


def _used(model: Dynamics) -> list[Any]:
    """What ẑ₁ depends on where there are no actions: not their encoder, nor the agent token."""
    return [x for name, x in model.transformer.named_parameters(prefix="transformer")]


@torch.no_grad()
def _pass_error(backend: str) -> float:
    """Of a frame that follows others, by the cache."""

    def last(model: Dynamics, dtype: torch.dtype) -> list[Tensor]:
        model, z = model.to(dtype), data().to(dtype)
        cache = model.empty_cache(BATCH)
        model(*_labelled(z[:, :-1]), cache=cache)
        return [model(*_labelled(z[:, -1:]), cache=cache)[0]]

    return distance(last(dynamics(backend), torch.float32), last(dynamics("eager"), torch.float64))


def _labelled(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z and its labels, τ = 1/2 and d = 1/4."""
    return z, z.new_full(z.shape[:2], 0.5), z.new_full(z.shape[:2], 0.25)
