"""Attention of every backend on the same function: QK-norm and RoPE of raw queries and keys, then capped attention.

Each row is first compared with float32 attention of the eager backend on a part of its inputs; a row with a wrong
result is not timed. Floors count every input read once, every output written once, and the arithmetic of visible pairs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.ceilings import ceilings_row
from benchmarks.gpu.rows import Row, Unavailable
from benchmarks.gpu.timing import Arguments, median_ms, rotated
from dreamer4_impl.attention import Cache, Preparation, Visible, attention, prepare, prepare_keys
from dreamer4_impl.layers.rope import Rotation, rotation

CAP, EPS = 50.0, 1e-6
#: Largest accepted relative distance of a bfloat16 result from float32 attention; wrong results are far above it.
RIGHT = 0.03
AXES: tuple[Literal["space", "time"], ...] = ("space", "time")
#: Backends in the order of their rows, each with a description.
BACKENDS = {
    "triton": "norm and RoPE of queries inside the kernel, of keys in a separate kernel before it",
    "flex": "compiled norm and RoPE before compiled FlexAttention",
    "sdpa": "compiled norm and RoPE before torch's kernel; no cap and no window: not the same function",
    "eager": "plain torch",
}
#: Milliseconds predicted for the training shape at width 128 before any measurement; by axis, tokens, backward, name.
#: Those of Triton are for tiles of 64 rows and 32 keys without masks where all is visible, 17.9 instructions a logit
#: forward. 264 tokens fill 17 × 64 rows of queries of four heads and 9 × 32 keys: 1.2 times the tiles of 256 in space.
#: Over time there are 1.03 times as many sequences. There is no prediction for Flex with 264 tokens.
PREDICTED = {
    ("space", 256, False, "triton"): "0.28–0.33",
    ("space", 256, False, "flex"): "0.7–0.9",
    ("space", 256, True, "triton"): "1.4–1.65",
    ("space", 256, True, "flex"): "2.7–3.5",
    ("space", 264, False, "triton"): "0.34–0.40",
    ("space", 264, True, "triton"): "1.7–2.0",
    ("time", 256, False, "triton"): "0.19–0.22",
    ("time", 256, False, "flex"): "0.45–0.5",
    ("time", 256, True, "triton"): "0.74–0.87",
    ("time", 256, True, "flex"): "1.55–1.9",
    ("time", 264, False, "triton"): "0.20–0.23",
    ("time", 264, True, "triton"): "0.76–0.90",
}
#: Budgets in seconds: the few Triton kernels of a row compile in 1–3 s each; Inductor starts and compiles in 20–40 s.
BUDGETS = {"triton": 40.0, "flex": 90.0, "sdpa": 60.0, "eager": 30.0}


@dataclass(frozen=True)
class Scale:
    """Extents of the tensors: `space` spatial tokens per frame, `tokens` of all kinds in a frame of the model."""

    device: str = "cuda"
    batch: int = 1
    time: int = 256
    space: int = 256
    tokens: int = 264
    heads: int = 16
    kv_heads: int = 4
    context: int = 192
    widths: tuple[int, ...] = (128, 64)
    samples: int = 20


PAPER = Scale()
SMOKE = Scale("cpu", time=3, space=2, tokens=3, heads=2, kv_heads=1, context=2, samples=1)


class Case(NamedTuple):
    """Attention over one axis at the training shape.

    `backward` means a forward and a backward pass; with `all_tokens` a frame has all tokens of the model, else only the
    spatial ones.
    """

    scale: Scale
    axis: Literal["space", "time"]
    width: int
    backward: bool
    all_tokens: bool = False

    @property
    def group(self) -> str:
        """Name of the table of its rows, the same in a smoke run."""
        passes = "forward and backward" if self.backward else "forward"
        tokens = f", {PAPER.tokens} tokens" if self.all_tokens else ""
        return f"{self.axis}, {passes}, width {self.width}{tokens}"

    @property
    def space(self) -> int:
        """Number of tokens in a frame."""
        return self.scale.tokens if self.all_tokens else self.scale.space

    @property
    def length(self) -> int:
        """Number of positions along the axis."""
        return self.space if self.axis == "space" else self.scale.time

    def draw(self) -> Arguments:
        """Random raw q, k, v, both gains and the gradient of the output; with zeros a card runs faster."""
        extents, heads = (self.scale.batch, self.scale.time, self.space), self.scale.heads
        shapes = [(*extents, count, self.width) for count in (heads, self.scale.kv_heads, self.scale.kv_heads)]
        gains = (1 + random(self.scale.device, self.width) / 8 for _ in range(2))
        tensors = [random(self.scale.device, *shape) for shape in shapes] + list(gains)
        return *(tensor.requires_grad_(self.backward) for tensor in tensors), random(self.scale.device, *shapes[0])

    def visible(self, backend: str) -> Visible:
        """Mask options: over time causal, with a window if the backend supports one."""
        if self.axis == "space":
            return Visible()
        return Visible(causal=True, window=None if backend == "sdpa" else self.scale.context)

    def passes(self) -> list[dict[str, float]]:
        """Operations and bytes of each pass: two matrix products in the forward pass, five in the backward pass."""
        rows = self.scale.batch * self.scale.time * self.space
        flop = 4 * rows // self.length * self.scale.heads * self.width * self._pairs()
        q, k = (2 * rows * count * self.width for count in (self.scale.heads, self.scale.kv_heads))
        statistics = 4 * rows * self.scale.heads
        forward: dict[str, float] = {"flop": flop, "bytes": 2 * q + 2 * k + statistics}
        backward: dict[str, float] = {"flop": 2.5 * flop, "bytes": 4 * q + 4 * k + 2 * statistics}
        return [forward, backward] if self.backward else [forward]

    def _pairs(self) -> int:
        if self.axis == "space":
            return self.length**2
        return sum(min(query + 1, self.scale.context) for query in range(self.length))


def random(device: str, *shape: int) -> Tensor:
    """Standard normal bfloat16 tensor."""
    return torch.randn(shape, device=device, dtype=torch.bfloat16)


def angles(device: str, length: int, width: int) -> Rotation:
    """Cosines and sines of positions 0 to `length` − 1 in float32, as a model computes them once for all layers."""
    cos, sin = rotation(torch.arange(length, device=device), width)
    return cos.float(), sin.float()


def composed(
    backend: str, axis: Literal["space", "time"], turns: Rotation, cap: float | None, visible: Visible
) -> Callable[..., Tensor]:
    """Function (q, k, v, gain of q, gain of k) → output, computed by one backend."""
    prepared = torch.compile(prepare, fullgraph=True, dynamic=False) if backend in ("flex", "sdpa") else prepare
    options: dict[str, Any] = {"axis": axis, "softcap": cap, "backend": backend, **visible._asdict()}

    def outside(q: Tensor, k: Tensor, v: Tensor, q_gain: Tensor, k_gain: Tensor) -> Tensor:
        q, k = (prepared(x, Preparation(gain, EPS, turns), axis) for x, gain in ((q, q_gain), (k, k_gain)))
        return attention(q, k, v, **options)

    def inside(q: Tensor, k: Tensor, v: Tensor, q_gain: Tensor, k_gain: Tensor) -> Tensor:
        k = prepare_keys(k, Preparation(k_gain, EPS, turns), axis, backend)
        return attention(q, k, v, preparation=Preparation(q_gain, EPS, turns), **options)

    return inside if backend in ("triton", "eager") else outside


def rows(smoke: bool) -> list[Row]:
    """Rows of the stage: the paper's width first, also for frames of 264 tokens; candidate tiles last."""
    from benchmarks.gpu.tuning import tuning_rows

    scale = SMOKE if smoke else PAPER
    cases = [
        Case(scale, axis, width, backward, all_tokens)
        for width in scale.widths
        for axis, backward, all_tokens in product(AXES, (False, True), (False, True))
        if width == scale.widths[0] or not all_tokens
    ]
    compared = [row for case in cases for row in _compared(case)]
    frames = [row for width in scale.widths for row in _one_frame(scale, width)]
    return [ceilings_row(smoke), *compared, *frames, *tuning_rows(scale)]


