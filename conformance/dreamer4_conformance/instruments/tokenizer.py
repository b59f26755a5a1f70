"""Operations of the tokenizer: the grid of patches, regrouped latents, and dropped patches."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import OperationFailed

BOTTLENECK, DYNAMICS_SHAPE = (512, 16), (256, 32)


FRAME_MULTIPLES = 2.0 ** (32.0 * np.arange(4)).reshape(2, 2, 1, 1)
"""Of the first frame that the others of `labelled_latents` are."""


def frame_grid(subject: Subject, height: int, width: int) -> tuple[int, int]:
    """Rows and columns. OperationFailed where they are not two whole numbers."""
    returned = subject.call("patch_grid", height, width)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"patch_grid returned {type(returned).__name__}; it needs a pair (rows, columns)")
    rows, columns = (subject.read("patch_grid", x, ()) for x in returned)
    if rows != round(float(rows)) or columns != round(float(columns)):
        raise OperationFailed(f"patch_grid returned {rows} rows and {columns} columns; it needs whole numbers")
    return int(rows), int(columns)


def labelled_latents() -> np.ndarray:
    """(2, 2, 512, 16), no two numbers the same, exact in every dtype; each frame is a multiple of the first."""
    place = np.arange(np.prod(BOTTLENECK))
    values = np.where(place < len(place) // 2, 1.0, -1.0) * (1 + place % 128 / 128) * 2.0 ** (place // 128 % 32 - 64)
    return values.reshape(1, 1, *BOTTLENECK) * FRAME_MULTIPLES


def dropout_masks(subject: Subject, seed: int, batch: int, time: int, patches: int) -> np.ndarray:
    """bool (B, T, N). OperationFailed where it holds anything else."""
    batch = max(batch, subject.adapter.min_batch)
    drawn = subject.call("patch_dropout", seed, batch, time, patches, seeded=seed)
    dropped = subject.read("patch_dropout", drawn, (batch, time, patches))
    if dropped.dtype != bool:
        raise OperationFailed(f"patch_dropout returned {dropped.dtype} values; it needs booleans, True = dropped")
    return dropped
