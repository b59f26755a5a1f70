"""Verdicts on influences: outputs that a replaced input must change, and outputs that it must not change."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment, combined_influences, example_inputs
from dreamer4_conformance.instruments.dynamics import dynamics_mask
from dreamer4_conformance.instruments.layers import (
    COARSE_EPS,
    missing_token_influences,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_reference.sec31_masks import modality_mask


def fail_unless_influence(
    trial: Trial, subject: Subject, holds: bool | np.bool_, sentence: str, *, call: str = ""
) -> None:
    """Require an influence.

    Raises:
        Deviation: with `sentence`, if it is absent.
        Inconclusive: if it is absent in bfloat16, which may round it away.
    """
    if not holds and subject.adapter.dtype == "bfloat16":
        trial.inconclusive(f"{sentence}; in bfloat16 it may have been rounded away")
    trial.fail_unless(holds, sentence, call=call)


def fail_unless_mask_follows_reference(
    subject: Subject, trial: Trial, names: tuple[str, ...], about: tuple[str, ...], *, later: bool = False
) -> None:
    """Compare the dynamics mask of tokens `names` with the reference, for pairs with a token of the modalities `about`.

    Within a frame the mask must be equal, except among agent tokens. For keys of earlier frames it may be False where
    the reference is True, because time layers carry that information. With `later`, only keys of later frames are
    judged: none may be visible.

    Raises:
        Deviation: if a pair differs.
    """
    modality, frame, got = dynamics_mask(subject, names)
    expected = modality_mask("dynamics", modality, frame)
    involved, agent = np.isin(modality, about), np.array(modality) == "agent"
    pairs = (involved[:, None] | involved) & ~(agent[:, None] & agent)
    gap = frame[:, None] - frame
    wrong = pairs & np.where(gap == 0, got != expected, got & ~expected & (gap > 0))
    if later:
        wrong = got & (gap < 0)
    query, key = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    attends = "attends" if got[query, key] else "does not attend"
    key_frame = {0: "its own", 1: "an earlier", -1: "a later"}[int(np.sign(gap[query, key]))]
    sentence = f"in the dynamics a token of {modality[query]!r} {attends} to {modality[key]!r} of {key_frame} frame"
    call = f"modality_mask('dynamics', {modality}, {frame.tolist()})[{query}, {key}]"
    trial.fail_unless(not wrong.any(), sentence, call=call, got=got.tolist(), expected=expected.tolist())


POSITIONS = 14
"""Random numbers of a frame of the video that are replaced one by one."""


def fail_unless_every_number_moves(subject: Subject, trial: Trial, operation: str, output: str) -> None:
    """Require that a frame of an output changes with each of several numbers of the video frame, first and last too.

    Raises:
        Deviation: if it does not change with one of them.
        Inconclusive: if it changes with none.
    """
    segments = video_numbers(subject, operation)
    fail_unless_segments_move_their_frame(subject, trial, operation, segments, output)


def video_numbers(subject: Subject, operation: str) -> list[Segment]:
    """Numbers of frame 1 of the video: the first, the last, and `POSITIONS` random ones of those between."""
    axes = example_inputs(subject, operation, 0, 1, 2)["video"].shape[2:]
    rng = np.random.default_rng(0)
    drawn = [tuple(int(rng.integers(size)) for size in axes) for _ in range(POSITIONS)]
    positions = dict.fromkeys([tuple(size - 1 for size in axes), (0,) * len(axes), *drawn])
    return [Segment("video", (1, *position)) for position in positions]


def fail_unless_segments_move_their_frame(
    subject: Subject, trial: Trial, operation: str, segments: list[Segment], output: str
) -> None:
    """Require that frame 1 of an output of 2 frames changes with each of the segments, all of them in frame 1.

    Raises:
        Deviation: if it does not change with one of them.
        Inconclusive: if it changes with none.
    """

    def moves(influences: Mapping[Segment, Influence]) -> dict[Segment, bool]:
        return {segment: bool(influence.frames(output)[-1]) for segment, influence in influences.items()}

    def enough(influences: Mapping[Segment, Influence]) -> bool:
        return all(moves(influences).values())

    moved = moves(combined_influences(subject, operation, segments, enough, seed=0, time=2))
    if not any(moved.values()):
        trial.inconclusive(f"{operation} does not depend on its input at all")
    call = f"{operation}(**example(0, {len(segments) + 1}, 2))"
    for segment, holds in moved.items():
        fail_unless_influence(trial, subject, holds, f"frame 1 of {output} does not change with {segment}", call=call)


def fail_unless_tokens_move(
    subject: Subject, trial: Trial, operation: str, segments: list[Segment], time: int, needed: np.ndarray
) -> None:
    """Require that the output tokens `needed`, a mask (segments, T, S), change with their segments.

    Raises:
        Deviation: if some of them do not.
        Inconclusive: if none does, or if the dtype may have rounded a change away.
    """
    missing = missing_token_influences(subject, operation, segments, time, needed)
    if needed.any() and (missing == needed).all():
        trial.inconclusive(f"{operation} mixes nothing: are all parameters random, the output projection included?")
    if missing.any() and subject.eps > COARSE_EPS:
        trial.inconclusive(
            f"an influence in {operation} was not observed in {subject.adapter.dtype}; float32 decides it"
        )
    row, frame, token = np.argwhere(missing)[0] if missing.any() else (0, 0, 0)
    sentence = f"token {token} of frame {frame} of {operation}'s output does not change with {segments[row]}"
    trial.fail_unless(
        not missing.any(), sentence, call=f"{operation}(x) and {operation}(x with another {segments[row]})"
    )
