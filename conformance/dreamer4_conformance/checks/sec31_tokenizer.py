"""Checks of the tokenizer as black boxes: causal in time, and nothing but z between encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    Influence,
    Segment,
    combined_influences,
    example_inputs,
    influences,
    run_black_box,
)
from dreamer4_conformance.instruments.layers import frames_past_the_window
from dreamer4_conformance.instruments.stepwise import undecided_unless_window_is_exceeded
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence
from dreamer4_conformance.judging.output_comparison import fail_unless_close, relative_errors
from dreamer4_conformance.verdicts import OperationFailed

BOXES = {"encode": ("video", "z"), "decode": ("z", "video"), "reconstruct": ("video", "video")}
"""Input and output of each box."""
FRAMES = 5
LONGEST = 64
"""Frames that are decoded one by one, at most."""
BATCH, VIDEOS = 16, 4
"""Videos of two frames in one call, and calls, over which the numbers of z are looked at."""
MANY_NUMBERS = 16
"""Numbers of a frame's z that are not all positive by chance."""
SATURATED = 1e-3
"""Distance from ±1 within which a tanh passes on its way there, and a clamp hardly stops."""


def frames_moved(found: Mapping[Segment, Influence], output: str) -> np.ndarray:
    """bool (T, T): row t, column u, whether frame u of the output moves with frame t of the input."""
    moved = np.zeros((FRAMES, FRAMES), bool)
    for part, each in found.items():
        frames = each.frames(output)
        if len(frames) != FRAMES:
            raise OperationFailed(f"the output has {len(frames)} frames; it needs {FRAMES}, as many as its input")
        moved[part.index[0]] = frames
    return moved


def _follows_its_past(moved: np.ndarray) -> bool:
    return bool(moved.diagonal().all() and moved.diagonal(1).all())


@check("tok.causal", needs=("example",), needs_one=tuple(BOXES))
def check_no_frame_depends_on_a_later_one(subject: Subject, trial: Trial) -> None:
    """Exact. Each frame depends on itself and, where frames depend on earlier ones at all, on the one before it.

    Whether a tokenizer has time layers is decided by that; how far back they reach is open, and one that has none is causal, but not over time.
    """
    seen = {box: _seen(subject, box) for box in BOXES if subject.provides(box)}
    for box, moved in seen.items():
        _forbid_later_frames(trial, box, moved)
    for box, moved in seen.items():
        _fail_unless_own_and_last_frame(subject, trial, box, moved)
    without = [box for box, moved in seen.items() if not np.triu(moved, 1).any()]
    if without:
        trial.inconclusive(
            f"no frame depends on an earlier one in {', '.join(without)}: there is no time to be causal in"
        )


def _seen(subject: Subject, box: str) -> np.ndarray:
    source, output = BOXES[box]
    parts = [Segment(source, (t,)) for t in range(FRAMES)]
    return frames_moved(
        combined_influences(
            subject, box, parts, lambda found: _follows_its_past(frames_moved(found, output)), seed=0, time=FRAMES
        ),
        output,
    )


def _call(box: str) -> str:
    return f"{box}(**example(0, {FRAMES + 1}, {FRAMES}))"


def _forbid_later_frames(trial: Trial, box: str, moved: np.ndarray) -> None:
    source, output = BOXES[box]
    earlier = np.argwhere(np.tril(moved, -1)).tolist()
    t, u = earlier[0] if earlier else (0, 0)
    sentence = f"frame {u} of {output} changes with {source} of frame {t}, which is later"
    trial.fail_unless(not earlier, sentence, call=_call(box), got=moved.astype(int).tolist())


def _fail_unless_own_and_last_frame(subject: Subject, trial: Trial, box: str, moved: np.ndarray) -> None:
    source, output = BOXES[box]
    if not moved.any():
        trial.inconclusive(f"{box} does not depend on its input at all")
    for t in range(FRAMES):
        sentence = f"frame {t} of {output} does not change with {source} of frame {t}"
        fail_unless_influence(trial, subject, moved[t, t], sentence, call=_call(box))
    for t in range(1, FRAMES) if np.triu(moved, 1).any() else ():
        sentence = f"frame {t} of {output} does not change with {source} of frame {t - 1}, while other frames depend on earlier ones"
        fail_unless_influence(trial, subject, moved[t - 1, t], sentence, call=_call(box))


