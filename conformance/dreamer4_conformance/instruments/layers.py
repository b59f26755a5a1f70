"""Layers as black boxes: inputs, outputs, and what a replaced token or another scale of the input moves."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment, example_inputs, influences
from dreamer4_conformance.instruments.subject import Subject

LAYER_EXAMPLES = 8
"""Examples in which a required influence is looked for: one may be rounded away."""


COARSE_EPS = 2.0**-10
"""Above this eps, an influence that is not seen may have been rounded away in every example."""


SMALL_FACTOR, LARGE_FACTOR = 8.0, 32.0
"""Factors of x between which the update is compared: what is not normalised first grows with them, fourfold or more."""


def layer_input(subject: Subject, seed: int, batch: int, time: int) -> np.ndarray:
    """x (B, T, S, D) of the adapter's example."""
    return np.asarray(example_inputs(subject, "space_layer", seed, batch, time)["x"])


def layer_output(subject: Subject, operation: str, x: np.ndarray) -> np.ndarray:
    """What the layer makes of x, of the same shape."""
    return subject.compute(operation, x, shape=x.shape)


def tokens_moved(found: Influence) -> np.ndarray:
    """bool (T, S): the tokens in which any channel moved."""
    return np.asarray(found.moved["x"].any(-1))


def missing_token_influences(
    subject: Subject, operation: str, parts: list[Segment], time: int, needed: np.ndarray
) -> np.ndarray:
    """bool (parts, T, S): what of `needed` moves in no example, each part replaced in a row of its own."""
    missing = needed.copy()
    for seed in range(LAYER_EXAMPLES):
        for row, found in enumerate(influences(subject, operation, parts, seed=seed, time=time)):
            missing[row] &= ~tokens_moved(found)
        if not missing.any():
            break
    return missing


def update_sizes(subject: Subject, operation: str, seed: int) -> tuple[float, float, float]:
    """‖layer(c x) − c x‖ at c = SMALL and at c = LARGE, and what rounding may add to the second."""
    x = layer_input(subject, seed, 2, 3)
    small, large = (
        float(np.linalg.norm(layer_output(subject, operation, subject.round(c * x)) - subject.round(c * x)))
        for c in (SMALL_FACTOR, LARGE_FACTOR)
    )
    return small, large, subject.eps * LARGE_FACTOR * float(np.linalg.norm(x))


def cross_token_response(subject: Subject, operation: str, seed: int) -> tuple[float, float, float]:
    """How much one token moves when the others are SMALL times as large, and when they are others; and ‖output‖."""
    x, other = layer_input(subject, seed, 4, 3), layer_input(subject, seed + 1, 4, 3)
    own = np.zeros(x.shape[1:3], bool)
    own[(slice(None), seed % x.shape[2]) if operation == "space_layer" else (-1,)] = True
    larger, replaced = (np.where(own[..., None], x, y) for y in (subject.round(SMALL_FACTOR * x), other))
    usual, after, swapped = (layer_output(subject, operation, y)[:, own] for y in (x, larger, replaced))
    return tuple(float(np.linalg.norm(y)) for y in (after - usual, swapped - usual, usual))  # type: ignore[return-value]


FRAMES_WITHOUT_WINDOW = 16
"""Frames over which a time layer without a window is judged."""


def frames_past_the_window(subject: Subject) -> int:
    """Frames of a sequence that the window does not cover, or as many as are judged without one."""
    frames = subject.window
    return FRAMES_WITHOUT_WINDOW if frames is None else frames + 3
