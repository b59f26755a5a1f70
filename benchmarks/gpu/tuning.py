"""Candidate tiles of the kernels, to choose `operators.TILES` for this card.

Each row replaces the tile in the table by one candidate and times the kernel without autograd. A candidate that needs
more resources than the card has fails without affecting other rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.kernels import CAP, EPS, Case, Scale, angles, random, require_close
from benchmarks.gpu.rows import Row, unavailable
from benchmarks.gpu.timing import Arguments, median_ms, rotated
from dreamer4_impl.attention import Preparation, Visible, prepare
from dreamer4_impl.attention.folding import Options
from dreamer4_impl.attention.triton.operators import (
    TILES,
    Gradients,
    Tile,
    backward_launches,
    forward_launch,
    sequences,
)

BYTES = 2
#: Budget in seconds: at most eight kernels compile in 1–3 s each, for the candidate and for the comparison.
BUDGET = 40.0
NOT_REHEARSED = "needs a GPU: interpreted, a tile takes seconds, and one shows that rows run"
#: Candidates by kernel, the most promising first: rows of queries, keys, warps, pipeline stages, largest number of
#: registers.
CANDIDATES: dict[str, list[tuple[int, ...]]] = {
    "attend": [
        (64, 32, 4, 3, 168),
        (128, 64, 8, 3),
        (64, 64, 4, 2),
        (64, 32, 4, 2, 168),
        (128, 128, 8, 2),
        (128, 64, 4, 3),
        (64, 128, 4, 2),
        (128, 32, 4, 4),
    ],
    "keys": [
        (32, 64, 4, 2),
        (64, 64, 4, 2),
        (64, 128, 8, 2),
        (32, 64, 4, 3),
        (64, 32, 4, 3),
        (128, 64, 8, 2),
        (32, 128, 8, 2),
        (64, 64, 8, 1),
    ],
    "queries": [
        (64, 32, 4, 2),
        (64, 64, 4, 2),
        (128, 64, 8, 2),
        (128, 64, 8, 1),
        (64, 64, 8, 2),
        (128, 32, 8, 2),
        (64, 128, 8, 2),
    ],
    "decode": [(16, 64, 2, 4), (16, 32, 4, 4), (16, 128, 4, 2), (16, 64, 8, 3), (16, 32, 2, 6)],
}
#: A call that writes the outputs, and the outputs.
Prepared = tuple[Callable[[], None], list[Tensor]]


def tuning_rows(scale: Scale) -> Iterable[Row]:
    """Rows of each kernel and width: the tile in the table, then the candidates.

    A smoke run takes fewer frames and, of each kernel and width, the first tile only.
    """
    if scale.device == "cpu":
        scale = replace(scale, time=2)
    for width in scale.widths:
        for kernel, candidates in CANDIDATES.items():
            own = TILES[kernel, BYTES, width]
            tiles = list(dict.fromkeys([own, *(Tile(*candidate) for candidate in candidates)]))
            for number, tile in enumerate(tiles):
                limit = f", {tile.registers} registers" if tile.registers else ""
                name = f"{tile.rows} × {tile.keys}, {tile.warps} warps, {tile.stages} stages{limit}"
                facts = {"ranked": True, "detail": "in the table" if tile == own else None}
                measure = partial(_tune, scale, kernel, width, tile)
                if scale.device == "cpu" and number > 0:
                    measure = partial(unavailable, NOT_REHEARSED)
                yield Row(f"tiles of {kernel!r}, width {width}", name, measure, facts, BUDGET)


def _tune(scale: Scale, kernel: str, width: int, tile: Tile) -> dict[str, Any]:
    if kernel == "decode":
        return {"ms": _milliseconds(scale, kernel, width, "time", tile)}
    space, time = (_milliseconds(scale, kernel, width, axis, tile) for axis in ("space", "time"))
    return {"ms": space, "time_ms": time}


@torch.no_grad()
def _milliseconds(scale: Scale, kernel: str, width: int, axis: Literal["space", "time"], tile: Tile) -> float:
    case = Case(scale, axis, width, backward=False)
    make = {"attend": _forward, "decode": _decode, "queries": _backward, "keys": _backward}[kernel]
    sets = rotated(partial(_over_cache, scale, width) if kernel == "decode" else case.draw)
    call, expected = make(case, kernel, sets[0])
    call()
    with mock.patch.dict(TILES, {(kernel, BYTES, width): tile}):
        calls = [make(case, kernel, tensors) for tensors in sets]
    calls[0][0]()
    for number, (got, right) in enumerate(zip(calls[0][1], expected, strict=True)):
        require_close(f"output {number}", got, right.float())
    return median_ms([call for call, _ in calls], scale.device, scale.samples)


def _options(case: Case, gain: Tensor, length: int, filled: Tensor | None = None) -> Options:
    causal = case.axis == "time" and filled is None
    visible = Visible(causal, case.scale.context if causal else None, filled=filled)
    preparation = Preparation(gain, EPS, angles(case.scale.device, length, case.width))
    return Options(case.axis, preparation, visible, CAP, case.width**-0.5)


def _forward(case: Case, kernel: str, tensors: Arguments) -> Prepared:
    q, k, v, q_gain, k_gain, _ = tensors
    options = _options(case, q_gain, case.length)
    k = prepare(k, Preparation(k_gain, EPS, angles(case.scale.device, case.length, case.width)), case.axis)
    out, lse = torch.empty_like(q), q.new_empty(sequences(q, k, case.axis).statistics, dtype=torch.float32)
    return forward_launch(q, k, v, out, lse, options).run, [out]


def _over_cache(scale: Scale, width: int) -> Arguments:
    """Raw queries of one frame, keys and values of a full cache, and the gain of the queries."""
    lengths = ((1, scale.heads), (scale.context, scale.kv_heads), (scale.context, scale.kv_heads))
    tensors = (random(scale.device, scale.batch, frames, scale.tokens, heads, width) for frames, heads in lengths)
    return *tensors, 1 + random(scale.device, width) / 8


def _decode(case: Case, kernel: str, tensors: Arguments) -> Prepared:
    q, keys, values, gain = tensors
    out, lse = torch.empty_like(q), q.new_empty(sequences(q, keys, "time").statistics, dtype=torch.float32)
    options = _options(case, gain, 1, torch.tensor(case.scale.context, device=q.device))
    return forward_launch(q, keys, values, out, lse, options).run, [out]


def _backward(case: Case, kernel: str, tensors: Arguments) -> Prepared:
    q, k, v, q_gain, _, d_out = tensors
    options = _options(case, q_gain, case.length)
    out, lse = torch.empty_like(q), q.new_empty(sequences(q, k, case.axis).statistics, dtype=torch.float32)
    forward_launch(q, k, v, out, lse, options).run()
    gradients = Gradients.empty(q, k, options)
    first, second = backward_launches(q, k, v, out, lse, d_out, options, gradients)
    if kernel == "queries":
        return first.run, [gradients.q]
    first.run()
    return second.run, [gradients.k, gradients.v]
