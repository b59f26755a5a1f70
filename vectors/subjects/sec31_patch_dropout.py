"""Vectors of Sec. 3.1: the learned embedding in place of dropped patches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_reference.sec31_patch_dropout import replace_dropped
from vectors.vector import Vector, draw, within


def _replace(name: str, mask: np.ndarray, *flags: str) -> Vector:
    tokens, embedding = draw(1, *mask.shape, 2), draw(2, 2)
    visible = np.broadcast_to(~mask[..., None], tokens.shape) / tokens.size
    dropped = np.full(2, mask.sum() / tokens.size)
    # Terms and k of the check of tok.mae-embedding.
    outputs = {
        "result": within(replace_dropped(tokens, mask, embedding), np.abs(tokens) + np.abs(embedding), 1),
        "gradient.tokens": within(visible, 1 / tokens.size + visible, 2 + mask.sum()),
        "gradient.embedding": within(dropped, 1 / tokens.size + dropped, 2 + mask.sum()),
    }
    inputs = {"tokens": tokens, "mask": mask, "embedding": embedding}
    return Vector(name, "mae_replace", "tok.mae-embedding", inputs, outputs, flags)


def vectors() -> Iterator[Vector]:
    """Different masks for each frame and video, all patches dropped, none dropped."""
    mixed = np.array([[[1, 0, 0], [0, 1, 1]], [[0, 0, 1], [1, 1, 0]]], bool)
    yield _replace("each-frame", mixed, "square_batch")
    yield _replace("all", np.ones((1, 1, 2), bool), "batch_one", "time_one")
    yield _replace("none", np.zeros((1, 2, 2), bool), "batch_one")
