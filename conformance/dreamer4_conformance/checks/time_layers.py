"""Checks of attention inside layers: causal, within the window (A30), dependent on differences of position (A35)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import Segment, influences
from dreamer4_conformance.instruments.layers import (
    COARSE_EPS,
    FRAMES_WITHOUT_WINDOW,
    cross_token_response,
    frames_past_the_window,
    layer_input,
    layer_output,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_tokens_move
from dreamer4_conformance.judging.output_comparison import BUDGET
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import NotProvided, OperationFailed

SAME = {**BUDGET, "float64": BUDGET["float32"]}
"""Relative error within which two outputs are equal; float64 has the budget of float32, as angles may be float32."""
DIFFERENT = 8.0
"""Relative L2 norm of a difference, in eps, above which two outputs differ by more than rounding."""


def influenced_frames(subject: Subject, time: int) -> np.ndarray:
    """bool (T, T): row t, column u, whether frame u of the output depends on frame t of the input."""
    later = np.arange(time) - np.arange(time)[:, None]
    return np.asarray((later >= 0) & (later < (subject.window or time)))


def frame_segments(frames: Iterable[int]) -> list[Segment]:
    """One segment of x per frame, all its tokens."""
    return [Segment("x", (frame,)) for frame in frames]


def _fail_unless_frames_move(subject: Subject, trial: Trial, frames: range, time: int) -> None:
    """Deviation unless all tokens of the later frames whose window holds a replaced frame change with it.

    The replaced frame itself is left out: the residual changes it.
    """
    tokens = layer_input(subject, 0, 2, 2).shape[2]
    needed = np.repeat(np.triu(influenced_frames(subject, time), 1)[frames, :, None], tokens, axis=2)
    fail_unless_tokens_move(subject, trial, "time_layer", frame_segments(frames), time, needed)


@check("attn.causal", needs=("example", "time_layer"))
def check_time_layers_attend_to_all_earlier_frames_and_no_later_one(subject: Subject, trial: Trial) -> None:
    """One frame of the input is replaced: no earlier frame changes, and every later one inside the window. Exact."""

    def holds(seed: int, rows: int, time: int) -> None:
        segments = frame_segments((seed + row) % time for row in range(rows))
        for influence in influences(subject, "time_layer", segments, seed=seed, time=time):
            segment, frame = influence.segment, influence.segment.index[0]
            leaks = np.flatnonzero(influence.frames("x")[:frame])
            sentence = f"frame {leaks[:1].sum()} of time_layer's output changes with {segment}, which is later"
            call = f"time_layer(x of {rows}x{time} (B, T, S, D)), frame {frame} replaced"
            trial.fail_unless(not len(leaks), sentence, call=call)

    trial.for_all(seeds(), st.integers(1, 5), st.integers(2, 6), body=holds)
    time = min(frames_past_the_window(subject), 6)
    _fail_unless_frames_move(subject, trial, range(time - 1), time)


@check("attn.window", needs=("example", "time_layer"))
def check_time_layers_attend_to_the_frames_of_the_window_only(subject: Subject, trial: Trial) -> None:
    """A frame of the output changes with the C or C + 1 latest frames (A30) and no earlier one; with all if C is None.

    Exact. One of the first three frames is replaced, in sequences longer than the window.
    """
    time, frames = frames_past_the_window(subject), range(3)
    window = f"the window is {subject.window} frames, the current one included"
    for seed in range(4):
        for influence in influences(subject, "time_layer", frame_segments(frames), seed=seed, time=time):
            segment, frame = influence.segment, influence.segment.index[0]
            outside = ~influenced_frames(subject, time)[frame] & (np.arange(time) > frame)
            leaks = np.flatnonzero(influence.frames("x") & outside)
            leak = leaks[0] if len(leaks) else frame
            change = f"frame {leak} of time_layer's output changes with {segment}, {leak - frame} frames back"
            trial.fail_unless(not len(leaks), f"{change}; {window}", call=f"time_layer(x) of {time} frames")
    _fail_unless_frames_move(subject, trial, frames, time)


def relative_difference(got: np.ndarray, expected: np.ndarray) -> float:
    """‖got − expected‖ / ‖expected‖."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def repetition_response(subject: Subject, seed: int) -> tuple[float, float]:
    """Relative differences of the last output of frames (A, A, B), and of (B, B), from that of (A, B).

    The first is 0 if a frame is hidden from itself: the output then mixes copies of A only.
    """
    a, b = np.split(layer_input(subject, seed, 8, 2), 2, axis=1)
    base, repeated, replaced = (
        layer_output(subject, "time_layer", np.concatenate(frames, 1))[:, -1] for frames in ((a, b), (a, a, b), (b, b))
    )
    return relative_difference(repeated, base), relative_difference(replaced, base)