def _compared(case: Case) -> Iterable[Row]:
    for backend, detail in BACKENDS.items():
        facts: dict[str, Any] = {"detail": detail}
        if case.width == PAPER.widths[0]:
            tokens = PAPER.tokens if case.all_tokens else PAPER.space
            facts["predicted"] = PREDICTED.get((case.axis, tokens, case.backward, backend))
        yield _row(case.group, backend, partial(measure, case, backend), facts)


def _row(group: str, backend: str, measure: Callable[[], dict[str, Any]], facts: dict[str, Any] | None = None) -> Row:
    return Row(group, backend, measure, facts or {}, BUDGETS[backend])


def measure(case: Case, backend: str) -> dict[str, Any]:
    """Check the results of one backend on one case, then measure milliseconds and peak memory.

    Raises:
        Unavailable: if the backend does not support the case on this device.
        AssertionError: if a result is wrong.
    """
    if case.scale.device == "cpu" and backend == "flex" and case.backward:
        raise Unavailable("FlexAttention has no gradient on a CPU")
    turns = angles(case.scale.device, case.length, case.width)
    cap = None if backend == "sdpa" else CAP
    function = composed(backend, case.axis, turns, cap, case.visible(backend))

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        if not case.backward:
            with torch.no_grad():
                return (function(*tensors[:-1]),)
        out = function(*tensors[:-1])
        return out, *torch.autograd.grad(out, tensors[:-1], tensors[-1])

    sets = rotated(case.draw)
    _require_right(case, backend, turns, sets[0], call(*sets[0]))
    peak = _peak_gib(call, sets[0])
    return {"ms": _median_ms(call, sets, case.scale), "passes": case.passes(), "peak_gib": peak}


