"""Speed of the decode engine at the paper's size, with random weights and a full cache, and of a training step."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.ceilings import ceilings_row
from benchmarks.gpu.compiling import compile_layers
from benchmarks.gpu.dense import attend_densely
from benchmarks.gpu.rows import Row
from benchmarks.gpu.training import training_rows
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.layers.actions import Binary, Categorical, Component
from dreamer4_impl.models.configuration import DynamicsConfig, ModelConfig
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.presets import paper, tiny
from dreamer4_impl.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Scale:
    """Sizes of the measurements.

    Args:
        device, dtype: device and dtype of model and cache.
        model: configuration of tokenizer and dynamics.
        seconds: duration of the measurement of the frame rate.
        spatial_tokens: numbers of spatial tokens in the rows of table 2: few, more, all.
        tiled_spatial_tokens: spatial tokens of a frame that has 256 tokens in all, which fill the tiles of products.
        steps: the largest and the smallest number of denoising steps.
    """

    device: str
    dtype: torch.dtype
    model: ModelConfig
    seconds: float
    spatial_tokens: tuple[int, int, int]
    tiled_spatial_tokens: int
    steps: tuple[int, int]


def _smallest() -> ModelConfig:
    """The tiny preset with heads of the least width that the kernels support."""
    model = tiny()
    layers = replace(model.dynamics.transformer, depth=2, time_every=2, heads=2, kv_heads=1, head_width=32, context=2)
    return replace(model, dynamics=replace(model.dynamics, transformer=layers))


PAPER = Scale("cuda", torch.bfloat16, paper(), 3.0, (64, 128, 256), 248, (64, 4))
SMOKE = Scale("cpu", torch.float32, _smallest(), 0.0, (3, 4, 5), 4, (2, 1))


#: The intended configuration: fused kernels, one CUDA graph per frame, commit pass included.
GRAPH = "triton, graph"


@dataclass(frozen=True)
class Variant:
    """Configuration of frame generation.

    Args:
        model: configuration of the dynamics.
        dense: True if time layers attend to all tokens of the cached frames instead of one position per frame.
        layers: True if each layer is compiled separately.
        pixels: True if the tokenizer's decoder runs for every frame.
        decoder: keyword arguments of `FrameDecoder`.
    """

    model: DynamicsConfig
    dense: bool = False
    layers: bool = False
    pixels: bool = False
    decoder: tuple[tuple[str, Any], ...] = ()


def rows(smoke: bool) -> list[Row]:
    """Rows of the stage: the paper's model by variant, the steps of table 2, training steps; slow compilations last."""
    scale = SMOKE if smoke else PAPER
    return [ceilings_row(smoke), *_ways(scale), *_cascade(scale), *training_rows(smoke), *_compiled_ways(scale)]


def _way(scale: Scale, name: str, variant: Variant, budget: float = 60.0, **facts: Any) -> Row:
    tokens, steps = PAPER.model.dynamics.tokens, PAPER.steps[1]
    group = f"the paper's model, {tokens} tokens a frame, the agent's included, K = {steps}"
    return _row(
        group, name, scale, replace(variant, decoder=(("num_steps", scale.steps[1]), *variant.decoder)), facts, budget
    )


def _row(group: str, name: str, scale: Scale, variant: Variant, facts: dict[str, Any], budget: float) -> Row:
    return Row(group, name, partial(_measure, scale, variant), facts, budget)


def _ways(scale: Scale) -> Iterable[Row]:
    fused, eager, sdpa = (Variant(_with(scale, backend)) for backend in ("triton", "eager", "sdpa"))
    # Under the interpreter only one row uses the kernels, to save time.
    often = fused if scale.device == "cuda" else eager
    tiles = replace(often, model=replace(often.model, spatial_tokens=scale.tiled_spatial_tokens))
    without, merged, host = (("commit_pass", False),), (("merge_commit", True),), (("graph", False),)
    yield _way(scale, GRAPH, fused, predicted="60 required, 100 as a goal; at most 161", paper_fps=21.4)
    yield _way(scale, f"{GRAPH}, commit merged", replace(often, decoder=merged))
    yield _way(scale, f"{GRAPH}, 256 tokens in place of {PAPER.model.dynamics.tokens}", tiles)
    yield _way(scale, f"{GRAPH}, no commit pass", replace(often, decoder=without), predicted="at most 200–236")
    yield _way(scale, f"{GRAPH}, tokenizer's decoder", replace(often, pixels=True), predicted="at most 144")
    yield _way(scale, "triton, no graph", replace(often, decoder=host))
    yield _way(scale, "eager attention, graph", eager)
    yield _way(scale, "eager attention, no graph", replace(eager, decoder=host), predicted="about 25")
    yield _way(scale, "SDPA without cap, graph", sdpa)


def _compiled_ways(scale: Scale) -> Iterable[Row]:
    model = Variant(_with(scale, "triton" if scale.device == "cuda" else "eager"))
    single_graph = replace(model, decoder=(("compile", True),))
    yield _way(scale, f"{GRAPH}, layers compiled", replace(model, layers=True), budget=150)
    yield _way(scale, f"{GRAPH}, whole pass compiled", single_graph, budget=240)


def _with(scale: Scale, backend: str) -> DynamicsConfig:
    layers = scale.model.dynamics.transformer
    softcap = None if backend == "sdpa" else layers.softcap
    return replace(scale.model.dynamics, transformer=replace(layers, backend=backend, softcap=softcap))