@check("attn.window", needs=("example", "time_layer"))
def check_a_frame_attends_to_itself(subject: Subject, trial: Trial) -> None:
    """Repeating an earlier frame changes the output of a frame, as it reduces the frame's attention to itself.

    The change must be more than `DIFFERENT` roundings.
    """
    if (subject.window or 3) < 3:
        trial.inconclusive("a window of fewer than 3 frames does not show whether a frame attends to itself")
    repeated, replaced = repetition_response(subject, 0)
    if not replaced > 4 * DIFFERENT * subject.eps:
        trial.inconclusive("time_layer mixes frames too little to decide whether a frame attends to itself")
    if repeated <= DIFFERENT * subject.eps and subject.eps > COARSE_EPS:
        trial.inconclusive(f"the rounding of {subject.adapter.dtype} hides whether a frame attends to itself")
    sentence = "the last output is the same for frames (A, B) and (A, A, B): frame B is hidden from itself"
    changes, call = repeated > DIFFERENT * subject.eps, "time_layer(x) at the last frame"
    trial.fail_unless(changes, sentence, call=call, got=repeated)


# Positions


@check("attn.rope", needs=("example", "time_layer"))
def check_time_layers_depend_on_differences_of_position(subject: Subject, trial: Trial) -> None:
    """Frames before the window and the number of tokens per frame change nothing; the order of earlier frames does.

    Equal outputs agree within `SAME`. Frames are shifted only if there is a window, tokens are removed only if the
    layer accepts fewer.
    """
    window = subject.window

    def holds(seed: int, before: int) -> None:
        if window is not None:
            name = f"the last frame, with {before} frames before its window,"
            shifted = shifted_outputs(subject, seed, before, window)
            _fail_unless_equal(subject, trial, name, *shifted, "time_layer(x)[:, −1]")
        fewer = outputs_with_fewer_tokens(subject, seed)
        if fewer is not None:
            name = "the output for all tokens but the last"
            _fail_unless_equal(subject, trial, name, *fewer, "time_layer(x[:, :, :−1])")

    trial.for_all(seeds(), st.integers(1, 6), body=holds)
    if (window or 3) >= 3:
        sentence = "the last frame's output is the same with earlier frames reversed: it does not depend on position"
        _fail_unless_different(subject, trial, "time_layer", reversal_response(subject, 0), sentence)


def _fail_unless_equal(
    subject: Subject, trial: Trial, name: str, got: np.ndarray, expected: np.ndarray, call: str
) -> None:
    """Deviation if an element is off by more than `SAME` of the largest."""
    size, k = np.abs(expected).max(), SAME[subject.adapter.dtype] / subject.eps
    trial.compare(name, got, expected, terms=size, k=k, eps=subject.eps, call=call, required_by="adapter")


def _fail_unless_different(subject: Subject, trial: Trial, operation: str, difference: float, sentence: str) -> None:
    """Deviation unless a relative difference exceeds rounding; inconclusive if mixing is too weak to show one."""
    _, content, output = cross_token_response(subject, operation, 0)
    if not content > 4 * DIFFERENT * subject.eps * output:
        trial.inconclusive(f"{operation} mixes too little to decide whether it depends on position")
    if difference <= DIFFERENT * subject.eps and subject.eps > COARSE_EPS:
        trial.inconclusive(f"the rounding of {subject.adapter.dtype} hides whether {operation} depends on position")
    trial.fail_unless(difference > DIFFERENT * subject.eps, sentence, call=f"{operation}(x)", got=difference)


