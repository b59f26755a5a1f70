"""Vectors of Sec. 3.4: SwiGLU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.sec34_swiglu import K, output_terms
from dreamer4_reference.sec34_swiglu import swiglu
from vectors.vector import Vector, draw, within


def _swiglu(name: str, tokens: tuple[int, ...], width: int, hidden: int, *flags: str, limit: float = 2.0) -> Vector:
    shapes = {"x": (*tokens, width), "w_gate": (width, hidden), "w_up": (width, hidden), "w_down": (hidden, width)}
    inputs = {name: draw(seed, *shape, limit=limit) for seed, (name, shape) in enumerate(shapes.items())}
    arguments: tuple[np.ndarray, ...] = tuple(inputs.values())
    outputs = {"result": within(swiglu(*arguments), output_terms(*arguments), K)}
    return Vector(name, "swiglu", "net.swiglu", inputs, outputs, flags)


def vectors() -> Iterator[Vector]:
    """Tokens of a batch, one token, gates far from 0."""
    yield _swiglu("tokens", (2, 3), 4, 5)
    yield _swiglu("one-token", (1,), 3, 2, "batch_one")
    yield _swiglu("one-channel", (4,), 1, 1)
    yield _swiglu("large", (2,), 4, 4, limit=8.0)
