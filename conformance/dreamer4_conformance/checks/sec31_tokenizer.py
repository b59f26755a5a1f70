"""Checks of the tokenizer as black boxes: causal in time, and only z between encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping

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
"""Input and output of each black box."""
FRAMES = 5
SHAPES = ((3, 4), (1, 4), (2, 7))
"""Videos and frames of the reconstructions; only the first needs to work."""
LONGEST = 64
"""Largest number of frames that are decoded one by one."""
BATCH, VIDEOS = 16, 4
"""Videos of two frames per call, and calls, from which the values of z are taken."""
MANY_NUMBERS = 16
"""Numbers in a frame's z that are too many to be all positive by chance."""
SATURATED = 1e-3
"""Distance from ±1 within which a tanh has values on its way to ±1, and a clamp hardly any."""


def frames_moved(results: Mapping[Segment, Influence], output: str) -> np.ndarray:
    """bool (T, T): row t, column u, whether frame u of the output changes with frame t of the input.

    OperationFailed if the output has another number of frames.
    """
    moved = np.zeros((FRAMES, FRAMES), bool)
    for segment, influence in results.items():
        frames = influence.frames(output)
        if len(frames) != FRAMES:
            raise OperationFailed(f"the output has {len(frames)} frames; it needs {FRAMES}, as many as its input")
        moved[segment.index[0]] = frames
    return moved


@check("tok.causal", needs=("example",), needs_one=tuple(BOXES))
def check_no_frame_depends_on_a_later_one(subject: Subject, trial: Trial) -> None:
    """One frame of the input is replaced: no earlier frame of the output changes, its own does. Exact.

    If any frame depends on earlier ones, each one must depend on the frame before it; how far back time layers reach is
    open. Inconclusive without such a dependence: a tokenizer without time layers is trivially causal.
    """
    influenced = {box: _influenced_frames(subject, box) for box in BOXES if subject.provides(box)}
    for box, moved in influenced.items():
        _fail_unless_causal(trial, box, moved)
    for box, moved in influenced.items():
        _fail_unless_own_and_previous_frame(subject, trial, box, moved)
    without = [box for box, moved in influenced.items() if not np.triu(moved, 1).any()]
    if without:
        trial.inconclusive(f"no frame depends on an earlier one in {', '.join(without)}: no time layer to judge")


def _influenced_frames(subject: Subject, box: str) -> np.ndarray:
    source, output = BOXES[box]
    segments = [Segment(source, (t,)) for t in range(FRAMES)]

    def complete(results: Mapping[Segment, Influence]) -> bool:
        moved = frames_moved(results, output)
        return bool(moved.diagonal().all() and moved.diagonal(1).all())

    return frames_moved(combined_influences(subject, box, segments, complete, seed=0, time=FRAMES), output)


def _call(box: str) -> str:
    return f"{box}(**example(0, {FRAMES + 1}, {FRAMES}))"


def _fail_unless_causal(trial: Trial, box: str, moved: np.ndarray) -> None:
    source, output = BOXES[box]
    leaks = np.argwhere(np.tril(moved, -1)).tolist()
    t, u = leaks[0] if leaks else (0, 0)
    sentence = f"frame {u} of {output} changes with {source} of frame {t}, which is later"
    trial.fail_unless(not leaks, sentence, call=_call(box), got=moved.astype(int).tolist())


def _fail_unless_own_and_previous_frame(subject: Subject, trial: Trial, box: str, moved: np.ndarray) -> None:
    source, output = BOXES[box]
    if not moved.any():
        trial.inconclusive(f"{box} does not depend on its input at all")
    if output == "video" and not moved.diagonal().all() and _is_clipped(subject, box):
        trial.inconclusive(f"{box} returns frames in which every pixel is clipped")
    for t in range(FRAMES):
        sentence = f"frame {t} of {output} does not change with {source} of frame {t}"
        fail_unless_influence(trial, subject, moved[t, t], sentence, call=_call(box))
    for t in range(1, FRAMES) if np.triu(moved, 1).any() else ():
        sentence = (
            f"frame {t} of {output} does not change with {source} of frame {t - 1}; other frames depend on the past"
        )
        fail_unless_influence(trial, subject, moved[t - 1, t], sentence, call=_call(box))


def _is_clipped(subject: Subject, box: str) -> bool:
    """Whether most pixels of some frame are at the ends of the video's range, each of which many pixels share."""
    video = run_black_box(subject, box, example_inputs(subject, box, 0, FRAMES + 1, FRAMES))["video"]
    ends = (video == video.min()) | (video == video.max())
    return bool(ends.reshape(*video.shape[:2], -1).mean(-1).max() > 1 / 2)


