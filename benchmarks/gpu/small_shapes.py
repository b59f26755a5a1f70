"""Calls of every Triton kernel on small shapes with partial tiles, for compute-sanitizer and bitwise equal repeats.

`python -m benchmarks.gpu.small_shapes [DEVICE]` runs each call once.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dreamer4_impl.attention import Cache, Preparation, attention, prepare_keys
from dreamer4_impl.layers.rope import rotation

BACKEND = "triton"
CAP, EPS = 50.0, 1e-6


class Draw:
    """Generator of the same random tensors for every instance and device."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.generator = device, dtype, torch.Generator().manual_seed(0)

    def __call__(self, *shape: int) -> Tensor:
        """Draw a standard normal tensor."""
        return torch.randn(shape, generator=self.generator).to(self.device, self.dtype)

    def preparation(self, width: int, first: int, length: int) -> Preparation:
        """Gains of at least 2, so that logits reach the cap, and angles of `length` positions from `first` on."""
        cos, sin = rotation(torch.arange(first, first + length, device=self.device), width)
        return Preparation(2 + self(width).abs(), EPS, (cos.float(), sin.float()))


class Extents(NamedTuple):
    """Extents of the tensors: (frames, tokens) for each axis, heads of q, k and v, frames of context."""

    over_space: tuple[int, int]
    over_time: tuple[int, int]
    heads: tuple[int, int, int]
    context: int


#: More than one tile along the axis, the last one partial.
RAGGED = Extents((2, 65), (17, 3), (4, 2, 2), 5)
#: Smallest extents, for the interpreter.
LEAST = Extents((1, 3), (3, 1), (2, 1, 1), 2)


def train(device: str, dtype: torch.dtype, width: int, extents: Extents, axis: Any, **visible: Any) -> list[Tensor]:
    """Output and all gradients, by the forward and backward kernels of queries and keys."""
    time, space = extents.over_space if axis == "space" else extents.over_time
    length, draw = space if axis == "space" else time, Draw(device, dtype)
    q, k, v = (draw(1, time, space, heads, width) for heads in extents.heads)
    queries, keys = (draw.preparation(width, 0, length) for _ in range(2))
    leaves = [tensor.requires_grad_() for tensor in (q, k, v, queries.gain, keys.gain) if tensor is not None]
    prepared = prepare_keys(k, keys, axis, BACKEND)
    out = attention(q, prepared, v, axis=axis, softcap=CAP, preparation=queries, backend=BACKEND, **visible)
    return [out.detach(), *torch.autograd.grad(out, leaves, draw(*out.shape))]


def decode(device: str, dtype: torch.dtype, width: int, extents: Extents) -> list[Tensor]:
    """Outputs and cache of single frames over a ring, before and after it is full."""
    space, kv_heads = extents.over_time[1], extents.heads[1]
    cache = Cache.empty((1, 1, extents.context, space, kv_heads, width), dtype, device)
    outs, draw = [], Draw(device, dtype)
    for frame in range(extents.context + 1):
        q, k, v = (draw(1, 1, space, heads, width) for heads in extents.heads)
        past = draw.preparation(width, frame, 1)
        keys, values = cache.extend(0, k, v, past, commit=True, backend=BACKEND)
        visible = cache.visible(1)._asdict()
        outs.append(attention(q, keys, values, axis="time", softcap=CAP, preparation=past, backend=BACKEND, **visible))
        cache.advance(1)
    return [*outs, cache.keys, cache.values]


def calls(smoke: bool) -> dict[str, Callable[[str], list[Tensor]]]:
    """Calls by name; each takes a device and returns all tensors that the kernels write."""
    named: dict[str, Callable[[str], list[Tensor]]] = {}
    for width, dtype in ((64, torch.bfloat16), (128, torch.bfloat16), (64, torch.float32)):
        name = f"width {width}, {str(dtype).removeprefix('torch.')}"
        sizes: dict[str, Any] = {"dtype": dtype, "width": width, "extents": LEAST if smoke else RAGGED}
        window = sizes["extents"].context
        named[f"decode, {name}"] = partial(decode, **sizes)
        named[f"space, {name}"] = partial(train, **sizes, axis="space", private=1)
        named[f"time, {name}"] = partial(train, **sizes, axis="time", causal=True, window=window)
    return named


def equal_repeats(call: Callable[[str], list[Tensor]], repeats: int, device: str) -> dict[str, Any]:
    """Compare the results of repeated calls bit for bit with those of the first call.

    Raises:
        AssertionError: if a repeat differs, or if a result is not finite.
    """
    first = call(device)
    if not all(bool(tensor.isfinite().all()) for tensor in first):
        raise AssertionError("an output or a gradient is not finite")
    for repeat in range(repeats):
        for number, (tensor, expected) in enumerate(zip(call(device), first, strict=True)):
            if not torch.equal(tensor, expected):
                raise AssertionError(f"tensor {number} of repeat {repeat + 1} differs from that of the first call")
    return {}


def main() -> None:
    """Run every call once."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    called = [call(device) for call in calls(smoke=device == "cpu").values()]
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{len(called)} calls")


if __name__ == "__main__":
    main()
