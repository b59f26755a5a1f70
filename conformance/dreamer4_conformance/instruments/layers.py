"""Layers as black boxes: their inputs and outputs, and the effect of replaced tokens and of the scale of the input."""

from __future__ import annotations

from contextlib import suppress
from inspect import Parameter, signature

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment, example_inputs, influences
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, NotProvided

DYNAMICS_KINDS = ("dynamics.space", "dynamics.time")
LAYER_KINDS = (*DYNAMICS_KINDS, "encoder.space", "encoder.time", "decoder.space", "decoder.time")
"""Kinds of layer by part of the model and axis of attention."""
LAYER_EXAMPLES = 8
"""Examples in which a required influence is searched for: a single one may be rounded away."""
COARSE_EPS = 2.0**-10
"""Above this eps, an influence that is not observed may have been rounded away in every example."""
SMALL_FACTOR, LARGE_FACTOR = 8.0, 32.0
"""Factors of x at which updates are compared: without normalisation the update grows at least fourfold between them."""
FRAMES_WITHOUT_WINDOW = 16
"""Frames over which a time layer without a window is judged."""


def layer_input(subject: Subject, seed: int, batch: int, time: int, kind: str | None = None) -> np.ndarray:
    """Input x (B, T, S, D) from the adapter's example, for a kind of layer; None is one of the dynamics.

    Raises:
        NotProvided: if the example has no input for this kind.
    """
    component = "space" if kind is None or kind in DYNAMICS_KINDS else kind.partition(".")[0]
    name = "x" if component == "space" else f"x_{component}"
    if kind is not None and name not in subject.call("example", seed, batch, time, seeded=seed):
        raise NotProvided(f"example has no {name!r}, the input of a layer of kind {kind!r}")
    return np.asarray(example_inputs(subject, f"{component}_layer", seed, batch, time)[name])


def layer_output(subject: Subject, operation: str, x: np.ndarray, kind: str | None = None) -> np.ndarray:
    """Output of a layer, shaped like x."""
    options = {} if kind is None else {"kind": kind}
    return subject.compute(operation, x, shape=x.shape, **options)


def provided_kinds(subject: Subject, operation: str) -> list[str | None]:
    """Kinds of layer that an operation supports; [None] if it does not take a kind.

    Raises:
        NotProvided: if it supports none.
    """
    parameters = signature(getattr(subject.adapter, operation)).parameters
    if "kind" not in parameters and not any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return [None]
    kinds: list[str | None] = []
    for kind in LAYER_KINDS:
        with suppress(NotProvided):
            layer_output(subject, operation, layer_input(subject, 0, 2, 3, kind), kind)
            kinds.append(kind)
    if not kinds:
        raise NotProvided(f"{operation} supports no kind of layer for which example has an input")
    return kinds


def named_layer(operation: str, kind: str | None) -> str:
    """The operation with its kind, for a message.

    >>> named_layer("space_layer", None), named_layer("block_zeroed", "encoder.time")
    ('space_layer', "block_zeroed of kind 'encoder.time'")
    """
    return operation if kind is None else f"{operation} of kind {kind!r}"


def tokens_moved(influence: Influence) -> np.ndarray:
    """Mask (T, S) of the tokens in which any channel changes."""
    return np.asarray(influence.moved["x"].any(-1))


def missing_token_influences(
    subject: Subject, operation: str, segments: list[Segment], time: int, needed: np.ndarray
) -> np.ndarray:
    """Mask (segments, T, S) of the tokens in `needed` that change in no example when the segment is replaced.

    Nothing is missing for a segment that is the same in every example.

    Raises:
        Inconclusive: if all segments are.
    """
    missing, replaced = needed.copy(), np.zeros(len(segments), bool)
    for seed in range(LAYER_EXAMPLES):
        for influence in influences(subject, operation, segments, seed=seed, time=time):
            row = segments.index(influence.segment)
            missing[row] &= ~tokens_moved(influence)
            replaced[row] = True
        if not missing.any():
            break
    if not replaced.any():
        raise Inconclusive("x is the same in every example: no influence can be observed")
    return missing & replaced[:, None, None]


def update_sizes(subject: Subject, operation: str, seed: int, kind: str | None = None) -> tuple[float, float, float]:
    """‖layer(c x) − c x‖ at c = SMALL_FACTOR and c = LARGE_FACTOR, and a bound of the second one's rounding error."""
    x = layer_input(subject, seed, 2, 3, kind)
    small, large = (
        float(np.linalg.norm(layer_output(subject, operation, subject.round(c * x), kind) - subject.round(c * x)))
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
