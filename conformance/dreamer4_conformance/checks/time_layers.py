"""Checks of what a layer's attention sees: the past alone, inside the window (A30), by differences of position (A35)."""

from __future__ import annotations

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
from dreamer4_conformance.verdicts import OperationFailed

SAME = {**BUDGET, "float64": BUDGET["float32"]}
"""Relative error at which two outputs are the same: that of float32 in float64 too, where angles may still be float32."""
DIFFERENT = 8.0
"""Relative L2 norm of a difference, in eps, above which two outputs are not the same up to rounding."""


def seen_frames(subject: Subject, time: int) -> np.ndarray:
    """bool (T, T): row t, column u, whether frame u depends on frame t."""
    later = np.arange(time) - np.arange(time)[:, None]
    return np.asarray((later >= 0) & (later < (subject.window or time)))


def whole_frames(*frames: int) -> list[Segment]:
    """Each of them, replaced in a row of its own."""
    return [Segment("x", (frame,)) for frame in frames]


def _fail_unless_frames_move(subject: Subject, trial: Trial, parts: list[Segment], time: int) -> None:
    """Every frame inside the window of a part moves with it, at every place. A frame's own is not asked for: the residual moves it."""
    tokens = layer_input(subject, 0, 1, 1).shape[2]
    needed = seen_frames(subject, time)[[part.index[0] for part in parts]]
    needed[range(len(parts)), [part.index[0] for part in parts]] = False
    everywhere = np.repeat(needed[:, :, None], tokens, axis=2)
    fail_unless_tokens_move(subject, trial, "time_layer", parts, time, everywhere)


@check("attn.causal", needs=("example", "time_layer"))
def check_time_layers_see_no_later_frame_and_every_earlier_one(subject: Subject, trial: Trial) -> None:
    """Inside the context; a whole frame changes."""

    def holds(seed: int, rows: int, time: int) -> None:
        parts = whole_frames(*((seed + row) % time for row in range(rows)))
        for found in influences(subject, "time_layer", parts, seed=seed, time=time):
            frame, earlier = found.segment.index[0], np.flatnonzero(found.frames("x")[: found.segment.index[0]])
            sentence = f"frame {earlier[:1].sum()} of time_layer's output changes with {found.segment}, which is later"
            trial.fail_unless(
                not len(earlier), sentence, call=f"time_layer(x of {rows}x{time} (B, T, S, D)), frame {frame} replaced"
            )

    trial.for_all(seeds(), st.integers(1, 5), st.integers(2, 6), body=holds)
    time = min(frames_past_the_window(subject), 6)
    _fail_unless_frames_move(subject, trial, whole_frames(*range(time - 1)), time)


@check("attn.window", needs=("example", "time_layer"))
def check_time_layers_see_the_context_and_nothing_before(subject: Subject, trial: Trial) -> None:
    """C frames, or C + 1 (A30); every earlier one where there is no window."""
    time, counted = frames_past_the_window(subject), f"{subject.window} frames, the current one included"
    parts = whole_frames(0, 1, 2)
    for seed in range(4):
        for found in influences(subject, "time_layer", parts, seed=seed, time=time):
            frame = found.segment.index[0]
            late = np.flatnonzero(found.frames("x") & ~seen_frames(subject, time)[frame] & (np.arange(time) > frame))
            other = late[0] if len(late) else frame
            sentence = f"frame {other} of time_layer's output changes with {found.segment}, {other - frame} frames back; it sees {counted}"
            trial.fail_unless(not len(late), sentence, call=f"time_layer(x) of {time} frames")
    _fail_unless_frames_move(subject, trial, parts, time)


