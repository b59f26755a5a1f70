"""Operations of the tokenizer: grid of patches, regrouped latents, and dropped patches."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import OperationFailed

BOTTLENECK, DYNAMICS_SHAPE = (512, 16), (256, 32)
"""Tokens and channels of one frame."""
FRAME_MULTIPLES = 2.0 ** (32.0 * np.arange(4)).reshape(2, 2, 1, 1)
"""Factor of each frame of `labelled_latents` relative to the first frame."""


def frame_grid(subject: Subject, height: int, width: int) -> tuple[int, int]:
    """The adapter's `patch_grid`: rows and columns.

    Raises:
        OperationFailed: if the result is not a pair of integers.
    """
    returned = subject.call("patch_grid", height, width)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"patch_grid returned {type(returned).__name__}; it needs a pair (rows, columns)")
    rows, columns = (subject.read("patch_grid", x, ()) for x in returned)
    if rows != round(float(rows)) or columns != round(float(columns)):
        raise OperationFailed(f"patch_grid returned {rows} rows and {columns} columns; it needs whole numbers")
    return int(rows), int(columns)


def labelled_latents() -> np.ndarray:
    """Latents (2, 2, 512, 16) without equal numbers, exact in every dtype; each frame is a multiple of the first."""
    index = np.arange(np.prod(BOTTLENECK))
    values = np.where(index < len(index) // 2, 1.0, -1.0) * (1 + index % 128 / 128) * 2.0 ** (index // 128 % 32 - 64)
    return values.reshape(1, 1, *BOTTLENECK) * FRAME_MULTIPLES


def dropout_masks(subject: Subject, seed: int, batch: int, time: int, patches: int) -> np.ndarray:
    """The adapter's `patch_dropout`, bool (B, T, N), True = dropped; B is at least `min_batch`.

    Raises:
        OperationFailed: if the result is not boolean.
    """
    batch = max(batch, subject.adapter.min_batch)
    drawn = subject.call("patch_dropout", seed, batch, time, patches, seeded=seed)
    dropped = subject.read("patch_dropout", drawn, (batch, time, patches))
    if dropped.dtype != bool:
        raise OperationFailed(f"patch_dropout returned {dropped.dtype} values; it needs booleans, True = dropped")
    return dropped