@check("tok.causal", needs=("decode", "decode_init", "decode_step", "example"))
def check_frame_by_frame_equals_all_at_once(subject: Subject, trial: Trial) -> None:
    """Far beyond the window. The budgets are those of `output_comparison`."""
    time = min(2 * frames_past_the_window(subject), LONGEST)
    z = example_inputs(subject, "decode", trial.seed, 2, time)["z"]
    whole, call = decoded(subject, z), f"decode and decode_step of example({trial.seed}, 2, {time})['z']"
    what = "decoding frame by frame and all at once"
    fail_unless_close(
        trial, subject, what, stepped(subject, z), whole, call, rounded=partial(decoded_again, subject, z)
    )
    undecided_unless_window_is_exceeded(subject, time)


def decoded(subject: Subject, z: np.ndarray) -> np.ndarray:
    """The video of z."""
    return run_black_box(subject, "decode", {"z": z})["video"]


def decoded_again(subject: Subject, z: np.ndarray) -> np.ndarray:
    """The video of z moved by about a rounding."""
    return decoded(subject, subject.round(z * (1 + 2 * subject.eps)))


def stepped(subject: Subject, z: np.ndarray) -> np.ndarray:
    """The video of z, decoded frame by frame."""
    state, frames = subject.call("decode_init", len(z)), []
    for t in range(z.shape[1]):
        returned = subject.call("decode_step", state, subject.native(z[:, t : t + 1]))
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise OperationFailed(f"decode_step returned {type(returned).__name__}; it needs a pair (video, state)")
        video, state = returned
        frames.append(subject.read("decode_step", video))
    return np.concatenate(frames, 1)


@check("tok.bottleneck", needs=("encode", "example"))
def check_z_is_a_tanh(subject: Subject, trial: Trial) -> None:
    """Exact: within ±1, on both sides of 0, on its way to ±1 everywhere and not in steps.

    In bfloat16 a tanh itself ends in ±1 and in steps. That its channels are fewer than the encoder's cannot be seen from outside.
    """
    z = numbers(subject)
    call = f"encode(example(0 … {VIDEOS - 1}, {BATCH}, 2)['video'])"
    if np.ptp(z, axis=0).max() == 0:
        trial.inconclusive("z is the same for every video")
    largest = float(np.abs(z).max())
    trial.fail_unless(largest <= 1, f"z reaches {largest:.4g}; a tanh stays within ±1", call=call, got=largest)
    one_sided = bool(z.min() >= 0) and z.shape[1] >= MANY_NUMBERS
    trial.fail_unless(not one_sided, f"no number of z is negative among {z.size}; a tanh reaches below 0", call=call)
    if subject.adapter.dtype != "bfloat16":
        sentence = f"z takes {np.unique(z).size} values in {len(z)} frames: it is quantised, and not a tanh"
        trial.fail_unless(not quantised(z), sentence, call=call)
        sentence = "numbers of z lie at exactly ±1 and hardly any just short of it: they are clamped, and not a tanh"
        trial.fail_unless(not clamped(z), sentence, call=call)


def numbers(subject: Subject) -> np.ndarray:
    """(frames, S · D): z of some videos."""
    videos = [example_inputs(subject, "encode", seed, BATCH, 2) for seed in range(VIDEOS)]
    return np.concatenate([run_black_box(subject, "encode", video)["z"] for video in videos]).reshape(
        2 * BATCH * VIDEOS, -1
    )


