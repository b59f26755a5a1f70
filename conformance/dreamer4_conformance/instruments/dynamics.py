"""The dynamics model as a black box: which frames an input must influence, and the adapter's token mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, NotProvided, OperationFailed

DYNAMICS = ("dynamics", "example")
MASK = ("modality_mask", "space_mask")
"""Operations of which one is needed."""
WORLD_TOKENS = ("latent", "register", "label", "action")
TIME = 4
"""Frames of the sequences in which influences are observed."""
Influences = Mapping[Segment, Influence]


def past_frames(subject: Subject) -> int:
    """Number of past frames in the context (A30)."""
    return TIME if subject.window is None else subject.window - 1


def action_delay(subject: Subject, segment: Segment) -> int:
    """Frames until an input must have an effect: with A32 "current", action t may affect frame t + 1 first."""
    return int(segment.path.startswith("actions") and subject.readings["A32"] == "current")


def first_action_block(subject: Subject) -> int:
    """The first block whose action must have an effect: with A32 "previous", no action leads to frame 0."""
    return int(subject.readings["A32"] == "previous")


def inputs_of_frames(subject: Subject, time: int) -> list[Segment]:
    """z, τ, d and the actions of every frame, without d if it is drawn per sequence (A3)."""
    names = ("z", "tau", "actions") if subject.readings["A3"] == "sequence" else ("z", "tau", "d", "actions")
    return [Segment(name, (t,)) for t in range(time) for name in names]


def influenced_frames(subject: Subject, segment: Segment, time: int) -> range:
    """The frames that a segment of frame t must influence: none for the action of block 0 if there is none (A32)."""
    t = int(segment.index[0])
    if segment.path.startswith("actions") and t < first_action_block(subject):
        return range(0)
    return range(t + action_delay(subject, segment), min(time, t + past_frames(subject) + 1))


def missing_influences(
    subject: Subject, influences: Influences, output: str, time: int
) -> Iterator[tuple[Segment, int]]:
    """Yield segments with the frames of an output that they must influence but do not."""
    for segment, influence in influences.items():
        moved = influence.frames(output)
        yield from ((segment, t) for t in influenced_frames(subject, segment, time) if not moved[t])


def call_with(segment: Segment, time: int) -> str:
    """Description of the two calls that are compared."""
    return f"dynamics(**example(seed, batch, {time})), and with {segment} of another example"


def output_names(influences: Influences) -> list[str]:
    """Outputs of `dynamics`: z_hat, and agent if there is one."""
    return list(next(iter(influences.values())).moved)


def undecided_unless_z_hat_moves(influences: Influences) -> None:
    """Require that some replaced input changes z_hat.

    Raises:
        Inconclusive: if none does, because the parameters are not random.
    """
    if not any(influence.moved["z_hat"].any() for influence in influences.values()):
        raise Inconclusive("z_hat depends on no input: are all parameters random, zero-initialised ones included?")


def undecided_unless_mixed(results: Influences, spatial: Segment) -> None:
    """Inconclusive if no token of z_hat depends on another token: output projections of attention may be zero.

    `spatial` is token 0 of a frame.
    """
    token, frame = results.get(spatial), spatial.index[0]
    mixed = token is not None and (
        spatial_tokens_moved(token, frame)[1:].any() or token.frames("z_hat")[frame + 1 :].any()
    )
    if not mixed and not any(result.moved["z_hat"].any() for segment, result in results.items() if segment.path != "z"):
        raise Inconclusive("no token of z_hat depends on another token: are all of the parameters random?")


def spatial_tokens_moved(influence: Influence, frame: int) -> np.ndarray:
    """bool (S,): the tokens of a frame of z_hat in which anything changed."""
    moved = influence.moved["z_hat"][frame]
    return np.asarray(moved.reshape(len(moved), -1).any(1))


def dynamics_mask(subject: Subject, names: tuple[str, ...]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Tokens, two per modality (one label and one agent token), and the adapter's mask of them.

    They are those of two frames; if the adapter has `space_mask` alone, of one.

    Returns:
        Modality and frame of each of the N tokens, and the mask (N, N).

    Raises:
        NotProvided: if the operation raises ValueError: it does not have these tokens, or has a tokenizer's mask only.
        Inconclusive: if it raises anything else.
    """
    frames = 2 if subject.provides("modality_mask") else 1
    tokens = [name for name in names for _ in range(1 if name in ("label", "agent") else 2)]
    modality, frame = tokens * frames, np.repeat(range(frames), len(tokens))
    try:
        return modality, frame, adapter_mask(subject, "dynamics", modality, frame)
    except OperationFailed as failed:
        if failed.__cause__ is None:
            raise
        reason = f"{failed.message}, for tokens {', '.join(names)}"
        if isinstance(failed.__cause__, ValueError):
            raise NotProvided(reason) from failed
        raise Inconclusive(reason) from failed


def adapter_mask(subject: Subject, kind: str, modality: list[str], frame: np.ndarray) -> np.ndarray:
    """The adapter's `modality_mask`, bool (N, N); without it its `space_mask` in each frame, and False across frames.

    Raises:
        OperationFailed: if the result is not boolean.
    """
    if not subject.provides("modality_mask"):
        return frame_mask(subject, kind, modality) & (frame[:, None] == frame)
    return _boolean(
        "modality_mask", subject.compute("modality_mask", kind, modality, frame, shape=(len(modality),) * 2)
    )


def frame_mask(subject: Subject, kind: str, modality: list[str]) -> np.ndarray:
    """The adapter's `space_mask` of the tokens of one frame, in any order, bool (N, N).

    Raises:
        OperationFailed: if the result is not boolean.
    """
    counts = {name: modality.count(name) for name in dict.fromkeys(modality)}
    rows = sorted(range(len(modality)), key=lambda i: list(counts).index(modality[i]))
    grouped = _boolean("space_mask", subject.compute("space_mask", kind, counts, shape=(len(modality),) * 2))
    mask = np.empty_like(grouped)
    mask[np.ix_(rows, rows)] = grouped
    return mask


def _boolean(operation: str, mask: np.ndarray) -> np.ndarray:
    if mask.dtype != bool:
        raise OperationFailed(f"{operation} returned {mask.dtype} values; it needs booleans, True = may attend")
    return mask


def mouse_classes(subject: Subject, movement: np.ndarray) -> np.ndarray:
    """The adapter's classes of mouse movements (N, 2), int (N,).

    Raises:
        OperationFailed: if they are not integers.
    """
    classes = subject.compute("mouse_class", movement, shape=(len(movement),))
    if classes.dtype.kind not in "iu":
        raise OperationFailed(f"mouse_class returned {classes.dtype} values; it needs whole numbers")
    return classes