def _require_right(case: Case, backend: str, turns: Rotation, tensors: Arguments, got: tuple[Tensor, ...]) -> None:
    """Compare two sequences and their gradients with float32; sequences are independent, so that two suffice."""
    axis = 1 if case.axis == "space" else 2
    q, k, v, d_out = (tensors[index].detach().narrow(axis, 0, 2).float().requires_grad_() for index in (0, 1, 2, 5))
    gains = [gain.detach().float() for gain in tensors[3:5]]
    cap = None if backend == "sdpa" else CAP
    out = composed("eager", case.axis, turns, cap, case.visible(backend))(q, k, v, *gains)
    wanted = [out, *(torch.autograd.grad(out, (q, k, v), d_out) if case.backward else ())]
    for name, tensor, right in zip(("out", "dq", "dk", "dv"), got, wanted, strict=False):
        require_close(name, tensor.narrow(axis, 0, 2), right)


def _median_ms(call: Callable[..., Any], sets: list[Arguments], scale: Scale) -> float:
    return median_ms([partial(call, *tensors) for tensors in sets], scale.device, scale.samples)


def require_close(name: str, got: Tensor, expected: Tensor) -> None:
    """Compare a result with its float32 value up to the rounding of bfloat16.

    Raises:
        AssertionError: if the relative distance is above `RIGHT`.
    """
    error = float((got.detach().float() - expected.detach()).norm() / expected.detach().norm())
    if not error <= RIGHT:
        raise AssertionError(f"relative error of {name} must be at most {RIGHT}; got {error:.3g}: not timed")


def _peak_gib(call: Callable[..., Any], tensors: Arguments) -> float | None:
    """Peak memory of a call in addition to its arguments, in GiB; None on a CPU."""
    if not tensors[0].is_cuda:
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(*tensors)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def _one_frame(scale: Scale, width: int) -> Iterable[Row]:
    """Rows of the three attention kernels that generate a frame."""
    for backend in BACKENDS:
        yield _row(f"one frame over the cache, width {width}", backend, partial(_over_cache, scale, width, backend))
    for backend in BACKENDS:
        yield _row(f"one frame over space, width {width}", backend, partial(_within_frame, scale, width, backend))
    for backend in ("triton", "eager"):
        yield _row(f"one frame into the cache, width {width}", backend, partial(_into_cache, scale, width, backend))


