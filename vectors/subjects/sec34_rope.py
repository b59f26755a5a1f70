"""Vectors of Sec. 3.4: rotary embeddings, for both common layouts of the pairs of channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.sec34_rope import K
from dreamer4_reference.sec34_rope import Layout, rope, rope_angles
from vectors.vector import EPS32, Vector, draw, within

BASE = 10000.0


def _rope(name: str, layout: Layout, positions: list[int], shape: tuple[int, int, int], *flags: str) -> Vector:
    batch, heads, width = shape
    x, index = draw(1, batch, len(positions), heads, width), np.array(positions)
    # Both numbers of a pair, with angles rounded in float32 as in the checks of attn.rope.
    pairs = x.reshape(*x.shape[:-1], 2, -1) if layout == "half" else x.reshape(*x.shape[:-1], -1, 2).swapaxes(-1, -2)
    size = np.abs(pairs).sum(-2) * (1 + (1 + np.abs(rope_angles(index, width, BASE)))[:, None])
    terms = np.concatenate([size, size], -1) if layout == "half" else np.repeat(size, 2, -1)
    outputs = {"result": within(rope(x, index, BASE, layout=layout), terms, K)}
    settings = {"rope_base": BASE, "rope_layout": layout}
    return Vector(f"{name}-{layout}", "rope", "attn.rope", {"x": x, "positions": index}, outputs, flags, {}, settings)


def vectors() -> Iterator[Vector]:
    """Positions from 0, far apart, and next to each other far from 0."""
    assert EPS32 * 70_000 < 1 / 64, "the bound must stay far below the rotation of one position"
    for layout in ("half", "interleaved"):
        yield _rope("first-positions", layout, [0, 1, 2, 3, 4], (2, 2, 8))
        yield _rope("gaps", layout, [0, 7, 64, 191, 192, 1000], (1, 1, 8), "batch_one")
        yield _rope("far", layout, [4095, 4096, 32767, 32768, 65536], (1, 1, 8), "batch_one")
        yield _rope("one-position", layout, [5], (1, 1, 2), "batch_one", "time_one")