def shifted_outputs(subject: Subject, seed: int, before: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The last frame's output, (B, 1, S, D), with `before` frames ahead of its window and without them."""
    x = layer_input(subject, seed, 2, window + before)
    shifted, alone = (layer_output(subject, "time_layer", y)[:, -1:] for y in (x, x[:, before:]))
    return shifted, alone


def outputs_with_fewer_tokens(subject: Subject, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The output for all tokens but the last, computed without it and with it; None if fewer tokens are refused."""
    x = layer_input(subject, seed, 1, min(frames_past_the_window(subject), 6))
    if x.shape[2] < 2:
        return None
    # A layer for a fixed S that flattens its input could regroup T · (S − 1) tokens into fewer frames of S.
    if x.shape[1] % x.shape[2] == 0:
        x = x[:, 1:]
    try:
        return layer_output(subject, "time_layer", x[:, :, :-1]), layer_output(subject, "time_layer", x)[:, :, :-1]
    except (OperationFailed, NotProvided):
        return None


def reversal_response(subject: Subject, seed: int) -> float:
    """Relative difference of the last output after reversing the frames before it."""
    x = layer_input(subject, seed, 8, min(subject.window or 4, 4))
    reverse = np.concatenate([x[:, -2::-1], x[:, -1:]], 1)
    return relative_difference(*(layer_output(subject, "time_layer", y)[:, -1] for y in (reverse, x)))


def permuted_outputs(subject: Subject, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The output of a space layer for permuted tokens, and the permuted output."""
    x = layer_input(subject, seed, 4, 2)
    order = np.random.default_rng(seed).permutation(x.shape[2] - 1) + 1
    order = np.append(order, 0)
    return layer_output(subject, "space_layer", x[:, :, order]), layer_output(subject, "space_layer", x)[:, :, order]


@check("attn.rope", needs=("example", "space_layer"))
def check_space_layers_depend_on_the_order_of_tokens(subject: Subject, trial: Trial) -> None:
    """Tokens are permuted: the permuted output must differ if space has positions (A35 = both), else be the same."""
    if layer_input(subject, 0, 2, 2).shape[2] < 2:
        trial.inconclusive("one token has no order")
    call = "space_layer(x[:, :, order]) and space_layer(x)[:, :, order]"
    if subject.readings["A35"] == "both":
        sentence = "permuting the tokens only permutes the output: space has no positions; A35 = both needs them"
        difference = relative_difference(*permuted_outputs(subject, 0))
        _fail_unless_different(subject, trial, "space_layer", difference, sentence)
        return
    for seed in range(3):
        _fail_unless_equal(subject, trial, "the output for permuted tokens", *permuted_outputs(subject, seed), call)


# Signatures


def window_edges(subject: Subject) -> np.ndarray:
    """Whether a later frame has an influence, and the frames C − 1, C and C + 1 back, C as the adapter declares it.

    Without a window: whether the first frame influences the last.
    """
    frames = subject.adapter.context_frames
    time = FRAMES_WITHOUT_WINDOW if frames is None else max(3, frames + 2)
    results = influences(subject, "time_layer", frame_segments((0, 2)), seed=0, time=time)
    first, third = (influence.frames("x") for influence in results)
    far = (first[-1], False, False) if frames is None else first[frames - 1 : frames + 2]
    return np.array([third[:2].any(), *far], float)


def depends_on_absolute_time(subject: Subject) -> bool:
    """Whether the last output of C + 1 frames depends on their position, at six positions in a longer sequence."""
    frames = subject.adapter.context_frames
    if frames is None:
        return False
    x = layer_input(subject, 0, 2, frames + 7)
    windows = np.stack([x[:, n : n + frames + 1] for n in range(1, 7)], axis=1)
    got = layer_output(subject, "time_layer", x)[:, frames + 1 :]
    expected = layer_output(subject, "time_layer", windows.reshape(-1, *windows.shape[2:]))[:, -1].reshape(got.shape)
    return relative_difference(got, expected) > SAME[subject.adapter.dtype]


def depends_on_token_count(subject: Subject) -> bool:
    """Whether the output depends on the number of tokens per frame."""
    pair = outputs_with_fewer_tokens(subject, 0)
    return pair is not None and relative_difference(*pair) > SAME[subject.adapter.dtype]


@signature("time_layer")
def signature_frames_a_time_layer_attends_to(subject: Subject) -> np.ndarray:
    """Influence of later frames, at the edge of the window and of the frame itself, and dependence on positions."""
    positions = pattern(
        lambda: repetition_response(subject, 0)[0] > DIFFERENT * subject.eps,
        lambda: depends_on_absolute_time(subject),
        lambda: depends_on_token_count(subject),
        lambda: reversal_response(subject, 0) > DIFFERENT * subject.eps,
    )
    return np.concatenate([attempt(lambda: window_edges(subject), 4), positions])


@signature("space_layer")
def signature_positions_of_space_layers(subject: Subject) -> np.ndarray:
    """Whether permuting the tokens does more than permute the output."""
    return pattern(lambda: relative_difference(*permuted_outputs(subject, 0)) > DIFFERENT * subject.eps)