@check("tok.causal", needs=("decode", "decode_init", "decode_step", "example"))
def check_frame_by_frame_decoding_equals_decoding_at_once(subject: Subject, trial: Trial) -> None:
    """`decode_step`, frame by frame, gives the video of `decode`, beyond the window, for one video and for two.

    Budgets: `output_comparison`. Pixels may be clipped: see `shared_range`.
    """
    time = min(2 * frames_past_the_window(subject), LONGEST)
    for batch in (2, 1):
        z = example_inputs(subject, "decode", trial.seed, batch, time)["z"]
        got, expected = decoded_by_frame(subject, z), decoded(subject, z)
        name = "decoding frame by frame and all at once"
        call = f"decode_step of example({trial.seed}, {batch}, {time})['z']"
        fail_unless_same_video(subject, trial, name, got, expected, z, call)
    undecided_unless_window_is_exceeded(subject, time)


def fail_unless_same_video(
    subject: Subject, trial: Trial, name: str, got: np.ndarray, expected: np.ndarray, z: np.ndarray, call: str
) -> None:
    """Require that a video equals the one decoded from z, up to clipping. Budgets: `output_comparison`.

    Raises:
        Deviation: if a frame differs by more than the budget.
        Inconclusive: if every pixel is clipped, or the model amplifies rounding errors to the size of its output.
    """
    low, high = shared_range(got, expected)
    if expected.size and not ((expected > low) & (expected < high)).any():
        trial.inconclusive("every pixel of the video is clipped")

    def rounded() -> np.ndarray:
        return decoded(subject, subject.round(z * (1 + 2 * subject.eps))).clip(low, high)

    fail_unless_close(trial, subject, name, got.clip(low, high), expected.clip(low, high), call, rounded=rounded)