def _over_cache(scale: Scale, width: int, backend: str) -> dict[str, Any]:
    """Attention over time: prepared keys in the cache, raw queries."""
    device, ring = scale.device, (scale.batch, scale.context, scale.tokens, scale.kv_heads, width)
    turns = angles(device, 1, width)
    filled = torch.tensor(scale.context, device=device)
    # A full cache needs no mask, which would slow down the library kernels.
    visible = Visible(filled=filled) if backend == "triton" else Visible()
    queries = (scale.batch, 1, scale.tokens, scale.heads, width)
    return _measure_frame(scale, backend, "time", turns, (queries, ring, ring), visible)


def _within_frame(scale: Scale, width: int, backend: str) -> dict[str, Any]:
    """Attention over space; the last token, the agent's, is private: no other token sees it."""
    keys = (scale.batch, 1, scale.tokens, scale.kv_heads, width)
    queries = (*keys[:3], scale.heads, width)
    turns = angles(scale.device, scale.tokens, width)
    return _measure_frame(scale, backend, "space", turns, (queries, keys, keys), Visible(private=1))


@torch.no_grad()
def _measure_frame(
    scale: Scale,
    backend: str,
    axis: Literal["space", "time"],
    turns: Rotation,
    shapes: tuple[tuple[int, ...], ...],
    visible: Visible,
) -> dict[str, Any]:
    prepared = torch.compile(prepare, fullgraph=True, dynamic=False) if backend in ("flex", "sdpa") else None
    cap = None if backend == "sdpa" else CAP
    options: dict[str, Any] = {"axis": axis, "softcap": cap, **visible._asdict()}

    def call(q: Tensor, k: Tensor, v: Tensor, gain: Tensor) -> Tensor:
        preparation = Preparation(gain, EPS, turns)
        if prepared is not None:
            return attention(prepared(q, preparation, axis), k, v, backend=backend, **options)
        return attention(q, k, v, preparation=preparation, backend=backend, **options)

    def draw() -> Arguments:
        return *(random(scale.device, *shape) for shape in shapes), 1 + random(scale.device, shapes[0][-1]) / 8

    sets = rotated(draw)
    q, k, v, gain = (tensor.float() for tensor in sets[0])
    preparation = Preparation(gain, EPS, turns)
    require_close("out", call(*sets[0]), attention(q, k, v, preparation=preparation, **options))
    pairs = shapes[0][2] * (shapes[1][1] if axis == "time" else shapes[1][2])
    moved = sum(2 * tensor.numel() for tensor in (q, q, k, v))
    passes = [{"flop": 4 * scale.batch * scale.heads * shapes[0][-1] * pairs, "bytes": moved}]
    return {"ms": _median_ms(call, sets, scale), "passes": passes}


@torch.no_grad()
def _into_cache(scale: Scale, width: int, backend: str) -> dict[str, Any]:
    shape = (1, scale.batch, scale.context, scale.tokens, scale.kv_heads, width)
    cache = Cache.empty(shape, torch.bfloat16, scale.device)
    turns = angles(scale.device, 1, width)

    def call(k: Tensor, v: Tensor, gain: Tensor) -> None:
        cache.extend(0, k, v, Preparation(gain, EPS, turns), commit=True, backend=backend)

    def draw() -> Arguments:
        keys = (scale.batch, 1, scale.tokens, scale.kv_heads, width)
        return random(scale.device, *keys), random(scale.device, *keys), 1 + random(scale.device, width) / 8

    sets = rotated(draw)
    call(*sets[0])
    k, v, gain = sets[0]
    require_close("keys", cache.keys[0, :, :1], prepare(k.float(), Preparation(gain.float(), EPS, turns), "time"))
    require_close("values", cache.values[0, :, :1], v.float())
    moved = 2 * sum(2 * tensor.numel() for tensor in (k, v))
    return {"ms": _median_ms(call, sets, scale), "passes": [{"flop": 0, "bytes": moved}]}
