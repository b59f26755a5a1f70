"""Vectors of Sec. 3.1: the grid of patches, and latents regrouped for the dynamics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_conformance.checks.tokenizer_shapes import SIZES
from dreamer4_reference.sec31_tokenizer import patch_grid, regroup
from vectors.vector import Range, Vector, exact, options

BOTTLENECK, DYNAMICS = (512, 16), (256, 32)


def _regroup(name: str, batch: int, time: int, *flags: str) -> Vector:
    shapes = [(batch, time, *tokens) for tokens in (BOTTLENECK, DYNAMICS)]
    numbers = np.arange(np.prod(shapes[0]), dtype=np.float64)
    assert np.array_equal(regroup(numbers.reshape(shapes[0])), numbers.reshape(shapes[1]))
    inputs, outputs = {"z": Range(shapes[0])}, {"result": exact(Range(shapes[1]))}
    return Vector(name, "regroup", "tok.shapes", inputs, outputs, flags, options(A36="pairs"))


def vectors() -> Iterator[Vector]:
    """The paper's frames, and latents numbered in order, which consecutive pairs leave in order."""
    for height, width in SIZES:
        rows, columns = patch_grid(height, width)
        inputs = {"height": height, "width": width}
        outputs = {"rows": exact(rows), "columns": exact(columns)}
        yield Vector(f"{height}x{width}", "patch_grid", "tok.shapes", inputs, outputs)
    yield _regroup("one-frame", 1, 1, "batch_one", "time_one")
    yield _regroup("videos", 2, 2, "square_batch")