def _cascade(scale: Scale) -> Iterable[Row]:
    """Rows of table 2 of the paper that change the speed of generation.

    The paper states neither the sizes nor the attention of the first rows; each row's description says what is assumed.
    """
    heads = scale.model.dynamics.transformer.heads
    few, more, all_tokens = scale.spatial_tokens
    many_steps, steps = scale.steps
    _, paper_more, paper_all = PAPER.spatial_tokens
    start = replace(_with(scale, "triton" if scale.device == "cuda" else "eager"), agent=False, tasks=0, registers=0)

    def model(spatial_tokens: int = few, registers: int = 0, **layers: Any) -> DynamicsConfig:
        return replace(
            start,
            spatial_tokens=spatial_tokens,
            registers=registers,
            transformer=replace(start.transformer, **layers),
        )

    def row(name: str, paper_fps: float, detail: str, config: DynamicsConfig, number: int, dense: bool) -> Row:
        variant = Variant(config, dense=dense, decoder=(("num_steps", number),))
        facts = {"paper_fps": paper_fps, "detail": detail}
        return _row("the steps of the paper's table 2", name, scale, variant, facts, 90.0)

    registers, every = scale.model.dynamics.registers, {"kv_heads": heads, "time_every": 1}
    context = scale.model.dynamics.transformer.context
    dense = f"every layer: each of {few + 3} tokens sees all tokens of {context} frames; {heads} key-value heads"
    yield row("diffusion forcing", 0.8, f"K = {many_steps}; {dense}", model(**every), many_steps, True)
    yield row("few steps", 9.1, f"K = {steps}; the same", model(**every), steps, True)
    detail = "the same in one layer of four; the others attend within a frame"
    yield row("+ long context every 4 layers", 18.9, detail, model(kv_heads=heads), steps, True)
    yield row("+ GQA", 23.2, f"{start.transformer.kv_heads} key-value heads", model(), steps, True)
    detail = "in one layer of four a token sees its own position in those frames"
    yield row("+ time-factorised long context", 30.1, detail, model(), steps, False)
    yield row("+ register tokens", 28.9, f"{registers} registers", model(few, registers), steps, False)
    yield row(
        f"+ {paper_more} spatial tokens", 25.7, f"{more + registers + 3} tokens", model(more, registers), steps, False
    )
    detail = f"{all_tokens + registers + 3} tokens, no agent token"
    yield row(f"+ {paper_all} spatial tokens", 21.4, detail, model(all_tokens, registers), steps, False)


#: Steps before timing starts: the first one records the CUDA graph.
WARM = 3


@torch.no_grad()
def _measure(scale: Scale, variant: Variant) -> dict[str, Any]:
    decoder = _decoder(scale, variant)
    action = {component.name: _action(component, scale.device) for component in variant.model.actions}
    for _ in range(WARM if scale.seconds else 1):
        frame = decoder.step(action)
    if not bool(frame.isfinite().all()):
        raise AssertionError("a generated frame is not finite")
    frames = _frames_within(decoder, action, scale)
    rate, latency = _rate(decoder, action, frames, scale), _latency(decoder, action, frames, scale)
    peak = torch.cuda.max_memory_allocated() / 2**30 if scale.device == "cuda" else None
    return {"fps": rate, "frame_ms": 1e3 * latency, "peak_gib": peak}


def _decoder(scale: Scale, variant: Variant) -> FrameDecoder:
    """Decoder with a full cache of random keys and values, so that no frames must be generated first."""
    if scale.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.device(scale.device):
        model = Dynamics(variant.model)
        if variant.dense:
            attend_densely(model)
        tokenizer = Tokenizer(scale.model.tokenizer).to(scale.dtype) if variant.pixels else None
    model = model.to(scale.dtype).requires_grad_(False)
    if variant.layers:
        compile_layers(model)
    decoder = FrameDecoder(model, tokenizer=tokenizer, **dict(variant.decoder))
    full = decoder.save()
    for cache in full.caches:
        cache.keys.normal_()
        cache.values.normal_()
        cache.frames.fill_(cache.keys.shape[2])
    decoder.restore(full)
    return decoder


def _action(component: Component, device: str) -> Tensor:
    batch, _, *rest = component.shape(1, 1)
    if not isinstance(component, Binary | Categorical):
        raise TypeError(f"an action component must be Binary or Categorical; got {component}")
    return torch.zeros(batch, *rest, dtype=torch.int64, device=device)


def _frames_within(decoder: FrameDecoder, action: dict[str, Tensor], scale: Scale) -> int:
    """Number of frames, 1 to 200, that take about as long as the frame rate is to be measured."""
    if not scale.seconds:
        return 1
    return max(1, min(200, int(2 * scale.seconds / _elapsed(decoder, action, 2, scale))))


def _rate(decoder: FrameDecoder, action: dict[str, Tensor], frames: int, scale: Scale) -> float:
    return frames / _elapsed(decoder, action, frames, scale)


def _latency(decoder: FrameDecoder, action: dict[str, Tensor], frames: int, scale: Scale) -> float:
    """Median seconds of one frame with synchronization after each, as in interactive play."""
    return median(_elapsed(decoder, action, 1, scale) for _ in range(min(frames, 50)))


def _elapsed(decoder: FrameDecoder, action: dict[str, Tensor], frames: int, scale: Scale) -> float:
    _wait(scale)
    began = time.perf_counter()
    for _ in range(frames):
        decoder.step(action)
    _wait(scale)
    return time.perf_counter() - began


def _wait(scale: Scale) -> None:
    if scale.device == "cuda":
        torch.cuda.synchronize()