def relative(one: np.ndarray, other: np.ndarray) -> float:
    """‖one − other‖ / ‖other‖."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def copies_told_apart(subject: Subject, seed: int) -> tuple[float, float]:
    """Of frames A, B: how the last output of (A, A, B), and of (B, B), differs from that of (A, B).

    A layer that hides a frame from itself gives (A, B) and (A, A, B) the same: it mixes copies of A alone.
    """
    a, b = np.split(layer_input(subject, seed, 8, 2), 2, axis=1)
    once, twice, other = (
        layer_output(subject, "time_layer", np.concatenate(frames, 1))[:, -1] for frames in ((a, b), (a, a, b), (b, b))
    )
    return relative(twice, once), relative(other, once)


@check("attn.window", needs=("example", "time_layer"))
def check_a_frame_sees_itself(subject: Subject, trial: Trial) -> None:
    """Its own share of the attention falls where an earlier frame is there twice."""
    if (subject.window or 3) < 3:
        trial.inconclusive("a window of fewer than 3 frames does not show whether a frame sees itself")
    repeated, other = copies_told_apart(subject, 0)
    if not other > 4 * DIFFERENT * subject.eps:
        trial.inconclusive("time_layer mixes too little to see whether a frame sees itself")
    if repeated <= DIFFERENT * subject.eps and subject.eps > COARSE_EPS:
        trial.inconclusive(f"whether a frame sees itself is lost in the rounding of {subject.adapter.dtype}")
    sentence = "the output is the same after frames (A, B) and (A, A, B): frame B is hidden from itself"
    trial.fail_unless(
        repeated > DIFFERENT * subject.eps, sentence, call="time_layer(x) at the last frame", got=repeated
    )


# Positions


@check("attn.rope", needs=("example", "time_layer"))
def check_time_layers_see_frames_by_their_distance(subject: Subject, trial: Trial) -> None:
    """Where a frame stands does not matter, which of two earlier frames is nearer does, and how many places there are does not.

    The first shows only through a window; the last is left out where the layer takes no other number of places.
    """
    case = _Positions(subject, trial)

    def holds(seed: int, before: int) -> None:
        case.shifted(seed, before)
        case.fewer_places(seed)

    trial.for_all(seeds(), st.integers(1, 6), body=holds)
    case.reordered()


class _Positions:
    """A time layer, and what it makes of frames elsewhere."""

    def __init__(self, subject: Subject, trial: Trial) -> None:
        self.subject, self.trial, self.window = subject, trial, subject.window

    def shifted(self, seed: int, before: int) -> None:
        if self.window is None:
            return
        last, alone = shift(self.subject, seed, before, self.window)
        what, call = f"the last frame, after {before} frames that it does not see,", "time_layer(x)[:, −1]"
        _fail_unless_equal(self.subject, self.trial, what, last, alone, call)

    def fewer_places(self, seed: int) -> None:
        both = part_of_the_places(self.subject, seed)
        if both is not None:
            what = "the output of all places but the last, given alone,"
            _fail_unless_equal(self.subject, self.trial, what, *both, "time_layer(x[:, :, :−1])")

    def reordered(self) -> None:
        if (self.window or 3) >= 3:
            sentence = "the last frame's output is the same where earlier frames change places: their scores do not depend on position"
            _fail_unless_different(self.subject, self.trial, "time_layer", reorder(self.subject, 0), sentence)


def _fail_unless_equal(
    subject: Subject, trial: Trial, what: str, got: np.ndarray, expected: np.ndarray, call: str
) -> None:
    """Deviation where one number is off by more than `SAME` of the largest."""
    size, k = np.abs(expected).max(), SAME[subject.adapter.dtype] / subject.eps
    trial.compare(what, got, expected, terms=size, k=k, eps=subject.eps, call=call)


def _fail_unless_different(subject: Subject, trial: Trial, operation: str, difference: float, sentence: str) -> None:
    """Deviation unless a relative difference is more than rounding; inconclusive where nothing is mixed or rounding hides it."""
    _, content, output = cross_token_response(subject, operation, 0)
    if not content > 4 * DIFFERENT * subject.eps * output:
        trial.inconclusive(f"{operation} mixes too little to see whether positions matter")
    if difference <= DIFFERENT * subject.eps and subject.eps > COARSE_EPS:
        trial.inconclusive(f"whether positions matter is lost in the rounding of {subject.adapter.dtype}")
    trial.fail_unless(difference > DIFFERENT * subject.eps, sentence, call=f"{operation}(x)", got=difference)


def shift(subject: Subject, seed: int, before: int, seen: int) -> tuple[np.ndarray, np.ndarray]:
    """The last frame's output, (B, 1, S, D): after `before` frames and those that are `seen`, and without the former."""
    x = layer_input(subject, seed, 2, seen + before)
    return tuple(layer_output(subject, "time_layer", y)[:, -1:] for y in (x, x[:, before:]))  # type: ignore[return-value]


