"""Attention at the paper's shape, scaled down: fewer frames over space, fewer positions over time.

The shapes are not smaller still because attention weights that fit into the caches change the cost profile of eager
attention: forward + backward over space would spend two thirds of its time in matrix products; here it is one third.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import DEVICE, Run
from benchmarks.workload import Floor, Workload, distance
from dreamer4_impl.attention import BACKENDS, Axis, attention

SOFTCAP = 50.0
CUDA = DEVICE.type == "cuda"
#: Dtype of timed calls. Correctness is always judged in float32.
DTYPE = torch.bfloat16 if CUDA else torch.float32


@dataclass(frozen=True)
class AttentionCase:
    """Shapes and options of one attention call.

    Args:
        name: label of the case, for instance "space forward".
        axis: "space" or "time".
        time, space: number of frames T and of tokens S of the queries.
        keys: number of frames of the keys; None if equal to `time`.
        heads, kv_heads, width: Hq, Hkv and D.
        window: number of visible frames C of the causal mask over time; None for no window.
        gradient: True if the backward pass is included.
    """

    name: str
    axis: Axis
    time: int
    space: int
    keys: int | None = None
    heads: int = 16
    kv_heads: int = 4
    width: int = 128
    window: int | None = None
    gradient: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `attention`, except the soft cap and the backend."""
        if self.keys is not None:
            return {"axis": self.axis, "filled": torch.tensor(self.keys, device=DEVICE)}
        if self.axis == "time":
            return {"axis": self.axis, "causal": True, "window": self.window}
        return {"axis": self.axis, "private": 1}

    def inputs(self, dtype: torch.dtype) -> list[Tensor]:
        """q, k, v and the gradient of the output, scaled so that logits reach the soft cap."""
        generator = torch.Generator().manual_seed(0)
        keys = self.keys or self.time
        shapes = [(self.time, self.heads), (keys, self.kv_heads), (keys, self.kv_heads), (self.time, self.heads)]
        drawn = [torch.randn(1, time, self.space, heads, self.width, generator=generator) for time, heads in shapes]
        return [(size * x).to(DEVICE, dtype) for size, x in zip((3, 3, 1, 1), drawn, strict=True)]

    def floor(self) -> Floor:
        """Least operations and bytes: two products per visible pair forward, five more backward.

        All tensors are moved once forward and twice more backward.
        """
        keys = self.keys or self.time
        q, k = self.time * self.space * self.heads, keys * self.space * self.kv_heads
        products, moves = (7, 3) if self.gradient else (2, 1)
        flops = 2 * products * self.width * self.heads * self._pairs()
        return Floor(flops, moves * 2 * (q + k) * self.width * DTYPE.itemsize)

    def _pairs(self) -> int:
        """Number of visible query-key pairs of one head.

        Over space the last token is private: no other token sees it.
        """
        if self.axis == "space":
            return self.time * (self.space**2 - (self.space - 1))
        visible = [self.keys] if self.keys else [min(t + 1, self.window or self.time) for t in range(self.time)]
        return self.space * sum(visible)


CASES = tuple(
    replace(case, name=f"{case.name} {direction}", gradient=direction == "forward + backward")
    for case in (
        AttentionCase("space", "space", time=8, space=264),
        AttentionCase("time", "time", time=256, space=8, window=192),
        AttentionCase("decode", "time", time=1, space=264, keys=192),
    )
    for direction in ("forward", "forward + backward")
    if not (case.keys and direction == "forward + backward")
)

#: Signature: `contender(q, k, v, **options) -> out`.
Contender = Callable[..., Tensor]


def contenders() -> dict[str, Contender]:
    """All attention implementations available on this machine, by name; a suffix names the variant of a backend."""
    functions: dict[str, Contender] = {
        name: partial(attention, backend=name, softcap=SOFTCAP)
        for name in BACKENDS
        if name != "sdpa" and (name != "triton" or CUDA)
    }
    eager = partial(attention, backend="eager", softcap=SOFTCAP)
    functions["eager, compiled"] = torch.compile(eager, fullgraph=True, dynamic=False)
    functions["sdpa, no cap"] = partial(attention, backend="sdpa")
    if CUDA and find_spec("flash_attn"):
        functions["flash-attn"] = flash_attention
    return functions


def flash_attention(q: Tensor, k: Tensor, v: Tensor, *, axis: Axis, **options: Any) -> Tensor:
    """Attention by the flash-attn library; over time, positions in the frame are folded into the heads."""
    if q.dtype == torch.float32:
        raise NotImplementedError("flash-attn has no float32")
    if options.get("private") or "filled" in options:
        raise NotImplementedError("flash-attn has no private tokens and no partly filled ring")
    window = (options["window"] - 1, 0) if options.get("window") else (-1, -1)
    sequences = (x.flatten(0, 1) if axis == "space" else x.flatten(2, 3) for x in (q, k, v))
    kernel = import_module("flash_attn").flash_attn_func
    return kernel(*sequences, causal=axis == "time", window_size=window, softcap=SOFTCAP).view(q.shape)


def attention_workloads(cases: tuple[AttentionCase, ...] = CASES) -> Iterator[Workload]:
    """Pairs of case and contender; `build` raises NotImplementedError if the contender lacks support for the case."""
    for case in cases:
        for name in contenders():
            yield attention_workload(case, name)


def attention_workload(case: AttentionCase, contender: str) -> Workload:
    """Workload of one case and one contender, by name."""
    build = partial(_build, case, contender)
    return Workload(case.name, contender, build, partial(_error, case, contender), floor=case.floor())


def _build(case: AttentionCase, contender: str) -> Run:
    return _call(case, contenders()[contender], DTYPE)


def _error(case: AttentionCase, contender: str) -> float:
    got = _call(case, contenders()[contender], torch.float32)()
    softcap = None if contender == "sdpa, no cap" else SOFTCAP
    return distance(got, _call(case, partial(attention, softcap=softcap), torch.float64)())


def _call(case: AttentionCase, contender: Contender, dtype: torch.dtype) -> Callable[[], list[Tensor]]:
    """Callable that returns the output and, for a case with gradients, those of q, k and v."""
    *leaves, weight = case.inputs(dtype)
    options = case.options
    if not case.gradient:
        return lambda: [contender(*leaves, **options)]
    for leaf in leaves:
        leaf.requires_grad_()

    def run() -> list[Tensor]:
        out = contender(*leaves, **options)
        return [out, *torch.autograd.grad(out, leaves, weight)]

    return run