def clamped(z: np.ndarray) -> bool:
    """Whether places that reach ±1 in some frames and stay away in a fifth as many hardly ever come close.

    >>> x = np.random.default_rng(0).standard_normal((200, 8))
    >>> clamped(np.clip(x, -1, 1)), clamped(np.tanh(x)), clamped(np.tanh(30 * x).astype(np.float32))
    (True, False, False)
    """
    short = 1 - np.abs(z)
    at_one, inside = short == 0, short > SATURATED
    both = at_one.any(0) & inside.any(0)
    ones, insides, close_by = (int(x[:, both].sum()) for x in (at_one, inside, ~at_one & ~inside))
    return ones >= 10 and insides >= ones / 5 and close_by < ones / 20


def quantised(z: np.ndarray) -> bool:
    """Whether there are fewer values than frames.

    >>> x = np.random.default_rng(0).standard_normal((200, 8))
    >>> quantised(np.round(4 * np.tanh(x)) / 4), quantised(np.tanh(x))
    (True, False)
    """
    return bool(np.unique(z).size < len(np.unique(z, axis=0)))


@check("tok.bottleneck", needs=("encode", "decode", "reconstruct", "example"))
def check_reconstruction_is_decoded_from_z_alone(subject: Subject, trial: Trial) -> None:
    """reconstruct = decode ∘ encode, by the budgets of `output_comparison`."""
    given = example_inputs(subject, "reconstruct", trial.seed, 3, 4)
    z, got = run_black_box(subject, "encode", given)["z"], run_black_box(subject, "reconstruct", given)["video"]
    call, what = f"reconstruct(example({trial.seed}, 3, 4)['video'])", "reconstruct and decode(encode(video))"
    fail_unless_close(trial, subject, what, got, decoded(subject, z), call, rounded=partial(decoded_again, subject, z))


def _time(subject: Subject, box: str) -> np.ndarray:
    """Whether frames move earlier ones, themselves all, the next any, the next all; and whether that is seen over three frames."""
    source, output = BOXES[box]
    found = influences(subject, box, [Segment(source, (t,)) for t in range(FRAMES)], seed=0, time=FRAMES)
    moved = frames_moved({each.segment: each for each in found}, output)
    before, after = np.tril(moved, -1), moved.diagonal(1)
    return np.array(
        [before.any(), before.diagonal(-1).any(), moved.diagonal().all(), after.any(), after.all()], np.float64
    )


@signature("encode")
def signature_frames_that_move_z(subject: Subject) -> np.ndarray:
    """See `_time`."""
    return attempt(lambda: _time(subject, "encode"), 5)


@signature("decode")
def signature_frames_that_move_the_video(subject: Subject) -> np.ndarray:
    """See `_time`."""
    return attempt(lambda: _time(subject, "decode"), 5)


@signature("encode")
def signature_squashing_of_z(subject: Subject) -> np.ndarray:
    """Whether z leaves ±1, lies on one side of 0, is clamped, or in steps."""

    def probe() -> np.ndarray:
        z = numbers(subject)
        return np.array([np.abs(z).max() > 1, z.min() >= 0, clamped(z), quantised(z)], np.float64)

    return attempt(probe, 4)


@signature("reconstruct")
def signature_what_passes_z_by(subject: Subject) -> np.ndarray:
    """Whether the reconstruction is that of z."""

    def probe() -> float:
        given = example_inputs(subject, "reconstruct", 0, 2, 3)
        got, z = run_black_box(subject, "reconstruct", given)["video"], run_black_box(subject, "encode", given)["z"]
        return float(relative_errors(got, decoded(subject, z)).max() > 0.2)

    return attempt(probe, 1)


@signature("decode_step")
def signature_where_steps_leave_the_whole(subject: Subject) -> np.ndarray:
    """Whether decoding frame by frame differs in the first frame, in the second, and beyond the window."""

    def probe() -> np.ndarray:
        z = example_inputs(subject, "decode", 0, 1, min(2 * frames_past_the_window(subject), LONGEST))["z"]
        apart = relative_errors(stepped(subject, z), decoded(subject, z)) > 0.05
        return np.array([apart[0], apart[1], apart[2:].any()], np.float64)

    return attempt(probe, 3)