def part_of_the_places(subject: Subject, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The output of all places but the last: given alone, and among all. None where the layer takes no other number."""
    x = layer_input(subject, seed, 1, min(frames_past_the_window(subject), 6))
    if x.shape[2] < 2:
        return None
    if x.shape[1] % x.shape[2] == 0:  # a layer bound to S places would take its tokens, flattened, for fewer frames
        x = x[:, 1:]
    try:
        return layer_output(subject, "time_layer", x[:, :, :-1]), layer_output(subject, "time_layer", x)[:, :, :-1]
    except OperationFailed:
        return None


def reorder(subject: Subject, seed: int) -> float:
    """How the last output differs where the frames before it come in reverse."""
    x = layer_input(subject, seed, 8, min(subject.window or 4, 4))
    reverse = np.concatenate([x[:, -2::-1], x[:, -1:]], 1)
    usual, other = (layer_output(subject, "time_layer", y)[:, -1] for y in (x, reverse))
    return relative(other, usual)


def permute(subject: Subject, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The output of a space layer for tokens in another order, and the output in that order."""
    x = layer_input(subject, seed, 4, 2)
    order = np.random.default_rng(seed).permutation(x.shape[2] - 1) + 1
    order = np.append(order, 0)
    return layer_output(subject, "space_layer", x[:, :, order]), layer_output(subject, "space_layer", x)[:, :, order]


@check("attn.rope", needs=("example", "space_layer"))
def check_space_layers_see_tokens_by_their_place(subject: Subject, trial: Trial) -> None:
    """Where they rotate (A35), tokens in another order are not the same; where time alone has positions, they are."""
    if layer_input(subject, 0, 1, 1).shape[2] < 2:
        trial.inconclusive("one token has no order")
    call = "space_layer(x[:, :, order]) and space_layer(x)[:, :, order]"
    if subject.readings["A35"] == "both":
        sentence = "the output only changes places with its tokens: space has no positions"
        _fail_unless_different(subject, trial, "space_layer", relative(*permute(subject, 0)), sentence)
        return
    for seed in range(3):
        _fail_unless_equal(subject, trial, "the output for tokens in another order", *permute(subject, seed), call)


# What an implementation looks like, whatever its sizes


def edges(subject: Subject) -> np.ndarray:
    """Whether a later frame is seen, and those C − 1, C and C + 1 back, as the adapter counts C; without a window, whether all are."""
    frames = subject.adapter.context_frames
    time = FRAMES_WITHOUT_WINDOW if frames is None else max(3, frames + 2)
    first, third = (one.frames("x") for one in influences(subject, "time_layer", whole_frames(0, 2), seed=0, time=time))
    far = (first[-1], False, False) if frames is None else first[frames - 1 : frames + 2]
    return np.array([third[:2].any(), *far], float)


def moves_in_time(subject: Subject) -> bool:
    """Whether the output depends on where in the sequence frames stand, however C is counted: six places, and each window alone."""
    frames = subject.adapter.context_frames
    if frames is None:
        return False
    x = layer_input(subject, 0, 2, frames + 7)
    windows = np.stack([x[:, n : n + frames + 1] for n in range(1, 7)], axis=1)
    among = layer_output(subject, "time_layer", x)[:, frames + 1 :]
    alone = layer_output(subject, "time_layer", windows.reshape(-1, *windows.shape[2:]))[:, -1].reshape(among.shape)
    return relative(among, alone) > SAME[subject.adapter.dtype]


def counts_places(subject: Subject) -> bool:
    """Whether the output depends on how many places there are."""
    both = part_of_the_places(subject, 0)
    return both is not None and relative(*both) > SAME[subject.adapter.dtype]


@signature("time_layer")
def signature_what_a_time_layer_sees(subject: Subject) -> np.ndarray:
    """Later frames, the edge of the window, itself, and whether positions matter by their differences."""
    positions = pattern(
        lambda: copies_told_apart(subject, 0)[0] > DIFFERENT * subject.eps,
        lambda: moves_in_time(subject),
        lambda: counts_places(subject),
        lambda: reorder(subject, 0) > DIFFERENT * subject.eps,
    )
    return np.concatenate([attempt(lambda: edges(subject), 4), positions])


@signature("space_layer")
def signature_whether_space_has_positions(subject: Subject) -> np.ndarray:
    """Whether tokens in another order give another output."""
    return pattern(lambda: relative(*permute(subject, 0)) > DIFFERENT * subject.eps)