def shared_range(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Values that both videos have: clipped to them, a video equals itself with its pixels clipped to any range.

    >>> x = np.array([-1.0, 0.25, 0.5, 3.0])
    >>> shared_range(x, x.clip(0, 1)), shared_range(x, x + 5)
    ((0.0, 1.0), (-inf, inf))
    """
    low, high = max(first.min(), second.min()), min(first.max(), second.max())
    return (float(low), float(high)) if low < high else (-np.inf, np.inf)


def decoded(subject: Subject, z: np.ndarray) -> np.ndarray:
    """The video that `decode` returns for z."""
    return run_black_box(subject, "decode", {"z": z})["video"]


def decoded_by_frame(subject: Subject, z: np.ndarray) -> np.ndarray:
    """The video for z, decoded frame by frame. OperationFailed if a step does not return a pair."""
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
    """z looks like the values of a tanh: within ±1, on both sides of 0, neither clamped nor quantised. Exact.

    In bfloat16, in which a tanh reaches ±1 and takes few values, the last two are not judged. That z has fewer channels
    than the encoder is not observable.
    """
    z, call = latent_values(subject), f"encode(example(0 … {VIDEOS - 1}, {BATCH}, 2)['video'])"
    if np.ptp(z, axis=0).max() == 0:
        trial.inconclusive("z is the same for every video")
    largest = float(np.abs(z).max())
    trial.fail_unless(largest <= 1, f"z reaches {largest:.4g}; a tanh stays within ±1", call=call, got=largest)
    one_sided = bool(z.min() >= 0) and z.shape[1] >= MANY_NUMBERS
    trial.fail_unless(not one_sided, f"none of {z.size} numbers of z is negative; a tanh takes both signs", call=call)
    if subject.adapter.dtype != "bfloat16":
        sentence = f"z takes {np.unique(z).size} values in {len(z)} frames: it is quantised; a tanh is continuous"
        trial.fail_unless(not quantised(z), sentence, call=call)
        sentence = "many numbers of z are exactly ±1 and hardly any are close to it: z is clamped; a tanh saturates"
        trial.fail_unless(not clamped(z), sentence, call=call)


def latent_values(subject: Subject) -> np.ndarray:
    """z of some videos, (frames, S · D)."""
    videos = [example_inputs(subject, "encode", seed, BATCH, 2) for seed in range(VIDEOS)]
    z = np.concatenate([run_black_box(subject, "encode", video)["z"] for video in videos])
    return z.reshape(2 * BATCH * VIDEOS, -1)


def clamped(z: np.ndarray) -> bool:
    """Whether numbers of z that are ±1 in some frames, and farther off in others, are hardly ever close to ±1.

    >>> x = np.random.default_rng(0).standard_normal((200, 8))
    >>> clamped(np.clip(x, -1, 1)), clamped(np.tanh(x)), clamped(np.tanh(30 * x).astype(np.float32))
    (True, False, False)
    """
    margin = 1 - np.abs(z)
    at_bound, inside = margin == 0, margin > SATURATED
    columns = at_bound.any(0) & inside.any(0)
    bounds, insides, close = (int(x[:, columns].sum()) for x in (at_bound, inside, ~at_bound & ~inside))
    return bounds >= 10 and insides >= bounds / 5 and close < bounds / 20


def quantised(z: np.ndarray) -> bool:
    """Whether z takes fewer values than it has different frames.

    >>> x = np.random.default_rng(0).standard_normal((200, 8))
    >>> quantised(np.round(4 * np.tanh(x)) / 4), quantised(np.tanh(x))
    (True, False)
    """
    return bool(np.unique(z).size < len(np.unique(z, axis=0)))


@check("tok.bottleneck", needs=("encode", "decode", "reconstruct", "example"))
def check_reconstruction_is_decoded_from_z_alone(subject: Subject, trial: Trial) -> None:
    """The reconstruction is decode(encode(video)), with another video encoded in between: nothing bypasses z.

    Budgets: `output_comparison`. Pixels may be clipped: see `shared_range`. Inconclusive if the video does not depend
    on z.
    """
    for batch, time in SHAPES:
        try:
            _fail_unless_decoded_from_z(subject, trial, batch, time)
        except OperationFailed:
            if (batch, time) == SHAPES[0]:
                raise  # a shape of its own is not judged here


def _fail_unless_decoded_from_z(subject: Subject, trial: Trial, batch: int, time: int) -> None:
    inputs, second = (example_inputs(subject, "reconstruct", trial.seed + n, batch, time) for n in (0, 1))
    z, got = run_black_box(subject, "encode", inputs)["z"], run_black_box(subject, "reconstruct", inputs)["video"]
    z_between = run_black_box(subject, "encode", second)["z"]
    expected = decoded(subject, z)
    if np.array_equal(expected, decoded(subject, z_between)):
        trial.inconclusive("decode returns the same video for two different z: it does not depend on z")
    call = f"reconstruct(example({trial.seed}, {batch}, {time})['video'])"
    fail_unless_same_video(subject, trial, "reconstruct and decode(encode(video))", got, expected, z, call)


def _time_influences(subject: Subject, box: str) -> np.ndarray:
    """Whether a frame changes any earlier one, any previous one, always itself, any next one, every next one."""
    source, output = BOXES[box]
    segments = [Segment(source, (t,)) for t in range(FRAMES)]
    results = influences(subject, box, segments, seed=0, time=FRAMES)
    moved = frames_moved({influence.segment: influence for influence in results}, output)
    earlier, own, following = np.tril(moved, -1), moved.diagonal(), moved.diagonal(1)
    return np.array([earlier.any(), earlier.diagonal(-1).any(), own.all(), following.any(), following.all()], float)


@signature("encode")
def signature_frames_that_move_z(subject: Subject) -> np.ndarray:
    """Influences of frames of the video on frames of z, see `_time_influences`."""
    return attempt(lambda: _time_influences(subject, "encode"), 5)


@signature("decode")
def signature_frames_that_move_the_video(subject: Subject) -> np.ndarray:
    """Influences of frames of z on frames of the video, see `_time_influences`."""
    return attempt(lambda: _time_influences(subject, "decode"), 5)


@signature("encode")
def signature_squashing_of_z(subject: Subject) -> np.ndarray:
    """Whether z exceeds ±1, is never negative, is clamped, is quantised."""

    def probe() -> np.ndarray:
        z = latent_values(subject)
        return np.array([np.abs(z).max() > 1, z.min() >= 0, clamped(z), quantised(z)], np.float64)

    return attempt(probe, 4)


@signature("reconstruct")
def signature_bypass_of_the_bottleneck(subject: Subject) -> np.ndarray:
    """Whether the reconstruction differs from decode(encode(video)), and from that after another video was encoded."""

    def probe() -> np.ndarray:
        inputs, second = (example_inputs(subject, "reconstruct", seed, 2, 3) for seed in (0, 1))
        got, z = run_black_box(subject, "reconstruct", inputs)["video"], run_black_box(subject, "encode", inputs)["z"]
        directly = decoded(subject, z)
        run_black_box(subject, "encode", second)
        errors = [relative_errors(got, video).max() for video in (directly, decoded(subject, z))]
        return np.array(errors) > 0.2

    return attempt(probe, 2)


@signature("decode_step")
def signature_frames_in_which_decode_step_differs(subject: Subject) -> np.ndarray:
    """Whether decoding frame by frame differs in the first frame, in the second, in any later one."""

    def probe() -> np.ndarray:
        z = example_inputs(subject, "decode", 0, 1, min(2 * frames_past_the_window(subject), LONGEST))["z"]
        differs = relative_errors(decoded_by_frame(subject, z), decoded(subject, z)) > 0.05
        return np.array([differs[0], differs[1], differs[2:].any()], np.float64)

    return attempt(probe, 3)
