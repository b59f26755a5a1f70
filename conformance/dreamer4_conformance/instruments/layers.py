"""Layers as black boxes: their inputs and outputs, and the effect of replaced tokens and of the scale of the input."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment, example_inputs, influences
from dreamer4_conformance.instruments.subject import Subject

LAYER_EXAMPLES = 8
"""Examples in which a required influence is searched for: a single one may be rounded away."""
COARSE_EPS = 2.0**-10
"""Above this eps, an influence that is not observed may have been rounded away in every example."""
SMALL_FACTOR, LARGE_FACTOR = 8.0, 32.0
"""Factors of x at which updates are compared: without normalisation the update grows at least fourfold between them."""
FRAMES_WITHOUT_WINDOW = 16
"""Frames over which a time layer without a window is judged."""


def layer_input(subject: Subject, seed: int, batch: int, time: int) -> np.ndarray:
    """Input x (B, T, S, D) from the adapter's example."""
    return np.asarray(example_inputs(subject, "space_layer", seed, batch, time)["x"])


def layer_output(subject: Subject, operation: str, x: np.ndarray) -> np.ndarray:
    """Output of a layer, shaped like x."""
    return subject.compute(operation, x, shape=x.shape)


def tokens_moved(influence: Influence) -> np.ndarray:
    """Mask (T, S) of the tokens in which any channel changes."""
    return np.asarray(influence.moved["x"].any(-1))


def missing_token_influences(
    subject: Subject, operation: str, segments: list[Segment], time: int, needed: np.ndarray
) -> np.ndarray:
    """Mask (segments, T, S) of the tokens in `needed` that change in no example when the segment is replaced."""
    missing = needed.copy()
    for seed in range(LAYER_EXAMPLES):
        for row, influence in enumerate(influences(subject, operation, segments, seed=seed, time=time)):
            missing[row] &= ~tokens_moved(influence)
        if not missing.any():
            break
    return missing


def update_sizes(subject: Subject, operation: str, seed: int) -> tuple[float, float, float]:
    """‖layer(c x) − c x‖ at c = SMALL_FACTOR and c = LARGE_FACTOR, and a bound of the second one's rounding error."""
    x = layer_input(subject, seed, 2, 3)
    small, large = (
        float(np.linalg.norm(layer_output(subject, operation, subject.round(c * x)) - subject.round(c * x)))
        for c in (SMALL_FACTOR, LARGE_FACTOR)
    )
    return small, large, subject.eps * LARGE_FACTOR * float(np.linalg.norm(x))


def cross_token_response(subject: Subject, operation: str, seed: int) -> tuple[float, float, float]:
    """Response of one token to the other tokens, as L2 norms.

    Returns:
        Its change when they are multiplied by SMALL_FACTOR, its change when they are replaced, and its norm.
    """
    x, replacement = layer_input(subject, seed, 4, 3), layer_input(subject, seed + 1, 4, 3)
    own = np.zeros(x.shape[1:3], bool)
    own[(slice(None), seed % x.shape[2]) if operation == "space_layer" else (-1,)] = True
    larger, replaced = (np.where(own[..., None], x, y) for y in (subject.round(SMALL_FACTOR * x), replacement))
    output, scaled, swapped = (layer_output(subject, operation, y)[:, own] for y in (x, larger, replaced))
    changes = scaled - output, swapped - output, output
    return tuple(float(np.linalg.norm(y)) for y in changes)  # type: ignore[return-value]


def frames_past_the_window(subject: Subject) -> int:
    """Number of frames of a sequence that exceeds the window; `FRAMES_WITHOUT_WINDOW` if there is none."""
    frames = subject.window
    return FRAMES_WITHOUT_WINDOW if frames is None else frames + 3
